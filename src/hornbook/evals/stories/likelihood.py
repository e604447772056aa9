"""How likely a general model finds the stories: TinyStories' judge where no model fit to grade is at hand.

TinyStories (arXiv 2305.07759, section 3) has GPT-4 grade grammar, creativity and consistency. The embedded
model is measured unfit to grade, but its likelihood is a measurement: bits per byte it needs for a text.
Two controls stand beside the student's stories: the teacher's own on the same kind of request, and the
student's stories with their sentences in another order, which a judge that reads must find less likely.
This is never called a grade.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

from hornbook.data.corpus import Corpus
from hornbook.errors import HornbookError
from hornbook.evals.likelihood import document_bits, paired_loss, summarize
from hornbook.lab.step import Artifact, Estimate, StepContext, step
from hornbook.synth.stories import sentences


def shuffled(text: str, rng: Random) -> str:
    """The sentences of a text in another order (the same where there is only one)."""
    parts = sentences(text)
    order = parts[:]
    while len(parts) > 1 and order == parts:
        rng.shuffle(order)
    return " ".join(order)


def _estimate(*, count: int, **other: Any) -> Estimate:
    return Estimate(seconds=10 + 0.3 * 3 * count, memory_bytes=1.2e9, disk_bytes=0)


@step(version="1", makes="table", estimate=_estimate)
def judge_stories(
    ctx: StepContext,
    *,
    examined: Artifact,
    reference: Artifact,
    judge: str = "smollm2",
    count: int = 24,
) -> dict[str, Any]:
    """Bits per byte that `judge` needs for stories of an examination.

    Args:
        examined: from `evals.suite.examine`; its stories are read.
        reference: a corpus of the teacher's held-out stories.
        judge: a model on this machine, as `open_model` understands it.
        count: stories of each kind.

    Facts: `judge`, and for "student", "teacher" and "student, sentences shuffled" value, low, high (95 %,
    bootstrap over stories); `shuffling_costs`: by what fraction the shuffled need more bits, in pairs.

    Raises:
        HornbookError: the judge cannot be opened (offline, with nothing cached).
    """
    from hornbook.infer.open import open_local

    texts: Sequence[str] = [text for text in examined.facts["stories"]["details"]["texts"] if text.strip()]
    if not texts:
        raise HornbookError("The examination holds no story that has words.")
    rng = Random(0)
    kinds = {
        "student": list(texts[:count]),
        "teacher": [
            row["text"] for row, _ in zip(Corpus.open(reference.path).iter_rows(["text"]), range(count))
        ],
        "student, sentences shuffled": [shuffled(text, rng) for text in texts[:count]],
    }
    model = open_local(judge, say=ctx.say)
    progress = ctx.progress(sum(map(len, kinds.values())), "stories", model.identity)
    bits = {}
    for name, stories in kinds.items():
        bits[name] = document_bits(model.engine, model.tokenizer, stories)
        progress.advance(len(stories))
    # Shuffling keeps every character but may join lines with spaces, so bytes are taken from the original.
    pairs = [
        (nats, size) for (nats, _), (_, size) in zip(bits["student, sentences shuffled"], bits["student"])
    ]
    return {
        "judge": model.identity,
        **{name: summarize(values).as_json() for name, values in bits.items()},
        "shuffling_costs": paired_loss(bits["student"], pairs),
    }
