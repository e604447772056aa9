"""The one training loop: pretraining, fine-tuning, preferences and verifiers all run through it."""

import copy
import gc
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hornbook.errors import HornbookError
from hornbook.lab.machine import usable_cores
from hornbook.lab.progress import Progress
from hornbook.lab.progress import say as to_terminal
from hornbook.model import native
from hornbook.train import checkpoint, sharded
from hornbook.train.batches import TensorBatch, to_tensors
from hornbook.train.guard import SpikeGuard
from hornbook.train.metrics import Metrics, Sink
from hornbook.train.objectives import Objective
from hornbook.train.optim import Optimizer
from hornbook.train.parallel import (
    ProcessGroup,
    World,
    current_world,
    fork_ranks,
    forking_works,
    held,
    join_torchrun,
)
from hornbook.train.precision import autocast, compute_dtype, keep_freed_memory
from hornbook.train.scaling import optimizer_factors
from hornbook.train.settings import Phase, TrainSettings, differences
from hornbook.train.sharded import Shards
from hornbook.train.validation import Validation, bits_per_byte


class ProgressLike(Protocol):
    """What the trainer needs of a progress display (`hornbook.lab.progress.Progress` has it)."""

    def advance(self, n: float = 1, /) -> None: ...
    def set(self, **numbers: object) -> None: ...


@dataclass(frozen=True)
class TrainResult:
    """What a run came to.

    Over all attempts, as if there had been one: steps, tokens: optimizer steps and input positions. loss:
    mean over the last tenth of the steps (at most 50). seconds, tokens_per_second: of training steps alone.
    bits_per_byte: of the last validation, by domain. skipped: steps the guard refused. processes: how many
    shared the rows. kernels: whether the compiled kernels served (both change results by rounding alone).
    """

    steps: int
    tokens: int
    loss: float
    seconds: float
    tokens_per_second: float
    bits_per_byte: Mapping[str, float]
    skipped: int
    folder: Path
    processes: int = 1
    kernels: bool = False


@dataclass
class _Position:
    """Where the run stands; everything here goes into the checkpoint."""

    step: int = 0
    tokens: int = 0
    trained: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class _Stretch:
    """A phase laid out on the axis of all steps."""

    phase: Phase
    first: int
    last: int
    first_batch: int  # of its loader: phases that share a loader continue in it

    @property
    def steps(self) -> int:
        return self.last - self.first


class Trainer:
    """Trains `model` for `objective` over `phases`, with checkpoints under `folder`.

    Running the same trainer again continues where the last attempt stopped, bit for bit.

    Args:
        model: fp32 weights; a `Decoder`, or a module with one as `.decoder`.
        objective: function of (model, batch) from `hornbook.train.objectives`.
        phases: what to train on, in order.
        settings: how.
        folder: `folder/training/` holds the exact resume, `folder` itself the model as the ecosystem loads
            it, written at the end of each phase; `folder/metrics.jsonl` one line per step.
        validation: fixed batches for bits per byte.
        sinks: further receivers of the numbers (see `hornbook.train.metrics`).
        save_model: writes the finished model; by default `hornbook.model.hf.save_checkpoint` of the decoder.

    Raises:
        HornbookError: for settings or data that cannot work, and when `folder` holds a run of other data or
            other settings.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        phases: Phase | Sequence[Phase],
        settings: TrainSettings,
        folder: Path | str,
        *,
        validation: Validation | None = None,
        sinks: Sequence[Sink] = (),
        save_model: Callable[[nn.Module, Path], None] | None = None,
    ) -> None:
        self.model, self.objective, self.settings = model, objective, settings
        self.folder, self.validation, self.sinks = Path(folder), validation, tuple(sinks)
        self.save_model = save_model or _save_decoder
        self.phases = [phases] if isinstance(phases, Phase) else list(phases)
        if not self.phases:
            raise HornbookError("training needs at least one phase.")
        self.device = next(model.parameters()).device
        self.dtype = compute_dtype(settings.precision, self.device)
        self.world: World = current_world()
        self._threads = torch.get_num_threads()
        self._say: Callable[[str], None] = lambda sentence: None
        self._stop = False
        self._kernels = False
        self.shards: Shards | None = None

    def run(
        self,
        progress: ProgressLike | None = None,
        log: Callable[..., None] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> TrainResult:
        """Trains to the end of the last phase, or continues an interrupted run.

        progress: counts tokens; None opens a live line. log: called with the numbers of every step. say:
        receives sentences; by default they go to standard error.

        Raises:
            KeyboardInterrupt: after Ctrl-C, when the checkpoint is written.
            HornbookError: see the class; also when too many steps in a row go wrong.
        """
        if self.settings.threads:
            torch.set_num_threads(self.settings.threads)
        self._threads = torch.get_num_threads()
        self.model.float()
        keep_freed_memory()
        join_torchrun()
        size = self._processes()
        with native.active() as self._kernels:
            if size == 1:
                return self._attempt(current_world(), progress, log, say)
            numbers = sum(p.numel() for p in self.model.parameters())
            # The copies must hold the same weights: drawn before forking, or read from one checkpoint after.
            with fork_ranks(size, 4 * numbers, lambda world: self._attempt(world, None, None, None)) as world:
                return self._attempt(world, progress, log, say)

    def _processes(self) -> int:
        """How many processes this run is shared among."""
        wanted = self.settings.processes
        world = current_world()
        if wanted == 1 or world.size > 1 or self.device.type != "cpu":
            return 1
        shareable = all(
            hasattr(phase.loader, "world") and hasattr(phase.loader, "rows") for phase in self.phases
        )
        if not forking_works() or not shareable:
            if wanted > 1:
                raise HornbookError(
                    f"processes is {wanted}, but this run cannot be shared: it needs Linux, the main thread "
                    "and loaders with `rows`, `rank` and `world`. Use processes=1, or torchrun."
                )
            return 1
        if wanted > 1:
            return wanted
        before = checkpoint.newest_state(self.folder / "training").get("processes", 0)
        most = before or min(self._threads, usable_cores())
        rows: list[int] = [getattr(phase.loader, "rows", 1) for phase in self.phases]
        return next(n for n in range(most, 0, -1) if all(count % n == 0 for count in rows))

    def _attempt(
        self,
        world: World,
        progress: ProgressLike | None,
        log: Callable[..., None] | None,
        say: Callable[[str], None] | None,
    ) -> TrainResult:
        """The part of `run` that every rank goes through."""
        self.world = world
        quiet = world.rank != 0
        self._say = (lambda sentence: None) if quiet else (say or to_terminal)
        self._prepare()
        own = None
        if progress is None and not quiet:
            total = self.total_tokens
            own = Progress(total, "tokens", f"train {self.folder.name}", done=self.position.tokens)
            progress = own
        elif progress is not None:
            progress.advance(self.position.tokens)
        try:
            with _signals(self._ask_to_stop), _no_garbage_collection():
                return self._loop(progress, log)
        finally:
            self.metrics.close()
            if own is not None:
                own.close()

    # ------------------------------------------------------------------ setting out

    def _prepare(self) -> None:
        settings = self.settings
        torch.manual_seed(settings.seed)
        self.shards = None
        if settings.compile != "off" and self.device.type == "cuda":
            decoder: Any = getattr(self.model, "decoder", self.model)
            for layer in getattr(decoder, "layers", ()):
                layer.compile()  # before it is cut into pieces, and without another name for its weights
        if isinstance(self.world, ProcessGroup):
            if settings.sharding == "full":
                self.shards = Shards(self.model, self.dtype)
            else:
                self.world.copy_from_rank_0([*self.model.parameters(), *self.model.buffers()])
        self.optimizer = Optimizer(
            self.model,
            settings.optimizer,
            bf16=self.dtype == torch.bfloat16,
            world=self.world,
            factors=optimizer_factors(self.model, settings),
        )
        self.guard = SpikeGuard(
            enabled=settings.spike_guard,
            window=settings.spike_window,
            deviations=settings.spike_deviations,
            stop=settings.spike_stop,
        )
        self.position = _Position()
        self._lay_out()
        resumed = checkpoint.newest_whole(self.folder / "training", self._say)
        if resumed is not None:
            self._restore(*resumed)
        self.metrics = Metrics(
            self.folder / "metrics.jsonl" if self.world.rank == 0 else None,
            done=self.position.step,
            sinks=self.sinks,
        )

    def _lay_out(self) -> None:
        """Places the phases on one axis of steps."""
        self.stretches: list[_Stretch] = []
        self.total_tokens = 0
        first, used = 0, dict[str, int]()
        for phase in self.phases:
            loader = self._share(phase)
            phase = copy.copy(phase)
            object.__setattr__(phase, "loader", loader)
            position = used.get(loader.fingerprint, 0)
            inputs = to_tensors(loader.batch(position))
            shape = next(iter(vars(inputs).values())).shape
            size = math.prod(shape[:2]) * self.settings.accumulate * self.world.size
            steps = phase.steps if phase.steps is not None else -(-(phase.tokens or 0) // size)
            self.stretches.append(_Stretch(phase, first, first + steps, position))
            used[loader.fingerprint] = position + steps * self.settings.accumulate
            first += steps
            self.total_tokens += steps * size
        self.steps = first

    def _share(self, phase: Phase) -> Any:
        """The phase's loader for this rank: it reads only its own rows of every batch."""
        loader: Any = phase.loader
        if self.world.size == 1 or getattr(loader, "world", None) == self.world.size:
            return loader
        if not hasattr(loader, "world") or not hasattr(loader, "rows"):
            raise HornbookError(
                f"the loader of phase {phase.name!r} cannot be shared by {self.world.size} processes: it has "
                "no `rank` and `world`."
            )
        if loader.rows % self.world.size:
            raise HornbookError(
                f"phase {phase.name!r} has {loader.rows} rows a batch, which {self.world.size} processes "
                "cannot share evenly."
            )
        mine = copy.copy(loader)
        mine.rank, mine.world = self.world.rank, self.world.size
        return mine

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must agree with."""
        return {
            "settings": self.settings.decisive(),
            "data": {f"{i} {s.phase.name}": s.phase.loader.fingerprint for i, s in enumerate(self.stretches)},
            "phases": {
                f"{i} {s.phase.name}": f"{s.steps} steps, rate x{s.phase.learning_rate}, {s.phase.schedule}"
                for i, s in enumerate(self.stretches)
            },
            "precision": str(self.dtype),
            "processes": self.world.size,
            "kernels": self._kernels,
            "parameters": sum(p.numel() for p in self.model.parameters()),
        }

    def _restore(self, path: Path, state: Mapping[str, Any]) -> None:
        identity = self._identity()
        where = f"{self.folder} holds a run at step {state['step']}"
        start_anew = "Use the same command as before, or another folder."
        if state["data"] != identity["data"]:
            changed = [
                name for name in identity["data"] if state["data"].get(name) != identity["data"][name]
            ] or sorted(state["data"])
            raise HornbookError(
                f"{where} trained on other data (phase {', '.join(changed)}: the fingerprint differs). "
                f"{start_anew}"
            )
        for part in ("settings", "phases"):
            found = differences(state[part], identity[part])
            if found:
                raise HornbookError(f"{where} with other settings: {'; '.join(found)}. {start_anew}")
        for part in ("precision", "parameters"):
            if state[part] != identity[part]:
                raise HornbookError(
                    f"{where} with other {part}: {state[part]} then, {identity[part]} now. {start_anew}"
                )
        for part in ("processes", "kernels"):  # another order of additions, the same training
            if state.get(part) != identity[part]:
                self._say(
                    f"{where} with {part} {state.get(part)}, now {identity[part]}: it goes on, equal but for "
                    "rounding."
                )
        if self.shards is not None:  # its random state is that of the step, which is seeded anew
            self.optimizer.load(sharded.load(path, self.model, self.optimizer.blank()))
        else:
            snapshot = checkpoint.read(path, state)
            self.model.load_state_dict(snapshot.weights)
            self.optimizer.load(snapshot.optimizer)
            checkpoint.set_random_state(snapshot.random)
        self.guard.load(**state["guard"])
        self.position = _Position(**state["position"])
        self._say(f"Resuming {self.folder.name} at step {self.position.step} of {self.steps} ({path.name}).")

    # ------------------------------------------------------------------ the loop

    def _loop(self, progress: ProgressLike | None, log: Callable[..., None] | None) -> TrainResult:
        settings, position = self.settings, self.position
        self.model.train()
        saved_at, saved_step = time.monotonic(), position.step
        scores: Mapping[str, float] = {}
        if position.step:  # what came after the checkpoint may not have been done
            self._save_ended()
            scores = self.metrics.evaluated or {}
            unscored = self.world.rank == 0 and not scores and self._evaluation_due(position.step)
            if any(self._agree(unscored)):
                scores = self._evaluate()
        while position.step < self.steps:
            started = time.perf_counter()
            numbers = self._step()
            seconds = time.perf_counter() - started
            position.seconds += seconds
            tokens = numbers["tokens"]
            numbers |= {"tokens_per_second": tokens / seconds, "seconds": seconds}
            self.metrics.write(position.step - 1, numbers)
            if progress is not None:
                progress.advance(tokens)
                progress.set(loss=numbers["loss"])
            if log is not None:
                log(step=position.step - 1, **numbers)
            due = settings.checkpoint_seconds and time.monotonic() - saved_at >= settings.checkpoint_seconds
            due = due or bool(settings.checkpoint_steps and position.step % settings.checkpoint_steps == 0)
            stop, due = self._agree(self._stop, bool(due))
            ended = any(s.last == position.step for s in self.stretches)
            evaluate = self._evaluation_due(position.step)
            if due or stop or ended or evaluate:
                self._save()
                saved_at, saved_step = time.monotonic(), position.step
            self._save_ended()
            if stop and position.step < self.steps:
                self._say(
                    f"Stopped at step {position.step} of {self.steps}; everything is saved in {self.folder}. "
                    "Give the same command again to go on."
                )
                raise KeyboardInterrupt
            if evaluate:
                scores = self._evaluate()
        if saved_step != self.steps and position.step != self.steps:
            raise AssertionError("the last step was not saved")
        last = position.losses[-max(1, min(50, self.steps // 10)) :]
        return TrainResult(
            steps=position.step,
            tokens=position.tokens,
            loss=sum(last) / max(1, len(last)),
            seconds=position.seconds,
            tokens_per_second=position.tokens / position.seconds if position.seconds else 0.0,
            bits_per_byte=scores,
            skipped=self.guard.skipped,
            folder=self.folder,
            processes=self.world.size,
            kernels=self._kernels,
        )

    def _step(self) -> dict[str, Any]:
        """One optimizer step: forward and backward over all micro-batches, sum over ranks, guard, update."""
        position = self.position
        stretch = next(s for s in self.stretches if s.first <= position.step < s.last)
        phase = stretch.phase
        if position.step == stretch.first:
            self.guard.forget()
        if phase.schedule is not None:
            factor = phase.schedule.factor(position.step - stretch.first, stretch.steps)
        else:
            factor = self.settings.schedule.factor(position.step, self.steps)
        factor *= phase.learning_rate
        # Seeded anew at every step, so that dropout does not depend on where a run was interrupted.
        torch.manual_seed((self.settings.seed * 1_000_003 + position.step) * 4096 + self.world.rank)
        self.optimizer.zero_grad()
        sums: dict[str, Tensor] = {}
        tokens = 0
        for batch in self._batches(stretch):
            tokens += math.prod(batch.inputs.shape)
            for micro in batch.split(self.settings.micro_rows):
                with autocast(self.device, self.dtype):
                    loss = self.objective(self.model, micro)
                if loss.sum.requires_grad:
                    loss.sum.backward()  # type: ignore[no-untyped-call]
                for name, value in {"loss": loss.sum, "trained": loss.tokens, **loss.parts}.items():
                    sums[name] = (
                        sums.get(name, torch.zeros((), dtype=torch.float64)) + value.detach().double().cpu()
                    )
        counts = torch.stack(list(sums.values()))
        self.world.sum(counts)
        totals = dict(zip(sums, counts.tolist(), strict=True))
        trained = totals.pop("trained")
        mean = {name: value / max(trained, 1.0) for name, value in totals.items()}
        norm = self._finish_gradients(trained)
        complaint = self.guard.verdict(position.step, mean["loss"], norm)
        if complaint is None:
            self.optimizer.step(factor)
            position.losses = [*position.losses[-49:], mean["loss"]]
        else:
            self._say(complaint)
        tokens *= self.world.size
        position.step += 1
        position.tokens += tokens
        position.trained += int(trained)
        return {
            **mean,
            "phase": phase.name,
            "learning_rate": self.settings.optimizer.learning_rate * factor,
            "gradient_norm": norm,
            "tokens": tokens,
            "trained_tokens": int(trained),
            **({"skipped": True} if complaint else {}),
        }

    def _batches(self, stretch: _Stretch) -> Iterator[TensorBatch]:
        """This rank's batches of the present step."""
        first = stretch.first_batch + (self.position.step - stretch.first) * self.settings.accumulate
        for number in range(first, first + self.settings.accumulate):
            yield to_tensors(stretch.phase.loader.batch(number), self.device)

    def _finish_gradients(self, trained: float) -> float:
        """Sums over ranks, divides by the trained tokens of the step, clips; returns the norm before."""
        if self.world.size > 1:  # all ranks must add the same list
            for parameter in self.optimizer.parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in self.optimizer.parameters if p.grad is not None]
        if not gradients:
            return 0.0
        if self.shards is None:
            self.world.sum_all(gradients)
            norm = float(torch.nn.utils.get_total_norm(gradients)) / max(trained, 1.0)
        else:  # they were added in the backward pass
            norm = self.shards.norm(gradients) / max(trained, 1.0)
            gradients = [held(gradient)[0] for gradient in gradients]
        scale = 1.0 / max(trained, 1.0)
        if self.settings.gradient_clip and norm > self.settings.gradient_clip:
            scale *= self.settings.gradient_clip / norm
        torch._foreach_mul_(gradients, scale)
        return norm

    # ------------------------------------------------------------------ between steps

    def _save_ended(self) -> None:
        """Writes the finished model where a phase ends."""
        if not any(s.last == self.position.step for s in self.stretches):
            return
        finished = self.model if self.shards is None else self.shards.whole_model()
        if self.world.rank == 0 and finished is not None:
            self.save_model(finished, self.folder)
        self.world.barrier()

    def _evaluation_due(self, step: int) -> bool:
        if self.validation is None:
            return False
        every = self.settings.evaluate_steps
        return bool(every and step % every == 0) or any(s.last == step for s in self.stretches)

    def _evaluate(self) -> Mapping[str, float]:
        if self.validation is None:
            return {}
        if self.world.rank != 0 and self.shards is None:
            return {}
        started, threads = time.perf_counter(), torch.get_num_threads()
        torch.set_num_threads(self._threads)  # forked ranks wait meanwhile
        scores = bits_per_byte(
            self.model, self.validation, dtype=self.dtype, micro_rows=self.settings.micro_rows
        )
        torch.set_num_threads(threads)
        seconds = time.perf_counter() - started
        self.metrics.write(self.position.step, {"bits_per_byte": scores, "seconds": seconds})
        shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
        self._say(f"step {self.position.step}: bits per byte {shown}")
        return scores

    def _save(self) -> None:
        if self.world.rank != 0 and self.shards is None:
            return
        state = {**self._identity(), "position": vars(self.position), "guard": self.guard.state()}
        snapshot = checkpoint.Snapshot(
            dict(self.model.state_dict()), self.optimizer.tensors(), checkpoint.random_state(), state
        )
        if self.shards is None:
            checkpoint.save(self.folder / "training", self.position.step, snapshot)
        else:
            sharded.save(self.folder / "training", self.position.step, snapshot, self.world)

    def _agree(self, *wishes: bool) -> tuple[bool, ...]:
        """True where any rank wishes so: all must save and stop at the same step."""
        if self.world.size == 1:
            return wishes
        votes = torch.tensor(wishes, dtype=torch.float64)
        self.world.sum(votes)
        return tuple(bool(vote) for vote in votes)

    def _ask_to_stop(self) -> None:
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True
        self._say(
            "Stopping after this step (again to stop at once, losing the steps since the last checkpoint)."
        )


def _save_decoder(model: nn.Module, folder: Path) -> None:
    from hornbook.model.hf import save_checkpoint

    decoder: Any = getattr(model, "decoder", model)
    save_checkpoint(decoder, folder)


@contextmanager
def _signals(ask: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM call `ask` instead of tearing a step apart."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: ask()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Cycles are not searched for during steps: with millions of objects alive that costs half a second."""
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
