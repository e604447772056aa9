"""What the recipe `tinystories` can be told, at each scale."""

from dataclasses import dataclass, field, replace

from hornbook.errors import HornbookError
from hornbook.synth.world import PLOT_NAMES
from hornbook.train.pretrain import PhasePlan
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, TrainSettings

BOTH = {"stories": 0.5, "records": 0.5}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    judge: str = ""
    """A model that grades stories beside the exact programs; empty: none."""
    source: str = ""
    """Stories of yours, such as a file of TinyStories: one more student, its loss and what it copies."""
    source_bytes: int = 20_000_000
    """Read at most this much of `source`."""

    plots: tuple[str, ...] = ("share", "sorry")
    """What the stories tell, of the twelve plots of the teacher."""
    stories: int = 6_000
    """Training stories, told once plainly and once behind instructions."""
    few: int = 24
    """Stories of the student that is made to memorise."""
    test: int = 120
    """Held-out stories: their word triples occur in no training story."""
    vocab_size: int = 1024
    widths: tuple[int, ...] = (16, 32, 64)
    depths: tuple[int, ...] = (1, 2, 4)
    head_size: int = 32
    tokens: int = 1_500_000
    """Training tokens of every student."""
    ends: tuple[float, ...] = (0.0625, 0.125, 0.25, 0.5)
    """Shares of the training after which the largest student is kept, beside its end."""
    rows: int = 24
    """Rows of a batch: in small ones the weak signal to copy a name is lost."""
    time: int = 384
    train: TrainSettings = field(
        default_factory=lambda: TrainSettings(
            optimizer=OptimizerSettings(kind="muon", learning_rate=1.4e-2),
            schedule=Schedule(kind="wsd", warmup=0.03, decay=0.4),
            processes=1,
            checkpoint_seconds=60,
        )
    )

    beginnings: int = 24
    """Beginnings that every student continues."""
    samples: int = 4
    """Continuations of each, at temperature 1."""
    choices: int = 240
    """Stories beside the same with one fault."""
    prompts: int = 24
    """Prompts for each kind of instruction, and for two that training kept apart."""
    copies: int = 40
    """Endings that are compared with the training stories."""
    damaged: int = 40
    """Stories of each kind of damage on which the grader itself is measured."""
    read: int = 40
    """Held-out stories over which neurons and heads are read."""
    judged: int = 12
    """Beginnings whose endings a judge grades."""
    seeds: tuple[int, ...] = (0, 1, 2)
    workers: int = 2

    def __post_init__(self) -> None:
        wrong = [width for width in self.widths if width > self.head_size and width % self.head_size]
        if wrong:
            raise HornbookError(f"widths: {wrong[0]} is no multiple of head_size, {self.head_size}.")
        if not self.widths or not self.depths:
            raise HornbookError("widths and depths: at least one of each is needed.")
        if list(self.ends) != sorted(set(self.ends)) or any(not 0 < end < 1 for end in self.ends):
            raise HornbookError(f"ends is {self.ends}; growing shares between 0 and 1 are accepted.")
        if max(self.beginnings, self.prompts, self.copies, self.read) > self.test:
            raise HornbookError(
                f"test is {self.test}; beginnings, prompts, copies and read may be at most that many."
            )

    def heads(self, width: int) -> int:
        """Attention heads of a student: one where it is no wider than a head."""
        return max(1, width // self.head_size)

    @property
    def smallest(self) -> tuple[int, int]:
        return self.widths[0], self.depths[0]

    @property
    def shallow(self) -> tuple[int, int]:
        return self.widths[-1], self.depths[0]

    @property
    def largest(self) -> tuple[int, int]:
        return self.widths[-1], self.depths[-1]

    @property
    def middle(self) -> tuple[int, int]:
        """The widest student of medium depth: the arms of data are raised on it."""
        return self.widths[-1], self.depths[len(self.depths) // 2]

    def _phase(
        self, name: str, mixture: dict[str, float], tokens: float, rows: int | None = None
    ) -> PhasePlan:
        return PhasePlan(
            name=name, mixture=mixture, tokens=round(tokens), rows=rows or self.rows, time=self.time
        )

    def moments(self) -> dict[str, float]:
        """By the name of a stretch of the training, the share of it that is done when it ends."""
        return {f"to {end:g}": end for end in (*self.ends, 1.0)}

    def growth(self) -> list[PhasePlan]:
        """One training in stretches, whose ends are kept of the largest student."""
        begins = (0.0, *self.ends)
        return [
            self._phase(name, BOTH, (end - begin) * self.tokens)
            for (name, end), begin in zip(self.moments().items(), begins, strict=True)
        ]

    def arms(self) -> dict[str, list[PhasePlan]]:
        """Stories alone: from random words and features, and as a teacher left to itself tells them."""
        return {
            "random words": [self._phase("stories", {"stories": 1.0}, self.tokens)],
            "favourites": [self._phase("favourites", {"favourites": 1.0}, self.tokens)],
        }

    def memoriser(self) -> list[PhasePlan]:
        """A handful of stories, again and again, in small batches: a quarter of the tokens is enough."""
        return [self._phase("few", {"few": 1.0}, self.tokens / 4, max(1, self.rows // 3))]

    def real_phases(self) -> list[PhasePlan]:
        return [self._phase("real", {"real": 1.0}, self.tokens)]


QUICK = Settings()
SCALES = {
    "smoke": replace(
        QUICK,
        stories=120,
        few=8,
        test=8,
        vocab_size=320,
        widths=(16,),
        depths=(1, 2),
        tokens=8_192,
        ends=(0.5,),
        rows=2,
        beginnings=2,
        samples=2,
        choices=6,
        prompts=2,
        copies=4,
        damaged=4,
        read=4,
        judged=2,
        seeds=(0,),
        workers=1,
    ),
    "quick": QUICK,
    "gpu": replace(
        QUICK,
        plots=PLOT_NAMES,
        stories=400_000,
        few=400,
        test=2_000,
        vocab_size=4096,
        widths=(64, 128, 256, 512),
        depths=(1, 2, 4, 8),
        head_size=64,
        tokens=60_000_000,
        ends=(0.002, 0.008, 0.03, 0.125, 0.5),
        rows=64,
        beginnings=100,
        samples=10,
        choices=1_200,
        prompts=200,
        copies=100,
        damaged=200,
        read=400,
        judged=44,
        workers=1,
    ),
}
