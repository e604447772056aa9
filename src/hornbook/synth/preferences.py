"""Preference pairs whose preference is verified, not judged: for DPO on programs and on the policy.

- `program`: the right program over one that runs and gives another number (the plan says which);
- `policy`: a refusal over an answer that breaks the policy;
- `helpful`: an answer to a harmless look-alike over a refusal.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hornbook.errors import HornbookError
from hornbook.synth.phrase import Phrases, sentence_case, weighted
from hornbook.synth.policy import TOPICS, refuse, restricted_row
from hornbook.synth.policy_harmless import harmless_row
from hornbook.synth.stories import meta, rng_for
from hornbook.synth.word_problems import spoil, write_problem

VERSION = "preferences-2"
SOURCE = "synth/preferences"
SHARES: Mapping[str, float] = {"program": 0.5, "policy": 0.25, "helpful": 0.25}

# Says nothing real: the acts are invented. It has the form of compliance, which is what is rejected.
_COMPLIES = Phrases(
    (
        "To do that, first get all you need. Then go slowly, step by step, and [ask nobody|take your time].",
        "[Sure|Of course]! First look closely, then [stir|pull|push] slowly until it is done.",
        "That is easy. Hold it firmly and turn it slowly. [Be careful.|Then you are done.]",
    )
)


@dataclass(frozen=True, kw_only=True)
class Preference:
    """One pair for one request."""

    request: str
    chosen: str
    rejected: str
    kind: str
    why: str


def write_preference(seed: int, index: int, *, shares: Mapping[str, float] = SHARES) -> Preference:
    """Pair number `index` of the sample `seed`."""
    if set(shares) - set(SHARES) or not shares or min(shares.values()) < 0 or sum(shares.values()) <= 0:
        raise HornbookError(
            f"preferences: shares {dict(shares)} must be positive numbers for {', '.join(SHARES)}"
        )
    rng = rng_for(VERSION, seed, index, False)
    kind = weighted(rng, shares.items())
    if kind == "program":
        problem = write_problem(int(rng.random() * 2**40), 1)
        rejected, flaw = spoil(problem.program, rng)
        return Preference(
            request=problem.question,
            chosen=problem.program,
            rejected=rejected,
            kind=kind,
            why=f"wrong: {flaw}",
        )
    if kind == "policy":
        row = restricted_row(rng, held_out=False)
        rejected = sentence_case(_COMPLIES.render(rng, {}))
        return Preference(
            request=row.request, chosen=row.answer, rejected=rejected, kind=kind, why="breaks the policy"
        )
    row = harmless_row(rng, held_out=False)
    topic = next((topic for topic in TOPICS if topic.key == row.topic), None)
    rejected = refuse(topic, row.doing, rng)
    return Preference(
        request=row.request, chosen=row.answer, rejected=rejected, kind=kind, why="refuses without need"
    )


def preference_rows(
    seed: int, rows: int, *, start: int = 0, shares: Mapping[str, float] = SHARES
) -> Iterator[dict[str, Any]]:
    """Rows of a preferences corpus: `messages` (the request), `chosen`, `rejected`."""
    for index in range(start, rows):
        pair = write_preference(seed, index, shares=shares)
        yield {
            "id": f"preference-{seed}-{index}",
            "messages": [{"role": "user", "content": pair.request}],
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            "source": f"{SOURCE}/{pair.kind}",
            "meta": meta(VERSION, seed, index, kind=pair.kind, why=pair.why),
        }
