"""The command line: what a user types and what comes back."""

import json
import subprocess
import sys

import pytest
from command_line import call

from hornbook.cli import main


def run(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "hornbook", *arguments], capture_output=True, text=True, timeout=120, cwd=cwd
    )


def test_help_names_the_commands():
    result = run("--help")
    assert result.returncode == 0
    for name in ("run", "papers", "chat", "data", "eval", "export", "report", "doctor", "new"):
        assert f"\n    {name} " in result.stdout


def test_an_unknown_recipe_is_a_sentence_that_names_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["run", "phi17"])
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert "phi17" in said
    assert "./my_recipe.py" in said


def test_a_missing_recipe_file_says_how_to_make_one(capsys, tmp_path):
    with pytest.raises(SystemExit) as stop:
        main(["run", str(tmp_path / "none.py")])
    assert stop.value.code == 1
    assert "hornbook new" in capsys.readouterr().err


def test_a_file_that_is_no_recipe_says_what_it_lacks(capsys, tmp_path):
    (tmp_path / "plain.py").write_text("TITLE = 'x'\n")
    with pytest.raises(SystemExit):
        main(["run", str(tmp_path / "plain.py")])
    said = capsys.readouterr().err
    assert "PAPER, SCALES, recipe" in said


def test_new_does_not_overwrite(capsys, tmp_path):
    path = tmp_path / "mine.py"
    with pytest.raises(SystemExit) as stop:
        main(["new", str(path)])
    assert stop.value.code == 0
    with pytest.raises(SystemExit) as stop:
        main(["new", str(path)])
    assert stop.value.code == 1
    assert "exists already" in capsys.readouterr().err


def test_the_recipe_that_new_writes_is_planned_without_doing_anything(capsys, tmp_path):
    path, home = tmp_path / "mine.py", tmp_path / "runs"
    with pytest.raises(SystemExit):
        main(["new", str(path)])
    with pytest.raises(SystemExit) as stop:
        main(["run", str(path), "--scale", "smoke", "--show", "--home", str(home), "--tokens", "12345"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "12345" in shown
    assert "pretrain" in shown
    assert not home.exists()


def test_a_wrong_setting_is_named(capsys, tmp_path):
    path = tmp_path / "mine.py"
    with pytest.raises(SystemExit):
        main(["new", str(path)])
    with pytest.raises(SystemExit) as stop:
        main(["run", str(path), "--tokens", "many"])
    assert stop.value.code not in (0, None)
    assert "tokens" in capsys.readouterr().err


def test_data_commands_on_a_small_corpus(capsys, tmp_path):
    source = tmp_path / "notes"
    source.mkdir()
    (source / "a.txt").write_text("A hornbook was a child's first book.\n" * 5)
    from hornbook.data.corpus import CorpusWriter

    with CorpusWriter(tmp_path / "corpus", "documents", {"made": "by hand"}) as writer:
        writer.write_rows([{"id": "a", "text": "one small page", "source": "s", "meta": "{}"}])
    for action, expected in (("ls", "1 documents"), ("show", "one small page"), ("stats", "rows: 1")):
        with pytest.raises(SystemExit) as stop:
            main(["data", action, str(tmp_path / "corpus")])
        assert stop.value.code == 0
        assert expected in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["data", "diff", str(tmp_path / "corpus"), str(tmp_path / "corpus"), "--json"])
    assert json.loads(capsys.readouterr().out)["same"] == 1
    with pytest.raises(SystemExit) as stop:
        main(["data", "stats", str(tmp_path / "nowhere")])
    assert stop.value.code == 1
    assert "nowhere" in capsys.readouterr().err


def test_a_parametrization_holds_for_every_stage_of_training(tmp_path):
    code, out, _ = call(
        *("run", "phi", "--show", "--home", tmp_path, "--parametrization", "completep", "--base-width=96")
    )
    assert code == 0
    stages = [line.split() for line in out.splitlines() if "train.parametrization" in line]
    assert [value for _, value in stages] == ["completep"] * 4
    widths = [line.split()[1] for line in out.splitlines() if "train.base-width" in line]
    assert widths == ["96"] * 4


@pytest.mark.parametrize(
    "recipe",
    ["arithmetic", "break_fix", "longrope", "phi", "phi1", "pivotal_tokens", "tinygsm", "unlearning"],
)
def test_every_training_recipe_takes_a_parametrization(recipe, tmp_path):
    code, out, said = call("run", recipe, "--show", "--home", tmp_path, "--parametrization", "depth_mup")
    assert code == 0, said
    assert "depth_mup" in out


def test_a_parametrization_is_refused_by_a_recipe_that_trains_nothing(tmp_path):
    code, _, err = call("run", "cntk", "--show", "--home", tmp_path, "--parametrization", "mup")
    assert code == 1
    assert "trains no model with the Trainer" in err


def test_parrot_says_what_no_corpus_explains():
    """The paper's own figures: 12 of 100 at k = 5, E_5 = 0.07."""
    code, out, _ = call("parrot", "--full-marks", "12/100", "--k", "5", "--expected", "0.07")
    assert code == 0
    assert "12.0% [7.0%, 19.8%]" in out
    assert "At least 41.7% of these [0.0%, 64.7%]" in out
    rates = ["--skill-rate", "0.1", "--topic-rate", "0.01", "--texts", "1e6"]
    assert "stands in 10 texts" in call("parrot", "--full-marks", "1/2", "--k", "3", *rates)[1]
    for wrong in (["--full-marks", "3/2", "--expected", "1"], ["--full-marks", "1/2"],
                  ["--full-marks", "1/2", "--expected", "1", *rates]):  # fmt: skip
        code, _, said = call("parrot", "--k", "3", *wrong)
        assert code == 1
        assert "hornbook: " in said
