"""The recipe `longrope`, whole, at a scale of seconds: on its own small reader and on a checkpoint given."""

from dataclasses import replace
from pathlib import Path

import torch

from hornbook.data.tokenizer import Tokenizer
from hornbook.lab.run import Run
from hornbook.model.decoder import Decoder
from hornbook.model.hf import load_checkpoint, save_checkpoint
from hornbook.model.presets import student
from hornbook.papers import longrope
from hornbook.train.longrope import SearchSettings

TINY = replace(
    longrope.SCALES["smoke"],
    search=SearchSettings(population=4, parents=2, mutations=1, crossovers=1, iterations=1),
    original=32,
    hidden_size=32,
    vocab_size=280,
    reading_steps=4,
    tuning_steps=2,
)


def run(home: Path, settings: longrope.Settings) -> Run:
    made = Run(home, recipe="longrope", scale="smoke", settings=settings, quiet=True)
    longrope.recipe(made, settings)
    made.finish()
    return made


SENTENCE = "The longer the road, the more a reader must remember of how it began. "


def write_texts(folder: Path) -> Path:
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_text(f"Road {number}. " + SENTENCE * 12)
    return folder


def test_it_runs_from_text_to_claims_and_a_second_run_makes_nothing_again(tmp_path: Path) -> None:
    settings = replace(TINY, texts=str(write_texts(tmp_path / "texts")))
    made = run(tmp_path, settings)
    names = {claim.id for claim in made.claims}
    assert names == {
        "unscaled-fails",
        *(f"beats-{rival}" for rival in ("interpolation", "ntk", "yarn")),
        "reads-on-without-tuning",
        "start-tokens-help",
        "tuning-helps",
        "short-rows-recovered",
    }
    assert all(claim.holds is None for claim in made.claims)  # one seed judges nothing
    page = (tmp_path / "longrope-smoke" / "report.html").read_text()
    assert "4 times the trained context" in page
    assert all(done.cached for done in run(tmp_path, settings).steps)


def test_a_checkpoint_of_the_users_is_extended_on_the_users_texts(tmp_path: Path) -> None:
    folder, texts = tmp_path / "mine", write_texts(tmp_path / "texts")
    tokenizer = Tokenizer.train([SENTENCE * 5], 280, folder)
    torch.manual_seed(0)
    config = student(hidden_size=64, layers=1, vocab_size=tokenizer.vocab_size, max_position=32)
    save_checkpoint(Decoder(config), folder)
    settings = replace(TINY, model=str(folder), texts=str(texts))
    made = run(tmp_path / "runs", settings)
    extended = load_checkpoint(made.outputs["model"])
    rope = extended.config.long_rope
    assert rope is not None
    assert (rope.original_max_position, extended.config.max_position) == (32, 128)
    assert Tokenizer.load(made.outputs["model"]).encode(SENTENCE) == tokenizer.encode(SENTENCE)
