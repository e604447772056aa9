"""chat and eval: a model by any word, the newest run's where none is named."""

import argparse
import json
import shutil
from pathlib import Path

import pytest
from command_line import MICRO, call

from hornbook.cli.models import model_spec
from hornbook.errors import HornbookError
from hornbook.infer.open import open_local
from hornbook.lm.base import Sampling, ask


def spec(home, model=None):
    return model_spec(argparse.Namespace(home=home, model=model))


def test_without_a_name_it_is_the_newest_run_that_offers_a_model(micro, tmp_path):
    home, recipe, notes = micro
    other = tmp_path / "runs"
    shutil.copytree(home, other)
    first = spec(other)
    assert (other / "steps") in Path(first).parents
    code, _, complaint = call("run", recipe, *MICRO, "--source", notes, "--seed", "1", "--home", other)
    assert code == 0, complaint
    assert spec(other) != first
    assert spec(other, "smollm2") == "smollm2"


def test_a_model_that_was_deleted_is_named_with_the_way_back(micro, tmp_path):
    other = tmp_path / "runs"
    shutil.copytree(micro[0], other)
    shutil.rmtree(spec(other))
    with pytest.raises(HornbookError, match=r"which is gone.*hornbook run mine --scale smoke"):
        spec(other)


def test_no_run_at_all_says_how_to_make_one(tmp_path):
    code, _, said = call("chat", "--once", "hello", "--home", tmp_path / "none")
    assert code == 1
    assert "hornbook run phi" in said


def test_chat_once_answers_as_the_engine_does(micro):
    home = micro[0]
    greedy = ["--temperature", "0", "--max-tokens", "12"]
    code, said, complaint = call("chat", "--once", "A hornbook", *greedy, "--home", home)
    assert code == 0, complaint
    model = open_local(spec(home))
    [answer] = model.complete([ask("A hornbook", sampling=Sampling(temperature=0, max_tokens=12))])
    assert said.rstrip("\n") == answer.text.rstrip("\n")


def test_eval_measures_the_newest_model_and_writes_json(micro):
    code, said, complaint = call("eval", "--tasks", "policy", "--items", "3", "--json", "--home", micro[0])
    assert code == 0, complaint
    [result] = json.loads(said)
    assert result["items"] == 6
    # A model of four thousand tokens knows no policy: it refuses nothing.
    assert {score["name"]: score["value"] for score in result["scores"]}["refusal"] == 0
    assert len(result["outcomes"]["refusal"]) == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--tasks", "telepathy"], "word-problems"),
        (["--items", "0"], "at least 1"),
        (["no/such/folder"], "Accepted is"),
    ],
)
def test_wrong_words_are_named(micro, arguments, expected):
    code, _, said = call("eval", *arguments, "--home", micro[0])
    assert code == 1
    assert expected in said
    assert "Traceback" not in said


def test_the_tasks_are_listed_without_a_model(tmp_path):
    code, said, _ = call("eval", "--list", "--home", tmp_path)
    assert code == 0
    assert "policy" in said


def test_export_writes_files_that_load_and_answer_alike(micro, tmp_path):
    out = tmp_path / "out"
    code, said, complaint = call(
        "export", "--to", "hf,f32", "--out", out, "--name", "micro", "--home", micro[0]
    )
    assert code == 0, complaint
    written = [Path(line.split("  ")[0]) for line in said.splitlines()]
    assert written == [out / "hf", out / "micro-F32.gguf"]
    request = ask("A hornbook", sampling=Sampling(temperature=0, max_tokens=8))
    [wanted] = open_local(spec(micro[0]), weights="fp32").complete([request])
    for path in written:
        assert open_local(path, weights="fp32").complete([request])[0].text == wanted.text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--to", "q3_1"], "q3_1"),
        (["no/such/model"], "no/such/model"),
        (["http://localhost:1/v1#m"], "runs elsewhere"),
    ],
)
def test_what_cannot_be_exported_is_named(micro, tmp_path, arguments, expected):
    code, _, said = call("export", *arguments, "--out", tmp_path / "out", "--home", micro[0])
    assert code == 1
    assert expected in said
    assert not (tmp_path / "out").exists()
