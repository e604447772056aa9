"""TinyStories-Instruct: what a record asks for, what is kept apart, what is read back."""

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.errors import HornbookError
from hornbook.lab.run import Run
from hornbook.lm.simulated import SimulatedModel
from hornbook.synth.steps import write_stories
from hornbook.synth.stories import sentences, story_rows, write_story
from hornbook.synth.story_instructions import (
    LABELS,
    Record,
    draw_labels,
    read_records,
    record_of,
    summary_problem,
    write_story_instructions,
)


def made(tmp_path: Path, **inputs: object) -> tuple[list[dict[str, str]], dict[str, object]]:
    run = Run(tmp_path, recipe="test", scale="smoke", settings={}, quiet=True)
    stories = run.step(write_stories, rows=300)
    artifact = run.step(write_story_instructions, stories=stories, **inputs)
    return list(Corpus.open(artifact.path).iter_rows()), artifact.facts


def test_records_ask_for_what_their_story_holds(tmp_path: Path) -> None:
    rows, facts = made(tmp_path)
    counts: Counter[str] = Counter()
    for index, row in enumerate(rows):
        story = write_story(0, index)
        head, _, body = row["text"].partition("\n\nStory:\n")
        assert body == story.text
        for line in head.split("\n"):
            label, _, value = line.partition(": ")
            counts[label] += 1
            if label == "Words":
                assert value == ", ".join(story.plan.words)
            elif label == "Features":
                assert value == (", ".join(story.plan.features) or "None")
            elif label == "Summary":
                assert value == story.summary
            else:
                assert value in sentences(story.text)
        assert json.loads(row["meta"])["plan"]["plot"] == story.plan.plot
    assert counts == facts["labels"]
    assert all(counts[label] > 0.4 * len(rows) for label in LABELS)


def test_labels_that_are_kept_apart_never_meet(tmp_path: Path) -> None:
    apart = ("Words", "Summary")
    rows, facts = made(tmp_path, apart=apart)
    assert len(rows) == 300
    for row in rows:
        assert not set(apart) <= set(json.loads(row["meta"])["labels"])
    assert min(facts["labels"].values()) > 60  # type: ignore[attr-defined]
    with pytest.raises(HornbookError, match="kept apart"):
        made(tmp_path, apart=("Words", "Colour"))


def test_every_number_of_labels_is_drawn_and_order_varies() -> None:
    drawn = [tuple(draw_labels(LABELS, Random(seed))) for seed in range(400)]
    assert {len(labels) for labels in drawn} == {1, 2, 3, 4}
    assert len({labels for labels in drawn if len(labels) == 4}) > 10
    with pytest.raises(HornbookError, match="nothing to ask"):
        draw_labels([], Random(0))


def test_published_files_are_read_line_by_line() -> None:
    lines = [
        "Features: Dialogue, Twist\n",
        "Sentence: He ran.\n",
        "Story: \n",
        "Tom sat. He ran.\n",
        "\n",
        "Words: he went far\n",
        "<|endoftext|>\n",
        "Words: run, red, hill\n",
        "Summary: A summary.\n",
        "Story:\n",
        "It was red.\n",
        "<|endoftext|>\n",
        "Words: cut, off\n",
        "Story:\n",
        "This one never",
    ]
    first, second = read_records(lines)
    assert first.story == "Tom sat. He ran.\n\nWords: he went far"
    assert first.features == ("Dialogue", "Twist")
    assert first.sentence == "He ran."
    assert first.words == ()
    assert second == Record(story="It was red.", words=("run", "red", "hill"), summary="A summary.")


def test_what_is_written_is_read_back() -> None:
    records = [record_of(row, Random(1)) for row in story_rows(4, 30)]
    text = "\n".join(record.prompt(LABELS) + record.story + "\n<|endoftext|>" for record in records)
    assert list(read_records(text.split("\n"))) == records


def test_a_real_teacher_writes_the_summaries_that_are_missing(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    with CorpusWriter(folder, "documents", lineage={}) as writer:
        for index in range(3):
            text = f"Tom number {index} sat on the hill. Then Tom ran home and was glad."
            writer.write_rows([{"id": str(index), "text": text, "source": "mine", "meta": "{}"}])

    def answer(request: object) -> str:
        prompt = request.messages[0].content  # type: ignore[attr-defined]
        return "A boy called Anna flies to the moon." if "number 1" in prompt else "Tom sits and runs home."

    run = Run(tmp_path, recipe="test", scale="smoke", settings={}, quiet=True)
    teacher = SimulatedModel("summaries", answer)
    artifact = run.step(write_story_instructions, stories=folder, teacher=teacher)
    assert artifact.facts["summarised"] == 2
    assert list(artifact.facts["removed"]) == ["Anna is not in the story; tell what happens in it."]
    rows = list(Corpus.open(artifact.path).iter_rows())
    assert len(rows) == 3
    assert [json.loads(row["meta"]).get("teacher") for row in rows] == [
        teacher.identity,
        None,
        teacher.identity,
    ]


def test_summaries_that_contradict_their_story_are_refused() -> None:
    assert summary_problem("Tom goes home and is very happy.", "Tom ran home.") == ""
    assert "Lily" in summary_problem("Tom and Lily go home now.", "Tom ran home.")
    assert "words" in summary_problem("Home.", "Tom ran home.")
