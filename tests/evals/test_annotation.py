"""No stroke is lost, pairs are blind and put right again, and agreement is Cohen's kappa."""

import hashlib
import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from sklearn.metrics import cohen_kappa_score

from hornbook.errors import HornbookError
from hornbook.evals.annotation import GRADER, PAIR_LABELS, AnnotationStore, Item
from hornbook.evals.judges import krippendorff_alpha


@pytest.fixture
def store(tmp_path):
    return AnnotationStore(tmp_path / "annotations.sqlite")


def items(count):
    return [Item(content={"problem": f"p{i}"}, provenance={"row": i}) for i in range(count)]


def pairs(count):
    return [
        Item(content={"prompt": "q", "first": f"a{i}", "second": f"b{i}"}, provenance={})
        for i in range(count)
    ]


def test_every_item_comes_once_in_the_same_order_for_everyone(store):
    store.create_queue("q", items(9), question="?", labels=["yes", "no"])
    met = {}
    for name in ("ann", "bob"):
        met[name] = []
        while (task := store.task("q", name)) is not None:
            met[name].append(task.number)
            store.record("q", task.number, name, "yes")
    assert met["ann"] == met["bob"] == store.order("q")
    assert sorted(met["ann"]) == list(range(9))
    assert met["ann"] != list(range(9))
    assert dict(store.queue("q").done) == {"ann": 9, "bob": 9}


def test_a_stroke_outlives_a_process_that_is_killed_right_after_it(store):
    store.create_queue("q", items(50), question="?", labels=["yes", "no"])
    program = (
        "import os, signal, sys; from hornbook.evals.annotation import AnnotationStore\n"
        "store = AnnotationStore(sys.argv[1])\n"
        "for i in range(20): store.record('q', i, 'ann', 'no', note='n%d' % i)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(store.path)], check=False)
    again = AnnotationStore(store.path)
    assert again.queue("q").done == {"ann": 20}
    assert again.task("q", "ann", number=7).note == "n7"


def test_a_later_stroke_counts_and_one_can_be_taken_back(store):
    store.create_queue("q", items(3), question="?", labels=["yes", "no"])
    store.record("q", 1, "ann", "yes")
    store.record("q", 1, "ann", "no", note="on second thoughts")
    assert store.task("q", "ann", number=1).label == "no"
    store.record("q", 1, "ann", None)
    assert store.task("q", "ann", number=1).label is None
    assert store.queue("q").done == {}
    assert list(store.export("q")) == []


def test_pairs_are_blind_both_ways_and_verdicts_are_on_the_texts(store):
    store.create_queue("q", pairs(16), question="which?", kind="pairs")
    sides = set()
    for number in range(16):
        task = store.task("q", "ann", number=number)
        assert {task.content["left"], task.content["right"]} == {f"a{number}", f"b{number}"}
        assert "first" not in task.content
        sides.add(task.content["left"][0])
        prefers_a = "first" if task.content["left"].startswith("a") else "second"
        store.record("q", number, "ann", prefers_a)
        assert store.task("q", "ann", number=number).label == prefers_a  # as it was shown
    assert sides == {"a", "b"}
    exported = list(store.export("q"))
    assert {row["judgements"][0]["label"] for row in exported} == {"first"}  # always the text a
    shown = {row["judgements"][0]["shown_first"] for row in exported}
    assert shown == {"first", "second"}
    assert store.counts("q") == {"ann": {**dict.fromkeys(PAIR_LABELS, 0), "first": 16}}


def test_agreement_is_cohens_kappa_on_the_common_items(store):
    rng = random.Random(5)
    labels = ["good", "fair", "bad"]
    store.create_queue("q", items(50), question="?", labels=labels)
    given = {"ann": {}, "bob": {}}
    for i in range(50):
        truth = rng.choice(labels)
        for name, start in (("ann", 0), ("bob", 20)):
            if i >= start:
                given[name][i] = truth if rng.random() < 0.7 else rng.choice(labels)
                store.record("q", i, name, given[name][i])
    [found] = store.agreement("q")
    a = [given["ann"][i] for i in range(20, 50)]
    b = [given["bob"][i] for i in range(20, 50)]
    assert (found.annotators, found.items) == (("ann", "bob"), 30)
    assert found.kappa == pytest.approx(cohen_kappa_score(a, b))
    assert found.equal == pytest.approx(sum(x == y for x, y in zip(a, b)) / 30)


def test_kappa_of_two_who_always_say_the_same_word_is_not_a_number(store):
    store.create_queue("q", items(4), question="?", labels=["yes", "no"])
    for name in ("ann", "bob", "eve"):
        for i in range(4):
            if name != "eve":
                store.record("q", i, name, "yes")
    [found] = store.agreement("q")
    assert (found.equal, found.kappa) == (1.0, None)


def test_many_hands_at_once_lose_nothing(store):
    store.create_queue("q", items(12), question="?", labels=["yes", "no"])

    def work(name):
        own = AnnotationStore(store.path)
        for i in range(12):
            own.record("q", i, name, "yes" if i % 2 else "no")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, [f"a{i}" for i in range(4)]))
    assert set(store.queue("q").done.values()) == {12}
    assert len(store.agreement("q")) == 6


def test_the_export_says_what_was_judged_by_whom_and_where_it_came_from(store):
    source = {"corpus": "steps/x", "row": "r1", "sha256": "00"}
    item = Item(content={"problem": "Zwei Äpfel?", "answer": "<b>2</b>"}, provenance=source)
    store.create_queue("maths", [item], question="Is it right?", labels=["right", "wrong"], seed=3)
    store.record("maths", 0, "ann", "wrong", note="units", seconds=4.5)
    [row] = [json.loads(json.dumps(row)) for row in store.export("maths")]
    assert row["provenance"] == source
    assert row["content"] == item.content
    canonical = json.dumps(row["content"], ensure_ascii=False, separators=(",", ":"))
    assert row["content_sha256"] == hashlib.sha256(canonical.encode()).hexdigest()
    [judgement] = row["judgements"]
    assert (judgement["label"], judgement["note"], judgement["seconds"]) == ("wrong", "units", 4.5)


def test_what_makes_no_sense_is_refused_in_words(store, tmp_path):
    store.create_queue("q", items(2), question="?", labels=["yes", "no"])
    for call, said in (
        (lambda: store.create_queue("q", items(1), question="?", labels=["a", "b"]), "already"),
        (lambda: store.create_queue(" ", items(1), question="?", labels=["a", "b"]), "name"),
        (lambda: store.create_queue("r", [], question="?", labels=["a", "b"]), "no items"),
        (lambda: store.create_queue("r", items(1), question="?", labels=["a"]), "at least two"),
        (lambda: store.create_queue("r", items(1), question="?", labels=["a", "a"]), "differ"),
        (lambda: store.create_queue("r", items(1), question="?", kind="pairs"), "second text"),
        (lambda: store.record("q", 5, "ann", "yes"), "no item 5"),
        (lambda: store.record("q", 0, "ann", "maybe"), "accepted are yes, no"),
        (lambda: store.record("q", 0, " ", "yes"), "annotator"),
        (lambda: store.record("x", 0, "ann", "yes"), "no queue"),
        (lambda: store.task("q", "ann", number=2), "0 to 1"),
    ):
        with pytest.raises(HornbookError, match=said):
            call()
    assert [queue.name for queue in store.queues()] == ["q"]
    (tmp_path / "broken").write_bytes(b"not a database" * 100)
    with pytest.raises(HornbookError, match="move it away"):
        AnnotationStore(tmp_path / "broken")


def questions(count):
    return [
        Item(content={"question": f"q{i}", "solution": f"s{i}", "answer": str(i)}, provenance={"row": i})
        for i in range(count)
    ]


def test_every_edit_of_a_question_is_kept_with_what_stood_there_before(store):
    store.create_queue("q", questions(2), question="?", kind="questions")
    store.edit("q", 0, "ann", "question", "better")
    store.edit("q", 0, "ann", "question", "best")
    store.edit("q", 0, "ann", "question", "best")  # nothing new
    store.edit("q", 0, "bob", "answer", "7")
    store.edit("q", 0, "ann", "difficulty", "4")
    store.record("q", 0, "ann", "accept", seconds=3)
    store.record("q", 0, "bob", "accept")
    again = AnnotationStore(store.path)
    task = again.task("q", "ann", number=0)
    assert task.content["question"] == "q0"  # what came stays
    assert task.edits == {"question": "best", "difficulty": "4"}
    [row] = again.export("q")
    told = [(e["annotator"], e["field"], e["before"], e["after"]) for e in row["edits"]]
    assert told == [
        ("ann", "question", "q0", "better"),
        ("ann", "question", "better", "best"),
        ("bob", "answer", "0", "7"),
        ("ann", "difficulty", "", "4"),
    ]
    ann, bob = row["judgements"]
    assert ann["final"] == {
        "question": "best",
        "solution": "s0",
        "answer": "0",
        "own answer": "",
        "difficulty": "4",
    }
    assert (ann["modified"], bob["modified"]) == (["question"], ["answer"])
    store.edit("q", 0, "ann", "question", "q0")  # taken back, and that is kept too
    [row] = store.export("q")
    assert row["judgements"][0]["modified"] == []
    assert len(row["edits"]) == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"field": "skills"}, "accepted are question"),
        ({"field": "difficulty", "text": "6"}, "1 to 5"),
        ({"text": " "}, "reject it"),
        ({"number": 9}, "no item 9"),
        ({"queue": "labels"}, "no questions to edit"),
    ],
)
def test_what_may_not_be_edited_is_refused_and_not_kept(store, change, said):
    store.create_queue("q", questions(1), question="?", kind="questions")
    store.create_queue("labels", items(1), question="?", labels=["a", "b"])
    given = {"queue": "q", "number": 0, "annotator": "ann", "field": "question", "text": "x", **change}
    with pytest.raises(HornbookError, match=said):
        store.edit(**given)
    assert store.task("q", "ann", number=0).edits == {}


def test_behind_the_overlap_an_item_comes_to_one_person_only(store):
    store.create_queue("q", items(10), question="?", labels=["yes", "no"], overlap=0.3)
    order = store.order("q")
    met = {"ann": [], "bob": []}
    while any(store.task("q", name) is not None for name in met):
        for name, own in met.items():
            if (task := store.task("q", name)) is not None:
                own.append(task.number)
                store.record("q", task.number, name, "yes")
    assert set(met["ann"]) & set(met["bob"]) == set(order[:3])
    assert set(met["ann"]) | set(met["bob"]) == set(range(10))
    assert store.queue("q").overlap == 0.3


@pytest.mark.parametrize("overlap", [0.0, 0.5, 1.0])
def test_a_programs_verdicts_take_no_item_from_a_person(store, overlap):
    given = ["yes", "no"] * 3
    store.create_queue("q", items(6), question="?", labels=["yes", "no"], overlap=overlap, verdicts=given)
    met = {"ann": 0, "bob": 0}
    while any(store.task("q", name) is not None for name in met):
        for name in met:
            if (task := store.task("q", name)) is not None:
                met[name] += 1
                store.record("q", task.number, name, "yes")
    assert sum(met.values()) == 6 + round(6 * overlap)
    assert store.queue("q").done == {GRADER: 6, **met}
    with_grader = [a for a in store.agreement("q") if GRADER in a.annotators]
    assert [a.items for a in with_grader] == list(met.values())
    yes = sum(a.items * a.equal for a in with_grader)
    everyone = [row["judgements"] for row in store.export("q")]
    assert yes == sum(len(row) - 1 for row in everyone if row[-1]["label"] == "yes")
    for act in (lambda: store.task("q", GRADER), lambda: store.record("q", 0, GRADER, "no")):
        with pytest.raises(HornbookError, match="take another"):
            act()


@pytest.mark.parametrize("verdicts", [["yes"], ["yes", "perhaps"]])
def test_verdicts_that_do_not_fit_make_no_queue(store, verdicts):
    with pytest.raises(HornbookError, match="2 verdicts, each of yes, no"):
        store.create_queue("q", items(2), question="?", labels=["yes", "no"], verdicts=verdicts)
    assert store.queues() == []


def test_a_file_of_an_earlier_version_gets_what_it_lacks(store, tmp_path):
    import sqlite3

    store.create_queue("old", items(2), question="?", labels=["yes", "no"])
    with sqlite3.connect(store.path) as connection:
        connection.execute("ALTER TABLE queues DROP COLUMN overlap")
        connection.execute("DROP TABLE edits")
    again = AnnotationStore(store.path)
    assert again.queue("old").overlap == 1.0
    assert again.task("old", "ann") is not None


def test_alpha_is_krippendorffs(store):
    # Krippendorff's own example of nominal data with gaps: 12 units, 4 observers, alpha = 0.743.
    units = [
        "111",
        "2232",
        "3333",
        "3333",
        "2222",
        "1234",
        "4444",
        "1121",
        "2222",
        "555",
        "11",
        "3",
    ]
    assert krippendorff_alpha([list(unit) for unit in units]) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha([["a"], ["b"]]) is None
    assert krippendorff_alpha([["a", "a"], ["a", "a"]]) is None
    store.create_queue("q", items(12), question="?", labels=list("12345"))
    for number, unit in enumerate(units):
        for who, label in enumerate(unit):
            store.record("q", number, f"observer {who}", label)
    assert store.alpha("q") == pytest.approx(0.743, abs=5e-4)
