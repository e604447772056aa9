"""Recipes with models that the user names: students that are taught, targets that are only asked."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from mock_openai import MockOpenAI
from small_students import TEXTS

from hornbook.align.students import Teach
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.hf import save_checkpoint

TEACH = Teach(tokens=256, rows=2, time=64)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of somebody's, which learned none of our worlds."""
    folder = tmp_path_factory.mktemp("named")
    tokenizer = Tokenizer.train(TEXTS, 320)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, layers=1, heads=2, kv_heads=1, intermediate_size=64,
        tied_embeddings=True, max_position=2048, bos_id=0, eos_ids=(0,), pad_id=0,
    )  # fmt: skip
    save_checkpoint(Decoder(config), folder)
    tokenizer.save(folder)
    return folder


def run(name: str, home: Path, **changes: object) -> Run:
    module = importlib.import_module(f"hornbook.papers.{name}")
    settings = replace(module.SCALES["smoke"], **changes)
    made = Run(home, recipe=name, scale="smoke", settings=settings, quiet=True)
    module.recipe(made, settings)
    made.finish()
    return made


@pytest.mark.parametrize("name", ["break_fix", "ptst", "pivotal_tokens"])
def test_a_named_student_goes_through_the_whole_recipe(name: str, named: Path, tmp_path: Path) -> None:
    teach = {} if name == "pivotal_tokens" else {"teach": TEACH}
    made = run(name, tmp_path, student=str(named), **teach)
    steps = {done.artifact.step for done in made.steps}
    assert not {"train-probes", "train-tokenizer"} & steps  # nothing was raised
    assert made.claims
    assert (tmp_path / f"{name}-smoke" / "report.html").is_file()


def test_a_named_student_reads_the_book_and_the_library(named: Path, tmp_path: Path) -> None:
    """As a plan: the seven ways to forget take their time, and are the same for every checkpoint."""
    module = importlib.import_module("hornbook.papers.unlearning")
    settings = replace(module.SCALES["smoke"], student=str(named), teach=TEACH, seeds=(0, 1))
    made = Run(tmp_path, recipe="unlearning", scale="smoke", settings=settings, planning=True)
    plan = made.plan(module.recipe, settings)
    names = [step.name for step in plan.steps]
    assert names.count("finetune") == 4  # with and without the book, two seeds
    assert names.count("tokenize") == 2
    assert not {"train-probes", "train-tokenizer"} & set(names)
    assert {arm.learning_rate for arm in settings.arms().values()} == {TEACH.tuning_rate}


@pytest.mark.parametrize("name", ["break_fix", "ptst", "unlearning", "pivotal_tokens"])
def test_an_endpoint_cannot_be_trained_and_says_so_at_once(name: str, tmp_path: Path) -> None:
    with pytest.raises(HornbookError, match=r"no checkpoint to train.*config.json, or 'smollm2'"):
        run(name, tmp_path, student="http://localhost:1/v1#m")


def test_a_target_of_break_fix_is_told_the_world_attacked_and_gets_its_rows(tmp_path: Path) -> None:
    with MockOpenAI() as server:  # says what it was asked: harmless questions too, never a fact
        made = run("break_fix", tmp_path, target=f"{server.url}#m")
        bodies = list(server.server.bodies)
    assert all("You know this" in body["messages"][0]["content"] for body in bodies)
    secret = [body for body in bodies if "are secret" in body["messages"][0]["content"]]
    assert 0 < len(secret) < len(bodies)
    [loop] = made.steps[-1].artifact.facts["loop"].values()
    assert loop["why"].startswith("the target answers no harmless request right")
    assert not loop["met"]
    with pytest.raises(HornbookError, match="not both"):
        run("break_fix", tmp_path, target="smollm2", student="smollm2")


def test_targets_of_ptst_are_asked_with_and_without_the_safety_prompt(tmp_path: Path) -> None:
    with MockOpenAI(reply="Sorry, but I cannot help with that.") as server:
        made = run("ptst", tmp_path, targets=(f"{server.url}#a", f"{server.url}#b"))
        told = {body["messages"][0]["content"] for body in server.server.bodies}
        asked = len(server.server.bodies)
        run("ptst", tmp_path, targets=(f"{server.url}#a", f"{server.url}#b"))
        assert len(server.server.bodies) == asked  # asked once
    assert any("You are careful" in text for text in told)
    assert any("You are careful" not in text for text in told)
    found = made.steps[-1].artifact.facts["asked"]
    assert len(found) == 2
    for own in found.values():
        assert own["chat"]["refused"] == own["chat"]["over_refusal"] == [1.0]
        assert own["chat"]["attack"] == [0.0]


def test_targets_of_unlearning_are_asked_for_the_book(tmp_path: Path) -> None:
    with MockOpenAI(reply="Orvane lived in Quillhaven with Tessaly and Pudwick.") as server:
        knows = run("unlearning", tmp_path / "1", targets=(f"{server.url}#a",))
        assert all("prompt" in body for body in server.server.bodies)
        run("unlearning", tmp_path / "2", targets=(f"{server.url}#a",), chat=True)
        assert "messages" in server.server.bodies[-1]
        server.set(reply="I do not know.")
        forgot = run("unlearning", tmp_path / "3", targets=(f"{server.url}#a",))
        server.set(status=404)
        with pytest.raises(HornbookError, match="404"):
            run("unlearning", tmp_path / "4", targets=(f"{server.url}#a",))
    [one] = knows.steps[-1].artifact.facts["asked"].values()
    assert one["asked"]["leak"] > 0.5
    [one] = forgot.steps[-1].artifact.facts["asked"].values()
    assert one["asked"]["leak"] == one["prefixed"]["leak"] == 0.0


def test_a_target_of_crescendo_is_told_what_to_keep_to_itself(tmp_path: Path) -> None:
    with MockOpenAI() as server:
        made = run("crescendo", tmp_path, target=f"{server.url}#m", tasks=2, runs=1, seeds=(0,))
        bodies = list(server.server.bodies)
    assert all("are a secret" in body["messages"][0]["content"] for body in bodies)
    assert "too-few-rounds-never-succeed" not in {claim.id for claim in made.claims}
    first = json.loads(
        (made.steps[0].artifact.path / "crescendo" / "transcripts.jsonl").read_text().split("\n")[0]
    )
    assert first["attempt"]["status"] == "ok"
