"""The writing steps in a real run: corpora, facts, removed rows, real teachers."""

import json
import re
from pathlib import Path

import pytest

from hornbook.data.corpus import Corpus
from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.lab.step import Step
from hornbook.lm.base import Capabilities, Completion, Failure
from hornbook.lm.simulated import SimulatedModel
from hornbook.synth import checks, steps
from hornbook.synth.scripts import perform
from hornbook.synth.stories import write_story
from hornbook.synth.taught import examples_problem, question_assignments, story_assignments
from hornbook.synth.teacher import open_teacher


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, recipe="test", scale="smoke", settings={})


@pytest.mark.parametrize(
    ("write", "schema"),
    [
        (steps.write_stories, "documents"),
        (steps.write_word_problems, "documents"),
        (steps.write_textbooks, "documents"),
        (steps.write_exercises, "documents"),
        (steps.write_dialogue, "conversations"),
        (steps.write_preferences, "preferences"),
    ],
)
def test_each_step_writes_a_corpus_with_lineage(run: Run, write: object, schema: str) -> None:
    made = run.step(write, rows=60, seed=3)
    corpus = Corpus.open(made.path)
    assert corpus.schema == schema
    assert corpus.rows == made.facts["rows"] == 60 - sum(made.facts["removed"].values())
    assert corpus.lineage["seed"] == 3
    assert made.facts["pass_rate"] == 1.0
    assert made.facts["words"] > 300
    for row in corpus.iter_rows():
        assert json.loads(row["meta"])["seed"] == 3
    corpus.verify()


def test_a_noisy_teacher_loses_what_does_not_run_and_says_so(run: Run) -> None:
    made = run.step(steps.write_word_problems, rows=200, broken_share=0.3, wrong_share=0.3)
    lost = made.facts["removed"]["program does not run"]
    assert 30 < lost < 90
    assert made.facts["rows"] == 200 - sum(made.facts["removed"].values())
    removed = [json.loads(line) for line in (made / "removed.jsonl").read_text().splitlines()]
    assert len(removed) == sum(made.facts["removed"].values())
    assert {row["reason"] for row in removed} <= {"program does not run", "exact repeat"}


def test_wrong_numbers_of_rows_are_refused(run: Run) -> None:
    with pytest.raises(HornbookError, match="rows is 0"):
        run.step(steps.write_stories, rows=0)


class Scripted:
    """A teacher that follows a script: (request text, turn) to an answer or a failure."""

    identity = "scripted-1"
    capabilities = Capabilities()

    def __init__(self, script: object) -> None:
        self.script = script
        self.asked: list[str] = []

    def complete(self, requests: object, *, progress: object = None) -> list[Completion | Failure]:
        out: list[Completion | Failure] = []
        for request in requests:  # type: ignore[attr-defined]
            self.asked.append(request.messages[-1].content)
            answer = self.script(request)  # type: ignore[operator]
            out.append(answer if isinstance(answer, Failure) else Completion(text=answer))
        return out

    def score(self, pairs: object) -> list[object]:
        raise NotImplementedError


def _good_story(request: object) -> str:
    prompt = request.messages[0].content  # type: ignore[attr-defined]
    verb, noun, adjective = re.findall(r'"(\w+)"', prompt)[:3]
    story = write_story(9, len(prompt)).text
    return f"{story} They wanted to {verb} with the {adjective} {noun}."


def test_a_real_teacher_gets_one_correction_and_failures_are_kept(run: Run) -> None:
    def script(request: object) -> str | Failure:
        turns = request.messages  # type: ignore[attr-defined]
        number = int(request.tag.rsplit("-", 1)[1])  # type: ignore[attr-defined]
        if number % 4 == 0:
            return Failure(kind="refusal", message="no")
        if number % 4 == 1:
            return "Too short."
        if number % 4 == 2 and len(turns) == 1:
            return "Too short."
        return _good_story(request)

    teacher = Scripted(script)
    made = run.step(steps.write_stories, rows=40, teacher=teacher)
    assert made.facts["rows"] == 20
    assert made.facts["corrected"] == 10
    assert made.facts["removed"]["call failed: refusal"] == 10
    assert made.facts["removed"]["The text has 2 words; write at least 50."] == 10
    corrections = [text for text in teacher.asked if "write at least 50" in text]
    assert len(corrections) == 20
    row = next(iter(Corpus.open(made.path).iter_rows()))
    assert row["source"] == "taught/stories"


def test_a_real_teacher_writes_problems_in_two_steps(run: Run) -> None:
    def script(request: object) -> str:
        prompt = request.messages[0].content  # type: ignore[attr-defined]
        if "Write one new word problem" in prompt:
            number = request.tag.rsplit("-", 1)[1]  # type: ignore[attr-defined]
            return (
                f"At the fair, Ann buys 4 bags with {number}0 nuts each and eats 3 nuts. How many are left?"
            )
        return (
            "Sure:\n```python\ndef solution():\n    nuts = 4 * 10\n    nuts = nuts - 3\n    return nuts\n```"
        )

    made = run.step(steps.write_word_problems, rows=6, teacher=Scripted(script))
    assert made.facts["rows"] == 6
    meta = json.loads(next(iter(Corpus.open(made.path).iter_rows()))["meta"])
    assert meta["value"] == 37
    assert meta["verified"] == "runs"


def test_the_small_embedded_model_is_kept_from_maths(run: Run) -> None:
    teacher = Scripted(_good_story)
    teacher.identity = "SmolLM2-135M-Instruct"  # type: ignore[misc]
    with pytest.raises(HornbookError, match="word problems"):
        run.step(steps.write_word_problems, rows=4, teacher=teacher)
    assert run.step(steps.write_stories, rows=4, teacher=teacher).facts["rows"] == 4


def test_teachers_are_opened_by_name() -> None:
    assert open_teacher("simulated") == "simulated"
    with pytest.raises(HornbookError, match="empty"):
        open_teacher(" ")


def test_a_teacher_that_never_answers_leaves_nothing_and_says_why(run: Run) -> None:
    with pytest.raises(HornbookError, match="refusal"):
        run.step(
            steps.write_stories,
            rows=3,
            teacher=Scripted(lambda request: Failure(kind="refusal", message="no")),
        )


def test_prompts_carry_the_plan_and_differ() -> None:
    prompts = [item.prompt for item in story_assignments(1)[:50]]
    assert len(set(prompts)) == 50
    assert all(len(re.findall(r'"(\w+)"', prompt)) >= 3 for prompt in prompts)
    outcome = list(perform(Scripted(lambda request: "Nothing to ask."), question_assignments(1)[:2]))
    assert [item.problem for item in outcome] == ["There is no question mark; end with one question."] * 2


def test_checks_say_what_is_wrong() -> None:
    assert checks.missing_words("She sang to the kites, running.", ["sing", "kite", "run", "red"]) == ["red"]
    assert "characters" in checks.language_problem("сказка про кота и дом")
    assert checks.language_problem(write_story(1, 1).text) == ""
    assert checks.repetition_problem("the cat sat on the mat " * 6) != ""
    assert checks.story_problem(write_story(1, 2).text, write_story(1, 2).plan.words) == ""
    assert "parse" in checks.program_problem("def f(:", "f")
    assert "named f" in checks.program_problem("def g():\n    return 1", "f")
    assert "returns nothing" in checks.program_problem("def f():\n    pass", "f")
    good = 'def f(n):\n    """Double.\n\n    >>> f(2)\n    4\n    """\n    return n * 2'
    assert examples_problem(good) == ""
    assert examples_problem(good.replace("n * 2", "n + 3")) != ""
    assert examples_problem("def f():\n    return 1") == "The docstring has no example."


@pytest.mark.parametrize("write", [steps.write_word_problems, steps.write_textbooks, steps.write_exercises])
def test_nothing_is_called_held_out_that_a_real_teacher_writes(run: Run, write: Step) -> None:
    teacher = SimulatedModel("asked in vain", lambda request: pytest.fail("was asked"))
    with pytest.raises(HornbookError, match="Leave held_out out"):
        run.step(write, rows=2, teacher=teacher, held_out=True)
