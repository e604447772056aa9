"""What ConceptMix can be told, at each scale."""

from dataclasses import dataclass, field

from hornbook.evals.concept_mix.steps import Apprentice

KS = (1, 2, 3, 4, 5, 6, 7)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    images_endpoint: str = ""
    """A drawing model to examine with the paper's concepts: http://host/v1#name; empty: only our own."""
    judge: str = ""
    """A model that sees and grades: http://host/v1#name. Empty: a program of known error (see below)."""
    writer: str = ""
    """A model that writes the endpoint's prompts and questions; empty: they are written by rule."""
    picture_size: str = ""
    """Of the endpoint's pictures, such as 512x512; empty leaves it to the endpoint."""
    endpoint_pictures: int = 20
    """Of the endpoint, for each k (the paper: 300)."""
    rounds: int = 1
    """Times that the judge is asked each question, in each order of its words."""

    ks: tuple[int, ...] = KS
    few: tuple[int, ...] = (1, 2, 3)
    """Concepts in the briefs that the first painters learn from, as captions on the web have them."""
    many: tuple[int, ...] = KS
    """Concepts in the briefs of the other painters."""
    pictures: int = 200
    """Drawn by each painter for each k."""
    seeds: tuple[int, ...] = (0, 1, 2)
    apprentice: Apprentice = field(default_factory=Apprentice)
    small_hidden_size: int = 32
    """Of a smaller painter that learns what the best one does."""

    sensitivity: float = 0.95
    specificity: float = 0.9
    """Of the program that grades where there is no judge."""
    judged_ks: tuple[int, ...] = (1, 2, 3, 4)
    labelled: int = 50
    """Judged pictures of each k whose truth the prediction-powered estimate may use."""
    calibration: int = 100
    """Pictures of known truth for each k on which the judge's error is measured."""


SCALES = {
    "smoke": Settings(
        ks=(1, 2, 4, 7),
        pictures=12,
        apprentice=Apprentice(pictures=600, steps=8, rows=32),
        judged_ks=(1, 2),
        labelled=6,
        calibration=8,
        endpoint_pictures=2,
    ),
    "quick": Settings(),
    "gpu": Settings(
        pictures=300,
        apprentice=Apprentice(hidden_size=256, layers=6, heads=4, pictures=400_000, steps=12_000, rows=256),
        small_hidden_size=128,
        endpoint_pictures=300,
    ),
}
