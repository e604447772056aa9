"""Real gloo ranks on the CPU: FSDP2 gives the numbers of one process, and any number of ranks goes on."""

import json
import multiprocessing
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from small_training import CyclingLoader, tiny_config

from hornbook.data.tokenizer import Tokenizer
from hornbook.data.tokens import TokenWriter
from hornbook.errors import HornbookError
from hornbook.lab.progress import NullProgress
from hornbook.lab.run import Run
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.model.decoder import Decoder
from hornbook.model.hf import load_checkpoint
from hornbook.train import checkpoint
from hornbook.train.metrics import read
from hornbook.train.objectives import next_token
from hornbook.train.pretrain import PhasePlan, pretrain
from hornbook.train.settings import OptimizerSettings, Phase, TrainSettings
from hornbook.train.trainer import Trainer
from hornbook.train.validation import Validation

STEPS = 6


def on_ranks(size: int, folder: Path, work: Callable[[], None]) -> list[str]:
    """Runs `work` on `size` gloo ranks (forked: torch is loaded already); what each rank raised, or ""."""
    import torch._dynamo  # FSDP2 wants these; loaded here once, not by every rank anew
    import torch.distributed.checkpoint.hf_storage
    import torch.distributed.fsdp

    store = folder / f"store-{len(list(folder.glob('store-*')))}"
    context = multiprocessing.get_context("fork")
    said = [context.SimpleQueue() for _ in range(size)]

    def rank(number: int) -> None:
        error = ""
        try:
            torch.set_num_threads(1)
            dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=size)
            work()
            dist.barrier()
        except BaseException:
            error = traceback.format_exc()
        said[number].put(error)
        os._exit(0)

    processes = [context.Process(target=rank, args=(number,)) for number in range(size)]
    for process in processes:
        process.start()
    errors = [queue.get() for queue in said]
    for process in processes:
        process.join()
    return errors


def train(
    folder: Path,
    *,
    kind: str = "adamw",
    stop_at: int = STEPS,
    sharding: str = "full",
    validation: bool = False,
    rows: int = 4,
    **changes: object,
) -> None:
    """Trains to STEPS; with `stop_at` the "user" presses Ctrl-C after that step."""
    torch.manual_seed(1 + (dist.get_rank() if dist.is_initialized() else 0))  # rank 0's weights count
    model = Decoder(tiny_config(**changes))
    settings = TrainSettings(
        optimizer=OptimizerSettings(kind=kind, learning_rate=1e-2),  # type: ignore[arg-type]
        sharding=sharding,  # type: ignore[arg-type]
        processes=1,
        precision="fp32",
        compile="off",
        checkpoint_seconds=0,
    )
    loader = CyclingLoader(rows=rows, masked=0.5)
    held_out = Validation({"all of it": [loader.batch(99)]}, torch.ones(32, dtype=torch.long).numpy())
    trainer = Trainer(
        model,
        next_token,
        Phase(name="only", loader=loader, steps=STEPS),
        settings,
        folder,
        validation=held_out if validation else None,
    )

    def watch(step: int, **_: object) -> None:
        if step + 1 == stop_at:
            trainer._stop = True

    try:
        trainer.run(NullProgress(), watch, say=lambda sentence: None)
    except KeyboardInterrupt:
        assert stop_at < STEPS


def curve(folder: Path) -> list[float]:
    return [line["loss"] for line in read(folder / "metrics.jsonl") if "loss" in line]


def same_weights(one: Path, other: Path) -> None:
    first, second = load_checkpoint(one).state_dict(), load_checkpoint(other).state_dict()
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_two_ranks_give_the_loss_of_one(tmp_path: Path, kind: str) -> None:
    """Masks are ragged, so a mean over ranks instead of a sum over tokens would show."""
    train(tmp_path / "one", kind=kind, validation=True)
    for sharding in ("full", "replicated"):
        place = tmp_path / sharding

        def work(place: Path = place, sharding: str = sharding) -> None:
            train(place, kind=kind, sharding=sharding, validation=True)

        assert on_ranks(2, tmp_path, work) == ["", ""]
        assert curve(place) == pytest.approx(curve(tmp_path / "one"), rel=1e-4)
        same_weights(tmp_path / "one", place)
        scores = [
            [line["bits_per_byte"]["all"] for line in read(f / "metrics.jsonl") if "bits_per_byte" in line]
            for f in (place, tmp_path / "one")
        ]
        assert scores[0] == pytest.approx(scores[1], rel=1e-4)
        assert len(scores[0]) == 1


@pytest.mark.parametrize(("kind", "paths"), [("adamw", ([2, 1], [1, 2])), ("muon", ([2, 4],))])
def test_saved_on_two_resumed_on_one_and_on_four_and_saved_on_one_resumed_on_two(
    tmp_path: Path, kind: str, paths: tuple[list[int], ...]
) -> None:
    """Three attention heads of three matrices: rows that do not divide evenly among the ranks."""
    shape = {"hidden_size": 48, "heads": 3, "intermediate_size": 40}
    train(tmp_path / "whole", kind=kind, **shape)
    expected = curve(tmp_path / "whole")

    def run(size: int, place: str, stop_at: int) -> None:
        def work() -> None:
            train(tmp_path / place, kind=kind, stop_at=stop_at, **shape)

        if size == 1:
            work()
        else:
            assert on_ranks(size, tmp_path, work) == [""] * size
        files = sorted(path.name for path in checkpoint.found(tmp_path / place / "training")[0].iterdir())
        assert len([name for name in files if name.endswith("safetensors")]) == max(2, size)

    for path in paths:
        place = "-".join(map(str, path))
        run(path[0], place, 3)
        run(path[1], place, STEPS)
        assert curve(tmp_path / place) == pytest.approx(expected, rel=1e-4), path
        same_weights(tmp_path / "whole", tmp_path / place)


def test_two_ranks_stopped_and_resumed_are_two_ranks_unstopped_bit_for_bit(tmp_path: Path) -> None:
    def once() -> None:
        train(tmp_path / "whole")

    def twice() -> None:
        train(tmp_path / "broken", stop_at=3)
        train(tmp_path / "broken")

    assert on_ranks(2, tmp_path, once) == ["", ""]
    assert on_ranks(2, tmp_path, twice) == ["", ""]
    first, second = (load_checkpoint(tmp_path / name).state_dict() for name in ("whole", "broken"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert curve(tmp_path / "whole") == curve(tmp_path / "broken")


def test_a_piece_that_was_changed_or_lost_is_named_and_the_checkpoint_before_taken(tmp_path: Path) -> None:
    assert on_ranks(2, tmp_path, lambda: train(tmp_path / "run", stop_at=2)) == ["", ""]
    assert on_ranks(2, tmp_path, lambda: train(tmp_path / "run", stop_at=4)) == ["", ""]
    newest, older = checkpoint.found(tmp_path / "run" / "training")
    piece = next(newest.glob("*00002*.safetensors"))
    data = bytearray(piece.read_bytes())
    data[-1] ^= 1
    piece.write_bytes(data)
    said: list[str] = []
    found = checkpoint.newest_whole(tmp_path / "run" / "training", said.append)
    assert found is not None
    assert found[0] == older
    assert piece.name in said[0]
    next(older.glob("*00001*.safetensors")).unlink()
    with pytest.raises(HornbookError, match="missing"):
        checkpoint.newest_whole(tmp_path / "run" / "training", said.append)
    assert json.loads((newest / "state.json").read_text())["processes"] == 2


def test_rows_that_ranks_cannot_share_are_refused_on_every_rank(tmp_path: Path) -> None:
    errors = on_ranks(2, tmp_path, lambda: train(tmp_path / "run", rows=3))
    assert all("3 rows a batch, which 2 processes" in error for error in errors)


def recipe(home: Path, data: Path) -> None:
    """Two steps: one that all ranks take part in, one that trains on rank 0 while the others wait."""
    run = Run(home, recipe="tiny", scale="smoke", settings={}, quiet=True)
    settings = TrainSettings(precision="fp32", processes=1, sharding="replicated", checkpoint_seconds=0)
    phase = PhasePlan(name="only", mixture={"it": 1.0}, tokens=6 * 4 * 16, rows=4, time=16)
    raised = run.step(
        pretrain,
        model=tiny_config(vocab_size=300),
        tokens={"it": data / "tokens"},
        phases=[phase],
        settings=settings,
        tokenizer=data / "tokenizer",
        validation={"it": data / "tokens"},
    )
    run.step(tune, start=raised)


@step(makes="checkpoint")
def tune(ctx: StepContext, *, start: Artifact) -> dict[str, float]:
    """In a worker, as some steps train: it finds torchrun's variables in its environment but is alone."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(train, ctx.folder).result()
    return {"loss": curve(ctx.folder)[-1]}


def test_torchrun_runs_a_recipe(tmp_path: Path) -> None:
    """The trainer joins the group that torchrun describes; nothing else has to be called. What is no matter
    of all ranks is done by rank 0, which then trains alone and waits for nobody.

    (Replicated, because importing what FSDP2 needs takes each rank three seconds.)
    """
    text = "The fox saw a red ball near the old tree. It ran home and told its mother about it. "
    tokenizer = Tokenizer.train([text * 20], 300, tmp_path / "tokenizer")
    with TokenWriter(tmp_path / "tokens", 300) as writer:
        for _ in range(20):
            writer.write(tokenizer.encode(text * 3))
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_sharded import recipe\n"
        f"recipe(Path({str(tmp_path / 'two')!r}), Path({str(tmp_path)!r}))\n"
    )
    recipe(tmp_path / "one", tmp_path)
    runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*runner, str(script)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    facts = [
        {
            p.name: json.loads((p / "step.json").read_text())["facts"]
            for p in sorted((tmp_path / home / "steps").glob("*-*"))
        }
        for home in ("one", "two")
    ]
    assert list(facts[0]) == list(facts[1])
    for name, one in facts[0].items():
        assert facts[1][name]["loss"] == pytest.approx(one["loss"], rel=1e-4), name
    [raised] = [one for name, one in facts[1].items() if name.startswith("pretrain")]
    assert raised["processes"] == 2
    [folder] = (tmp_path / "two" / "steps").glob("pretrain-*")
    assert sorted(path.name for path in (folder / "model").iterdir() if path.name == "tokenizer.json")
