import json
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_helpers import small

from hornbook.data.corpus import CorpusWriter
from hornbook.data.tokenizer import Tokenizer
from hornbook.data.tokens import TokenWriter
from hornbook.errors import HornbookError
from hornbook.infer.open import open_local
from hornbook.lab.run import Run
from hornbook.lm.base import Completion, Request, Sampling
from hornbook.model.gguf import load_gguf
from hornbook.model.gguf_file import GGUFFile
from hornbook.model.hf import load_checkpoint, save_checkpoint
from hornbook.serve.card import Card
from hornbook.serve.export import export_model, parse_kinds
from hornbook.serve.export_step import export

SENTENCES = [
    "The fox saw a red ball near the old tree.",
    "It ran home and told its mother about 17 balls!",
    "Ärger über Öl, sagte der Fuchs.",
    "def add(a, b):\n    return a + b\n",
]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(SENTENCES, 6)) for _ in range(40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    place = tmp_path_factory.mktemp("student") / "fox-1"
    tokenizer = Tokenizer.train(texts, 300, place)
    save_checkpoint(small(vocab_size=tokenizer.vocab_size, max_position=128), place)
    return place


def test_every_kind_reads_back_with_its_tokenizer(folder: Path, tmp_path: Path, texts: list[str]) -> None:
    paths = export_model(folder, tmp_path, kinds=["HF", "f32", "f16", "bf16", "gguf", "q4_1"])
    assert [path.name for path in paths] == [
        "hf",
        *(f"fox-1-{kind}.gguf" for kind in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")),
    ]
    original, tokenizer = load_checkpoint(folder), Tokenizer.load(folder)
    wanted = dict(original.named_parameters())
    for path, error in zip(paths, (0, 0, 1e-3, 8e-3, 8e-3, 0.15, 0.12)):
        model = load_gguf(path, dtype=torch.float32) if path.suffix else load_checkpoint(path)
        for name, value in model.named_parameters():
            assert (value - wanted[name]).norm() <= error * wanted[name].norm()
        other = open_local(path).tokenizer
        assert other.encode_batch(texts) == tokenizer.encode_batch(texts)
        assert other.chat_template == tokenizer.chat_template
        assert set(model.config.eos_ids) == {tokenizer.special("<|end|>"), tokenizer.end_of_text}


@pytest.mark.parametrize("calibrated", [False, True])
def test_folders_of_codes_open_in_the_engine(
    folder: Path, tmp_path: Path, texts: list[str], calibrated: bool
) -> None:
    paths = export_model(folder, tmp_path, kinds=["int4", "int8"], calibration=texts if calibrated else None)
    assert [path.name for path in paths] == ["int4", "int8"]
    asked = Request(prompt="The fox", sampling=Sampling(temperature=0.0, max_tokens=8))
    for path in paths:
        opened = open_local(path)
        assert opened.engine.weights == path.name
        assert opened.tokenizer.encode(texts[0]) == Tokenizer.load(folder).encode(texts[0])
        [answer] = opened.complete([asked])
        assert isinstance(answer, Completion)
        if not calibrated:  # the engine rounds to nearest as the export does
            [expected] = open_local(folder, weights=path.name).complete([asked])  # type: ignore[arg-type]
            assert isinstance(expected, Completion)
            assert answer.text == expected.text


def test_transformers_loads_the_folder_and_knows_its_template(folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    [place] = export_model(
        folder, tmp_path, kinds=["hf"], card=Card(summary="Raised on foxes.", licence="mit")
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(place)
    model = transformers.AutoModelForCausalLM.from_pretrained(place)
    ours = open_local(place, weights="fp32")
    messages = [{"role": "user", "content": "Who saw a ball?"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")[
        "input_ids"
    ]
    assert ids[0].tolist() == ours.chat.encode(messages)
    with torch.no_grad():
        expected = model(ids).logits[0]
        found = load_checkpoint(place)
        torch.testing.assert_close(found.logits(found(ids))[0], expected, atol=2e-4, rtol=1e-3)
    stops = tokenizer.convert_tokens_to_ids(["<|end|>", "<|endoftext|>"])
    assert model.generation_config.eos_token_id == stops
    assert tokenizer.model_max_length == 128
    readme = (place / "README.md").read_text()
    assert readme.startswith("---\nlanguage:\n- en\nlicense: mit\n")
    assert "Raised on foxes." in readme


def test_only_an_earlier_export_is_replaced(folder: Path, tmp_path: Path) -> None:
    export_model(folder, tmp_path, kinds=["hf"])
    export_model(folder, tmp_path, kinds=["hf"])
    assert not list(tmp_path.glob(".*"))
    other = tmp_path / "mine"
    (other / "hf").mkdir(parents=True)
    (other / "hf" / "thesis.txt").write_text("years of work")
    with pytest.raises(HornbookError, match="left alone"):
        export_model(folder, other, kinds=["hf"])
    assert (other / "hf" / "thesis.txt").read_text() == "years of work"


def test_a_gguf_can_be_exported_again(folder: Path, tmp_path: Path) -> None:
    [first] = export_model(folder, tmp_path, kinds=["f32"], name="a")
    [again] = export_model(first, tmp_path / "b", kinds=["hf"])
    ours, theirs = load_checkpoint(folder).state_dict(), load_checkpoint(again).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_nameless_folder_is_named_by_its_size(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(folder)
    copy = tmp_path / "x" / "model"
    copy.parent.mkdir()
    import shutil

    shutil.copytree(folder, copy)
    [path] = export_model(copy, tmp_path, kinds=["q8_0"])
    assert path.name == "hornbook-1m-Q8_0.gguf"


class TestStep:
    @pytest.fixture(scope="class")
    def facts(
        self, folder: Path, texts: list[str], tmp_path_factory: pytest.TempPathFactory
    ) -> dict[str, object]:
        home = tmp_path_factory.mktemp("home")
        tokenizer = Tokenizer.load(folder)
        with CorpusWriter(home / "corpus", "documents", {}) as writer:
            writer.write_rows(
                [{"id": str(i), "text": t, "source": "test", "meta": "{}"} for i, t in enumerate(texts)]
            )
        with TokenWriter(home / "tokens", tokenizer.vocab_size, with_mask=False) as tokens:
            for text in texts[20:]:
                tokens.write([*tokenizer.encode(text), tokenizer.end_of_text])
        run = Run(home / "runs", recipe="test", scale="smoke", settings={})
        artifact = run.step(
            export,
            model=folder,
            validation={"corpus": home / "corpus", "tokens": home / "tokens", "texts": texts[:5]},
            kinds=("hf", "f32", "q8_0", "q4_0"),
            tokens_per_domain=800,
            prompts=("The fox",),
        )
        assert (artifact / "export" / "hf" / "config.json").is_file()
        return json.loads(json.dumps(artifact.facts))  # type: ignore[no-any-return]

    def test_losses_are_those_of_the_rounded_numbers(
        self, facts: dict[str, dict[str, dict[str, dict[str, dict[str, float]]]]], folder: Path
    ) -> None:
        kinds = facts["kinds"]
        assert abs(kinds["f32"]["loss"]["all"]["loss"]) < 1e-6
        eight, four = kinds["q8_0"]["loss"]["all"], kinds["q4_0"]["loss"]["all"]
        assert abs(eight["loss"]) < abs(four["loss"])
        assert four["low"] <= four["loss"] <= four["high"]
        base = facts["bits_per_byte"]["all"]["value"]
        found = kinds["q4_0"]["bits_per_byte"]["all"]
        assert found / base - 1 == pytest.approx(four["loss"], rel=1e-6)  # type: ignore[operator]
        assert kinds["f32"]["same_tokens"] == 1.0
        parts = [kinds["q4_0"]["loss"][domain]["loss"] for domain in ("corpus", "tokens", "texts")]
        assert kinds["q4_0"]["loss"]["mean"]["loss"] == pytest.approx(sum(parts) / 3)

    def test_sizes_speed_and_answers_are_there(self, facts: dict[str, dict[str, dict[str, object]]]) -> None:
        kinds = facts["kinds"]
        assert kinds["q4_0"]["bytes"] < kinds["q8_0"]["bytes"] < kinds["f32"]["bytes"]  # type: ignore[operator]
        assert len(kinds["q4_0"]["answers"]) == 1  # type: ignore[arg-type]
        assert "int4" in facts["speed"]
        assert set(kinds["hf"]) == {"path", "bytes", "answers"}


def test_a_tokenizer_that_cuts_otherwise_is_refused(
    folder: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hornbook.model import gguf_tokenizer

    original = gguf_tokenizer.tokenizer_files

    def without_merges(file: GGUFFile) -> dict[str, str]:
        files = original(file)
        content = json.loads(files["tokenizer.json"])
        content["model"]["merges"] = content["model"]["merges"][:5]
        return {**files, "tokenizer.json": json.dumps(content)}

    monkeypatch.setattr(gguf_tokenizer, "tokenizer_files", without_merges)
    run = Run(tmp_path, recipe="test", scale="smoke", settings={})
    with pytest.raises(HornbookError, match="other tokens"):
        run.step(export, model=folder, validation={"texts": texts[:5]}, kinds=("q8_0",))


class TestRefusals:
    def test_unknown_and_missing_kinds(self) -> None:
        with pytest.raises(HornbookError, match=r"'q2_k'.*q4_0"):
            parse_kinds(["q2_k"])
        with pytest.raises(HornbookError, match="Nothing"):
            parse_kinds([])
        assert parse_kinds([" GGUF", "q4_0", "hf"]) == ["q8_0", "q4_0", "hf"]

    def test_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(HornbookError, match="There is no model at"):
            export_model(tmp_path, tmp_path / "out")
