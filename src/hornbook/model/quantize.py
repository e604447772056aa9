"""Quantizing a decoder: round to nearest, or error-compensated rounding calibrated on text (GPTQ).

GPTQ (Frantar et al. 2022, section 3): columns of a matrix are rounded one after another, and what each loses
is made good by the columns not rounded yet, weighted by the second moments of the inputs that the matrix
meets on calibration text. Layers are taken in order, each fed by the already rounded ones before it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from hornbook.errors import HornbookError
from hornbook.model.attention import Visible, visible_in_training
from hornbook.model.decoder import Decoder
from hornbook.model.layers import Block
from hornbook.model.quantized import GROUP, Codes, QuantLinear, fits_int4, nearest_int4, nearest_int8

Coded = Literal["int8", "int4"]
_DAMPING = 0.05
"""Added to the diagonal of the second moments, as a part of its mean. The paper's 1 % is for 260,000 tokens
of calibration; with a fifth of them, more loses less on other text."""
_CHECKED = 4
"""One text in so many decides between compensated and nearest codes instead of being compensated for."""
_BLOCK = 128
_ROWS = 8
"""Calibration texts read in one pass."""


def quantize(
    model: Decoder,
    weights: Coded,
    *,
    calibration: Sequence[Sequence[int]] | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Decoder:
    """A decoder whose linear layers hold codes; the model it is made from is not changed.

    Embeddings and head take 8 bits with a scale for each row under both formats; a tied head has the
    embedding's codes. Norms and biases stay. Matrices whose rows do not fall into groups of 32 take 8 bits.

    Args:
        weights: "int4" or "int8".
        calibration: token ids of texts for GPTQ; all are cut to the length of the shortest. 192 texts of 256
            tokens do. None rounds to nearest, and so does a matrix whose compensated codes lose more on a
            fourth of the texts, which they were not fitted to.
        say: told the progress of a calibrated run.

    Raises:
        HornbookError: a sparse model (experts, block-sparse attention), or texts that are empty.
    """
    config = model.config
    if config.experts or config.block_sparse is not None or config.vision is not None:
        raise HornbookError(
            f"A {config.family} model cannot be quantized here: only dense text decoders can. "
            "Export it as bf16."
        )
    with torch.device("meta"):
        out = Decoder(config)
    out.rope = model.rope
    out.eval()
    for target, source in zip(out.modules(), model.modules(), strict=True):
        for name, parameter in source.named_parameters(recurse=False):
            setattr(target, name, nn.Parameter(parameter.detach(), requires_grad=False))
    with torch.no_grad():
        if calibration is None:
            for layer in out.layers:
                for holder, name, linear in _linears(layer):
                    setattr(holder, name, QuantLinear(_nearest(linear.weight, weights), linear.bias))
        else:
            _calibrated(out, weights, calibration, say)
        table = nearest_int8(model.embed_tokens.weight)
        out.embed_tokens.weight = nn.Parameter(
            table.dense().to(model.embed_tokens.weight.dtype), requires_grad=False
        )
        if model.lm_head is None:
            head, bias = table, model.head_bias
        else:
            head, bias = nearest_int8(model.lm_head.weight), model.lm_head.bias
        out.head_bias = None
        out.lm_head = QuantLinear(head, bias)  # type: ignore[assignment]
    return out


def _nearest(weight: Tensor, weights: Coded) -> Codes:
    return nearest_int4(weight) if weights == "int4" and fits_int4(weight) else nearest_int8(weight)


def _linears(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    for holder in list(module.modules()):
        for name, child in list(holder.named_children()):
            if isinstance(child, nn.Linear):
                yield holder, name, child


def _calibrated(
    model: Decoder, weights: Coded, calibration: Sequence[Sequence[int]], say: Callable[[str], None]
) -> None:
    length = min((len(text) for text in calibration), default=0)
    if length < 2:
        raise HornbookError(
            "Calibration needs texts of at least two tokens; give some text of the model's kind."
        )
    length = min(length, model.config.max_position)
    ids = torch.tensor([list(text[:length]) for text in calibration])
    fitted = torch.arange(len(ids)) % _CHECKED != _CHECKED - 1
    cos, sin = model.rope(torch.arange(length), length)
    visible = visible_in_training(
        length, document=None, window=model.config.sliding_window, device=ids.device, blocks=None
    )
    x = model.embed_tokens(ids).float() * model.config.multipliers.embedding
    for number, module in enumerate(model.layers):
        layer = cast(Block, module)
        for _, _, linear in _linears(layer):
            linear.weight = nn.Parameter(linear.weight.float(), requires_grad=False)
            if linear.bias is not None:
                linear.bias = nn.Parameter(linear.bias.float(), requires_grad=False)
        moments = _moments(layer, x[fitted], cos, sin, visible)
        fresh = _moments(layer, x[~fitted], cos, sin, visible) if not bool(fitted.all()) else moments
        kept = 0
        for holder, name, linear in _linears(layer):
            nearest = _nearest(linear.weight, weights)
            codes = gptq(linear.weight, moments[linear], weights)
            better = _loss(linear.weight, codes, fresh[linear]) < _loss(linear.weight, nearest, fresh[linear])
            setattr(holder, name, QuantLinear(codes if better else nearest, linear.bias))
            kept += better
        x = torch.cat([_forward(layer, part, cos, sin, visible) for part in torch.split(x, _ROWS)])
        say(f"Layer {number + 1} of {model.config.layers} quantized; {kept} matrices gain by calibration.")


def _loss(weight: Tensor, codes: Codes, moments: Tensor) -> float:
    """Mean squared change of the outputs on inputs of these second moments, summed over outputs."""
    change = weight.detach().float() - codes.dense().float()
    return float((change @ moments * change).sum())


def _forward(layer: Block, x: Tensor, cos: Tensor, sin: Tensor, visible: Visible) -> Tensor:
    out: Tensor = layer(x, cos, sin, visible=visible)
    return out


def _moments(layer: Block, x: Tensor, cos: Tensor, sin: Tensor, visible: Visible) -> dict[nn.Module, Tensor]:
    """The mean of input times input, (in, in), for every linear layer of a block."""
    sums: dict[nn.Module, Tensor] = {}

    def meet(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        rows = given[0].detach().flatten(0, -2).float()
        product = rows.T @ rows / (x.shape[0] * x.shape[1])
        sums[module] = sums[module] + product if module in sums else product

    hooks = [linear.register_forward_pre_hook(meet) for _, _, linear in _linears(layer)]
    for part in torch.split(x, _ROWS):
        _forward(layer, part, cos, sin, visible)
    for hook in hooks:
        hook.remove()
    return sums


def gptq(weight: Tensor, moments: Tensor, weights: Coded) -> Codes:
    """Codes of `weight` (out, in) that lose little on inputs with the second moments `moments` (in, in).

    The scale of a group is chosen, as in rounding to nearest, when its first column's turn comes.
    """
    w = weight.detach().float().clone()
    rows, columns = w.shape
    four = weights == "int4" and fits_int4(w)
    moments = moments.clone()
    dead = moments.diagonal() == 0
    moments.diagonal()[dead] = 1
    moments.diagonal().add_(_DAMPING * moments.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments))
    factor = torch.linalg.cholesky(inverse, upper=True)
    codes = torch.empty(rows, columns, dtype=torch.uint8 if four else torch.int8)
    scales = torch.empty(rows, columns // GROUP, dtype=torch.bfloat16) if four else nearest_int8(w).scales
    low, high = (-8, 7) if four else (-127, 127)
    scale = scales.float() if not four else torch.empty(0)
    for begin in range(0, columns, _BLOCK):
        end = min(begin + _BLOCK, columns)
        lost = torch.zeros(rows, end - begin)
        for column in range(begin, end):
            if four and column % GROUP == 0:
                group = nearest_int4(w[:, column : column + GROUP]).scales
                scales[:, column // GROUP] = group[:, 0]
                scale = group[:, 0].float()
            own = w[:, column]
            code = torch.where(scale == 0, 0.0, own / scale).round().clamp(low, high)
            codes[:, column] = (code - low if four else code).to(codes.dtype)
            error = (own - code * scale) / factor[column, column]
            w[:, column:end] -= error[:, None] * factor[column, column:end]
            lost[:, column - begin] = error
        w[:, end:] -= lost @ factor[begin:end, end:]
    return Codes(bits=4 if four else 8, codes=codes, scales=scales)
