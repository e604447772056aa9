"""phi-4's writers: what each keeps, what it refuses and why, with teachers that are functions, and without
one."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.lab.step import Artifact
from hornbook.lm.base import Request
from hornbook.lm.simulated import SimulatedModel
from hornbook.synth.phi4 import plurality, questions, reversal, seeds, steps, tested_code
from hornbook.synth.scripts import Work

PAGE = (
    "A seed is a small plant with the food it needs. It does not grow while it is dry, because the water "
    "starts "
    "the work inside. If the soil is too cold, the seed waits until spring. A seed that lies 3 centimetres "
    "deep "
    "finds the light, since its food lasts for that way. However, a seed that lies 20 centimetres deep dies, "
    "because its food is used up before it sees the sun. Therefore a gardener plants small seeds near the "
    "top. "
    "The coat is the shield of the small plant."
)
CHAT = (
    "Our new shop opens on Friday and everybody is welcome to come and look around. We have many great "
    "things for "
    "you and your family. Come early and bring your friends along. The first guests get a small surprise. "
    "There is "
    "free coffee all day. See you soon at the shop, and do not forget to tell your neighbours about it today."
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, recipe="t", scale="smoke", settings={}, quiet=True)


def corpus(folder: Path, texts: Mapping[str, str]) -> Path:
    with CorpusWriter(folder, "documents", lineage={}) as writer:
        writer.write_rows(
            [{"id": id, "text": text, "source": "t", "meta": "{}"} for id, text in texts.items()]
        )
    return folder


def rows(made: Artifact) -> list[dict[str, Any]]:
    return [{**row, "meta": json.loads(row["meta"])} for row in Corpus.open(made.path).iter_rows()]


def removed(made: Artifact) -> list[str]:
    lines = (made.path / "removed.jsonl").read_text().splitlines()
    return [json.loads(line)["reason"] for line in lines]


def teacher(answer: Callable[[str, int], str], name: str = "t") -> SimulatedModel:
    """A teacher that sees the last turn, and how many turns there are."""

    def reply(request: Request) -> str:
        assert request.messages is not None
        return answer(request.messages[-1].content, len(request.messages))

    return SimulatedModel(name, reply)


def test_seeds_by_rules_keep_explanations_and_leave_chatter(run: Run, tmp_path: Path) -> None:
    documents = corpus(
        tmp_path / "d", {"plant": PAGE, "shop": CHAT, "code": "x = 1\nfor i in y:\n    pass\n" * 40}
    )
    made = run.step(steps.choose_seeds, documents=documents, rows=9)
    (row,) = rows(made)
    assert row["meta"]["from"] == "plant"
    assert row["text"] in PAGE
    assert removed(made) == ["page: explains too little"]


def test_seeds_are_graded_in_two_stages_and_a_bad_page_costs_one_call(run: Run, tmp_path: Path) -> None:
    asked: list[str] = []

    def grade(prompt: str, turns: int) -> str:
        asked.append(prompt)
        good = 1 if "shop opens" in prompt else 4
        names = re.findall(r"^- (\w+):", prompt, re.M)
        return json.dumps({**dict.fromkeys(names, good), "advice": "none"})

    documents = corpus(tmp_path / "d", {"plant": PAGE, "shop": CHAT})
    made = run.step(steps.choose_seeds, documents=documents, rows=9, teacher=teacher(grade))
    assert [row["meta"]["graded_by"] for row in rows(made)] == ["teacher"]
    assert removed(made) == ["page: educational is 1, below 3"]
    assert sum("shop opens" in prompt for prompt in asked) == 1
    assert sum("small plant" in prompt for prompt in asked) == 2, "the page, then its one passage"


def test_documents_of_any_length_are_cut_into_pages_of_whole_paragraphs() -> None:
    long = "\n\n".join([PAGE] * 60)
    cut = list(seeds.pages([("book", long), ("empty", ""), ("one character", "x")]))
    assert len(cut) > 3
    assert all(len(text.split()) <= seeds.PAGE_WORDS + len(PAGE.split()) for _, text in cut)
    assert "\n\n".join(text for _, text in cut) == long


def test_questions_must_stand_alone_and_be_carried_by_the_passage(run: Run, tmp_path: Path) -> None:
    good = {
        "question": "Why does a dry seed not grow?", "steps": ["Water starts the work inside."],
        "answer": "Because water starts the work inside.",
    }  # fmt: skip
    faults = {
        "points": good | {"question": "What does the passage say about seeds?"},
        "invents": good | {"answer": "Because wizards forbid dragons to sing loudly."},
    }

    def ask(prompt: str, turns: int) -> str:
        return json.dumps({"items": [good if turns > 1 else faults["points"]]})

    chosen = corpus(tmp_path / "s", {"plant": PAGE})
    made = run.step(steps.write_questions, seeds=chosen, rows=1, teacher=teacher(ask))
    (row,) = rows(made)
    assert row["messages"][1]["content"].endswith(good["answer"])
    assert row["meta"]["seed_id"] == "plant"
    assert made.facts["corrected"] == 1
    stubborn = teacher(lambda prompt, turns: json.dumps({"items": [faults["invents"]]}), "stubborn")
    with pytest.raises(HornbookError, match="keep to the passage"):
        run.step(steps.write_questions, seeds=chosen, rows=1, teacher=stubborn)


def test_rules_ask_only_what_a_sentence_answers() -> None:
    made = questions.questions_by_rules("s", PAGE)
    asked = {row["messages"][0]["content"]: row["messages"][1]["content"] for row in made}
    assert asked["What happens if the soil is too cold?"] == "The seed waits until spring."
    for row in made:
        quoted = row["messages"][1]["content"].removeprefix("Because ").rstrip(".")
        assert quoted.lower() in PAGE.lower()
    gap = questions.gap_exercise("s", PAGE)
    assert gap is not None
    shown, answer = (turn["content"] for turn in gap["messages"])
    assert shown.split("\n\n")[1].replace("[...]", answer) == PAGE


@pytest.mark.parametrize(
    ("answers", "difficulty", "plurality_"),
    [
        (["4", "4", "4", "4"], "easy", "4"),
        (["4", "4", "5", "6"], "kept", "4"),
        (["4", "5", "6", "7"], "hard", None),
        (["4", "4", "5", "5"], "hard", None),
        ([None, None, None, None], "hard", None),
        (["4", "4", None, None], "kept", "4"),
    ],
)
def test_plurality_keeps_what_neither_all_nor_nobody_agrees_on(
    answers: list[str | None], difficulty: str, plurality_: str | None
) -> None:
    counted = plurality.vote(answers)
    assert (counted.difficulty, counted.plurality) == (difficulty, plurality_)


def test_the_plurality_of_an_erring_teacher_is_right_more_often_than_the_teacher(run: Run) -> None:
    made = run.step(steps.filter_questions, rows=200, samples=7)
    facts = made.facts
    assert facts["plurality_right"] > facts["teacher_right"] + 0.1
    assert facts["rows"] == round(200 * (1 - facts["easy"] - facts["hard"]))


def test_answers_are_read_as_the_numbers_that_programs_give() -> None:
    texts = [
        "```python\ndef solution():\n    return 6 * 2\n```",
        "```python\ndef solution():\n    return 12.0\n```",
    ]
    assert plurality.run_answers([*texts, "no code"]) == ["12", "12", None]
    assert plurality.said_answers(["So.\nAnswer: Twelve.", "nothing"]) == ["twelve", None]


CODE = """def longest(words):
    best = ''
    for word in words:
        if len(word) > len(best):
            best = word
    return best"""


def test_reversal_keeps_an_instruction_only_if_its_solution_does_the_same(run: Run, tmp_path: Path) -> None:
    calls = ["longest(['a', 'bcd', 'ef'])", "longest([])", "longest(['xy', 'zw'])"]

    def answer(instruction: str, solution: str) -> SimulatedModel:
        def reply(prompt: str, turns: int) -> str:
            if "Write the instruction" in prompt:
                return json.dumps({"instruction": instruction, "calls": calls})
            assert "best" not in prompt, "the solver must not see the code"
            return f"```python\n{solution}\n```"

        return teacher(reply, instruction)

    code = corpus(tmp_path / "c", {"mod": f"import os\n\n{CODE}\n\ndef touches():\n    return os.name\n"})
    first = "def longest(words):\n    return max(words, key=len, default='')"
    exact = "Return the longest string of a list, the first of equals, or an empty string."
    made = run.step(steps.write_reversed, rows=5, code=code, teacher=answer(exact, first))
    (row,) = rows(made)
    assert [turn["content"] for turn in row["messages"]] == [exact, CODE]
    last = "def longest(words):\n    return sorted(words, key=len)[-1] if words else ''"
    with pytest.raises(
        HornbookError, match=r"On longest\(\['xy', 'zw'\]\) the original gives 'xy', the other 'zw'"
    ):
        run.step(steps.write_reversed, rows=5, code=code, teacher=answer(exact + " Mind ties.", last))


def test_vague_instructions_of_the_simulated_teacher_are_found(run: Run) -> None:
    made = run.step(steps.write_reversed, rows=60)
    lost = made.facts["removed"]
    assert 0 < sum(lost.values()) < 30
    assert all(reason.startswith("not the same again") or reason == "exact repeat" for reason in lost)
    assert all('"""' not in row["messages"][1]["content"] for row in rows(made))
    assert reversal.functions_of("def f(a):\n    global b\n    b = a\n    return b\n") == []


def test_revision_keeps_the_best_version_and_all_grades(run: Run) -> None:
    worth = {"draft": 2, "better": 4, "worse": 1}

    def reply(prompt: str, turns: int) -> str:
        if prompt.startswith("Grade"):
            found = next(word for word in worth if f"version {word}" in prompt)
            names = re.findall(r"^- (\w+):", prompt, re.M)
            return json.dumps({**dict.fromkeys(names, worth[found]), "advice": "Give an example."})
        word = "draft" if turns == 1 else "worse" if "version better" in prompt or turns > 3 else "better"
        order.append(word)
        word = order[-1] if order.count("better") < 2 else "worse"
        return f"This is version {word}. " + " ".join(
            f"For example, thing {word}{n} is not the same as thing {n + 100}." for n in range(10)
        )

    order: list[str] = []
    made = run.step(steps.write_revised, rows=1, teacher=teacher(reply))
    (row,) = rows(made)
    assert "version better" in row["text"]
    assert row["meta"]["versions"] == 3
    assert [set(grades.values()) for grades in row["meta"]["grades"]] == [{2}, {4}, {1}]
    assert (made.facts["first"], made.facts["best"]) == (2, 4)


def test_two_agents_speak_in_turn_and_nobody_repeats_himself(run: Run) -> None:
    roles: list[tuple[str, ...]] = []

    def reply(request: Request) -> str:
        assert request.messages is not None
        roles.append(tuple(message.role for message in request.messages))
        number = len(roles)
        if "said before" in request.messages[-1].content:
            return f"Something new, number {number}, that nobody has told you."
        told = 2 if number == 3 else number
        return f"My turn number {told} tells of apples and of thing {told}."

    made = run.step(steps.write_conversations, rows=1, teacher=SimulatedModel("two", reply), exchanges=2)
    (row,) = rows(made)
    assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"] * 2
    assert roles[0] == ("system", "user")
    assert roles[1] == ("system", "user")
    assert roles[2] == ("system", "user", "assistant", "user")[:1] + roles[2][1:]
    assert made.facts["corrected"] == 1, "the third turn repeated the second"


def test_planned_conversations_say_what_the_textbooks_say(run: Run) -> None:
    from hornbook.synth.concepts_science import BY_NAME

    for row in rows(run.step(steps.write_conversations, rows=40)):
        turns = row["messages"]
        assert [turn["role"] for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
        assert turns[1]["content"] in BY_NAME[row["meta"]["concept"]].says


PROGRAM = '''def middle(values):
    """The middle of three numbers."""
    return sorted(values)[1]


def test():
    assert middle([1, 2, 3]) == 2
    assert middle([3, 1, 2]) == 2
    assert middle([5, 5, 1]) == 5
'''


def test_code_is_kept_when_its_tests_pass_and_can_fail() -> None:
    problem, killed = tested_code.tested_problem(PROGRAM)
    assert problem == ""
    assert killed == 1
    wrong, _ = tested_code.tested_problem(PROGRAM.replace("[1]\n", "[0]\n", 1))
    assert wrong.startswith("The tests do not pass: AssertionError")
    idle = re.sub(r"== \d", "!= 'x'", PROGRAM)
    vain, killed = tested_code.tested_problem(idle)
    assert killed == 0
    assert "pass even when the function is changed" in vain


def test_what_the_run_said_goes_back_and_is_mended(run: Run) -> None:
    seen: list[str] = []

    def reply(prompt: str, turns: int) -> str:
        seen.append(prompt)
        return f"```python\n{PROGRAM if turns > 1 else PROGRAM.replace('[1]', '[0]', 1)}\n```"

    made = run.step(steps.write_tested_code, rows=1, teacher=teacher(reply))
    assert made.facts["corrected"] == 1
    assert "The tests do not pass: AssertionError" in seen[1]
    simulated = run.step(steps.write_tested_code, rows=6)
    assert all(row["meta"]["mutants_caught"] >= 0.5 for row in rows(simulated))


def test_skill_texts_are_short_show_everything_and_name_nothing(run: Run) -> None:
    def reply(prompt: str, turns: int) -> str:
        if "points" in prompt.lower() and turns == 1 and "Answer:" not in prompt:
            return "\n".join(f"1 point: {n}" for n in range(5))
        return "Answer: The boat came home before the storm did. It waited by the door. Explanation: all."

    made = run.step(steps.write_skill_texts, rows=30, k=3)
    assert made.facts["rows"] >= 15
    assert all(len(row["meta"]["skills"]) == 3 for row in rows(made))
    with pytest.raises(HornbookError, match=r"does not see|more than one sentence"):
        run.step(steps.write_skill_texts, rows=2, k=2, teacher=teacher(reply, "wordy"))


def test_every_row_leads_back_to_all_calls_it_took() -> None:
    work = Work(id="a")
    assert work.request("x").salt == "a"
    assert [request.sample_index for request in next(iter(work.ask_often("x", 3)))] == [0, 1, 2]


def test_what_cannot_be_is_one_sentence(run: Run, tmp_path: Path) -> None:
    empty = corpus(tmp_path / "e", {"x": "1 2 3"})
    for made, says in (
        (lambda: run.step(steps.choose_seeds, documents=empty, rows=3), "no page of prose"),
        (lambda: run.step(steps.write_revised, rows=3, teacher="simulated"), "needs no revision"),
        (lambda: run.step(steps.filter_questions, rows=3, samples=2), "fewer than 3 answers"),
        (
            lambda: run.step(steps.write_rewrites, seeds=empty, rows=3, forms=["haiku"]),
            "accepted are some of",
        ),
    ):
        with pytest.raises(HornbookError, match=says):
            made()
