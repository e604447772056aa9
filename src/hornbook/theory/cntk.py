"""CNN-GP and CNTK with local average pooling (Li, Wang, Yu, Du, Hu, Salakhutdinov, Arora 2019, 1911.00809).

The networks: L convolutions of 3 x 3, stride 1, zero padding 1, ReLU; then a readout over all pixels (pool
0), over local averages of (2c + 1)^2 pixels (LAP, pool c), or over the global average (GAP). With many
channels the network before training is a Gaussian process with kernel CNN-GP, and training it by gradient
descent is regression with the kernel CNTK. With the window sum (B K)[i, j, i', j'] = sum over a, b in
{-1, 0, 1} of K[i + a, j + b, i' + a, j' + b] (section 3.1 and appendix A of the paper):

    S = B(x x') + gamma^2,  T = S;  for every layer, with r = S / sqrt(v v'):
    K  = sqrt(v v') (sqrt(1 - r^2) + r (pi - acos r)) / (9 pi),   N = T (pi - acos r) / (9 pi) + K,
    S <- B K + gamma^2,   T <- B N + gamma^2,

and the kernels at depth h are pooled sums of that layer's K (CNN-GP) and N (CNTK); the last layer has no B.
One pass gives all depths, both kernels and all pools.
"""

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hornbook.errors import HornbookError
from hornbook.lab.files import write_atomic
from hornbook.lab.machine import memory_available
from hornbook.theory import cntk_native

Padding = Literal["zero", "circular"]
KERNELS = ("cnn-gp", "cntk")
"""The order of the second index of every result."""


@dataclass(frozen=True, kw_only=True)
class CntkSettings:
    """Which kernels to compute.

    depths:  numbers of convolution layers, ascending; the deepest decides the cost.
    pools:   values of c; 0 is no pooling, c >= max(height, width) - 1 is GAP up to a constant.
    bias:    gamma, the scale of the biases (0 in the ablations, 3 with patch features).
    padding: "zero" (the experiments) or "circular" (theorem 4.1; PyTorch engine only).
    engine:  "native" (compiled, float32, CPU), "triton" (float32, CUDA), "torch" (any device and float64);
             "auto" takes the first that can.
    threads: of the native engine; 0 takes all processors of this process.
    """

    depths: tuple[int, ...] = (5,)
    pools: tuple[int, ...] = (0,)
    bias: float = 0.0
    padding: Padding = "zero"
    engine: Literal["auto", "native", "triton", "torch"] = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        for name in ("depths", "pools"):
            values = getattr(self, name)
            least = 1 if name == "depths" else 0
            if not values or sorted(set(values)) != list(values) or values[0] < least:
                raise HornbookError(
                    f"{name} is {values}; it must be ascending whole numbers from {least}, each once."
                )
        if len(self.pools) > cntk_native.MAX_POOLS:
            raise HornbookError(
                f"pools has {len(self.pools)} values; at most {cntk_native.MAX_POOLS} fit a pass."
            )
        if not self.bias >= 0:
            raise HornbookError(f"bias is {self.bias}; it must be 0 or more.")
        for name, choices in (
            ("padding", ("zero", "circular")),
            ("engine", ("auto", "native", "triton", "torch")),
        ):
            if getattr(self, name) not in choices:
                raise HornbookError(f"{name} is {getattr(self, name)!r}; accepted are {', '.join(choices)}.")
        if self.engine in ("native", "triton") and self.padding == "circular":
            raise HornbookError(
                f"engine {self.engine!r} knows zero padding only; use engine 'torch' for circular."
            )

    @property
    def layers(self) -> int:
        """Layers of the deepest kernel."""
        return self.depths[-1]

    def resolved_engine(self, x: Tensor) -> str:
        """The engine that "auto" means for these images."""
        if self.engine != "auto":
            return self.engine
        if x.dtype != torch.float32 or self.padding != "zero":
            return "torch"
        if x.device.type == "cuda" and find_spec("triton") is not None:
            return "triton"
        return "native" if x.device.type == "cpu" and cntk_native.available() else "torch"


def kernel_matrices(
    x: Tensor,
    z: Tensor | None = None,
    settings: CntkSettings | None = None,
    *,
    progress: Callable[[int], None] | None = None,
    rows: int = 64,
    folder: Path | None = None,
) -> Tensor:
    """Kernels of every image of x with every image of z, (depths, 2, pools, n, m) float64, on the CPU.

    x: (n, channels, height, width); z: (m, ...) or None for x itself, which takes half the work. The second
    index is CNN-GP, CNTK. progress: called with the number of pairs done, every `rows` images of x.
    folder: where each finished block of rows is kept, and found again after an interruption (killed in the
    middle, a computation loses one block); blocks of other images or settings are not taken for these.

    Raises:
        HornbookError: images that do not fit each other or are not finite, or too little memory.
    """
    settings = settings or CntkSettings()
    symmetric = z is None
    z = x if z is None else z
    check_images(x, z)
    numbers = len(settings.depths) * 2 * len(settings.pools) * len(x) * len(z)
    # The result, its blocks, and for a symmetric one its upper triangle.
    needed, free = numbers * 8 * (3 if symmetric else 2), memory_available()
    if needed > free:
        raise HornbookError(
            f"kernels of {len(x)} with {len(z)} images take {needed / 1e6:,.1f} MB of memory and "
            f"{free / 1e6:,.1f} MB are free. Compute fewer depths or pools at a time, or blocks of images."
        )
    compute = _engine(x, z, settings, symmetric)
    key = _fingerprint(x, z, settings, symmetric) if folder is not None else ""
    parts = []
    for first in range(0, len(x), rows):
        last = min(len(x), first + rows)
        parts.append(_kept(folder, f"{key}-{first}-{last}.npy", lambda: compute(first, last)))  # noqa: B023
        if progress is not None:
            left_out = sum(range(first, last)) if symmetric else 0
            progress((last - first) * len(z) - left_out)
    whole = torch.cat(parts, dim=3)
    if symmetric:
        upper = torch.triu(whole)
        whole = upper + torch.triu(whole, 1).mT
    return whole


def _fingerprint(x: Tensor, z: Tensor, settings: CntkSettings, symmetric: bool) -> str:
    """Names the images and everything in the settings that decides the numbers."""
    decisive = (settings.depths, settings.pools, settings.bias, settings.padding, symmetric)
    digest = hashlib.sha256(f"{decisive} {x.dtype}{tuple(x.shape)} {tuple(z.shape)}".encode())
    for images in (x,) if symmetric else (x, z):
        digest.update(images.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _kept(folder: Path | None, name: str, compute: Callable[[], Tensor]) -> Tensor:
    """The block from the folder, or computed and put there."""
    if folder is None:
        return compute()
    path = folder / name
    if path.exists():
        return torch.from_numpy(np.load(path))
    block = compute()
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, block.numpy())
    write_atomic(path, buffer.getvalue())
    return block


def kernel_pairs(x: Tensor, z: Tensor | None = None, settings: CntkSettings | None = None) -> Tensor:
    """Kernels of x[i] with z[i] (z None: with itself), (depths, 2, pools, n) float64: the diagonals."""
    settings = settings or CntkSettings()
    z = x if z is None else z
    check_images(x, z)
    if len(x) != len(z):
        raise HornbookError(f"pairs need as many images on both sides, not {len(x)} and {len(z)}.")
    if settings.resolved_engine(x) == "native":
        return torch.from_numpy(_native(x, z, settings).pairs())
    return torch.cat([_torch_pairs(x[i : i + 8], z[i : i + 8], settings) for i in range(0, len(x), 8)], -1)


def check_images(x: Tensor, z: Tensor) -> None:
    """Refuses images that cannot be compared.

    Raises:
        HornbookError: naming the shapes, or how many values are not finite.
    """
    if x.dim() != 4 or z.dim() != 4 or x.shape[1:] != z.shape[1:] or not len(x) or not len(z):
        raise HornbookError(
            f"images have shapes {tuple(x.shape)} and {tuple(z.shape)}; both must be (n, channels, height, "
            "width), equal but for n."
        )
    for images in (x, z):
        if not images.is_floating_point():
            raise HornbookError(f"images are {images.dtype}; convert them to float32 (and standardise them).")
        bad = int((~torch.isfinite(images)).flatten(1).any(1).sum())
        if bad:
            raise HornbookError(f"{bad} of {len(images)} images hold NaN or infinity; leave them out.")


def pool_weights(size: int, pool: int) -> Tensor:
    """(size, size) counts n_c(i, i') of window centres within `pool` of both i and i' (LAP along one axis).

    The LAP kernel is sum F[i, j, i', j'] n_c(i, i') n_c(j, j') / (2c + 1)^4.
    """
    at = torch.arange(size)
    low = torch.maximum(at[:, None], at[None, :]) - pool
    high = torch.minimum(at[:, None], at[None, :]) + pool
    return (high.clamp(max=size - 1) - low.clamp(min=0) + 1).clamp(min=0)


def _weights(x: Tensor, settings: CntkSettings) -> tuple[Tensor, Tensor]:
    """(pools, h, h) and (pools, w, w) float64, each divided by (2c + 1)^2 so that their product is LAP's."""
    height, width = x.shape[-2:]
    rows = torch.stack([pool_weights(height, c) / (2 * c + 1) ** 2 for c in settings.pools])
    columns = torch.stack([pool_weights(width, c) / (2 * c + 1) ** 2 for c in settings.pools])
    return rows.double(), columns.double()


def variance_maps(x: Tensor, settings: CntkSettings) -> Tensor:
    """v_0 to v_{L-1}: the diagonal S_xx[ij, ij] entering each layer, (n, layers, height, width).

    On the diagonal r = 1, so K = v / 9 and v <- box(v) / 9 + gamma^2: no four-index tensor is needed.
    """
    maps = [_box(x.square().sum(1), settings.padding) + settings.bias**2]
    for _ in range(settings.layers - 1):
        maps.append(_box(maps[-1], settings.padding) / 9 + settings.bias**2)
    return torch.stack(maps, dim=1)


def _box(v: Tensor, padding: Padding) -> Tensor:
    """Sums of 3 x 3 neighbours over the last two dimensions."""
    for axis in (-2, -1):
        v = v + _shift(v, (axis,), 1, padding) + _shift(v, (axis,), -1, padding)
    return v


def _shift(v: Tensor, axes: tuple[int, ...], by: int, padding: Padding) -> Tensor:
    """v moved by one along all of `axes` together; what comes in is 0, or the other side if circular."""
    moved = torch.roll(v, [by] * len(axes), axes)
    if padding == "zero":
        for axis in axes:
            moved.select(axis, 0 if by > 0 else -1).zero_()
    return moved


def _engine(x: Tensor, z: Tensor, settings: CntkSettings, symmetric: bool) -> Callable[[int, int], Tensor]:
    if settings.resolved_engine(x) == "native":
        native = _native(x, z, settings)
        return lambda first, last: torch.from_numpy(native.rows(first, last, symmetric=symmetric))

    if settings.resolved_engine(x) == "triton":
        return _triton(x, z, settings)

    def block(first: int, last: int) -> Tensor:
        return torch.stack([_torch_row(x[n], z, settings) for n in range(first, last)], dim=3)

    return block


def _triton(x: Tensor, z: Tensor, settings: CntkSettings) -> Callable[[int, int], Tensor]:
    if x.dtype != torch.float32 or z.dtype != torch.float32 or x.device != z.device:
        raise HornbookError("engine 'triton' takes float32 images on one CUDA device; use engine 'torch'.")
    try:
        from hornbook.theory import cntk_triton
    except ImportError as error:
        raise HornbookError("engine 'triton' needs the package triton; install it or use 'torch'.") from error
    weight_rows, weight_columns = (w.to(x) for w in _weights(x, settings))
    roots_x, roots_z = (variance_maps(t.double(), settings).sqrt().float() for t in (x, z))

    def block(first: int, last: int) -> Tensor:
        return cntk_triton.rows(
            x[first:last],
            z,
            roots_x[first:last],
            roots_z,
            slot=torch.from_numpy(_slots(settings)).to(x.device),
            weight_rows=weight_rows,
            weight_columns=weight_columns,
            reach=2 * max(settings.pools),
            bias=settings.bias**2,
        ).cpu()

    return block


def _slots(settings: CntkSettings) -> np.ndarray:
    """(layers,) int32: the place of each layer's kernels in the result, -1 where it is not wanted."""
    slot = np.full(settings.layers, -1, np.int32)
    for place, depth in enumerate(settings.depths):
        slot[depth - 1] = place
    return slot


def _native(x: Tensor, z: Tensor, settings: CntkSettings) -> cntk_native.NativeKernels:
    if x.device.type != "cpu" or x.dtype != torch.float32 or z.dtype != torch.float32:
        raise HornbookError("engine 'native' takes float32 images on the CPU; use engine 'torch'.")
    if not cntk_native.available():
        raise HornbookError(
            "engine 'native' needs a C compiler (cc, gcc or clang); install one or use 'torch'."
        )
    rows, columns = _weights(x, settings)
    return cntk_native.NativeKernels(
        x.contiguous().numpy(),
        z.contiguous().numpy(),
        variance_maps(x.double(), settings).sqrt().float().numpy(),
        variance_maps(z.double(), settings).sqrt().float().numpy(),
        slot=_slots(settings),
        weight_rows=rows.float().contiguous().numpy(),
        weight_columns=columns.float().contiguous().numpy(),
        reach=np.array([2 * c for c in settings.pools], np.int32),
        bias=settings.bias**2,
        threads=settings.threads or len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else settings.threads or os.cpu_count() or 1,
    )


def _torch_row(image: Tensor, z: Tensor, settings: CntkSettings) -> Tensor:
    """One image with all of z, (depths, 2, pools, m), in pieces of pairs that stay small."""
    entries = (image.shape[-1] * image.shape[-2]) ** 2
    piece = max(1, (2**18 if z.device.type == "cpu" else 2**27) // entries)
    parts = [_torch_pairs(image.expand(len(p), *image.shape), p, settings) for p in torch.split(z, piece)]
    return torch.cat(parts, dim=-1)


def _torch_pairs(x: Tensor, z: Tensor, settings: CntkSettings) -> Tensor:
    """The recursion of the module's head on four-index tensors: (depths, 2, pools, pairs) on the CPU."""
    padding, bias = settings.padding, settings.bias**2
    rows, columns = (w.to(x.device, x.dtype) for w in _weights(x, settings))
    if padding == "circular" and max(settings.pools) > 0:
        rows, columns = (_circular_weights(x.shape[d], settings).to(x) for d in (2, 3))
    roots_x = variance_maps(x, settings).sqrt()
    roots_z = variance_maps(z, settings).sqrt()

    def window(k: Tensor) -> Tensor:
        for axes in ((1, 3), (2, 4)):
            k = k + _shift(k, axes, 1, padding) + _shift(k, axes, -1, padding)
        return k + bias

    s = window(torch.einsum("ncij,nckl->nijkl", x, z))
    t = s
    found = []
    for layer in range(settings.layers):
        root = roots_x[:, layer, :, :, None, None] * roots_z[:, layer, None, None]
        r = torch.where(root > 0, s / root, torch.zeros_like(s)).clamp(-1, 1)
        angle = (torch.pi - torch.acos(r)) / (9 * torch.pi)
        k = root * (((1 - r) * (1 + r)).sqrt() / (9 * torch.pi) + r * angle)
        n = angle * t + k
        if layer + 1 in settings.depths:
            both = [torch.einsum("nijkl,pik,pjl->pn", f, rows, columns).double().cpu() for f in (k, n)]
            found.append(torch.stack(both))
        if layer + 1 < settings.layers:
            s, t = window(k), window(n)
    return torch.stack(found)


def _circular_weights(size: int, settings: CntkSettings) -> Tensor:
    """n_c on a circle: the overlap of two windows of 2c + 1 (or all `size`) places, by brute count."""
    at = torch.arange(size)
    made = []
    for c in settings.pools:
        offsets = torch.arange(-c, c + 1)
        covers = torch.zeros(size, size, dtype=torch.float64)  # (centre, pixel): how often
        for offset in offsets.tolist():
            covers[at, (at + offset) % size] += 1
        made.append(covers.T @ covers / (2 * c + 1) ** 2)
    return torch.stack(made)
