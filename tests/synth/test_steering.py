"""Every writer's calls go where coverage is thin: counted by hand from what was asked, at equal calls."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from story_server import told

from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.lab.run import Run
from hornbook.lab.step import StepContext, step
from hornbook.lm.base import Request
from hornbook.lm.simulated import SimulatedModel
from hornbook.synth import teaching
from hornbook.synth.clusters import cluster_names
from hornbook.synth.coverage import Coverage, steer, write_steered
from hornbook.synth.phi4.steps import write_revised
from hornbook.synth.plans import Choices, Drawn, batches
from hornbook.synth.scripts import Assignment, Task, Written
from hornbook.synth.steps import write_stories
from hornbook.synth.variety import grouped
from hornbook.synth.writers import WRITERS, writer

CALLS = 48
THEMES = {
    "boats": "the boat sails across the lake while its captain holds the rudder against wind and wave",
    "bread": "the baker kneads dough with flour and yeast until the warm oven turns every loaf brown",
    "stars": "the telescope follows a distant planet whose orbit bends near the bright star each night",
    "bees": "the beekeeper smokes the hive before lifting honeycomb frames where bees guard their queen",
}
STEERED = [name for name, one in WRITERS.items() if one.takes("steered")]
"""Every writer that a teacher can be called for, but `instructions`: its stories are steered, each of which
needs one summary."""


def passage(theme: str, number: int) -> str:
    """Two sentences on a theme and two of its own, in the order of no other."""
    random = Random(f"{theme}{number}")
    body = THEMES[theme].split()
    said = [" ".join(random.sample(body, 9)).capitalize() + " because it must." for _ in range(5)]
    return " ".join([*said, f"The number {number} is a count of the {theme}."])


def pool(folder: Path, size: int) -> Path:
    """Passages of which nine in ten are on one theme and come first."""
    themes = ["boats"] * (size * 9 // 10) + (["bread", "stars", "bees"] * size)[: size // 10]
    texts = [passage(theme, number) for number, theme in enumerate(themes)]
    with CorpusWriter(folder, "documents", lineage={}) as made:
        made.write_rows(
            [{"id": f"p{n}", "text": t, "source": "t", "meta": "{}"} for n, t in enumerate(texts)]
        )
    return folder


def perform(teacher: Any, tasks: Sequence[Task], **how: Any) -> Iterator[Written]:
    """What would be asked, noted, and a row of new words for each."""
    for task in tasks:
        teacher.asked.append(task)
        random = Random(task.id)
        body = " ".join(f"w{random.randrange(10**6)}" for _ in range(30))
        row = {"id": task.id, "text": body, "source": "t", "meta": '{"first": 1, "mean": 1, "versions": 1}'}
        if teacher.schema == "conversations":
            row["messages"] = [{"role": "user", "content": body}]
            del row["text"]
        yield Written(task=task, rows=(row,))


def asked_of(run: Run, name: str, steered: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Every task that the teacher of a writer was given."""
    one = writer(name)
    teacher = SimulatedModel(f"{name} {steered}", lambda request: "")
    teacher.asked = []  # type: ignore[attr-defined]
    teacher.schema = (  # type: ignore[attr-defined]
        "conversations" if name in ("dialogue", "questions", "reversed", "conversations") else "documents"
    )
    monkeypatch.setattr(teaching, "perform", perform)
    inputs: dict[str, Any] = dict(one.fixed) | ({"each": 1} if "each" in one.options else {})
    if name == "dialogue":
        inputs |= {"taught_share": 1.0}
    if one.needs:
        inputs[one.needs] = folder / "pool"
    made = run.step(one.step, rows=CALLS, seed=5, teacher=teacher, steered=steered, **inputs)
    assert made.facts["steered"] is steered
    asked: list[Task] = teacher.asked  # type: ignore[attr-defined]
    if name == "word-problems":  # its second half is a program for each question
        asked = [task for task in asked if task.facets]
    assert len(asked) == CALLS
    assert len({task.id for task in asked}) == CALLS
    for kind, found in made.facts["facets"].items():
        values = {v for task in asked for k, v in task.facets.items() if k.rstrip(" 0123456789") == kind}
        assert (found["asked"], found["hit"]) == (len(values), len(values))
        assert not values & set(found["never_hit"])
        assert found["known"] >= len(values)
    return asked


def bits(tasks: Sequence[Task]) -> float:
    """Entropy of the values of each kind, added up: how evenly what was asked for covers what there is."""
    total = 0.0
    kinds = {kind.rstrip(" 0123456789") for task in tasks for kind in task.facets}
    for kind in kinds:
        counts = Counter(
            v for task in tasks for k, v in task.facets.items() if k.rstrip(" 0123456789") == kind
        )
        total -= sum(n / counts.total() * math.log2(n / counts.total()) for n in counts.values())
    return total


@pytest.mark.parametrize("name", STEERED)
def test_every_writer_covers_more_with_as_many_calls(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, recipe="t", scale="smoke", settings={}, quiet=True)
    if writer(name).needs:
        pool(tmp_path / "pool", 400)
    evenly = asked_of(run, name, False, tmp_path, monkeypatch)
    steered = asked_of(run, name, True, tmp_path, monkeypatch)
    assert bits(steered) > bits(evenly)


def half_thin(number: int) -> Assignment:
    """Plan `number` of a writer of forty topics."""
    topic = Random(number).randrange(40)

    def check(text: str) -> tuple[dict[str, Any], str]:
        return {"id": f"t{number}", "text": text, "source": "t", "meta": "{}"}, ""

    return Assignment(
        id=f"t{number}", prompt=f"{topic}/{number}", facets={"topic": f"topic {topic}"}, check=check
    )


@step(version="1", makes="corpus")
def write_half_thin(ctx: StepContext, *, steered: bool, teacher: Any) -> Any:
    """300 of these."""
    return teaching.write_taught(ctx, teacher, Drawn(half_thin), 300, steered=steered, writer="t", seed=0)


def test_calls_go_where_the_teacher_still_has_something_to_say(tmp_path: Path) -> None:
    """Half of the topics are thin: there the teacher knows three sentences. Sentences are counted by hand."""

    def reply(request: Request) -> str:
        assert request.messages is not None
        topic, number = map(int, request.messages[0].content.split("/"))
        random = Random(number)
        own = range(3 * topic, 3 * topic + 3) if topic % 2 else random.sample(range(10**6), 3)
        return ". ".join(f"say word{n} and word{n + 1} of the thing{n} now" for n in own)

    said = {}
    for steered in (False, True):
        run = Run(tmp_path / str(steered), recipe="t", scale="smoke", settings={}, quiet=True)
        made = run.step(write_half_thin, steered=steered, teacher=SimulatedModel("halves", reply))
        texts = [row["text"] for row in Corpus.open(made.path).iter_rows()]
        assert len(texts) + made.facts["removed"].get("exact repeat", 0) == 300
        said[steered] = len({sentence for text in texts for sentence in text.split(". ")})
    assert said[True] > 1.3 * said[False]


def test_a_heap_chooses_what_looking_at_every_plan_again_would() -> None:
    random = Random(7)
    coverage = Coverage()
    plans = [{"a": str(random.randrange(9)), "b 1": str(random.randrange(5)), "b 2": "x"} for _ in range(90)]
    for plan in plans[:30]:
        coverage.add(plan, " ".join(str(random.randrange(60)) for _ in range(12)))
    pending: Counter[tuple[str, str]] = Counter()
    left, expected = list(range(90)), []
    for _ in range(40):
        best = max(left, key=lambda n: (coverage.thinness(plans[n], pending), -n))
        left.remove(best)
        expected.append(best)
        pending.update([("a", plans[best]["a"]), ("b", plans[best]["b 1"]), ("b", "x")])
    assert steer(coverage, plans, 40) == expected


def test_more_rows_begin_with_the_plans_of_fewer_and_what_was_chosen_stays_chosen(tmp_path: Path) -> None:
    plans = Drawn(lambda n: {"topic": str(Random(n).randrange(30))}, 5000)

    def write(numbers: Sequence[int]) -> list[str]:
        return [f"text {plans[n]['topic']} {n * n} and on" for n in numbers]

    def chosen(calls: int, **more: Any) -> list[int]:
        return write_steered(plans, calls, write, batch=batches(10), width=4, **more)

    whole = chosen(500)
    assert len(set(whole)) == 500
    assert [chosen(size) for size in (3, 10, 64, 77, 300)] == [whole[:size] for size in (3, 10, 64, 77, 300)]
    # A call that failed before brings something today: the plans after it are paid for and stay the same.
    notes = Choices(tmp_path / "steering", "key")
    failed = write_steered(
        plans, 90, lambda numbers: [""] * len(numbers), batch=batches(10), width=4, remember=notes.add
    )
    assert failed != whole[:90]
    assert notes.read() == failed
    with notes.path.open("a") as file:
        file.write("[1, 2")  # killed while writing
    again = chosen(500, remembered=notes.read(), remember=notes.add)
    assert again[:90] == failed
    assert Choices(tmp_path / "steering", "key").read() == again
    assert len(set(again)) == 500
    few = Drawn(plans.draw, 50)
    assert sorted(write_steered(few, 50, write, batch=batches(10), width=4)) == list(range(50))


def test_clusters_of_passages_are_their_themes() -> None:
    themes = [theme for theme in THEMES for _ in range(40)]
    Random(2).shuffle(themes)
    names = cluster_names([passage(theme, number) for number, theme in enumerate(themes)])
    pairs = Counter(zip(names, themes, strict=True))
    best = sum(max(n for (name, _), n in pairs.items() if name == one) for one in set(names))
    assert best > 0.9 * len(themes)
    assert cluster_names(["one", "two"]) == ["all", "all"]


def test_reasons_of_one_kind_are_shown_as_one() -> None:
    assert grouped(
        {
            "The text has 8 words; write at least 50.": 2,
            "The text has 21 words; write at least 50.": 3,
            "These words are missing: clock. Use each of them.": 1,
            "These words are missing: drum, hat. Use each of them.": 1,
            "judge: clear is 2, below 3": 1,
            "judge: lively is 1, below 3": 1,
            "exact repeat": 1,
        }
    ) == [
        ("The text has ... words; write at least ....", 5),
        ("These words are missing: ...", 2),
        ("judge: clear is 2, below 3", 1),
        ("judge: lively is 1, below 3", 1),
        ("exact repeat", 1),
    ]


def test_a_row_put_together_from_several_calls_is_looked_at_whole(tmp_path: Path) -> None:
    """Writers that read an answer without `Work.write` are checked, too."""

    def reply(request: Request) -> str:
        assert request.messages is not None
        if "revise" in request.messages[-1].content or len(request.messages) > 1:
            return "unused"
        extra = " Write to tom@school-mail.org." if request.tag.endswith("-1") else ""
        body = " ".join(f"For example, the thing{n} is in the box{n * n} of the house." for n in range(14))
        return f"{body}{extra} {request.tag}."

    run = Run(tmp_path, recipe="t", scale="smoke", settings={}, quiet=True)
    teacher = SimulatedModel("smollm2 that leaks", reply)
    made = run.step(write_revised, rows=3, about="lessons", rounds=0, teacher=teacher)
    assert made.facts["rows"] == 2
    assert made.facts["removed"] == {"The text holds personal data (email); leave it out.": 1}
    assert "school-mail" in (made.path / "removed.jsonl").read_text()


def test_a_very_small_model_tells_a_story_often_and_the_first_that_holds_is_kept(
    tmp_path: Path,
) -> None:
    def reply(request: Request) -> str:
        assert request.messages is not None
        assert len(request.messages) == 1, "it is not sent corrections"
        if request.sample_index < 3:
            return "It has 433 words."
        return told(*re.findall(r'"(\w+)"', request.messages[0].content)) + " And then the"

    run = Run(tmp_path, recipe="t", scale="smoke", settings={}, quiet=True)
    made = run.step(write_stories, rows=4, teacher=SimulatedModel("smollm2, small", reply), steered=True)
    for row in Corpus.open(made.path).iter_rows():
        assert json.loads(row["meta"])["tries"] == 4
        assert row["text"][-1] in '.!?"'
    assert made.facts["rows"] == 4
