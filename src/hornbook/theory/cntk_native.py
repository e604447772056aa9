"""The compiled engine of the convolutional kernels: builds `cntk_native.c` once per machine and calls it.

Needs a C compiler (cc, gcc or clang, or the one that CC names); without one `available()` is False and
`hornbook.theory.cntk` uses its PyTorch engine. Numbers are float32, pooled sums float64.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LANES = 16
MAX_POOLS = 16
_SOURCE = Path(__file__).with_name("cntk_native.c")
# Not -ffast-math: linked into a library it would switch the whole process to flushing denormals.
_FLAGS: tuple[str, ...] = ("-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC")
_FLAGS += ("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-ffinite-math-only")

Floats = NDArray[np.float32]


def available() -> bool:
    """Whether the compiled engine can be used here."""
    return _library() is not None


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "hornbook"


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL | None:
    compiler = next((c for c in (os.environ.get("CC"), "cc", "gcc", "clang") if c and shutil.which(c)), None)
    if compiler is None or platform.system() == "Windows":
        return None
    name = f"cntk-{_fingerprint(compiler)}.so"
    for folder in (_cache(), Path(tempfile.gettempdir()) / f"hornbook-{os.getuid()}"):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if folder.stat().st_uid != os.getuid():
                continue  # a folder of someone else in the shared temporary place
            path = folder / name
            if not path.exists():
                _build(compiler, path)
            return _declared(ctypes.CDLL(str(path)))
        except (OSError, subprocess.SubprocessError):
            continue
    return None


def _fingerprint(compiler: str) -> str:
    """Changes with the source, the flags, the compiler and the processor that -march=native means."""
    try:
        cpu = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if "flags" in line.lower())
    except (OSError, StopIteration):
        cpu = platform.processor()
    parts = (_SOURCE.read_text(), " ".join(_FLAGS), compiler, platform.machine(), cpu)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _build(compiler: str, path: Path) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".so")
    os.close(handle)
    try:
        command = [compiler, *_FLAGS, "-o", temporary, str(_SOURCE), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    floats = np.ctypeslib.ndpointer(np.float32, flags="C_CONTIGUOUS")
    integers = np.ctypeslib.ndpointer(np.int32, flags="C_CONTIGUOUS")
    doubles = np.ctypeslib.ndpointer(np.float64, flags="C_CONTIGUOUS")
    number = ctypes.c_int
    library.cntk_rows.argtypes = [
        *[number] * 3,
        *[floats] * 6,
        number,
        integers,
        *[number] * 2,
        *[floats] * 2,
        integers,
        ctypes.c_float,
        *[number] * 5,
        doubles,
        floats,
    ]
    library.cntk_rows.restype = None
    library.cntk_scratch.argtypes = [number, number]
    library.cntk_scratch.restype = ctypes.c_size_t
    if library.cntk_lanes() != LANES:
        raise OSError("the compiled engine was built for another number of lanes")
    return library


def in_lanes(values: Floats) -> Floats:
    """(n, ...) to (blocks, ..., LANES); the last block is filled up with copies of the last image."""
    blocks = -(-len(values) // LANES)
    filled = values[np.minimum(np.arange(blocks * LANES), len(values) - 1)]
    laid = filled.reshape(blocks, LANES, *values.shape[1:])
    return np.ascontiguousarray(np.moveaxis(laid, 1, -1))


class NativeKernels:
    """One pair of image sets, ready to compute.

    Args:
        x, z: (n, channels, height, width) and (m, channels, height, width) float32.
        roots_x, roots_z: (n, layers, height, width) and (m, ...) square roots of the variances v_0, v_1, ...
        slot: (layers,) place of each layer's result, -1 where it is not wanted.
        weight_rows, weight_columns: (pools, height, height) and (pools, width, width), the counts n_c.
        reach: (pools,) largest displacement with a weight.
        bias: gamma^2.
    """

    def __init__(
        self,
        x: Floats,
        z: Floats,
        roots_x: Floats,
        roots_z: Floats,
        *,
        slot: NDArray[np.int32],
        weight_rows: Floats,
        weight_columns: Floats,
        reach: NDArray[np.int32],
        bias: float,
        threads: int,
    ) -> None:
        library = _library()
        if library is None:
            raise OSError("no C compiler was found, or it failed; use the engine 'torch'")
        if len(reach) > MAX_POOLS:
            raise ValueError(f"at most {MAX_POOLS} pooling sizes at a time, not {len(reach)}")
        self.library, self.threads, self.size = library, threads, len(z)
        self.shape = x.shape[1:]
        self.x, self.z = np.ascontiguousarray(x), in_lanes(z)
        self.roots_x, self.roots_z = np.ascontiguousarray(roots_x), in_lanes(roots_z)
        self.inverse_x, self.inverse_z = _inverse(self.roots_x), _inverse(self.roots_z)
        self.slot, self.slots = slot, int(slot.max()) + 1
        self.weight_rows, self.weight_columns, self.reach = weight_rows, weight_columns, reach
        self.bias = bias

    def rows(self, first: int, last: int, *, symmetric: bool = False) -> NDArray[np.float64]:
        """Kernels of x[first:last] with all of z: (slots, 2, pools, last - first, m).

        With `symmetric`, entries left of the diagonal's block may be 0.
        """
        pieces = list(range(first, last, max(1, (last - first) // (4 * self.threads))))
        with ThreadPoolExecutor(self.threads) as pool:
            spans = list(zip(pieces, [*pieces[1:], last]))
            blocks = len(self.z)
            done = list(pool.map(lambda span: self._cells(span[0], span[1], 0, blocks, symmetric), spans))
        cells = np.concatenate(done)  # (rows, blocks, slots, 2, pools, lanes)
        flat = cells.transpose(2, 3, 4, 0, 1, 5).reshape(*cells.shape[2:5], last - first, -1)
        return flat[..., : self.size]

    def pairs(self) -> NDArray[np.float64]:
        """Kernels of x[i] with z[i] alone, (slots, 2, pools, n): one block of lanes for each i."""
        cells = np.concatenate(
            [self._cells(i, i + 1, i // LANES, i // LANES + 1, False)[:, 0] for i in range(len(self.x))]
        )
        lane = np.arange(len(self.x)) % LANES
        return np.moveaxis(cells[np.arange(len(self.x)), ..., lane], 0, -1)

    def _cells(
        self, first: int, last: int, first_block: int, last_block: int, symmetric: bool
    ) -> NDArray[np.float64]:
        channels, height, width = self.shape
        pools = len(self.reach)
        out = np.zeros((last - first, last_block - first_block, self.slots, 2, pools, LANES))
        scratch = np.empty(self.library.cntk_scratch(height, width), np.float32)
        self.library.cntk_rows(
            channels,
            height,
            width,
            self.x,
            self.z,
            self.roots_x,
            self.inverse_x,
            self.roots_z,
            self.inverse_z,
            len(self.slot),
            self.slot,
            self.slots,
            pools,
            self.weight_rows,
            self.weight_columns,
            self.reach,
            self.bias,
            first,
            last,
            first_block,
            last_block,
            symmetric,
            out,
            scratch,
        )
        return out


def _inverse(roots: Floats) -> Floats:
    """1 / root, and 0 where the root is 0: a blank patch has the angle pi / 2 to everything and weight 0."""
    return np.divide(1, roots, out=np.zeros_like(roots), where=roots > 0)
