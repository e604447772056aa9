"""Models brought here from other formats: the same numbers, tokens and template, checked on the disk."""

import json
from pathlib import Path

import pytest
import torch
from engine_helpers import small

from hornbook.cli import main
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.model.hf import load_checkpoint, save_checkpoint
from hornbook.serve.export import export_model
from hornbook.serve.importing import import_model

TEXTS = ["The fox saw 17 red balls, né?", "def f(x):\n\treturn <|user|>\n"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("student") / "fox"
    tokenizer = Tokenizer.train(["The fox saw a red ball near the old tree. "] * 30, 300, place)
    save_checkpoint(small(vocab_size=tokenizer.vocab_size, max_position=128), place)
    return place


@pytest.mark.parametrize("kind", ["hf", "f32", "f16", "q8_0"])
def test_a_model_of_any_format_becomes_a_folder_with_its_tokenizer(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    [source] = export_model(folder, tmp_path / "there", kinds=[kind])
    done = import_model(source, tmp_path / "here")
    assert not list(tmp_path.glob(".*"))
    source_dtype = torch.float16 if kind == "f16" else torch.float32
    model, original = load_checkpoint(tmp_path / "here"), load_checkpoint(folder)
    assert done.dtype == source_dtype == model.norm.weight.dtype
    for (name, ours), theirs in zip(model.named_parameters(), original.parameters(), strict=True):
        bound = {"hf": 0.0, "f32": 0.0, "f16": 1e-3, "q8_0": 8e-3}[kind]
        assert (ours.float() - theirs).norm() <= bound * theirs.norm(), name
    tokenizer, before = Tokenizer.load(tmp_path / "here"), Tokenizer.load(folder)
    assert tokenizer.encode_batch(TEXTS) == before.encode_batch(TEXTS)
    assert tokenizer.chat_template == before.chat_template
    assert done.has_template
    assert done.vocabulary == before.vocab_size


def test_the_command_says_what_it_brought(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["import", str(folder), "--out", str(tmp_path / "copy"), "--dtype", "bf16"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"{load_checkpoint(folder).config.parameters():,} parameters (bfloat16), context 128" in said
    assert "read back, equal bit for bit" in said
    assert load_checkpoint(tmp_path / "copy").norm.weight.dtype == torch.bfloat16


def test_a_write_that_goes_wrong_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flipped bit on the disk is the silent bug that reading back is for."""
    import hornbook.model.hf as hf

    real = hf.save_checkpoint

    def damaged(model, place, **settings):  # type: ignore[no-untyped-def]
        real(model, place, **settings)
        path = place / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\x55")

    monkeypatch.setattr(hf, "save_checkpoint", damaged)
    with pytest.raises(HornbookError, match=r"not written as it should be: \S+\. Check the disk"):
        import_model(folder, tmp_path / "copy")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_brought_is_said_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(HornbookError, match="There is no model at"):
        import_model(tmp_path / "nothing", tmp_path / "copy")
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(HornbookError, match="left alone"):
        import_model(folder, mine)
    other = tmp_path / "other"
    Tokenizer.train(["The fox saw a red ball near the old tree. " * 3] * 30, 310, other)
    with pytest.raises(HornbookError, match="do not belong together"):
        import_model(folder, tmp_path / "copy", tokenizer=_with_more_ids(other))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "other"]


def _with_more_ids(folder: Path) -> Path:
    content = json.loads((folder / "tokenizer.json").read_text())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content["added_tokens"].append({"id": 5000, "content": "<|far|>", **flags})
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder
