"""In which numbers to compute, on what memory, and whether a compiler pays."""

import ctypes
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Literal

import torch

from hornbook.errors import HornbookError


def compute_dtype(precision: Literal["auto", "bf16", "fp32"], device: torch.device) -> torch.dtype:
    """bf16 where the hardware multiplies it, fp32 elsewhere; weights stay fp32 either way.

    Raises:
        HornbookError: when bf16 is asked for by name and the device has none.
    """
    if precision == "fp32":
        return torch.float32
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported()
    elif device.type == "cpu":
        able = _cpu_bf16()
    else:
        able = device.type == "mps"
    if able:
        return torch.bfloat16
    if precision == "bf16" and device.type == "cuda":
        raise HornbookError('precision is "bf16" but this GPU has no bf16; use "auto" or "fp32".')
    return torch.bfloat16 if precision == "bf16" else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Matrix products in `dtype`; everything that needs fp32 stays there."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def keep_freed_memory() -> None:
    """Tells the C library to keep freed blocks for this process (Linux with glibc; nothing elsewhere).

    By default every large tensor is a fresh mapping that the kernel clears page by page, hundreds of times a
    step: 2 to 10 % of the time of a small model.
    """
    if sys.platform != "linux":
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(mmap_max, 0)
        library.mallopt(trim_threshold, 2**31 - 1)
        library.mallopt(top_pad, 64 << 20)


def _cpu_bf16() -> bool:
    from hornbook.lab.machine import cpu_has_bf16

    return cpu_has_bf16()
