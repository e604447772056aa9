"""Two models' answers to the same items side by side, for people who do not see whose is whose."""

from collections.abc import Sequence
from pathlib import Path

from hornbook.errors import HornbookError
from hornbook.evals.annotation import AnnotationStore, Item, Queue
from hornbook.evals.result import Result
from hornbook.evals.sample_store import SampleStore

QUESTION = "Which answer is better?"
_LONGEST = 20_000


def blind_pairs(
    name: str,
    first: Sequence[Result],
    second: Sequence[Result],
    store: SampleStore,
    annotations: Path,
    *,
    seed: int = 0,
) -> Queue:
    """A queue of pairs in the studio's annotations: every item that both models answered.

    Which model stands on which side is drawn by the queue for every annotator and item; the export says it. A
    drawing is shown as it was rendered, above its code; an answer that spells a picture stays text.

    Raises:
        HornbookError: no item was answered by both, or the queue's name is taken.
    """
    others = {result.task: result for result in second}
    items = [
        item
        for ours in first
        if (theirs := others.get(ours.task)) is not None
        for item in _of_task(ours, theirs, store)
    ]
    if not items:
        raise HornbookError(
            "No item was answered by both models, so there are no pairs; name sparks or generated benchmarks "
            "with --tasks."
        )
    return AnnotationStore(annotations).create_queue(name, items, question=QUESTION, kind="pairs", seed=seed)


def _of_task(ours: Result, theirs: Result, store: SampleStore) -> list[Item]:
    kept = [
        store.known(str(result.details.get("run", "")), result.ids) if result.ids else {}
        for result in (ours, theirs)
    ]
    items = []
    for name in ours.ids:
        samples = [known.get(name, {}) for known in kept]
        if all("text" in sample for sample in samples):
            items.append(
                Item(
                    content={
                        "asked": str(samples[0].get("asked", "")),
                        "first": _shown(samples[0]),
                        "second": _shown(samples[1]),
                    },
                    provenance={
                        "task": ours.task,
                        "item": name,
                        "first": ours.details.get("model"),
                        "second": theirs.details.get("model"),
                        "values": [sample.get("values") for sample in samples],
                    },
                )
            )
    return items


def _shown(sample: dict[str, object]) -> str:
    """The answer; of a drawing first the picture, as a data URI on a line of its own."""
    picture = f"data:image/png;base64,{sample['png']}\n" if "png" in sample else ""
    text = str(sample["text"])[:_LONGEST]
    return picture + (f"\n{text}" if text.startswith("data:") and not picture else text)
