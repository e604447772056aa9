"""Exact resume: weights, optimizer, position, RNG and guard, whole or not there.

`training/step-00000120/` holds `weights.safetensors`, `optimizer.safetensors` and `state.json`, which carries
the SHA-256 of both. A checkpoint is written under another name and renamed when complete, the last two
are kept, and nothing is ever unpickled.
"""

import json
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.lab.files import disk_guard, sha256_file, sync_folder, write_atomic

KEEP = 2
_FORMAT = 1
_WEIGHTS, _OPTIMIZER, _STATE = "weights.safetensors", "optimizer.safetensors", "state.json"
RNG = "_rng."
"""Before the device's name in the names of RNG states."""


@dataclass(frozen=True)
class Snapshot:
    """Everything a checkpoint holds. `state` is JSON; `random` are RNG states by device (uint8)."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    random: dict[str, Tensor]
    state: Mapping[str, Any]


def random_state() -> dict[str, Tensor]:
    """The states of torch's generators, by device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def set_random_state(states: Mapping[str, Tensor]) -> None:
    """Puts back what `random_state` gave (states of devices that are not here are left out)."""
    for device, state in states.items():
        if device == "cpu":
            torch.set_rng_state(state)
        elif torch.cuda.is_available() and int(device[4:]) < torch.cuda.device_count():
            torch.cuda.set_rng_state(state, int(device[4:]))


def save(folder: Path, step: int, snapshot: Snapshot) -> Path:
    """Writes `folder/step-<step>` atomically, then removes all but the newest `KEEP`.

    Raises:
        HornbookError: when the disk is full (older checkpoints are still there), or a weight is not finite.
    """
    from safetensors.torch import save_file

    for name, weight in snapshot.weights.items():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise HornbookError(
                f"The weight {name} holds NaN or infinity at step {step}; nothing was saved. The last good "
                f"checkpoint is under {folder}."
            )
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:08d}"
    partial = folder / f".step-{step:08d}.{os.getpid()}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk_guard(folder):
            partial.mkdir()
            random = {RNG + device: state for device, state in snapshot.random.items()}
            save_file(_flat(snapshot.weights), partial / _WEIGHTS)
            save_file(_flat(snapshot.optimizer) | random, partial / _OPTIMIZER)
            hashes = {name: sha256_file(partial / name) for name in (_WEIGHTS, _OPTIMIZER)}
            complete(partial, final, step, hashes, snapshot.state)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sweep(folder)
    return final


def complete(
    partial: Path, final: Path, step: int, hashes: Mapping[str, str], state: Mapping[str, Any]
) -> None:
    """Puts the state beside the tensor files named in `hashes` and gives the folder its name."""
    whole = {"format": _FORMAT, "step": step, "sha256": dict(hashes), **state}
    write_atomic(partial / _STATE, json.dumps(whole, indent=1))
    for name in hashes:
        _sync(partial / name)
    if final.exists():
        shutil.rmtree(final)
    os.replace(partial, final)
    sync_folder(final.parent)


def sweep(folder: Path) -> None:
    """Removes all checkpoints but the newest `KEEP`, and what was left half written."""
    for old in found(folder)[KEEP:]:
        shutil.rmtree(old, ignore_errors=True)
    for stale in folder.glob(".step-*.partial"):
        shutil.rmtree(stale, ignore_errors=True)


def found(folder: Path) -> list[Path]:
    """The checkpoints under `folder`, newest first."""
    return sorted((p for p in folder.glob("step-*") if p.is_dir()), reverse=True)


def newest_state(folder: Path) -> dict[str, Any]:
    """What the newest checkpoint says of itself, without reading its tensors; empty when it says nothing."""
    for path in found(folder):
        try:
            state = json.loads((path / _STATE).read_text())
        except (OSError, ValueError):
            continue
        if isinstance(state, dict):
            return state
    return {}


def newest_whole(folder: Path, say: Callable[[str], None]) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint that is whole and what it says of itself; None when there is none at all.

    A damaged one is named through `say` and the one before it is taken.

    Raises:
        HornbookError: when there are checkpoints but none can be read.
    """
    candidates = found(folder)
    for place, path in enumerate(candidates):
        try:
            return path, check(path)
        except HornbookError as error:
            if place + 1 == len(candidates):
                raise
            say(f"{error} Going back to {candidates[place + 1].name}.")
    return None


def load(path: Path) -> Snapshot:
    """Reads one checkpoint and checks it against its hashes.

    Raises:
        HornbookError: naming the file that is missing, cut off or changed.
    """
    return read(path, check(path))


def read(path: Path, state: Mapping[str, Any]) -> Snapshot:
    """The tensors of a checkpoint that `check` found whole, put together where several ranks wrote them."""
    from safetensors.torch import load_file

    if set(state["sha256"]) == {_WEIGHTS, _OPTIMIZER}:
        weights, rest = load_file(path / _WEIGHTS), load_file(path / _OPTIMIZER)
    else:
        together = _put_together(path)
        weights, rest = {}, {}
        for name, value in together.items():
            (rest if is_not_weight(name) else weights)[name] = value
    random = {name.removeprefix(RNG): value for name, value in rest.items() if name.startswith(RNG)}
    optimizer = {name: value for name, value in rest.items() if not name.startswith(RNG)}
    return Snapshot(weights, optimizer, random, state)


def check(path: Path) -> dict[str, Any]:
    """The state of one checkpoint, when all its files are there and whole.

    Raises:
        HornbookError: naming the file that is missing, cut off or changed.
    """
    try:
        state = json.loads((path / _STATE).read_text())
        hashes, version = state["sha256"], state["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HornbookError(
            f"The checkpoint {path} is damaged: {_STATE} cannot be read ({error})."
        ) from error
    if version != _FORMAT:
        raise HornbookError(
            f"The checkpoint {path} has format {version}; this version of Hornbook reads {_FORMAT}."
        )
    for name, digest in hashes.items():
        file = path / name
        if not file.is_file():
            raise HornbookError(f"The checkpoint {path} is damaged: {name} is missing.")
        if sha256_file(file) != digest:
            raise HornbookError(f"The checkpoint {path} is damaged: {name} is cut off or was changed.")
    return dict(state)


def is_not_weight(name: str) -> bool:
    """Whether a tensor in the files of several ranks is the optimizer's or a generator's."""
    return name.startswith(RNG) or name.rpartition(".")[2] in ("first", "second", "step", "momentum")


def _put_together(path: Path) -> dict[str, Tensor]:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load as load_pieces

    described: Any = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    tensors = {name: torch.empty(m.size, dtype=m.properties.dtype) for name, m in described.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there is no process group: there need not be one
        load_pieces(tensors, storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)
    return tensors


def _flat(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous().cpu() for name, value in tensors.items()}


def _sync(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
