"""The shape of a vision encoder and of the way its pictures are cut (phi-3-vision, phi-3.5-vision)."""

from dataclasses import dataclass

from hornbook.errors import HornbookError


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """A CLIP vision tower and its projector; the defaults are ViT-L/14 at 336 pixels, as released.

    Sizes are in pixels. `feature_layer` counts hidden states from the end: -2 takes the output of the layer
    before the last, so that the last one is stored but never run. `tiles` is the greatest number of
    `image_size` tiles a picture is cut into, the shrunken whole picture not counted.
    """

    hidden_size: int = 1024
    layers: int = 24
    heads: int = 16
    intermediate_size: int = 4096
    image_size: int = 336
    patch_size: int = 14
    norm_eps: float = 1e-5
    feature_layer: int = -2
    tiles: int = 16

    def __post_init__(self) -> None:
        for name in (
            "hidden_size",
            "layers",
            "heads",
            "intermediate_size",
            "image_size",
            "patch_size",
            "tiles",
        ):
            if getattr(self, name) < 1:
                raise HornbookError(
                    f"Vision setting {name} = {getattr(self, name)!r} cannot work: it must be positive."
                )
        if self.hidden_size % self.heads:
            raise HornbookError(
                f"Vision setting hidden_size = {self.hidden_size} must be a multiple of heads = {self.heads}."
            )
        if self.image_size % (2 * self.patch_size):
            raise HornbookError(
                f"Vision setting image_size = {self.image_size} must hold an even number of patches of "
                f"{self.patch_size} pixels a side: patches are merged two by two."
            )
        lowest = -self.layers - 1
        if not lowest <= self.feature_layer <= -1:
            raise HornbookError(
                f"Vision setting feature_layer = {self.feature_layer} must lie between -1 and {lowest}."
            )

    @property
    def grid(self) -> int:
        """Patches along a side of a tile."""
        return self.image_size // self.patch_size

    @property
    def merged(self) -> int:
        """Tokens along a side of a tile, after two by two patches became one."""
        return self.grid // 2

    def tokens(self, rows: int, columns: int) -> int:
        """Tokens of a picture of rows x columns tiles: the tiles and the whole picture, a newline after
        every line of both, and one separator between them.
        """
        lines = (rows + 1) * self.merged
        return (rows * columns + 1) * self.merged**2 + lines + 1

    def parameters(self, hidden_size: int) -> int:
        """The exact number of parameters, with the projector to a decoder of `hidden_size`."""
        h, i, out = self.hidden_size, self.intermediate_size, hidden_size
        layer = 4 * (h * h + h) + 2 * h * i + h + i + 4 * h
        tower = h + 3 * self.patch_size**2 * h + (self.grid**2 + 1) * h + self.layers * layer + 4 * h
        projector = 4 * h * out + out + out * out + out
        return tower + projector + 2 * 4 * h
