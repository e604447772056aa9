"""A sentence of a paper, its number, ours, the rule that decides, and the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

Verdict = Literal["holds", "fails", "noise", "not judged at this scale"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of a recipe.

    Attributes:
        id: short name, unique in its recipe, such as "curated-beats-raw".
        sentence: the claim in words, as the paper makes it.
        paper_value: the paper's number (or words for it); None where it gives none.
        measured: the number measured here; None when nothing was measured.
        interval: (low, high) around `measured`, at 95 % unless `why` says otherwise.
        rule: the rule fixed beforehand that turns the measurement into a verdict.
        holds: True, False, or None = not judged at this scale.
        why: one or two sentences: what the verdict rests on, or why it was not judged.
        unit: of `paper_value`, `measured` and `interval`, such as "%" or "bits per byte".
        noise: the difference is shown to be within noise: neither for nor against (`holds` is ignored).
    """

    id: str
    sentence: str
    paper_value: float | str | None = None
    measured: float | None = None
    interval: tuple[float, float] | None = None
    rule: str = ""
    holds: bool | None = None
    why: str = ""
    unit: str = ""
    noise: bool = False

    def __post_init__(self) -> None:
        if not self.id or not self.sentence:
            raise ValueError(f"a claim needs an id and a sentence, not {self.id!r} and {self.sentence!r}")
        if self.interval is not None:
            low, high = self.interval
            if not low <= high:
                raise ValueError(f"claim {self.id!r}: interval {self.interval} must run from low to high")
            object.__setattr__(self, "interval", (float(low), float(high)))
        if self.holds is not None:  # numpy's booleans are not JSON's
            object.__setattr__(self, "holds", bool(self.holds))

    @property
    def verdict(self) -> Verdict:
        """The word for the reader."""
        if self.noise:
            return "noise"
        if self.holds is None:
            return "not judged at this scale"
        return "holds" if self.holds else "fails"

    @property
    def judged(self) -> bool:
        """Whether the measurement was put against the rule at all."""
        return self.noise or self.holds is not None

    def to_json(self) -> dict[str, Any]:
        """The fields and the verdict, as `claims.json` keeps them."""
        return {**asdict(self), "verdict": self.verdict}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Claim":
        """Back from `to_json`; unknown fields (of a later version) are left out."""
        fields = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        if fields.get("interval") is not None:
            fields["interval"] = tuple(fields["interval"])
        return cls(**fields)


def over_seeds(
    name: str,
    sentence: str,
    values: Sequence[float],
    *,
    unit: str,
    above: float | None = None,
    below: float | None = None,
    paper_value: float | str | None = None,
    why: str = "",
) -> Claim:
    """A claim about one number a seed (mostly a difference of two arms), judged by Student's 95 % interval.

    It holds when the whole interval lies above `above` (or below `below`), fails when the whole interval lies
    on the other side, and is noise when the threshold is inside. Below three seeds it is not judged.

    Args:
        values: one number a seed; none at all is a claim without a measurement.
        above, below: the threshold, exactly one of them.
    """
    if (above is None) == (below is None):
        raise ValueError(f"claim {name!r}: give one of above and below")
    from hornbook.lab.statistics import interval_over_seeds  # loads NumPy: not for reading a claim

    interval = interval_over_seeds(values)
    threshold = above if above is not None else below
    assert threshold is not None
    holds: bool | None = None
    noise = False
    if interval is not None and len(values) >= 3:
        low, high = interval
        holds = low > threshold if above is not None else high < threshold
        noise = low <= threshold <= high
    return Claim(
        id=name,
        sentence=sentence,
        paper_value=paper_value,
        measured=fmean(values) if values else None,
        interval=interval,
        unit=unit,
        rule=f"the 95 % interval over at least three seeds lies {'above' if above is not None else 'below'} "
        f"{threshold:g}",
        holds=holds,
        noise=noise,
        why=why,
    )
