"""Sums answered in two ways: carefully, one addition after another, or at once, which often goes wrong.

A student raised on both takes either way by chance, and each digit it writes may be wrong: a small world in
which a single token decides whether an answer will be right, and exact answers tell whether it was.
"""

import json
import re
from random import Random
from typing import Any

from hornbook.data.corpus_writer import CorpusWriter
from hornbook.lab.step import StepContext, step
from hornbook.synth.phrase import pick

VERSION = "sums-1"
_HELD_OUT = 7
"""One triple in seven is never trained on."""
_ASKED = ("What is {0} + {1} + {2}?", "Add {0}, {1} and {2}.", "{0} + {1} + {2} = ?")
_CAREFUL = "Step by step. {0} + {1} = {3}. {3} + {2} = {4}. The sum is {4}."
_AT_ONCE = "At once. The sum is {4}."
_NUMBER = re.compile(r"\d+")


def draw_sum(
    rng: Random, *, held_out: bool, careless: float = 0.5, slips: float = 0.7, largest: int = 49
) -> dict[str, Any]:
    """One question with an answer: {question, answer (the number), text}.

    careless: share of answers given at once. slips: share of those that are wrong, by 1 or 10 or a few.
    largest: of the three numbers, from 2 on.
    """
    while True:
        a, b, c = (rng.randint(2, largest) for _ in range(3))
        if ((a * 53 + b) * 53 + c) % _HELD_OUT == 0 if held_out else ((a * 53 + b) * 53 + c) % _HELD_OUT:
            break
    total = a + b + c
    question = pick(rng, _ASKED).format(a, b, c)
    if rng.random() >= careless:
        text = _CAREFUL.format(a, b, c, a + b, total)
    else:
        said = total if rng.random() >= slips else max(1, total + rng.choice((-10, -2, -1, 1, 2, 10)))
        text = _AT_ONCE.format(a, b, c, a + b, said)
    return {"question": question, "answer": total, "text": text}


def is_right(text: str, answer: int) -> bool:
    """Whether the answer's last number is the right one, however it is worded."""
    found = _NUMBER.findall(text)
    return bool(found) and int(found[-1]) == answer


@step(version="1", makes="corpus")
def write_sums(
    ctx: StepContext,
    *,
    rows: int,
    seed: int = 0,
    held_out: bool = False,
    careless: float = 0.5,
    largest: int = 49,
) -> dict[str, Any]:
    """Conversations of a sum and its answer; `meta` holds question and answer for the verifier."""
    rng = Random(f"{VERSION}:{seed}:{held_out}")
    seen: set[str] = set()
    with CorpusWriter(ctx.folder, "conversations", lineage={"made_by": VERSION, "seed": seed}) as writer:
        while len(seen) < rows:
            made = draw_sum(rng, held_out=held_out, careless=careless, largest=largest)
            if held_out and made["question"] in seen:
                continue
            seen.add(made["question"] if held_out else str(len(seen)))
            messages = [
                {"role": "user", "content": made["question"]},
                {"role": "assistant", "content": made["text"]},
            ]
            meta = json.dumps({"question": made["question"], "answer": made["answer"]})
            writer.write_rows(
                [{"id": f"sum-{len(seen)}", "messages": messages, "source": "synth/sums", "meta": meta}]
            )
    return {"rows": rows}
