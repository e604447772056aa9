"""Labelled sentences: drawn without overlap, encoded as prompts, wrong files named by line."""

import gzip
import json

import pytest
import torch

from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.theory.labelled_text import encoded, label_word, load_labelled_text


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "reviews.jsonl.gz"
    rows = [{"text": f"review number {i} ", "label": i % 2} for i in range(30)]
    with gzip.open(path, "wt") as out:
        out.write("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    return Tokenizer.train(["review number one was great, and two was terrible"] * 20, 300, folder)


def test_parts_hold_k_of_each_label_and_do_not_overlap(file):
    text = load_labelled_text(file)
    parts = text.draw(3, 10, seed=1)
    assert [len(part.texts) for part in parts] == [6, 6, 10]
    assert [int(part.y.sum()) for part in parts[:2]] == [0, 0]
    seen = [t for part in parts for t in part.texts]
    assert len(set(seen)) == len(seen)
    for part in parts:
        assert [int(t.split()[-1]) % 2 * 2 - 1 for t in part.texts] == part.y.tolist()
    assert text.draw(3, 10, seed=1)[2].texts == parts[2].texts
    assert text.draw(3, 10, seed=2)[2].texts != parts[2].texts


def test_too_few_texts_are_counted(file):
    with pytest.raises(HornbookError, match=r"k is 8: 16 texts of label -1 are drawn.*there are 15"):
        load_labelled_text(file).draw(8, 1, seed=0)


def test_prompts_end_where_said_and_long_texts_lose_their_end(tokenizer):
    tail = tokenizer.encode(" it was")
    tokens, last = encoded(tokenizer, ["review one", "review number one was great"], " it was", most=12)
    for row, end in zip(tokens, last):
        assert row[end + 1 - len(tail) : end + 1].tolist() == tail
        assert not row[end + 1 :].any()
    short, ends = encoded(tokenizer, ["review number one was great, and two"], " it was", most=8)
    assert short.shape == (1, 8)
    assert ends.tolist() == [7]
    assert short[0, 8 - len(tail) :].tolist() == tail


def test_a_label_word_of_several_tokens_is_refused(tokenizer):
    word = tokenizer.decode([tokenizer.encode("great")[0]])
    assert label_word(tokenizer, word) == tokenizer.encode(word)[0]
    with pytest.raises(HornbookError, match=r"label word 'zyx' is .* tokens"):
        label_word(tokenizer, "zyx")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": "a", "label": 2}', "line 2: label is 2, not 0 or 1"),
        ('{"words": "a", "label": 1}', 'line 2: wanted is {"text"'),
        ("no json", "cannot be read as labelled text"),
    ],
)
def test_what_is_no_labelled_text_is_named(tmp_path, line, words):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "fine", "label": 1}\n' + line + "\n")
    with pytest.raises(HornbookError, match=words):
        load_labelled_text(path)
    with pytest.raises(HornbookError, match="cannot be read"):
        load_labelled_text(tmp_path / "none.jsonl")


def test_padding_does_not_change_a_prompts_answer(tokenizer):
    from hornbook.model.config import ModelConfig
    from hornbook.model.decoder import Decoder
    from hornbook.theory.prompted import Prompted

    torch.manual_seed(0)
    shape = {"vocab_size": tokenizer.vocab_size, "hidden_size": 16, "layers": 1, "heads": 2}
    decoder = Decoder(ModelConfig(**shape, intermediate_size=16, max_position=64, init_std=0.3))
    module = Prompted(decoder, (10, 11))
    both = encoded(tokenizer, ["review one", "review number one was great"], " was")
    alone = encoded(tokenizer, ["review one"], " was")
    torch.testing.assert_close(module(*both)[:1], module(*alone), rtol=1e-4, atol=1e-5)


def test_a_study_on_a_checkpoint_of_ones_own(file, tokenizer, tmp_path):
    """The step from folder and file to facts, every number there; an interrupted study is not made again."""
    from hornbook.lab.run import Run
    from hornbook.model.config import ModelConfig
    from hornbook.model.decoder import Decoder
    from hornbook.model.hf import save_checkpoint
    from hornbook.theory.steps_kernel import StudySettings, few_shot_on_text

    torch.manual_seed(0)
    shape = {"vocab_size": tokenizer.vocab_size, "hidden_size": 16, "layers": 1, "heads": 2}
    folder = tmp_path / "model"
    save_checkpoint(Decoder(ModelConfig(**shape, intermediate_size=16, max_position=64)), folder)
    tokenizer.save(folder)
    words = tuple(tokenizer.decode([i]) for i in tokenizer.encode(" a one")[-2:])
    run = Run(tmp_path / "runs", recipe="x", scale="smoke", settings=StudySettings(), quiet=True)
    facts = run.step(
        few_shot_on_text,
        model=str(folder),
        data=file,
        prompt=" was",
        words=words,
        k=2,
        test=6,
        forms=("prompt", "head"),
        study=StudySettings(steps=1, batch=2, sgd_rates=(0.1,), adam_rates=(1e-3,), project=500),
        seeds=(0, 1),
    ).facts
    names = {
        "start",
        "sgd",
        "adam",
        "kernel_sgd",
        "kernel_signgd",
        "kernel_asigngd",
        "linear_sgd",
        "linear_adam",
    }
    for form in ("prompt", "head"):
        assert names <= set(facts[form])
        assert all(len(values) == 2 for values in facts[form].values())
        assert all(0 <= value <= 1 for name in names for value in facts[form][name])
