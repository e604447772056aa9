"""Saliency that is complete and sound (Gupta, Saunshi, Yu, Lyu, Arora 2022, arXiv 2211.02912).

A heat map for a label is a certificate that the network has reasons for the label. It is *complete* if what a
network believes can be certified: keep the pixels that the map ranks first, fill in the rest, and the label
keeps its probability. It is *sound* if what a network does not believe cannot be certified. Maps that are
good at the first only may prove anything; so every map is scored for all labels.

Inputs are (n, channels, height, width) for images or (n, channels, time) for text, whose channels are the
dimensions of the embeddings. A map is (n, height, width) or (n, time). `Predict` is the network.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.errors import HornbookError

Predict = Callable[[Tensor], Tensor]
"""(batch, channels, *places) -> (batch, labels) probabilities; differentiable in its input."""


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """How one mask per input and label is learned (section 4 of the paper).

    steps, learning_rate: of Adam. fills: images of the pool that the masked-out part is replaced by, a step.
    sparsity:        lambda_1, on the sum of the mask. total_variation: lambda_TV, on its squared differences.
    upsample:        the mask is learned at 1/upsample of the resolution and interpolated (bi)linearly.
    objective:       "published": cross-entropy applied to the averaged probabilities, as in the authors' code
                     (-p_y + log sum_c exp p_c); "log_probability": -log p_y.
    chunk:           masked inputs in one pass of the network.
    """

    steps: int = 300
    learning_rate: float = 0.05
    fills: int = 4
    sparsity: float = 2e-5
    total_variation: float = 0.01
    upsample: int = 4
    objective: Literal["published", "log_probability"] = "published"
    chunk: int = 1024

    def __post_init__(self) -> None:
        for name in ("steps", "fills", "upsample", "chunk"):
            if getattr(self, name) < 1:
                raise HornbookError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        for name in ("sparsity", "total_variation"):
            if not getattr(self, name) >= 0:
                raise HornbookError(f"{name} is {getattr(self, name)}; it must be 0 or more.")
        if not self.learning_rate > 0:
            raise HornbookError(f"learning_rate is {self.learning_rate}; it must be above 0.")
        if self.objective not in ("published", "log_probability"):
            raise HornbookError(
                f"objective is {self.objective!r}; accepted are 'published' and 'log_probability'."
            )


def frozen(model: nn.Module) -> nn.Module:
    """The model in evaluation mode, its weights without gradients: a third of a backward pass less."""
    return model.eval().requires_grad_(False)


def total_variation(mask: Tensor) -> Tensor:
    """Sum of squared differences of neighbours for each mask, (n,).

    As published: in two dimensions a place counts its differences downwards and to the right; the last
    row and column count none.
    """
    if mask.dim() == 2:
        return (mask[:, 1:] - mask[:, :-1]).square().sum(1)
    corner = mask[:, :-1, :-1]
    down, right = corner - mask[:, 1:, :-1], corner - mask[:, :-1, 1:]
    return (down.square() + right.square()).sum((1, 2))


def upsampled(weights: Tensor, places: tuple[int, ...]) -> Tensor:
    """sigmoid first, then (bi)linear interpolation to `places`: values stay in [0, 1]."""
    mask = torch.sigmoid(weights)
    if tuple(mask.shape[1:]) == places:
        return mask
    mode = "linear" if len(places) == 1 else "bilinear"
    return F.interpolate(mask[:, None], size=places, mode=mode, align_corners=False)[:, 0]


def blend(inputs: Tensor, mask: Tensor, fill: Tensor) -> Tensor:
    """mask * inputs + (1 - mask) * fill, the mask the same for all channels."""
    return torch.lerp(fill, inputs, mask[:, None])


def mask_loss(probabilities: Tensor, labels: Tensor, settings: MaskSettings) -> Tensor:
    """Loss of each input, (n,), from probabilities averaged over fills (n, labels)."""
    if settings.objective == "published":
        return F.cross_entropy(probabilities, labels, reduction="none")
    return F.nll_loss(probabilities.clamp(min=1e-12).log(), labels, reduction="none")


def learn_masks(
    predict: Predict,
    inputs: Tensor,
    labels: Tensor,
    pool: Tensor,
    settings: MaskSettings | None = None,
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """One soft mask per input, for the label given with it: (n, *places) in [0, 1].

    Args:
        predict: with frozen weights (see `frozen`).
        inputs: (n, channels, *places); repeat an input to explain several labels. labels: (n,).
        pool: (images, channels, *places) that replace what is masked out, drawn anew in every step. For text:
            embeddings of random sentences.
        progress: called with 1 after every step.

    Raises:
        HornbookError: shapes that do not fit, or values that are not finite.
    """
    settings = settings or MaskSettings()
    _check(inputs, labels, pool)
    places = tuple(inputs.shape[2:])
    if any(size % settings.upsample for size in places):
        raise HornbookError(
            f"upsample is {settings.upsample}; it must divide the inputs' places {places}. Use 1 for none."
        )
    small = [size // settings.upsample for size in places]
    weights = torch.zeros(len(inputs), *small, device=inputs.device, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=settings.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    rows = max(1, settings.chunk // settings.fills)
    for _ in range(settings.steps):
        picks = torch.randint(len(pool), (len(inputs), settings.fills), generator=generator)
        optimizer.zero_grad()
        for first in range(0, len(inputs), rows):
            part = slice(first, first + rows)
            mask = upsampled(weights[part], places)
            shown = inputs[part].repeat_interleave(settings.fills, 0)
            masked = blend(shown, mask.repeat_interleave(settings.fills, 0), pool[picks[part].flatten()])
            probabilities = torch.unflatten(predict(masked), 0, (-1, settings.fills)).mean(1)
            # Sums over inputs: each mask has its own Adam state, so inputs do not meet.
            loss = mask_loss(probabilities, labels[part], settings)
            loss = loss + settings.sparsity * mask.flatten(1).sum(1)
            loss = loss + settings.total_variation * total_variation(mask)
            torch.autograd.backward(loss.sum())
        optimizer.step()
        if progress is not None:
            progress(1)
    return upsampled(weights.detach(), places)


def certificate(
    predict: Predict,
    inputs: Tensor,
    labels: Tensor,
    maps: Tensor,
    *,
    fill: Tensor | None = None,
    fractions: int = 14,
    delete: bool = False,
    seed: int = 0,
    chunk: int = 1024,
) -> Tensor:
    """q(x, y): mean probability of the label while the best-ranked places come in, (n,) (insertion AUC).

    Keeps the best-ranked 1/fractions, 2/fractions, ..., 1 of all places; the rest shows `fill`. With `delete`
    the best-ranked places go instead, and the last step (nothing left) does not count. Equal values are
    ranked at random: by position would favour a corner.

    Args:
        maps: (n, *places), higher is more important.
        fill: (channels, *places) or (n, channels, *places); None: zeros, the mean of standardised images.
    """
    _check(inputs, labels, inputs if fill is None else fill.reshape(-1, *inputs.shape[1:]))
    if maps.shape != (len(inputs), *inputs.shape[2:]):
        raise HornbookError(f"maps have shape {tuple(maps.shape)}; inputs have {tuple(inputs.shape)}.")
    if not torch.isfinite(maps).all():
        raise HornbookError("a saliency map holds NaN or infinity.")
    count = maps[0].numel()
    if not 1 <= fractions <= count:
        raise HornbookError(
            f"fractions is {fractions}; it must lie between 1 and the {count} places of a map."
        )
    flat = -maps.flatten(1) if delete else maps.flatten(1)
    ranks = _ranks(flat, seed)
    kept = [round(count * step / fractions) for step in range(1, fractions + (0 if delete else 1))]
    background = torch.zeros_like(inputs) if fill is None else fill.expand_as(inputs)
    total = torch.zeros(len(inputs), dtype=torch.float64)
    rows = max(1, chunk // len(kept))
    with torch.no_grad():
        for first in range(0, len(inputs), rows):
            part = slice(first, first + rows)
            keep = ranks[part, None] < torch.tensor(kept, device=ranks.device)[:, None]
            keep = keep.view(-1, len(kept), *maps.shape[1:]).flatten(0, 1)
            shown, behind = (t[part].repeat_interleave(len(kept), 0) for t in (inputs, background))
            p = torch.unflatten(predict(torch.where(keep[:, None], shown, behind)), 0, (-1, len(kept)))
            own = labels[part, None, None].expand(-1, len(kept), 1)
            total[part] = p.gather(2, own).mean((1, 2)).double().cpu()
    return total


def _ranks(values: Tensor, seed: int) -> Tensor:
    """(n, places) rank of each value in its row, 0 the largest, ties in random order."""
    shuffle = (
        torch.rand(values.shape, generator=torch.Generator().manual_seed(seed)).argsort(1).to(values.device)
    )
    order = values.gather(1, shuffle).argsort(stable=True, dim=1, descending=True)
    order = shuffle.gather(1, order)
    places = torch.arange(values.shape[1], device=values.device).expand_as(values)
    return torch.empty_like(order).scatter_(1, order, places)


def completeness(q: Tensor, p: Tensor, *, floor: float = 0.1) -> Tensor:
    """min(max(floor, q) / p, 1): 1 where the certificate reaches the network's own probability."""
    return (q.clamp(min=floor) / p.clamp(min=1e-12)).clamp(max=1)


def soundness(q: Tensor, p: Tensor, *, floor: float = 0.1) -> Tensor:
    """min(max(floor, p) / q, 1): below 1 where the certificate claims more than the network believes."""
    return (p.clamp(min=floor) / q.clamp(min=1e-12)).clamp(max=1)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A method on n inputs and all labels; one number an input, (n,), for comparisons in pairs.

    completeness: at the predicted label. worst_completeness, worst_soundness: least over all labels.
    wrong_soundness: mean over the labels that are not predicted. false_proof: the largest q of such a label.
    certified: whether the label with the largest q is the predicted one.
    """

    completeness: Tensor
    worst_completeness: Tensor
    worst_soundness: Tensor
    wrong_soundness: Tensor
    false_proof: Tensor
    certified: Tensor


def score(p: Tensor, q: Tensor, *, floor: float = 0.1) -> Scores:
    """Scores from probabilities p and certificates q, both (n, labels)."""
    if p.shape != q.shape or p.dim() != 2 or p.shape[1] < 2:
        raise HornbookError(
            f"p and q must both be (n, labels) with two labels or more, not {tuple(p.shape)}."
        )
    p, q = p.double(), q.double()
    complete, sound = completeness(q, p, floor=floor), soundness(q, p, floor=floor)
    predicted = F.one_hot(p.argmax(1), p.shape[1]).bool()
    return Scores(
        completeness=complete[predicted],
        worst_completeness=complete.amin(1),
        worst_soundness=sound.amin(1),
        wrong_soundness=sound.masked_fill(predicted, 0).sum(1) / (p.shape[1] - 1),
        false_proof=q.masked_fill(predicted, 0).amax(1),
        certified=(q.argmax(1) == p.argmax(1)).double(),
    )


def every_label(inputs: Tensor, labels: int) -> tuple[Tensor, Tensor]:
    """Each input once per label: (n labels, channels, *places) and (n labels,)."""
    return inputs.repeat_interleave(labels, 0), torch.arange(labels).repeat(len(inputs))


def _check(inputs: Tensor, labels: Tensor, pool: Tensor) -> None:
    if inputs.dim() not in (3, 4) or labels.shape != inputs.shape[:1] or pool.shape[1:] != inputs.shape[1:]:
        raise HornbookError(
            f"inputs {tuple(inputs.shape)}, labels {tuple(labels.shape)} and fill {tuple(pool.shape)} do not "
            "fit: wanted are (n, channels, *places), (n,) and (m, channels, *places)."
        )
    if not (torch.isfinite(inputs).all() and torch.isfinite(pool).all()):
        raise HornbookError("inputs or fill hold NaN or infinity; clean them first.")
