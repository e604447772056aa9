"""Small labelled images for the theory recipes: from a file the user has, or the digits of scikit-learn."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hornbook.errors import HornbookError


@dataclass(frozen=True, kw_only=True)
class Images:
    """x: (n, channels, height, width) float32 in [0, 1]. y: (n,) class numbers from 0. name: for reports."""

    x: Tensor
    y: Tensor
    name: str

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.y.max()) + 1

    def shuffled(self, seed: int) -> "Images":
        """The same images in an order that the seed fixes."""
        order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(seed))
        return Images(x=self.x[order], y=self.y[order], name=self.name)

    def pooled(self, size: int) -> "Images":
        """Averaged down to size x size pixels.

        Raises:
            HornbookError: the size is not reached by whole blocks.
        """
        height, width = self.x.shape[-2:]
        if height % size or width % size:
            raise HornbookError(
                f"size is {size}; images of {height} x {width} pixels can be averaged to a common divisor."
            )
        x = torch.nn.functional.avg_pool2d(self.x, (height // size, width // size))
        return Images(x=x, y=self.y, name=f"{self.name}, {size} x {size}")


def load_images(path: Path | None = None, *, limit: int | None = None) -> Images:
    """Images of an `.npz` file with `x` (n, h, w) or (n, h, w, c) uint8 and `y` (n,); None: the 1,797 digits.

    A file may hold `jpeg` and `offset` instead of `x`: image i is
    jpeg[offset[i]:offset[i + 1]] (needs Pillow).

    Raises:
        HornbookError: no such file, or one that holds something else.
    """
    if path is None:
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        pixels = torch.from_numpy(x.astype(np.float32) / 16).view(-1, 1, 8, 8)
        return Images(x=pixels[:limit], y=torch.from_numpy(y)[:limit].long(), name="scikit-learn digits")
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise HornbookError(
            f"{path} cannot be read as images ({error}). Give an .npz file with x and y."
        ) from error
    if "jpeg" in found and "offset" in found:
        found["x"] = _decoded(found, limit)
    x, y = found.get("x"), found.get("y")
    if x is None or y is None or x.ndim not in (3, 4) or x.dtype != np.uint8:
        raise HornbookError(
            f"{path} holds {', '.join(f'{k} {v.dtype}{v.shape}' for k, v in found.items())}; wanted are "
            "x (n, h, w) or (n, h, w, c) uint8 and y (n,)."
        )
    x = x[:limit, ..., None] if x.ndim == 3 else x[:limit]
    pixels = torch.from_numpy(x).permute(0, 3, 1, 2).float().div_(255)
    return Images(x=pixels, y=torch.from_numpy(y[:limit].astype(np.int64)), name=path.stem)


def _decoded(found: dict[str, np.ndarray], limit: int | None) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError as error:
        raise HornbookError("JPEG images are read with Pillow: pip install pillow") from error
    data, offset = found["jpeg"].tobytes(), found["offset"]
    count = len(offset) - 1 if limit is None else min(limit, len(offset) - 1)
    return np.stack(
        [
            np.asarray(Image.open(io.BytesIO(data[offset[i] : offset[i + 1]])).convert("RGB"))
            for i in range(count)
        ]
    )


def standardised(train: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Every channel minus the training mean, over the training deviation (0 deviation counts as 1)."""
    mean = train.mean(dim=(0, 2, 3), keepdim=True)
    spread = train.std(dim=(0, 2, 3), keepdim=True)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    return tuple((part - mean) / spread for part in (train, *others))
