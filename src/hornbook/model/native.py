"""The kernels of `kernels.cpp` and `decode.cpp`: built once for this processor, loaded through ctypes,
optional.

Those of `kernels.cpp` serve inside `with active()`, which the trainer enters; everywhere else, and where
there is no compiler, a failed build, another device or HORNBOOK_NATIVE=0, the callers use their own torch
formulas. The build takes a few seconds, once on a machine, and is kept in the cache folder. Nothing here
raises because of a compiler.
"""

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("kernels.cpp")
FLAGS = (
    *("-O3", "-std=c++17", "-fPIC", "-shared", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math"),
    "-Wno-psabi",
)
BUILD_SECONDS = 120.0

PAIRS = (
    (torch.float32, torch.float32),
    (torch.float32, torch.bfloat16),
    (torch.bfloat16, torch.bfloat16),
)
"""(residual stream, products): the pairs of dtypes that the norm kernels know."""

_SUFFIX = {torch.float32: "f", torch.bfloat16: "h"}


_serving: list[ctypes.CDLL] = []  # the library while `active`, innermost last


@contextmanager
def active() -> Iterator[bool]:
    """The kernels serve inside this context, if they can be had; yields whether they do."""
    loaded = library()
    if loaded is None:
        yield False
        return
    _serving.append(loaded)
    try:
        yield True
    finally:
        _serving.pop()


def available(*tensors: Tensor) -> bool:
    """Whether the kernels serve these tensors: they are active, on the CPU, fp32 or bf16."""
    return bool(_serving) and all(x.device.type == "cpu" and x.dtype in _SUFFIX for x in tensors)


def call(name: str, dtype: torch.dtype, *arguments: Any, stream: torch.dtype | None = None) -> None:
    """Calls kernel `name` for `dtype`; tensors must be contiguous, None is a null pointer.

    stream: the dtype of the residual stream, for kernels that come in pairs of dtypes. The last argument of
    every kernel, the number of threads, is added here.
    """
    suffix = _SUFFIX[dtype] if stream in (None, dtype) else "m"
    function = getattr(_serving[-1], f"{name}_{suffix}")
    values: list[Any] = []
    for value in arguments:
        if isinstance(value, Tensor):
            if not value.is_contiguous():
                raise ValueError(f"an argument of {name} is not contiguous")
            values.append(ctypes.c_void_p(value.data_ptr()))
        elif isinstance(value, float):
            values.append(ctypes.c_float(value))
        elif isinstance(value, bool):
            values.append(ctypes.c_int(value))
        elif isinstance(value, int):
            values.append(ctypes.c_int64(value))
        else:
            values.append(ctypes.c_void_p(None))
    function(*values, ctypes.c_int(torch.get_num_threads()))


@functools.cache
def library() -> ctypes.CDLL | None:
    """The loaded kernels; None when they cannot be had. Asked once per process."""
    loaded = load(SOURCE)
    return loaded if loaded is not None and _right(loaded) else None


def load(source: Path, *extra: str) -> ctypes.CDLL | None:
    """The library of one C++ file, built where it is not yet; None when it cannot be had.

    The file has `use_threads`, which is told torch's pool of threads. extra: compiler flags (tests build for
    lesser processors with them).
    """
    if os.environ.get("HORNBOOK_NATIVE") == "0":
        return None
    with suppress(OSError, subprocess.SubprocessError):
        path = _built(source, extra)
        if path is not None:
            loaded = ctypes.CDLL(str(path))
            loaded.use_threads(*_openmp())
            return loaded
    return None


def _right(loaded: ctypes.CDLL) -> bool:
    """A miscompiled library is not used: one kernel against its formula."""
    x, out = torch.linspace(-9, 9, 64), torch.empty(32)
    places = (ctypes.c_void_p(t.data_ptr()) for t in (x, out))
    loaded.swiglu_forward_f(*places, ctypes.c_int64(1), ctypes.c_int64(32), ctypes.c_int(1))
    return torch.allclose(out, torch.nn.functional.silu(x[:32]) * x[32:], rtol=1e-5, atol=1e-6)


def _built(source: Path, extra: tuple[str, ...]) -> Path | None:
    """The shared library for this source, compiler and processor; None without a compiler."""
    from hornbook.lab.machine import cache_folder, cpu_flags, cxx_compiler

    compiler = cxx_compiler()
    if compiler is None or os.name != "posix":
        return None
    flags = sorted(cpu_flags())
    for_here = ["-mcpu=native"] if platform.machine() in ("arm64", "aarch64") else ["-march=native"]
    if "avx512f" in flags:
        for_here.append("-mprefer-vector-width=512")
    release = subprocess.run([compiler, "--version"], capture_output=True, timeout=BUILD_SECONDS, check=True)
    for_here += extra
    parts = [source, *sorted(source.parent.glob("*.h"))]
    identity = hashlib.sha256(b"".join(part.read_bytes() for part in parts) + release.stdout)
    identity.update(" ".join([*FLAGS, *for_here, platform.platform(), *flags]).encode())
    path = cache_folder() / "kernels" / f"{identity.hexdigest()[:24]}.so"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / "kernels.so"
        command = [compiler, *FLAGS, *for_here, str(source), "-o", str(made)]
        subprocess.run(command, capture_output=True, timeout=BUILD_SECONDS, check=True)
        os.replace(made, path)
    return path


def _openmp() -> tuple[ctypes.c_void_p | None, ...]:
    """The entry points of the OpenMP library torch runs on, so that two pools never fight for the cores."""
    nothing = (None, None, None)
    with suppress(OSError, AttributeError):
        paths = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
        for path in sorted(path for path in paths if "omp" in Path(path).name and ".so" in path):
            pool = ctypes.CDLL(path)
            found = (pool.GOMP_parallel, pool.omp_get_thread_num, pool.omp_get_num_threads)
            return tuple(ctypes.cast(function, ctypes.c_void_p) for function in found)
    return nothing
