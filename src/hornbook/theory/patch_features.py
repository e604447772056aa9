"""Random patches of the training images as filters: Coates and Ng's, as the enhanced CNTK uses them.

Patches lose their mean, get unit norm and are whitened; the whitening is applied twice, once for the filter
and once for the patch of the image that it meets. Every filter comes with its mirror image, so that features
of a mirrored picture are the mirrored features, in another order of channels that no kernel sees.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hornbook.errors import HornbookError

WHITENING = 1e-3  # added to the eigenvalues of the patches' covariance
POOL = 100_000  # patches that the covariance is estimated from


def patch_filters(images: Tensor, count: int, size: int, *, seed: int = 0) -> Tensor:
    """(2 count, channels, size, size) filters from training images (n, channels, h, w) with values in [0, 1].

    Raises:
        HornbookError: patches larger than the images, or a count that is not positive.
    """
    channels, height, width = images.shape[1:]
    if not 1 <= size <= min(height, width) or count < 1:
        raise HornbookError(
            f"{count} patches of {size} pixels a side do not fit images of {height} x {width}; give a patch "
            f"size from 1 to {min(height, width)} and at least one patch."
        )
    generator = torch.Generator().manual_seed(seed)
    total = max(count, min(POOL, 50 * len(images)))
    which = torch.randint(len(images), (total,), generator=generator)
    top = torch.randint(height - size + 1, (total,), generator=generator)
    left = torch.randint(width - size + 1, (total,), generator=generator)
    span = torch.arange(size)
    rows, columns = (top[:, None] + span)[:, :, None], (left[:, None] + span)[:, None, :]
    pool = images.double().permute(0, 2, 3, 1)[which[:, None, None], rows, columns]  # (total, size, size, c)
    pool = pool.permute(0, 3, 1, 2).flatten(1)
    pool = pool - pool.mean(1, keepdim=True)
    norm = pool.norm(dim=1, keepdim=True)
    pool = pool / torch.where(norm < 1e-8, torch.ones_like(norm), norm)
    values, vectors = torch.linalg.eigh(pool.T @ pool / total)
    whiten_twice = (vectors / (values.clamp(min=0) + WHITENING)) @ vectors.T
    chosen = (pool[:count] @ whiten_twice).view(count, channels, size, size)
    return torch.cat([chosen, chosen.flip(-1)]).to(images.dtype)


def patch_features(images: Tensor, filters: Tensor, *, threshold: float = 1.0) -> Tensor:
    """relu(f - threshold) and relu(-f - threshold) of the filters' answers f, without padding.

    (n, channels, h, w) -> (n, 2 filters, h - size + 1, w - size + 1).
    """
    answers = F.conv2d(images, filters)
    return torch.cat([torch.relu(answers - threshold), torch.relu(-answers - threshold)], 1)
