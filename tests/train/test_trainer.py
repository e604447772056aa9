"""The loop as its users see it: learns, resumes, refuses, counts truly."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import CyclingLoader, tiny_config
from torch import nn

from hornbook.errors import HornbookError
from hornbook.lab.progress import NullProgress
from hornbook.model import native
from hornbook.model.decoder import Decoder
from hornbook.model.hf import load_checkpoint, save_checkpoint
from hornbook.train import checkpoint
from hornbook.train.metrics import read
from hornbook.train.objectives import Loss, next_token
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, Phase, TrainSettings
from hornbook.train.trainer import Trainer, TrainResult
from hornbook.train.validation import Validation


def model(seed: int = 1, **changes: object) -> Decoder:
    torch.manual_seed(seed)
    return Decoder(tiny_config(**changes))


def settings(**changes: object) -> TrainSettings:
    values = {
        "optimizer": OptimizerSettings(learning_rate=1e-2),
        "schedule": Schedule(warmup=2),
        "checkpoint_seconds": 0,
        "compile": "off",
        "precision": "fp32",
    }
    return TrainSettings(**{**values, **changes})  # type: ignore[arg-type]


def curve(folder: Path) -> list[float]:
    return [line["loss"] for line in read(folder / "metrics.jsonl") if "loss" in line]


def train(
    folder: Path, steps: int = 8, *, loader: object = None, decoder: Decoder | None = None, **changes: object
):
    trainer = Trainer(
        decoder or model(),
        next_token,
        Phase(name="only", loader=loader or CyclingLoader(), steps=steps),  # type: ignore[arg-type]
        settings(**changes),
        folder,
    )
    return trainer.run(NullProgress(), say=lambda sentence: None)


def test_loss_falls_on_a_learnable_task(tmp_path: Path) -> None:
    result = train(tmp_path, 60, loader=CyclingLoader(rows=8, time=64))
    losses = curve(tmp_path)
    assert losses[0] == pytest.approx(np.log(32), rel=0.05)  # nothing known: uniform over the vocabulary
    assert result.loss < 0.5
    assert result.steps == 60
    assert result.tokens == 60 * 8 * 64


def test_the_finished_folder_is_a_hugging_face_checkpoint(tmp_path: Path) -> None:
    trained = model()
    train(tmp_path, 4, decoder=trained)
    loaded = load_checkpoint(tmp_path)
    for (name, value), other in zip(trained.state_dict().items(), loaded.state_dict().values()):
        assert torch.equal(value, other), name


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch
from torch import nn
torch.set_num_threads(1)
from small_training import CyclingLoader, tiny_config
from hornbook.lab.progress import NullProgress
from hornbook.model.decoder import Decoder
from hornbook.train.objectives import next_token
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, Phase, TrainSettings
from hornbook.train.trainer import Trainer, TrainResult

torch.manual_seed(1)
model = Decoder(tiny_config(residual_dropout=0.1))
phases = [
    Phase(name="first", loader=CyclingLoader(), steps=7),
    Phase(name="second", loader=CyclingLoader(time=48), steps=7, learning_rate=0.5),
]
settings = TrainSettings(
    optimizer=OptimizerSettings(kind={kind!r}, learning_rate=1e-2), checkpoint_steps=5, checkpoint_seconds=0,
    precision={precision!r}, compile="off", micro_rows=2, accumulate=2, processes={processes},
)
trainer = Trainer(model, next_token, phases, settings, Path(sys.argv[1]))
print("ready", flush=True)
trainer.run(NullProgress(), log=lambda **n: print(n["step"], flush=True))
"""


def test_resume_is_bitwise_after_kill_9(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        PROGRAM.format(tests=str(Path(__file__).parent), kind="muon", precision="bf16", processes=2)
    )
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([sys.executable, program, whole], check=True, capture_output=True)
    random = np.random.default_rng()
    for wanted in sorted(random.choice(np.arange(2, 12), 1, replace=False).tolist()):
        process = subprocess.Popen([sys.executable, program, broken], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == str(wanted):
                process.send_signal(signal.SIGKILL)
                break
        assert process.wait() == -signal.SIGKILL
    subprocess.run([sys.executable, program, broken], check=True, capture_output=True)
    assert len(curve(whole)) == 14
    assert curve(broken) == curve(whole)
    ends = [checkpoint.load(checkpoint.found(folder / "training")[0]) for folder in (whole, broken)]
    for part in ("weights", "optimizer", "random"):
        one, other = (getattr(end, part) for end in ends)
        assert one.keys() == other.keys()
        for name in one:
            assert torch.equal(one[name], other[name]), name


def interrupted(folder: Path, after: int, **changes: object) -> None:
    """A run that is stopped as by Ctrl-C after `after` steps."""

    def log(step: int, **numbers: object) -> None:
        if step + 1 == after:
            os.kill(os.getpid(), signal.SIGINT)

    said: list[str] = []
    trainer = Trainer(
        model(), next_token, Phase(name="only", loader=CyclingLoader(), steps=8), settings(**changes), folder
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.run(NullProgress(), log=log, say=said.append)
    assert any("same command" in sentence for sentence in said)


def test_ctrl_c_saves_and_the_same_command_goes_on(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    interrupted(tmp_path / "broken", 3)
    assert len(curve(tmp_path / "broken")) == 3
    train(tmp_path / "broken")
    assert curve(tmp_path / "broken") == curve(tmp_path / "whole")


def test_a_machine_without_kernels_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path, 3)
    state = checkpoint.newest_state(tmp_path / "training")
    other = None if state["kernels"] else native.library()
    monkeypatch.setattr(native, "library", lambda: other)
    said: list[str] = []
    phase = Phase(name="only", loader=CyclingLoader(), steps=8)
    result = Trainer(model(), next_token, phase, settings(), tmp_path).run(NullProgress(), say=said.append)
    assert result.steps == 8
    assert result.kernels is (other is not None)
    assert state["kernels"] is result.kernels or any("but for rounding" in sentence for sentence in said)


def test_resume_refuses_other_data(tmp_path: Path) -> None:
    interrupted(tmp_path, 3)
    with pytest.raises(HornbookError, match="other data"):
        train(tmp_path, loader=CyclingLoader(seed=1))


def test_resume_refuses_other_settings_and_names_them(tmp_path: Path) -> None:
    interrupted(tmp_path, 3)
    with pytest.raises(HornbookError, match=r"optimizer\.learning_rate was 0\.01, now 0\.02"):
        train(tmp_path, optimizer=OptimizerSettings(learning_rate=2e-2))
    with pytest.raises(HornbookError, match="9 steps"):
        train(tmp_path, 9)


def test_a_truncated_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    train(tmp_path / "whole")
    interrupted(tmp_path / "broken", 5, checkpoint_steps=2)
    newest, before = checkpoint.found(tmp_path / "broken" / "training")
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    said: list[str] = []
    Trainer(
        model(),
        next_token,
        Phase(name="only", loader=CyclingLoader(), steps=8),
        settings(checkpoint_steps=2),
        tmp_path / "broken",
    ).run(NullProgress(), say=said.append)
    assert any("cut off" in s and before.name in s for s in said)
    assert curve(tmp_path / "broken") == curve(tmp_path / "whole")


def test_a_finished_run_trains_no_further(tmp_path: Path) -> None:
    train(tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    result = train(tmp_path)
    assert result.steps == 8
    assert (tmp_path / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize("phase", ["first", "second"])
def test_a_run_killed_before_it_wrote_the_model_of_a_phase_writes_it(tmp_path: Path, phase: str) -> None:
    def run(folder: Path, dies: str = "") -> TrainResult:
        def save(trained: nn.Module, where: Path) -> None:
            ended = {4: "first", 8: "second"}[trainer.position.step]
            if ended == dies:
                raise MemoryError("no room for a copy")
            assert isinstance(trained, Decoder)
            save_checkpoint(trained, where / ended)

        trainer = Trainer(
            model(),
            next_token,
            [Phase(name=name, loader=CyclingLoader(), steps=4) for name in ("first", "second")],
            settings(),
            folder,
            validation=Validation({"x": [CyclingLoader().batch(99)]}, np.ones(32, np.int64)),
            save_model=save,
        )
        return trainer.run(NullProgress(), say=lambda sentence: None)

    whole = run(tmp_path / "whole")
    with pytest.raises(MemoryError):
        run(tmp_path / "broken", dies=phase)
    resumed = run(tmp_path / "broken")
    assert resumed.bits_per_byte == whole.bits_per_byte
    assert resumed.loss == whole.loss
    lines = [line for line in read(tmp_path / "broken" / "metrics.jsonl") if "loss" in line]
    assert resumed.seconds == pytest.approx(sum(line["seconds"] for line in lines))
    assert resumed.tokens_per_second == pytest.approx(resumed.tokens / resumed.seconds)
    for name in ("first", "second"):
        one, other = (load_checkpoint(tmp_path / run / name).state_dict() for run in ("whole", "broken"))
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_accumulation_equals_the_big_batch_with_ragged_masks(tmp_path: Path) -> None:
    """Rows with few and with many trained tokens: means of means would differ in the first digits."""

    class Ragged(CyclingLoader):
        def batch(self, step: int):
            batch = super().batch(step)
            for row in range(self.rows):
                batch.targets[row, : self.time * row // self.rows] = -100
            return batch

    class Half(Ragged):
        def batch(self, step: int):
            whole = super().batch(step // 2)
            half = slice(0, 2) if step % 2 == 0 else slice(2, 4)
            return type(whole)(
                *(getattr(whole, n)[half] for n in ("inputs", "targets", "document", "position"))
            )

    trained = {}
    for name, loader, changes in [
        ("whole", Ragged(), {}),
        ("micro", Ragged(), {"micro_rows": 1}),
        ("ragged micro", Ragged(), {"micro_rows": 3}),
        ("accumulated", Half(), {"accumulate": 2}),
    ]:
        decoder = model()
        train(tmp_path / name, 3, loader=loader, decoder=decoder, **changes)
        trained[name] = decoder.state_dict()
    reference = curve(tmp_path / "whole")
    for name in ("micro", "ragged micro", "accumulated"):
        assert curve(tmp_path / name) == pytest.approx(reference, rel=1e-5)
        for key, value in trained["whole"].items():
            torch.testing.assert_close(trained[name][key], value, rtol=1e-3, atol=2e-5)


def test_two_phases_share_a_loader_without_reading_it_twice(tmp_path: Path) -> None:
    seen: list[int] = []

    class Recording(CyclingLoader):
        def batch(self, step: int):
            seen.append(step)
            return super().batch(step)

    phases = [Phase(name=n, loader=Recording(), steps=3) for n in ("a", "b")]
    trainer = Trainer(model(), next_token, phases, settings(), tmp_path)
    seen.clear()
    trainer.run(NullProgress(), say=lambda s: None)
    assert seen[-6:] == [0, 1, 2, 3, 4, 5]


def test_learning_rates_follow_phases(tmp_path: Path) -> None:
    phases = [
        Phase(name="stable", loader=CyclingLoader(), steps=4, schedule=Schedule(kind="constant", warmup=2)),
        Phase(
            name="decay",
            loader=CyclingLoader(time=16),
            tokens=4 * 4 * 16,
            learning_rate=0.5,
            schedule=Schedule(kind="linear", warmup=0),
        ),
    ]
    Trainer(model(), next_token, phases, settings(), tmp_path).run(NullProgress(), say=lambda s: None)
    rates = [line["learning_rate"] for line in read(tmp_path / "metrics.jsonl")]
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.01, 0.005, 0.00375, 0.0025, 0.00125])


def test_checkpoint_is_written_before_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> dict[str, float]:
        raise MemoryError("evaluation needs more than there is")

    monkeypatch.setattr("hornbook.train.trainer.bits_per_byte", broken)
    validation = Validation({"x": [CyclingLoader().batch(99)]}, np.ones(32, np.int64))
    trainer = Trainer(
        model(),
        next_token,
        Phase(name="only", loader=CyclingLoader(), steps=4),
        settings(),
        tmp_path,
        validation=validation,
    )
    with pytest.raises(MemoryError):
        trainer.run(NullProgress(), say=lambda s: None)
    assert checkpoint.load(checkpoint.found(tmp_path / "training")[0]).state["position"]["step"] == 4
    load_checkpoint(tmp_path)


def test_validation_is_bits_per_byte_and_runs_once(tmp_path: Path) -> None:
    size = np.full(32, 2, np.int64)
    size[:4] = 0
    validation = Validation({"a": [CyclingLoader().batch(98)], "b": [CyclingLoader().batch(99)]}, size)

    def run() -> object:
        return Trainer(
            decoder,
            next_token,
            Phase(name="only", loader=CyclingLoader(), steps=4),
            settings(evaluate_steps=2),
            tmp_path,
            validation=validation,
        ).run(NullProgress(), say=lambda s: None)

    decoder = model()
    result = run()
    lines = [line for line in read(tmp_path / "metrics.jsonl") if "bits_per_byte" in line]
    assert [line["step"] for line in lines] == [2, 4]
    # By hand: plain log-softmax over all logits.
    nats = total = 0.0
    for step in (98, 99):
        batch = CyclingLoader().batch(step)
        with torch.no_grad():
            hidden = decoder(
                torch.from_numpy(batch.inputs),
                position=torch.from_numpy(batch.position),
                document=torch.from_numpy(batch.document),
            )
            log_p = torch.log_softmax(decoder.logits(hidden), -1).numpy()
        for row, column in np.ndindex(batch.targets.shape):
            target = batch.targets[row, column]
            if size[target]:
                nats -= log_p[row, column, target]
                total += size[target]
    assert result.bits_per_byte["all"] == pytest.approx(nats / np.log(2) / total, rel=1e-4)  # type: ignore[attr-defined]
    assert run() == result  # of a finished run: nothing is done again, and nothing is forgotten
    assert [line for line in read(tmp_path / "metrics.jsonl") if "bits_per_byte" in line] == lines


def test_printed_throughput_is_true(tmp_path: Path) -> None:
    def slow(decoder: torch.nn.Module, batch: object) -> Loss:
        time.sleep(0.05)
        return next_token(decoder, batch)  # type: ignore[arg-type]

    decoder = model()
    trainer = Trainer(
        decoder, slow, Phase(name="only", loader=CyclingLoader(), steps=10), settings(), tmp_path
    )
    stamps: list[float] = []
    result = trainer.run(
        NullProgress(), log=lambda **n: stamps.append(time.perf_counter()), say=lambda s: None
    )
    outside = 9 * 4 * 32 / (stamps[-1] - stamps[0])
    lines = read(tmp_path / "metrics.jsonl")
    assert result.tokens_per_second == pytest.approx(outside, rel=0.1)
    for line in lines:
        assert line["tokens_per_second"] == pytest.approx(line["tokens"] / line["seconds"])
    assert sum(line["seconds"] for line in lines[1:]) == pytest.approx(stamps[-1] - stamps[0], rel=0.1)


def test_a_bad_step_is_skipped_and_many_stop_the_run(tmp_path: Path) -> None:
    bad = {3}

    def faulty(decoder: torch.nn.Module, batch: object) -> Loss:
        loss = next_token(decoder, batch)  # type: ignore[arg-type]
        return Loss(loss.sum * float("nan"), loss.tokens) if trainer.position.step in bad else loss

    said: list[str] = []
    trainer = Trainer(
        model(),
        faulty,
        Phase(name="only", loader=CyclingLoader(), steps=8),
        settings(spike_stop=3),
        tmp_path / "a",
    )
    result = trainer.run(NullProgress(), say=said.append)
    assert result.skipped == 1
    assert any("step 3 skipped" in sentence and "nan" in sentence for sentence in said)
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())
    bad |= set(range(8))
    trainer = Trainer(
        model(),
        faulty,
        Phase(name="only", loader=CyclingLoader(), steps=8),
        settings(spike_stop=3),
        tmp_path / "b",
    )
    with pytest.raises(HornbookError, match="3 steps in a row"):
        trainer.run(NullProgress(), say=said.append)


def test_a_phase_of_other_data_is_no_spike(tmp_path: Path) -> None:
    """The last phase's loss is forgotten: data with another level of loss are learned, not refused."""
    easy = CyclingLoader(vocabulary=2, rows=8)
    hard = CyclingLoader(vocabulary=32, rows=8, seed=1)
    trainer = Trainer(
        model(),
        next_token,
        [Phase(name="easy", loader=easy, steps=80), Phase(name="hard", loader=hard, steps=15)],
        settings(spike_window=16, spike_stop=3),
        tmp_path,
    )
    losses: list[float] = []
    result = trainer.run(NullProgress(), log=lambda **numbers: losses.append(numbers["loss"]))
    assert losses[80] > 1.5 * max(losses[64:80])
    assert result.skipped == 0


def test_nan_weights_are_never_saved(tmp_path: Path) -> None:
    snapshot = checkpoint.Snapshot({"w": torch.tensor([1.0, float("nan")])}, {}, {}, {})
    with pytest.raises(HornbookError, match="weight w holds NaN"):
        checkpoint.save(tmp_path, 1, snapshot)
    assert not checkpoint.found(tmp_path)


def test_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    train(tmp_path, 8, checkpoint_steps=2)
    assert [path.name for path in checkpoint.found(tmp_path / "training")] == [
        "step-00000008",
        "step-00000006",
    ]


def test_state_is_json_without_pickle(tmp_path: Path) -> None:
    train(tmp_path, 2)
    files = {path.name for path in checkpoint.found(tmp_path / "training")[0].iterdir()}
    assert files == {"weights.safetensors", "optimizer.safetensors", "state.json"}
    json.loads((checkpoint.found(tmp_path / "training")[0] / "state.json").read_text())
