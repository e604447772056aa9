"""Rotary position embedding, half-split ("rotate-half") convention, partial and LongRoPE."""

import torch
from torch import Tensor

from hornbook.model.config import ModelConfig


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the first 2 * cos.shape[-1] dimensions of each head; the others pass through.

    Shapes: x (batch, heads, time, head_dim); cos and sin broadcastable to
    (batch, heads, time, rotary_dim / 2). The product is taken in the precision of cos (fp32),
    the result has the dtype of x.
    """
    half = cos.shape[-1]
    first, second = x[..., :half], x[..., half : 2 * half]
    parts = [(first * cos - second * sin).to(x.dtype), (second * cos + first * sin).to(x.dtype)]
    if 2 * half < x.shape[-1]:
        parts.append(x[..., 2 * half :])
    return torch.cat(parts, dim=-1)


class Rope:
    """cos and sin for the positions of one forward pass.

    Not a module on purpose: its fp32 frequencies must not follow `model.to(torch.bfloat16)` (at
    position 4000 a bf16 angle is off by several radians) nor live on the meta device.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self._frequencies: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The short and the long inverse frequencies (rotary_dim / 2,) on `device`, fp32."""
        if device not in self._frequencies:
            self._frequencies[device] = (self._inverse(False).to(device), self._inverse(True).to(device))
        return self._frequencies[device]

    def _wavelength(self) -> Tensor:
        """Of each pair, in positions per radian, without any rescaling: (rotary_dim / 2,) on the CPU."""
        size = self.config.rotary_dim
        exponent = torch.arange(0, size, 2, dtype=torch.float32, device="cpu") / size
        return self.config.rope_theta**exponent

    def _plain(self, device: torch.device) -> Tensor:
        return (1.0 / self._wavelength()).to(device)

    def _inverse(self, long: bool) -> Tensor:
        config = self.config
        wavelength = self._wavelength()
        if config.long_rope is not None:
            factors = config.long_rope.long_factor if long else config.long_rope.short_factor
            wavelength = torch.tensor(factors, dtype=torch.float32, device="cpu") * wavelength
        return 1.0 / wavelength

    def __call__(self, position: Tensor, length: int | Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin, fp32, shape (*position.shape, rotary_dim / 2).

        position: integer tensor of any shape. length: the sequence length in tokens that chooses
        between the short and the long LongRoPE factors (a 0-dim tensor where it is only known on
        the device); ignored by models without LongRoPE.
        """
        short, long = self._on(position.device)
        rope = self.config.long_rope
        if rope is None:
            angle = position[..., None].float() * short
            return angle.cos(), angle.sin()
        magnitudes = [rope.magnitude(self.config.max_position, long=beyond) for beyond in (False, True)]
        scaled = long
        if rope.start_tokens:
            scaled = torch.where(position[..., None] < rope.start_tokens, self._plain(position.device), long)
        if isinstance(length, int):
            beyond = length > rope.original_max_position
            angle = position[..., None].float() * (scaled if beyond else short)
            return angle.cos() * magnitudes[beyond], angle.sin() * magnitudes[beyond]
        chosen = length > rope.original_max_position
        angle = position[..., None].float() * torch.where(chosen, scaled, short)
        magnitude = torch.where(chosen, magnitudes[1], magnitudes[0])
        return angle.cos() * magnitude, angle.sin() * magnitude
