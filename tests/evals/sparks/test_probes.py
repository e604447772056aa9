"""Graders of the probes against brute force, hostile answers, failures and the store."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from hornbook.data.retrieval import PassageIndex
from hornbook.errors import HornbookError
from hornbook.evals import suite
from hornbook.evals.annotation import AnnotationStore, Item
from hornbook.evals.benchmarks.run import Asking
from hornbook.evals.comparison import compare
from hornbook.evals.sample_store import SampleStore
from hornbook.evals.sparks import game, numbers, tools
from hornbook.evals.sparks.judging import Judging
from hornbook.evals.sparks.people import Explanation, FalseBelief, PersonalData
from hornbook.evals.sparks.probe import last_number, trials
from hornbook.evals.sparks.run import PROBES, run_probe
from hornbook.lm.base import Completion, Failure, Request
from hornbook.lm.simulated import SimulatedModel


def test_one_change_is_what_a_search_over_all_changes_says() -> None:
    probe = numbers.OneChange()
    for trial in trials(probe, 10, 0):
        start, target = trial.told["numbers"], trial.told["target"]
        for given in itertools.product(range(2, 8), repeat=4):
            right = sum(a != b for a, b in zip(given, start)) == 1
            right = right and given[0] * given[1] + given[2] * given[3] == target
            text = "{} * {} + {} * {} = 1".format(*given)
            assert probe.mark(trial, [[text]]).values["solved"] == float(right)


def test_hanoi_solutions_are_shortest_and_an_illegal_move_ends_it() -> None:
    probe = numbers.Hanoi()
    for trial in trials(probe, 10, 0):
        moves = probe.solve(trial, 0, []).split("\n")
        assert probe.mark(trial, [["\n".join(moves)]]).values["solved"] == 1
        assert probe.mark(trial, [["\n".join(moves[:-1])]]).values["solved"] == 0
        a, b = trial.told["closed"]
        assert not any(f"from {a} to {b}" in move for move in moves)
        doubled = probe.mark(trial, [["\n".join([moves[0], *moves])]])
        assert doubled.values["solved"] == 0
        assert "move 2 is not allowed" in doubled.note


def test_programs_are_executed_as_python_does() -> None:
    for trial in trials(numbers.Execution(), 30, 5):
        source = trial.openings[0].split("\n\n")[1]
        shown: list[int] = []
        exec(source, {"print": shown.append})
        assert shown == [trial.told["value"]]


def test_polynomials_have_their_roots() -> None:
    for trial in trials(numbers.Polynomial(), 10, 5):
        a, b, c, d = trial.told["powers"]
        roots = [x for x in range(-9, 10) if a * x**3 + b * x**2 + c * x + d == 0]
        assert len(roots) == 3
        assert f"p(1) = {a + b + c + d}." in trial.openings[0]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 12, not 5.", 5),
        ("Answer: 1,234", 1234),
        ("answer = -7", -7),
        ("It is 3 + 4 = 7.", 7),
        ("7.0", 7),
        ("7.5", None),
        ("", None),
        ("9" * 5_000, None),
        ("Answer: none of 3\n", 3),
    ],
)
def test_the_last_number(text: str, number: int | None) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    ("expression", "value"),
    [("12 * (3 + 4)", "84"), ("7 / 2", "3.5"), ("-3 + 1,000", "997"), ("2 // 0", None), ("9**9**9", None),
     ("__import__('os').getcwd()", None), ("(" * 90 + ")" * 90, None), ("'a' * 10", None), ("1e400", None),
     ("9" * 40, None), ("True + 1", None)],
)  # fmt: skip
def test_the_calculator_computes_and_nothing_else(expression: str, value: str | None) -> None:
    if value is None:
        with pytest.raises(tools.ToolError):
            tools.calculate(expression)
    else:
        assert tools.calculate(expression) == value


def test_the_search_finds_the_passage_that_is_meant() -> None:
    assert isinstance(tools._index(), PassageIndex)
    for name, facts in tools._facts().items():
        for kind, value in facts.items():
            assert str(value) in tools.use("SEARCH", f"{name} {kind}")


def test_broken_tools_answer_backwards_from_the_third_call() -> None:
    probe = tools.BrokenTools()
    [trial] = trials(probe, 1, 0)
    call = "CALC(12 + 1)"
    assert [probe.reply(trial, 0, [call] * n) for n in (1, 2, 3)] == [
        "Result: 13",
        "Result: 13",
        "Result: 31",
    ]
    assert probe.reply(trial, 0, ["ANSWER: 5"]) is None


def test_a_call_and_an_answer_in_one_turn_are_taken_in_order() -> None:
    probe = tools.Tools()
    [trial] = trials(probe, 1, 0)
    right = f"ANSWER: {trial.told['value']}"
    assert probe.mark(trial, [[right]]).values["solved"] == 1
    assert probe.reply(trial, 0, [f"CALC(1 + 1)\n{right}"]) == "Result: 2"
    assert probe.reply(trial, 0, [f"{right}\nCALC(1 + 1)"]) is None


def test_treasure_is_won_by_the_shortest_way_and_not_without_the_key() -> None:
    probe = game.Treasure()
    for trial in trials(probe, 10, 0):
        plan = probe._plan(trial.told)
        assert probe.mark(trial, [plan]).values == pytest.approx(
            {"solved": 1, "has the key": 1, "commands that do something": 1, "best over moves": 1}
        )
        without = [step for step in plan if step != "take key"]
        assert probe.mark(trial, [without]).values["solved"] == 0
        assert probe.reply(trial, 0, plan) is None
        assert probe.reply(trial, 0, ["sing"] * 500) is None


def test_cooking_in_another_order_is_lost() -> None:
    probe = game.Cooking()
    [trial] = trials(probe, 1, 0)
    plan = [probe.solve(trial, 1, [""] * n) for n in range(9)]
    swapped = [plan[1], plan[0], *plan[2:]]
    assert probe.mark(trial, [plan, plan]).values == {"after a demonstration": 1, "alone": 1}
    assert probe.mark(trial, [swapped, plan]).values == {"after a demonstration": 1, "alone": 0}
    assert trial.openings[1].count(f"wash {trial.told['shown']}") == 1
    assert "wash" not in trial.openings[0].replace("take, wash", "")


def test_who_always_says_the_new_place_fails_the_unseen_and_passes_the_seen() -> None:
    probe = FalseBelief()
    asked = trials(probe, 40, 0)
    for always in (0, 1):
        said = [[trial.told["truth"][2] if always == 0 else trial.told["truth"][1]] for trial in asked]
        values = [probe.mark(t, [s, s, s]).values["belief"] for t, s in zip(asked, said)]
        assert 0.2 < sum(values) / 40 < 0.8
    assert probe.mark(asked[0], [["the inbox or the archive"], [""], [""]]).values["belief"] == 0


def test_an_explanation_that_foretells_itself_is_consistent_and_may_be_wrong() -> None:
    probe = Explanation()
    [trial] = trials(probe, 1, 0)
    values = probe.mark(trial, [["5. That is 4 and 1, so 5.", "9"], ["9, because"]]).values
    assert values == {"solved": 0, "answer explained": 1, "process": 1}
    values = probe.mark(trial, [["5. That is 4 and 2, so 6.", "9"], ["8, because"]]).values
    assert values == {"solved": 0, "answer explained": 0, "process": 0}


def test_personal_data_is_counted_by_item() -> None:
    probe = PersonalData()
    trial = next(t for t in trials(probe, 20, 0) if len(t.told["items"]) == 3)
    items = trial.told["items"]
    values = probe.mark(trial, [[f"{items[0]}\n{items[1]}\nbread\nAnswer: 3"]]).values
    assert values["exact count"] == 1
    assert values["found"] == pytest.approx(2 / 3)
    assert values["of lines sound"] == pytest.approx(2 / 3)


def test_a_judge_that_loves_the_first_place_agrees_with_nobody() -> None:
    result = run_probe(Judging(), SimulatedModel("first", lambda request: "1"), items=20, seed=0)
    values = {score.name: score.value for score in result.scores}
    assert values == {"agrees with the truth": 0, "same in both orders": 0, "for the first place": 1}


class Mute:
    """Answers as told; fails where a word stands in the prompt; counts."""

    identity = "mute"

    def __init__(self, says: str = "", fails: str = "\0") -> None:
        self.says, self.fails, self.asked = says, fails, 0
        self.capabilities = SimulatedModel("", lambda r: "").capabilities

    def complete(self, requests: Sequence[Request], *, progress: object = None) -> list[Completion | Failure]:
        self.asked += len(requests)
        return [
            Failure(kind="server", message="no")
            if self.fails in r.messages[0].content  # type: ignore[index]
            else Completion(text=self.says)
            for r in requests
        ]


@pytest.mark.parametrize("says", ["", "\0" * 50, "9" * 9_000, "(" * 4_000, "ANSWER: " * 500, "<svg>" * 3_000,
                                  "\\draw " * 2_000, "go north " * 900, "1\n" * 4_000])  # fmt: skip
def test_empty_endless_and_hostile_answers_are_graded_and_nothing_breaks(says: str) -> None:
    results = suite.evaluate(Mute(says), tasks=["sparks"], items=1)  # type: ignore[arg-type]
    assert len(results) == len(PROBES)
    assert all(result.items == 1 and not result.unfinished for result in results)


def test_what_failed_is_named_and_asked_again_and_the_rest_never(tmp_path: Path) -> None:
    probe = PROBES["treasure"]
    word = trials(probe, 5, 1)[3].openings[0].split("\n\n")[1]
    with SampleStore(tmp_path / "s.sqlite") as store:
        first = Mute("go north", fails=word)
        result = run_probe(probe, first, items=5, seed=1, store=store)  # type: ignore[arg-type]
        lost = trials(probe, 5, 1)[3].id
        assert (result.items, lost in result.ids) == (4, False)
        assert f"1 of 5 items were not answered ({lost})" in result.unfinished
        again = Mute("go north")
        result = run_probe(probe, again, items=5, seed=1, store=store)  # type: ignore[arg-type]
        assert result.unfinished == ""
        assert again.asked == trials(probe, 5, 1)[3].told["moves"]
    with pytest.raises(HornbookError, match=r"answered none of the 5 items of sparks-treasure .server: no"):
        run_probe(probe, Mute(fails=""), items=5, seed=1)  # type: ignore[arg-type]


def test_two_models_are_compared_on_the_same_variants() -> None:
    probe = PROBES["sum-direct"]
    ones = [suite.evaluate(Mute(text), tasks=["sparks-sum-direct"], items=8) for text in ("1", "2")]  # type: ignore[arg-type]
    [difference] = compare(*ones)
    assert (difference.task, difference.items, difference.name) == ("sparks-sum-direct", 8, probe.metric)


def test_people_are_what_a_judge_is_held_against(tmp_path: Path) -> None:
    import json

    store = AnnotationStore(tmp_path / "a.sqlite")
    items = [
        Item(content={"request": f"q{n}", "first": "good", "second": "bad"}, provenance={}) for n in range(3)
    ]
    store.create_queue("pairs", items, question="Which?", kind="pairs")
    for number in (0, 1):
        for annotator in ("ann", "bob"):
            task = store.task("pairs", annotator, number=number)
            assert task is not None
            store.record("pairs", number, annotator, "first" if task.content["left"] == "good" else "second")
    path = tmp_path / "export.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in store.export("pairs")))
    judge = SimulatedModel(
        "j",
        lambda r: "1" if "Answer 1:\ngood" in r.messages[0].content else "2",  # type: ignore[index]
    )
    [result] = suite.evaluate(judge, tasks=["sparks-judge-people"], benchmarks=Asking(data=path))
    assert (result.items, result.scores[0].name, result.scores[0].value) == (2, "agrees with people", 1.0)
    with pytest.raises(HornbookError, match="needs pairs that people have judged"):
        suite.evaluate(judge, tasks=["sparks-judge-people"])


def test_two_models_side_by_side_for_people(tmp_path: Path) -> None:
    """Blind: neither side says whose it is; a drawing comes as rendered; the export knows all."""
    from hornbook.evals.sparks.pairs import blind_pairs

    def drawn(request: Request) -> str:
        return '<svg viewBox="0 0 9 9"><rect width="5" height="5" fill="red"/></svg>'

    with SampleStore(tmp_path / "s.sqlite") as store:
        ones = [
            suite.evaluate(model, tasks=["sparks-layout", "sparks-acrostic"], items=3, store=store)
            for model in (SimulatedModel("draws", drawn), SimulatedModel("talks", lambda r: "data:x"))
        ]
        queue = blind_pairs("which", *ones, store, tmp_path / "a.sqlite")
        with pytest.raises(HornbookError, match="No item was answered by both"):
            blind_pairs("none", ones[0], [], store, tmp_path / "a.sqlite")
    assert (queue.kind, queue.items) == ("pairs", 6)
    annotations = AnnotationStore(tmp_path / "a.sqlite")
    tasks = [annotations.task("which", "ann", number=n) for n in range(6)]
    sides = [task.content["left"] for task in tasks if task is not None]
    assert len({side[:9] for side in sides}) > 1  # now one model, now the other is on the left
    shown = [text for task in tasks if task for text in task.content.values()]
    assert sum(text.startswith("data:image/png;base64,iVBOR") for text in shown) == 3
    assert not any(text.startswith("data:x") or "simulated" in text for text in shown)
    annotations.record("which", 0, "ann", "first")
    [row] = annotations.export("which")
    assert (row["provenance"]["first"], row["provenance"]["second"]) == ("simulated:draws", "simulated:talks")
