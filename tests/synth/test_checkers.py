"""What a row may not hold, what a judge removes, when solutions agree: each reason is kept and goes back
once."""

import json
import re
from pathlib import Path

import pytest

from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.lm.base import Request
from hornbook.lm.simulated import SimulatedModel
from hornbook.synth import steps
from hornbook.synth.judging import keep_judged
from hornbook.synth.safety import KINDS, toxic_kinds, unsafe_problem
from hornbook.synth.topics import topic, topic_count
from hornbook.synth.word_variants import pairs_of


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, recipe="t", scale="smoke", settings={}, quiet=True)


def last(request: Request) -> str:
    assert request.messages is not None
    return request.messages[-1].content


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Write to ann.b@mail-server.org for more.", "personal data (email)"),
        ("Call (212) 555-0147 now.", "personal data (phone)"),
        ("You are so stupid, said the wolf.", "insult"),
        ("I will kill you, said the wolf.", "threat"),
        ("The assassin passed the bass clarinet to Dick in Scunthorpe; the cock crowed.", ""),
        ("A class of 1,234,567 grasses, see 192.168.0.1 and user@example.com.", ""),
    ],
)
def test_personal_data_and_foul_words_are_named_and_innocent_words_stay(text: str, says: str) -> None:
    problem = unsafe_problem(text)
    assert (says in problem) if says else problem == ""
    assert set(toxic_kinds(text)) <= set(KINDS)


def test_an_unsafe_text_goes_back_once_with_the_reason(run: Run) -> None:
    seen: list[str] = []

    def reply(request: Request) -> str:
        seen.append(last(request))
        body = " ".join(f"Alpha{n} saw{n} the beta{n} of{n} gamma{n} again." for n in range(8))
        address = "" if len(seen) > 1 else " Ask me at tom@school-mail.org."
        return f"A loop does a thing again. {noun(seen[0])} helps.{address} {body}"

    def noun(prompt: str) -> str:
        found = re.search(r"Mention (.+?) somewhere", prompt)
        assert found is not None
        return found.group(1)

    made = run.step(steps.write_textbooks, rows=1, teacher=SimulatedModel("leaky", reply))
    assert made.facts["corrected"] == 1
    assert "personal data (email)" in seen[1]
    assert "@" not in next(iter(Corpus.open(made.path).iter_rows()))["text"]


def test_a_judge_removes_rows_with_their_grades_as_reasons(run: Run, tmp_path: Path) -> None:
    with CorpusWriter(tmp_path / "c", "documents", lineage={}) as writer:
        writer.write_rows(
            [
                {"id": f"{n}", "text": f"Text {word}.", "source": "t", "meta": "{}"}
                for n, word in enumerate("aab")
            ]
        )

    def grade(request: Request) -> str:
        names = re.findall(r"^- (\w+):", last(request), re.M)
        grades = dict.fromkeys(names, 4)
        if "Text b" in last(request):
            grades["clear"] = 2
        return json.dumps({**grades, "advice": "none"})

    made = run.step(keep_judged, corpus=tmp_path / "c", judge=SimulatedModel("judge", grade))
    assert made.facts["removed"] == {"judge: clear is 2, below 3": 1}
    assert made.facts["grades"]["clear"] == 4
    assert [row["id"] for row in Corpus.open(made.path).iter_rows()] == ["0", "1"]
    with pytest.raises(HornbookError, match="grades nothing"):
        run.step(keep_judged, corpus=tmp_path / "c", judge="simulated")


PROGRAM = "```python\ndef solution():\n    pears = 3\n    pears = pears + {n}\n    return pears\n```"


def test_solutions_that_disagree_are_removed_with_what_they_gave(run: Run) -> None:
    def reply(request: Request) -> str:
        if "Solve this problem" not in last(request):
            number = 4 if request.tag.endswith("-0") else 5
            return f"Ann has 3 pears and buys {number} more pears in the shop. How many pears does Ann have?"
        wrong = "5 more" in last(request) and request.sample_index == 1
        return PROGRAM.format(n=9 if wrong else 4)

    made = run.step(
        steps.write_word_problems, rows=2, solutions=3, teacher=SimulatedModel("two minds", reply)
    )
    assert made.facts["removed"] == {"solutions disagree: 7, 12, 7": 1} or made.facts["removed"] == {
        "solutions disagree: 7, 7, 12": 1
    }
    (row,) = Corpus.open(made.path).iter_rows()
    assert json.loads(row["meta"])["verified"] == "agreed"


PAIR = (
    "[problem]\nTom has {a} nuts and finds {b} more nuts in the wood. How many nuts has Tom?\n"
    "[program]\n{code}\n"
)


def test_one_step_answers_are_read_between_their_markers_even_when_cut_off(run: Run) -> None:
    code = "def solution():\n    nuts = 1\n    return nuts"
    whole = PAIR.format(a=2, b=3, code=f"```python\n{code}\n```") + "[end]\n"
    broken = PAIR.format(a=4, b=5, code="def solution():\n    return nuts") + "[end]\n"
    text = whole + broken + PAIR.format(a=6, b=7, code=code)
    assert [program for _, program in pairs_of(text)] == [code, "def solution():\n    return nuts", code]
    teacher = SimulatedModel("one step", lambda request: text)
    made = run.step(steps.write_problem_variants, rows=3, each=3, teacher=teacher)
    assert made.facts["rows"] == 2, "the program that does not run is left out"
    with pytest.raises(HornbookError, match="no problem in the form"):
        run.step(
            steps.write_problem_variants,
            rows=3,
            each=3,
            teacher=SimulatedModel("chatty", lambda request: "Sure!"),
        )


@pytest.mark.parametrize("way", ["two steps", "irrelevant"])
def test_variants_come_first_and_a_program_for_each(run: Run, way: str) -> None:
    asked: list[str] = []

    def reply(request: Request) -> str:
        asked.append(last(request))
        if "variants" in last(request):
            return "\n".join(
                f"{n}. Ann {n} has 3 pears and {n} apples and buys 4 more pears today. How many pears has "
                f"she?"
                for n in range(1, 5)
            )
        return PROGRAM.format(n=4)

    made = run.step(steps.write_problem_variants, rows=4, each=4, way=way, teacher=SimulatedModel(way, reply))
    assert made.facts["rows"] == 4
    assert len(asked) == 5
    assert ("of no use" in asked[0]) is (way == "irrelevant")
    simulated = run.step(steps.write_problem_variants, rows=20, way=way)
    flags = [json.loads(row["meta"])["distractor"] for row in Corpus.open(simulated.path).iter_rows()]
    assert len(flags) == 20
    assert all(flags) is (way == "irrelevant")


def test_twenty_thousand_topics_each_once_and_the_snippet_is_not_quoted(run: Run, tmp_path: Path) -> None:
    count = topic_count()
    assert count > 19_000
    assert len({topic(number) for number in range(count)}) == count
    web = (
        "Our long weekend at the lake was spoiled by rain and by a very loud band from the next village over"
    )
    with CorpusWriter(tmp_path / "w", "documents", lineage={}) as writer:
        writer.write_rows([{"id": "w", "text": web, "source": "t", "meta": "{}"}])
    seen: list[str] = []

    def reply(request: Request) -> str:
        seen.append(last(request))
        body = " ".join(
            f"It is the reason for thing{n} and that was shown by case{n} of day{n}." for n in range(9)
        )
        return body + (f" {web}." if len(seen) == 1 else " A band from the village played.")

    made = run.step(
        steps.write_topics, rows=1, teacher=SimulatedModel("quotes", reply), snippets=tmp_path / "w"
    )
    assert web in seen[0]
    assert "quotes the unrelated text" in seen[1]
    (row,) = Corpus.open(made.path).iter_rows()
    assert set(made.facts["facets"]) == {"field", "subject", "angle", "audience"}
    assert json.loads(row["meta"])["snippet"] is True
