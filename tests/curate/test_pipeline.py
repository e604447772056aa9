"""The whole pipeline: what it keeps, what it writes, and that workers change nothing."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest

from hornbook.curate.decision import decide
from hornbook.curate.decontaminate import EvaluationItem
from hornbook.curate.educational import EducationalModel, fit
from hornbook.curate.evaluation_sets import read_evaluation_set
from hornbook.curate.pipeline import ATTRIBUTES, STAGES, CurateSettings, bounded, prepare
from hornbook.curate.steps import curate, fit_educational, rate
from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.lm.simulated import SimulatedModel

SUBJECTS = [
    "engine",
    "harvest",
    "library",
    "river",
    "festival",
    "mountain",
    "workshop",
    "orchard",
    "market",
    "museum",
]
VERBS = ["shaped", "changed", "carried", "followed", "surprised", "protected", "divided", "inspired"]
QUESTION = (
    "Nadia keeps seventeen copper kettles in the cellar and polishes four of them every single evening. "
)


COMMON = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "that",
    "was",
    "for",
    "on",
    "with",
    "his",
    "at",
    "from",
    "had",
    "by",
    "they",
    "were",
    "which",
    "their",
]
SYLLABLES = ["ka", "lo", "mi", "ran", "tes", "vor", "dul", "pen", "sim", "tra", "hel", "ost"]


def prose(seed, sentences=12):
    """Sentences of invented nouns and verbs between real function words: no two documents are alike."""
    generator = np.random.default_rng(seed)

    def word():
        if generator.random() < 0.45:
            return str(generator.choice(COMMON))
        return "".join(generator.choice(SYLLABLES, generator.integers(2, 4)))

    lines = [" ".join(word() for _ in range(generator.integers(9, 18))) for _ in range(sentences)]
    return " ".join(line[0].upper() + line[1:] + "." for line in lines)


def documents():
    rows = [("good", prose(i)) for i in range(40)]
    rows += [
        ("copy", prose(3).upper()),
        ("near", prose(5).replace(" the ", " this ", 1)),
        ("short", "This is too short to be of use."),
    ]
    rows += [("foreign", "Die Kinder wussten, dass sie den Fluss nicht überqueren durften. " * 12)]
    rows += [("contaminated", prose(90) + " " + QUESTION * 1 + prose(91)), ("long", "word " * 3000)]
    rows += [
        ("mail", prose(77) + " Write to jo@acme.org about it."),
        ("one", "x"),
        ("nul", "\0" * 50),
        ("empty", ""),
    ]
    return rows


@pytest.fixture
def corpus(tmp_path):
    with CorpusWriter(tmp_path / "corpus", "documents") as writer:
        writer.write_rows(
            {"id": f"{name}-{i}", "text": text, "source": name, "meta": "{}"}
            for i, (name, text) in enumerate(documents())
        )
    return tmp_path / "corpus"


SETTINGS = CurateSettings(longest_characters=14_000)
SETS = {
    "kettles": [EvaluationItem(id="k1", question=QUESTION + "How many days does she need?", answer="five")]
}


def run_curate(tmp_path, corpus, name="run", **inputs):
    run = Run(tmp_path / name, recipe="demo", scale="quick", settings=None, quiet=True)
    return run.step(curate, corpus=corpus, evaluation_sets=SETS, **({"settings": SETTINGS} | inputs))


def test_each_document_leaves_for_its_own_reason(tmp_path, corpus):
    made = run_curate(tmp_path, corpus)
    kept, removed = Corpus.open(made.path), Corpus.open(made / "removed")
    assert kept.sources == {"good": 40, "mail": 1}
    why = removed.read_attributes("curation").to_pylist()
    reasons = {row["source"]: (STAGES[w["stage"]], w["reason"]) for row, w in zip(removed.iter_rows(), why)}
    assert reasons == {
        "copy": ("exact_duplicate", "exact_duplicate"),
        "near": ("near_duplicate", "near_duplicate"),
        "short": ("heuristics", "too_few_words"),
        "foreign": ("language", "language_de"),
        "contaminated": ("contaminated", "contaminated"),
        "long": ("too_long", "too_long"),
        "one": ("language", "language_und"),
        "nul": ("language", "language_und"),
        "empty": ("language", "language_und"),
    }
    clusters = {row["source"]: w["cluster"] for row, w in zip(removed.iter_rows(), why)}
    assert clusters["copy"] == "good-3"
    assert clusters["near"] == "good-5"
    assert "<email>" in kept.read().filter(pa.compute.field("source") == "mail")["text"][0].as_py()
    facts = made.facts
    assert facts["rows_in"] == len(documents())
    assert facts["rows_out"] == 41
    assert [row["stage"] for row in facts["funnel"]] == list(STAGES)
    assert facts["funnel"][0]["in"] == 50
    assert facts["funnel"][-1]["out"] == 41
    assert all(row["out"] <= row["in"] for row in facts["funnel"])
    assert len(facts["samples"]["kept"]) == 10
    assert {s["reason"] for s in facts["samples"]["removed"]} >= {
        "contaminated",
        "near_duplicate",
        "language_de",
    }
    assert facts["personal_data"] == 1
    kept.verify()
    removed.verify()


def files_of(folder: Path) -> dict[str, bytes]:
    names = [p for p in folder.rglob("*") if p.suffix in (".parquet",) or p.name == "corpus.json"]
    return {str(p.relative_to(folder)): p.read_bytes() for p in names}


def test_workers_change_nothing(tmp_path, corpus):
    one = run_curate(tmp_path, corpus, name="one", workers=1)
    two = run_curate(tmp_path, corpus, name="two", workers=2)
    assert files_of(one.path) == files_of(two.path)
    assert one.facts == two.facts


def test_attributes_do_not_depend_on_how_the_corpus_is_cut():
    texts = [text for _, text in documents()]
    examiner = prepare(SETTINGS, SETS, texts)
    whole = pa.Table.from_batches([examiner.examine(pa.RecordBatch.from_pydict({"text": texts}))])
    cut = pa.Table.from_batches([examiner.examine(pa.RecordBatch.from_pydict({"text": [t]})) for t in texts])
    assert whole.equals(cut.combine_chunks())


def test_a_document_of_100_megabytes_is_named_too_long_and_its_neighbours_are_read():
    texts = [prose(1), "word " * 20_000_000, prose(2)]
    attributes = examined(texts, CurateSettings())
    decision = decide(attributes, CurateSettings())
    assert decision.kept.tolist() == [True, False, True]
    assert (decision.reason[1], decision.score[1]) == ("too_long", 100_000_000)
    assert attributes["measures"][1].as_py() is None


def test_batches_are_cut_by_rows_and_bytes():
    batch = pa.RecordBatch.from_pydict({"text": ["a" * 10, "b" * 1000, "c" * 10, "d" * 10, "e" * 10]})
    pieces = list(bounded([batch], rows=3, size=500))
    assert pa.Table.from_batches(pieces).equals(pa.Table.from_batches([batch]).combine_chunks())
    assert max(len(p) for p in pieces) <= 3
    assert len(pieces) >= 3


def examined(texts, settings):
    batch = prepare(settings, {}, texts).examine_piece(pa.RecordBatch.from_pydict({"text": texts}))
    return pa.Table.from_batches([batch], ATTRIBUTES)


def test_the_longest_of_near_duplicates_stays():
    texts = [prose(1), prose(1) + " One more sentence stands here.", prose(2)]
    for prefer, expected in (("first", [True, False, True]), ("longest", [False, True, True])):
        settings = CurateSettings(prefer=prefer)
        decision = decide(examined(texts, settings), settings)
        assert decision.kept.tolist() == expected
        assert decision.cluster.tolist() == [0, 0, 2]


def test_lines_copied_through_the_corpus():
    boiler = "\n".join(f"This line number {i} stands in every page of the site." for i in range(30))
    texts = [f"{boiler}\n{prose(i, 2)}" for i in range(4)]
    settings = CurateSettings(near=None, rules=())
    assert decide(examined(texts, settings), settings).kept.tolist() == [True, False, False, False]


def test_everything_removed_names_the_rule(tmp_path):
    with CorpusWriter(tmp_path / "c", "documents") as writer:
        writer.write_rows({"text": f"the and of to number {i}"} for i in range(5))
    with pytest.raises(HornbookError, match=r"removed all 5 documents.*'too_few_words'"):
        run_curate(tmp_path, tmp_path / "c")


def test_an_empty_corpus_is_a_sentence(tmp_path):
    with CorpusWriter(tmp_path / "c", "documents"):
        pass
    with pytest.raises(HornbookError, match="is empty"):
        run_curate(tmp_path, tmp_path / "c")


def test_evaluation_sets_are_read_from_corpora(tmp_path):
    with CorpusWriter(tmp_path / "d", "documents") as writer:
        writer.write_rows([{"id": "1", "text": "What?", "meta": {"answer": "That", "code": "x = 1"}}])
    with CorpusWriter(tmp_path / "c", "conversations") as writer:
        turns = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
        writer.write_rows([{"id": "2", "messages": turns}])
    assert read_evaluation_set(tmp_path / "d") == [
        EvaluationItem(id="1", question="What?", answer="That", code="x = 1")
    ]
    assert read_evaluation_set(tmp_path / "c") == [EvaluationItem(id="2", question="Why?", answer="Because.")]


def lesson(i):
    generator = np.random.default_rng(i)
    a, b = generator.choice(SUBJECTS, 2)
    return (
        f"To understand the {a}, first consider what a {b} is. For example, when {generator.integers(99)} "
        f"parts are joined, each part explains why the {a} works. Therefore we learn that the {b} follows a "
        "simple rule. "
    ) * int(generator.integers(1, 4))


def listing(i):
    generator = np.random.default_rng(i)
    return "\n".join(
        f"{generator.choice(SUBJECTS)}_{generator.choice(VERBS)} = {generator.integers(9999)}"
        for _ in range(generator.integers(5, 40))
    )


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_educational_model_learns_saves_and_loads(tmp_path, noise):
    generator = np.random.default_rng(1)
    high, low = [lesson(i) for i in range(120)], [listing(i) for i in range(120)]
    for i in np.flatnonzero(generator.random(120) < noise):  # wrong labels, as a rater makes them
        high[i], low[i] = low[i], high[i]
    check = [lesson(i) for i in range(500, 540)], [listing(i) for i in range(500, 540)]
    model = fit(high, low, labelling="contrast", check_high=check[0], check_low=check[1])
    assert model.card["independent_check"]["auc"] > 0.99
    assert model.card["held_out"]["auc"] > (0.99 if not noise else 0.6)
    assert model.card["labelling"] == "contrast"
    model.save(tmp_path / "m")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["card.json", "model.npz"]
    from hornbook.curate.words import split

    words = split(check[0] + check[1])
    again = EducationalModel.load(tmp_path / "m")
    assert np.array_equal(model.score(words), again.score(words))
    assert json.loads((tmp_path / "m" / "card.json").read_text())["top_features"]["high"]


def test_forest_inference_equals_scikit_learn():
    from sklearn.ensemble import RandomForestClassifier

    from hornbook.curate.educational import _forest_arrays, forest_scores

    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 6)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] + 0.3 * generator.normal(size=400) > 0).astype(int)
    forest = RandomForestClassifier(30, max_depth=7, random_state=0, class_weight="balanced").fit(x, y)
    got = forest_scores(_forest_arrays(forest), x.astype(np.float64))
    assert np.allclose(got, forest.predict_proba(x)[:, 1])


def test_auc_equals_counting_pairs():
    from hornbook.curate.educational import auc

    generator = np.random.default_rng(0)
    scores, positive = generator.integers(0, 9, 60) / 10, generator.random(60) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    assert auc(scores, positive) == pytest.approx(np.mean(pairs))


def test_educational_stage_keeps_the_best_share(tmp_path):
    for name, make in (("high", lesson), ("low", listing)):
        with CorpusWriter(tmp_path / name, "documents") as writer:
            writer.write_rows({"text": make(i)} for i in range(80))
    with CorpusWriter(tmp_path / "mixed", "documents") as writer:
        writer.write_rows(
            {"text": make(i), "source": make.__name__} for i in range(100, 120) for make in (lesson, listing)
        )
    run = Run(tmp_path / "run", recipe="demo", scale="quick", settings=None, quiet=True)
    model = run.step(fit_educational, high=[tmp_path / "high"], low=[tmp_path / "low"])
    settings = CurateSettings(language=None, rules=(), near=None, repeated_lines=1, educational_share=0.5)
    made = run.step(curate, corpus=tmp_path / "mixed", educational=model, settings=settings)
    assert Corpus.open(made.path).sources == {"lesson": 20}
    assert made.facts["labelling"] == "contrast"


def test_a_rater_that_answers_off_the_menu_is_not_a_grade():
    answers = iter(
        ["Clear and complete.\nGrade: 4", "I will not say.", "grade: 9", "Grade: 2 or rather\nGrade: 3"]
    )
    model = SimulatedModel("rater", lambda request: next(answers))
    assert rate(model, ["a", "b", "c", "d"]) == [4, None, None, 3]


@pytest.mark.parametrize(
    ("field", "value"),
    [("prefer", "best"), ("personal_data", "x"), ("educational_share", 0), ("repeated_lines", 2)],
)
def test_wrong_settings_are_refused(field, value):
    with pytest.raises(HornbookError, match=f"{field} = "):
        CurateSettings(**{field: value})
