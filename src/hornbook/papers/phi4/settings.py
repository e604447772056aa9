"""What the recipe `phi4` can be told, and its scales."""

from dataclasses import dataclass, field

from hornbook.align.pivotal import SearchSettings
from hornbook.synth.people import PeopleWorld
from hornbook.train.objectives import Preference
from hornbook.train.settings import TrainSettings, without_decay


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every field is a flag of `hornbook run phi4`."""

    model: str = ""
    """A checkpoint to begin post-training with (a folder, or smollm2); empty: students are raised."""
    source: str = "python"
    """Naturally long documents: `python` (this installation), a file or folder, or hub:NAME."""
    gather_bytes: int = 1_200_000
    """Read at most this much of them, in bytes."""
    people: PeopleWorld = field(default_factory=PeopleWorld)
    """Whom the student hears of, and how often."""
    passages: int = 1500
    sums: int = 6000
    """Documents about the people, and sums, to raise the student on."""
    largest: int = 9
    """Largest number in a sum: so small a student learns small sums."""
    teacher: str = "simulated"
    """Who writes the rest: "simulated", or http://host/v1#model."""
    rewrites: int = 800
    reversed: int = 500
    conversations: int = 400
    """Passages rewritten as exercises, code with instructions for it, conversations of two agents."""
    hidden_size: int = 96
    layers: int = 3
    heads: int = 3
    vocab_size: int = 512
    rows: int = 24
    time: int = 128
    """Of a batch: rows, and the context before mid-training in tokens."""
    raise_tokens: int = 1_500_000
    train: TrainSettings = field(default_factory=lambda: without_decay(5e-3, final=0.05))
    long_time: int = 512
    """Context after mid-training."""
    rope_theta: float = 250_000.0
    """Base of the rotary angles from mid-training on (before: 10,000)."""
    middle_tokens: int = 200_000
    middle_train: TrainSettings = field(default_factory=lambda: without_decay(1e-3))
    tune_tokens: int = 150_000
    tune_train: TrainSettings = field(default_factory=lambda: without_decay(1e-3))
    unknown_share: float = 0.25
    """Of the rows of fine-tuning: what the student does not know, and what it does."""
    draws: int = 8
    """Answers to each question about people, to estimate how often the student is right."""
    questions: int = 80
    """Sums searched for pivotal tokens, of those that go well by chance."""
    search: SearchSettings = field(default_factory=SearchSettings)
    judge: str = ""
    """Who scores answers for the second round: a model (see docs), or empty for the rule with the known
    truth."""
    judged: int = 100
    """Sums whose answers are judged."""
    preference: Preference = field(default_factory=lambda: Preference(beta=0.1, supervised=0.1))
    pair_epochs: float = 2.0
    """How often each round of preference training sees its pairs."""
    pair_rate: float = 5e-5
    tests: int = 120
    samples: int = 4
    """Held-out sums, and answers drawn to each."""
    read_rows: int = 8
    """Long documents on which reading is measured."""
    max_tokens: int = 64
    seeds: tuple[int, ...] = (0, 1, 2)
    workers: int = 2

    def mixture(self) -> dict[str, float]:
        """The kinds of the report's table 5: web and its rewrites (here of passages), synthetic, code."""
        return {
            "passages": 0.1,
            "rewrites": 0.05,
            "people": 0.25,
            "sums": 0.43,
            "conversations": 0.04,
            "reversed": 0.04,
            "code": 0.09,
        }


SCALES = {
    "smoke": Settings(
        gather_bytes=200_000,
        people=PeopleWorld(often=4, seldom=3, never=3, invented=3, often_told=6, seldom_told=1),
        passages=20,
        sums=80,
        rewrites=15,
        reversed=10,
        conversations=10,
        hidden_size=64,
        layers=1,
        heads=1,
        vocab_size=384,
        rows=4,
        time=64,
        raise_tokens=4_000,
        long_time=128,
        middle_tokens=2_000,
        tune_tokens=2_000,
        draws=2,
        questions=3,
        search=SearchSettings(first=2, most=4),
        judged=4,
        pair_epochs=0.5,
        tests=4,
        samples=2,
        read_rows=1,
        max_tokens=16,
        seeds=(0,),
        workers=1,
    ),
    "quick": Settings(),
    "gpu": Settings(
        gather_bytes=60_000_000,
        people=PeopleWorld(often=400, seldom=300, never=400, invented=300),
        passages=20_000,
        sums=60_000,
        rewrites=10_000,
        reversed=5000,
        conversations=5000,
        hidden_size=256,
        layers=6,
        heads=4,
        vocab_size=4096,
        time=512,
        raise_tokens=60_000_000,
        long_time=4096,
        middle_tokens=10_000_000,
        tune_tokens=4_000_000,
        questions=300,
        judged=600,
        tests=500,
        read_rows=32,
    ),
}
