"""What a training run is: its settings and its phases."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from hornbook.errors import HornbookError
from hornbook.train.parametrization import find_parametrization
from hornbook.train.schedule import Schedule


class Loader(Protocol):
    """Where batches come from: a pure function of the step, so resuming is seeking.

    `batch(step)` returns a dataclass or named tuple of arrays that share their first dimension (rows); each
    row stands for itself, so a batch can be cut between rows. `fingerprint` names the data and the order.
    """

    @property
    def fingerprint(self) -> str: ...

    def batch(self, step: int, /) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of training: a mixture at one sequence length under one learning-rate shape.

    name:           appears in metrics, checkpoints and messages.
    loader:         the mixture, packed at this phase's rows and sequence length.
    steps, tokens:  how long; give exactly one. `tokens` counts all positions of the batches.
    learning_rate:  factor on the peak learning rates for the whole phase.
    schedule:       the shape inside this phase. Without it the shape of `TrainSettings.schedule` runs over
                    all phases as one.
    """

    name: str
    loader: Loader
    steps: int | None = None
    tokens: int | None = None
    learning_rate: float = 1.0
    schedule: Schedule | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.tokens is None):
            raise HornbookError(f"phase {self.name!r} needs exactly one of steps and tokens.")
        length = self.steps if self.steps is not None else self.tokens
        if length is None or length < 1:
            field = "steps" if self.steps is not None else "tokens"
            raise HornbookError(f"phase {self.name!r} has {field} = {length}; it must be at least 1.")
        if self.learning_rate <= 0:
            raise HornbookError(
                f"phase {self.name!r} has learning_rate {self.learning_rate}; it must be above 0."
            )


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """Which optimizer trains which parameters, and how fast.

    kind:            "adamw", or "muon": Muon for hidden matrices, AdamW for embeddings, head, norms, biases.
    learning_rate:   peak rate of AdamW.
    muon_learning_rate: peak rate of Muon; None shares `learning_rate` (right with muon_scale "rms").
    muon_scale:      "rms": updates have the root mean square of AdamW's (0.2 * sqrt(max(rows, columns)), Liu
                     et al. 2025), so both share a learning rate; "spectral": sqrt(max(1, rows / columns)),
                     the scale of Jordan et al. 2024, which wants a rate near 0.02.
    weight_decay:    decoupled, on matrices only (embeddings, norms and biases are not decayed).
    """

    kind: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 3e-3
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    decay_embeddings: bool = False
    muon_learning_rate: float | None = None
    muon_momentum: float = 0.95
    muon_scale: Literal["rms", "spectral"] = "rms"
    split_fused: bool = True

    def __post_init__(self) -> None:
        _one_of("optimizer kind", self.kind, ("adamw", "muon"))
        _one_of("muon_scale", self.muon_scale, ("rms", "spectral"))
        for name in ("learning_rate", "epsilon"):
            _positive(name, getattr(self, name))
        if self.muon_learning_rate is not None:
            _positive("muon_learning_rate", self.muon_learning_rate)
        for name in ("beta1", "beta2", "muon_momentum"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise HornbookError(f"{name} is {value}; it must be at least 0 and below 1.")
        if self.weight_decay < 0:
            raise HornbookError(f"weight_decay is {self.weight_decay}; it must be 0 or more.")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How to train. Everything that decides the numbers is here or in the phases.

    micro_rows:       rows that go through the model at once; None sends the loader's rows whole. Memory, not
                      the result, depends on it.
    accumulate:       loader batches per optimizer step.
    gradient_clip:    largest gradient norm; 0 leaves gradients alone.
    parametrization:  how initial values and learning rates follow the model's size: "standard" (they do not),
                      "mup", "depth_mup", "completep", "branch_only" (see `hornbook.train.parametrization`).
    base_width, base_depth: hidden size and layers of the model that the rates here were tuned on.
    precision:        "auto" takes bf16 compute with fp32 master weights where the processor has bf16
                      instructions (or CUDA), else fp32.
    compile:          on CUDA each layer is compiled by torch ("auto", "on") or not ("off"). CPUs have kernels
                      of their own, which are faster, and are never compiled for.
    checkpoint_seconds, checkpoint_steps: save at the first of both; 0 turns that one off. A checkpoint is
                      always written at phase ends, before every evaluation and on Ctrl-C.
    evaluate_steps:   steps between validations; 0 validates only at phase ends.
    processes:        how many processes of one thread share the rows of every batch on a CPU (see
                      `hornbook.train.parallel`). 0 takes one for each torch thread where that works; resumed
                      runs keep the number they began with.
    sharding:         under torchrun: "full" leaves each rank its share of weights and optimizer (FSDP2),
                      "replicated" keeps all of them on every rank (faster where they fit).
    threads:          torch threads; 0 leaves them as they are.
    spike_guard:      skip a step whose loss or gradient norm is not finite, or whose loss stands
                      `spike_deviations` standard deviations above the last `spike_window` ones.
    spike_stop:       stop after this many skipped steps in a row.
    """

    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    schedule: Schedule = field(default_factory=Schedule)
    micro_rows: int | None = None
    accumulate: int = 1
    gradient_clip: float = 1.0
    parametrization: str = "standard"
    base_width: int = 0
    base_depth: int = 0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: Literal["auto", "off", "on"] = "auto"
    checkpoint_seconds: float = 120.0
    checkpoint_steps: int = 0
    evaluate_steps: int = 0
    seed: int = 0
    processes: int = 0
    sharding: Literal["full", "replicated"] = "full"
    threads: int = 0
    spike_guard: bool = True
    spike_deviations: float = 8.0
    spike_window: int = 64
    spike_stop: int = 10

    def __post_init__(self) -> None:
        _one_of("precision", self.precision, ("auto", "bf16", "fp32"))
        _one_of("compile", self.compile, ("auto", "off", "on"))
        _one_of("sharding", self.sharding, ("full", "replicated"))
        if self.micro_rows is not None and self.micro_rows < 1:
            raise HornbookError(f"micro_rows is {self.micro_rows}; it must be 1 or more, or None for all.")
        for name in ("accumulate", "spike_window", "spike_stop"):
            if getattr(self, name) < 1:
                raise HornbookError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        for name in (
            "gradient_clip",
            "checkpoint_seconds",
            "checkpoint_steps",
            "evaluate_steps",
            "processes",
            "threads",
            "base_width",
            "base_depth",
        ):
            if getattr(self, name) < 0:
                raise HornbookError(f"{name} is {getattr(self, name)}; it must be 0 or more.")
        _positive("spike_deviations", self.spike_deviations)
        find_parametrization(self.parametrization)
        if self.parametrization != "standard" and not (self.base_width and self.base_depth):
            raise HornbookError(
                f"parametrization is {self.parametrization!r} with base_width {self.base_width} and "
                f"base_depth {self.base_depth}; give the hidden size and the layers of the model that "
                "the learning rate was tuned on."
            )

    def decisive(self) -> dict[str, Any]:
        """The settings that decide the numbers: a resumed run must agree in all of them."""
        free = {"checkpoint_seconds", "checkpoint_steps", "evaluate_steps", "processes", "threads"}
        free |= {"sharding"}
        if self.parametrization == "standard":
            free |= {"parametrization", "base_width", "base_depth"}
        return {name: value for name, value in asdict(self).items() if name not in free}


def without_decay(learning_rate: float, *, final: float = 0.1) -> TrainSettings:
    """AdamW that decays no weights and a cosine down to `final`: how recipes raise and teach small students,
    where what a student knew is to stay."""
    return TrainSettings(
        optimizer=OptimizerSettings(learning_rate=learning_rate, weight_decay=0.0),
        schedule=Schedule(kind="cosine", warmup=0.05, final=final),
        compile="off",
    )


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Sentences' worth of differing settings: `["learning_rate was 0.003, now 0.001", ...]`."""
    found: list[str] = []
    for name in sorted(set(old) | set(new)):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{prefix}{name}.")
        elif before != after:
            found.append(f"{prefix}{name} was {before!r}, now {after!r}")
    return found


def _one_of(name: str, value: object, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        names = ", ".join(repr(item) for item in accepted)
        raise HornbookError(f"{name} is {value!r}; accepted are {names}.")


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise HornbookError(f"{name} is {value}; it must be above 0.")
