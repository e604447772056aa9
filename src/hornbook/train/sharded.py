"""One model over many devices: FSDP2, and a checkpoint that each rank writes its part of.

Under torchrun every rank holds its rows of every parameter, its gradient and its optimizer; a layer is
gathered when it is needed and let go after (Zhao et al. 2023; stage 3 of Rajbhandari et al. 2020). The files
are safetensors, written by torch's distributed checkpoint: no pickle, and any number of ranks reads them.
"""

import copy
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hornbook.errors import HornbookError
from hornbook.lab.files import disk_guard, sha256_file
from hornbook.train import checkpoint
from hornbook.train.parallel import World, held, whole


class Shards:
    """A model whose parameters lie in pieces over the ranks of the default process group.

    Args:
        model: the same on every rank (weights are taken from rank 0); changed in place.
        dtype: of the products. On CUDA with bf16 the gathered weights are bf16 too, gradients are added in
            fp32; elsewhere gathered weights are fp32 and autocast rounds them.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

        self.model = model
        self._skeleton = _without_numbers(model)
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor.detach(), 0)
        device = next(model.parameters()).device
        policy = MixedPrecisionPolicy()
        if device.type == "cuda" and dtype == torch.bfloat16:
            policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
        # No objective writes into hidden states, which is what this warns of.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
        decoder: Any = getattr(model, "decoder", model)
        for part in (*getattr(decoder, "layers", ()), decoder, model):
            if not isinstance(part, FSDPModule):
                fully_shard(part, mp_policy=policy)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                # The trainer divides by the trained tokens of all ranks: gradients are added, not averaged.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    def norm(self, gradients: Sequence[Tensor]) -> float:
        """The norm of all gradients over all ranks."""
        return float(whole(torch.nn.utils.get_total_norm(gradients)))

    def whole_model(self) -> nn.Module | None:
        """The model with all its numbers, on the CPU; on rank 0, None elsewhere. All ranks must ask."""
        first = dist.get_rank() == 0
        state: dict[str, Tensor] = {}
        for name, tensor in self.model.state_dict().items():
            full = whole(tensor)
            if first:
                state[name] = full.cpu()
        if not first:
            return None
        model = copy.deepcopy(self._skeleton)
        model.load_state_dict(state, assign=True)
        return model


def save(folder: Path, step: int, snapshot: checkpoint.Snapshot, world: World) -> Path:
    """As `checkpoint.save`, every rank writing what it holds: `folder/step-<step>` is whole or not there.

    Raises:
        HornbookError: on every rank, when the disk is full or a weight is not finite.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save as save_pieces

    bad = torch.tensor(float(any(not torch.isfinite(held(w)[0]).all() for w in snapshot.weights.values())))
    world.sum(bad)
    if bad:
        raise HornbookError(
            f"A weight holds NaN or infinity at step {step}; nothing was saved. The last good checkpoint is "
            f"under {folder}."
        )
    partial = folder / f".step-{step:08d}.ranks.partial"
    if world.rank == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    world.barrier()
    random = {checkpoint.RNG + device: state for device, state in snapshot.random.items()}
    tensors = {name: tensor.detach() for name, tensor in (snapshot.weights | snapshot.optimizer).items()}
    try:
        with _quiet():
            writer = HuggingFaceStorageWriter(str(partial), save_distributed=True)
            save_pieces({**tensors, **random}, storage_writer=writer)
    except Exception as error:  # torch wraps what every rank met
        raise _said(error, folder) from None
    files = sorted(path.name for path in partial.glob("*.safetensors"))
    mine = {name: sha256_file(partial / name) for name in files[world.rank :: world.size]}
    hashes: list[dict[str, str]] = [{}] * world.size
    dist.all_gather_object(hashes, mine)
    final = folder / f"step-{step:08d}"
    if world.rank == 0:
        with disk_guard(folder):
            together = {name: value for part in hashes for name, value in sorted(part.items())}
            checkpoint.complete(partial, final, step, together, snapshot.state)
        checkpoint.sweep(folder)
    world.barrier()
    return final


def load(path: Path, model: nn.Module, optimizer_tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reads a checkpoint into pieces: the model's in place; returns the optimizer's, by name.

    optimizer_tensors: one like each tensor wanted, in the pieces it is wanted in. Any number of ranks, or one
    process alone, may have written the checkpoint.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load as load_pieces

    reader = HuggingFaceStorageReader(str(path))
    there = reader.read_metadata().state_dict_metadata
    wanted = {name: torch.zeros_like(tensor) for name, tensor in optimizer_tensors.items() if name in there}
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    with _quiet():
        load_pieces({**weights, **wanted}, storage_reader=HuggingFaceStorageReader(str(path)))
    return wanted


def _without_numbers(model: nn.Module) -> nn.Module:
    """A copy with parameters and buffers on the meta device; the model's own are not copied on the way."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = buffer.to("meta")
    return copy.deepcopy(model, memo)


def _said(error: Exception, folder: Path) -> Exception:
    """A full disk as a sentence; anything else as it is."""
    from hornbook.lab.files import disk_full_sentence, is_disk_full

    inner = [wrapped[0] for wrapped in getattr(error, "failures", {}).values()]
    for cause in (error, *inner):
        if isinstance(cause, OSError) and is_disk_full(cause):
            return HornbookError(disk_full_sentence(folder, cause))
    return error


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch warns of things that are meant here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
