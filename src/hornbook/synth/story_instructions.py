"""TinyStories-Instruct: stories with some of four instructions before them (Eldan and Li 2023, section 4).

Any corpus of stories becomes such a corpus: the words and the features come from each story's plan, the
sentence from its text, the summary from the simulated teacher or, in a second pass, from a real one. Two
kinds of instruction can be kept apart, so that no record holds both: what a model makes of the two together
then tells whether it follows instructions or repeats records.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.errors import HornbookError
from hornbook.lab.step import Artifact, Estimate, StepContext, step
from hornbook.lm.base import LanguageModel
from hornbook.synth import checks
from hornbook.synth.phrase import pick
from hornbook.synth.scripts import Assignment, perform
from hornbook.synth.stories import sentences
from hornbook.synth.teacher import SIMULATED
from hornbook.synth.writing import open_for

VERSION = "story-instructions-1"
SOURCE = "synth/story_instructions"
LABELS = ("Words", "Features", "Summary", "Random sentence")
NO_FEATURES = "None"
END = "<|endoftext|>"
CHUNK = 1000

SUMMARY = """\
Here is a story for small children:

{story}

Say what happens in it in one or two short sentences, with the names of those it is about. Write only that.
"""

_LABEL = re.compile(r"^(Words|Features|Summary|Random sentence|Sentence|Story):[ ]?(.*)$")


@dataclass(frozen=True, kw_only=True)
class Record:
    """A story and what may be asked of it; an empty field cannot be asked. `features` None: unknown."""

    story: str
    words: tuple[str, ...] = ()
    features: tuple[str, ...] | None = None
    summary: str = ""
    sentence: str = ""

    def lines(self) -> dict[str, str]:
        """What each label would say, for the labels that have something to say."""
        known = {
            "Words": ", ".join(self.words),
            "Features": "" if self.features is None else ", ".join(self.features) or NO_FEATURES,
            "Summary": self.summary,
            "Random sentence": self.sentence,
        }
        return {label: line for label, line in known.items() if line}

    def prompt(self, labels: Sequence[str]) -> str:
        """The instructions in this order, up to where the story begins."""
        lines = self.lines()
        return "\n".join([*(f"{label}: {lines[label]}" for label in labels), "", "Story:", ""])


def draw_labels(known: Iterable[str], rng: Random, *, apart: Sequence[str] = ()) -> list[str]:
    """One to four labels, each number and each choice as likely, in random order; never all of `apart`."""
    labels = [label for label in LABELS if label in set(known)]
    if not labels:
        raise HornbookError("story instructions: there is nothing to ask of this story.")
    while True:
        chosen = rng.sample(labels, 1 + int(rng.random() * len(labels)))
        if not apart or not set(apart) <= set(chosen):
            return chosen


def read_records(lines: Iterable[str]) -> Iterator[Record]:
    """Records of a file in the published form, one line after the other.

    A record ends with the terminator on a line of its own; the published training file is cut off inside its
    last record, so what no terminator ends is left out. Both labels of the sentence are read.
    """
    fields: dict[str, str] = {}
    story: list[str] | None = None
    for raw in lines:
        line = raw.rstrip("\r\n")
        if line.strip() == END:
            text = "\n".join(story or []).strip()
            if text:
                yield Record(
                    story=text,
                    words=_listed(fields.get("Words", "")),
                    features=_features(fields.get("Features")),
                    summary=fields.get("Summary", ""),
                    sentence=fields.get("Random sentence", fields.get("Sentence", "")),
                )
            fields, story = {}, None
        elif story is not None:
            story.append(line)
        elif found := _LABEL.match(line):
            label, value = found.groups()
            if label == "Story":
                story = [value] if value else []
            else:
                fields[label] = value.strip()


def _listed(line: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in line.split(",") if part.strip())


def _features(line: str | None) -> tuple[str, ...] | None:
    return None if line is None else tuple(name for name in _listed(line) if name != NO_FEATURES)


def record_of(row: Mapping[str, Any], rng: Random) -> Record:
    """What may be asked of a story of `write_stories`: its plan, its summary where it has one, a sentence."""
    meta = json.loads(row["meta"])
    plan = meta.get("plan", {})
    return Record(
        story=row["text"],
        words=tuple(plan[name] for name in ("verb", "noun", "adjective") if name in plan),
        features=tuple(plan["features"]) if "features" in plan else None,
        summary=str(meta.get("summary", "")),
        sentence=pick(rng, sentences(row["text"])),
    )


def summary_problem(summary: str, story: str) -> str:
    """What is wrong with a teacher's summary, or empty: summaries contradict their stories at times."""
    names = {
        word for part in sentences(summary) for word in re.findall(r"(?<!^)\b[A-Z][a-z]+\b", part.strip())
    }
    strange = sorted(name for name in names if name not in story)
    return (
        checks.length_problem(summary, 4, 60)
        or checks.language_problem(summary)
        or (f"{strange[0]} is not in the story; tell what happens in it." if strange else "")
    )


def _estimate(*, stories: Any, **other: Any) -> Estimate:
    rows = 10_000
    if isinstance(stories, Path) or getattr(stories, "finished", False):
        rows = Corpus.open(stories if isinstance(stories, Path) else stories.path).rows
    return Estimate(seconds=2 + rows / 10_000, memory_bytes=3e8, disk_bytes=700 * rows)


@step(version=VERSION, makes="corpus", estimate=_estimate)
def write_story_instructions(
    ctx: StepContext,
    *,
    stories: Artifact | Path,
    teacher: str | LanguageModel = SIMULATED,
    apart: Sequence[str] = (),
    seed: int = 0,
) -> Mapping[str, Any]:
    """A corpus of stories as records of instructions and story.

    Args:
        stories: what `write_stories` made, or any corpus of stories; without plans only the sentence and,
            of a real teacher, the summary can be asked.
        teacher: writes the summaries that the corpus lacks, in a second pass; "simulated" writes none.
        apart: labels that no record holds together.

    `meta` holds the labels in their order, the summary, and the id and plan of the story. Facts: `rows`,
    `labels` {label: records that hold it}, `summarised` by the teacher, `removed` summaries with reasons.

    Raises:
        HornbookError: an unknown label in `apart`, or an empty corpus.
    """
    unknown = [label for label in apart if label not in LABELS]
    if unknown or len(apart) == 1:
        raise HornbookError(
            f"apart is {list(apart)}; two or more of {', '.join(LABELS)} can be kept apart, or none."
        )
    source = Corpus.open(stories.path if isinstance(stories, Artifact) else stories)
    rows = list(source.iter_rows(["id", "text", "meta"]))
    records = [record_of(row, Random(f"{VERSION}/sentence/{seed}/{row['id']}")) for row in rows]
    summaries, removed = _summaries(ctx, rows, records, teacher)
    lineage = {"writer": VERSION, "seed": seed, "apart": list(apart), "stories": source.lineage}
    progress = ctx.progress(len(rows), "records")
    labels: dict[str, int] = dict.fromkeys(LABELS, 0)
    with CorpusWriter(ctx.folder, "documents", lineage=lineage) as writer:
        for at in range(0, len(rows), CHUNK):
            made = []
            for row, record in zip(rows[at : at + CHUNK], records[at : at + CHUNK], strict=True):
                told = Record(
                    **{
                        **vars(record),
                        "summary": record.summary or summaries.get(row["id"], {}).get("text", ""),
                    }
                )
                chosen = draw_labels(
                    told.lines(), Random(f"{VERSION}/labels/{seed}/{row['id']}"), apart=apart
                )
                for label in chosen:
                    labels[label] += 1
                made.append(_row(row, told, chosen, seed, summaries.get(row["id"], {})))
            writer.write_rows(made)
            progress.advance(len(made))
    return {"rows": len(rows), "labels": labels, "summarised": len(summaries), "removed": removed}


def _row(
    row: Mapping[str, Any], record: Record, labels: Sequence[str], seed: int, told: Mapping[str, Any]
) -> dict[str, Any]:
    meta = {
        "writer": VERSION,
        "seed": seed,
        "story": row["id"],
        "labels": list(labels),
        "sentence": record.sentence,
        "summary": record.summary,
        **{name: told[name] for name in ("teacher", "call") if name in told},
        **{k: v for k, v in json.loads(row["meta"]).items() if k in ("plan",)},
    }
    return {
        "id": f"instruct-{row['id']}",
        "text": record.prompt(labels) + record.story,
        "source": SOURCE,
        "meta": json.dumps(meta, ensure_ascii=False),
    }


def _summaries(
    ctx: StepContext, rows: Sequence[Mapping[str, Any]], records: Sequence[Record], spec: str | LanguageModel
) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """By story, the summary that a real teacher wrote; and how many were not fit, by reason."""
    teacher = open_for(ctx, spec)
    wanted = [(row, record) for row, record in zip(rows, records, strict=True) if not record.summary]
    if isinstance(teacher, str) or not wanted:
        return {}, {}
    assignments = []
    for row, record in wanted:

        def check(
            text: str, story: str = record.story, name: str = row["id"]
        ) -> tuple[dict[str, Any] | None, str]:
            summary = " ".join(text.split())
            problem = summary_problem(summary, story)
            return (None, problem) if problem else ({"id": name, "text": summary, "meta": "{}"}, "")

        assignments.append(
            Assignment(id=f"summary-{row['id']}", prompt=SUMMARY.format(story=record.story), check=check)
        )
    progress = ctx.progress(len(assignments), "summaries", teacher.identity)
    found: dict[str, dict[str, Any]] = {}
    removed: dict[str, int] = {}
    for written in perform(teacher, assignments, progress=progress):
        if written.row is None:
            removed[written.problem] = removed.get(written.problem, 0) + 1
            continue
        meta = json.loads(written.row["meta"])
        found[written.row["id"]] = {"text": written.row["text"], "teacher": teacher.identity, **meta}
    return found, removed
