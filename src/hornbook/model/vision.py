"""Pictures into a decoder: CLIP's vision tower, the order of tiles and newlines, the projector.

Published for phi-3-vision (phi-3 report, section 7). A picture arrives as `Pictures`: its tiles and one
shrunken view of the whole. Every tile goes through the tower; two by two patches become one token; the
tokens of all tiles are laid out as the picture was, line by line, a learned newline after each line; then a
separator; then the whole view likewise. `hornbook.model.pictures` makes `Pictures` from arrays of pixels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.model.layers import LayerNorm, Linear
from hornbook.model.vision_config import VisionConfig


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures ready for the tower.

    pixels: (pictures, 1 + tiles, 3, image_size, image_size), normalised: first the whole view, then the tiles
    row by row, then anything. tiles: (rows, columns) of each picture.
    """

    pixels: Tensor
    tiles: tuple[tuple[int, int], ...]

    def to(self, device: torch.device | str) -> "Pictures":
        """The same pictures with their pixels on `device`."""
        return Pictures(pixels=self.pixels.to(device), tiles=self.tiles)


class VisionLayer(nn.Module):
    """One pre-norm layer of CLIP: attention in all directions, then an MLP with x sigmoid(1.702 x)."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads, self.kv_heads, self.head_dim = config.heads, config.heads, size // config.heads
        self.attention_norm = LayerNorm(size, config.norm_eps)
        self.qkv_proj = Linear(size, 3 * size)
        self.o_proj = Linear(size, size)
        self.mlp_norm = LayerNorm(size, config.norm_eps)
        self.up_proj = Linear(size, config.intermediate_size)
        self.down_proj = Linear(config.intermediate_size, size)

    def forward(self, x: Tensor) -> Tensor:
        """x (tiles, patches, hidden) -> the same shape."""
        tiles, patches, size = x.shape
        qkv = self.qkv_proj(self.attention_norm(x)).view(tiles, patches, 3, self.heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        x = x + self.o_proj(mixed.transpose(1, 2).reshape(tiles, patches, size))
        inner = self.up_proj(self.mlp_norm(x))
        out: Tensor = x + self.down_proj(inner * torch.sigmoid(1.702 * inner))
        return out


class VisionTower(nn.Module):
    """CLIP's vision transformer up to the layer whose output is used."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.class_embedding = nn.Parameter(torch.zeros(size))
        self.patch_embedding = nn.Parameter(torch.zeros(size, 3, config.patch_size, config.patch_size))
        self.position_embedding = nn.Parameter(torch.zeros(config.grid**2 + 1, size))
        self.pre_norm = LayerNorm(size, config.norm_eps)
        self.layers = nn.ModuleList(VisionLayer(config) for _ in range(config.layers))
        self.post_norm = LayerNorm(size, config.norm_eps)  # part of the format; features are taken before it

    def reset_parameters(self, std: float) -> None:
        """Draws what is not in a linear layer: N(0, std)."""
        for parameter in (self.class_embedding, self.patch_embedding, self.position_embedding):
            nn.init.normal_(parameter, std=std)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (tiles, 3, image_size, image_size) -> features of each patch (tiles, grid^2, hidden)."""
        patches = F.conv2d(pixels, self.patch_embedding, stride=self.config.patch_size)
        x: Tensor = patches.flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(x), 1, -1).to(x.dtype)
        x = self.pre_norm(torch.cat([first, x], 1) + self.position_embedding)
        for layer in self.layers[: len(self.layers) + 1 + self.config.feature_layer]:
            x = layer(x)
        return x[:, 1:]


class PictureEmbedding(nn.Module):
    """Tower, layout and projector: pictures to tokens of the decoder."""

    def __init__(self, config: VisionConfig, hidden_size: int) -> None:
        super().__init__()
        self.config = config
        merged = 4 * config.hidden_size
        self.tower = VisionTower(config)
        self.newline = nn.Parameter(torch.zeros(1, 1, 1, merged))
        self.separator = nn.Parameter(torch.zeros(1, 1, merged))
        self.project_in = Linear(merged, hidden_size)
        self.project_out = Linear(hidden_size, hidden_size)

    def reset_parameters(self, std: float) -> None:
        """Draws what is not in a linear layer: N(0, std)."""
        self.tower.reset_parameters(std)
        for parameter in (self.newline, self.separator):
            nn.init.normal_(parameter, std=std)

    def forward(self, pictures: Pictures) -> list[Tensor]:
        """One (tokens, hidden) tensor for each picture, `VisionConfig.tokens` long."""
        count, views = pictures.pixels.shape[:2]
        # Tiles that only fill up a batch of pictures of different shapes are not looked at.
        real = [
            n * views + v
            for n, (rows, columns) in enumerate(pictures.tiles)
            for v in range(rows * columns + 1)
        ]
        kept = pictures.pixels.flatten(0, 1)
        if len(real) < count * views:
            kept = kept[torch.tensor(real, device=kept.device)]
        features = self.tower(kept.to(self.tower.patch_embedding.dtype))
        lines, start = [], 0
        for rows, columns in pictures.tiles:
            end = start + 1 + rows * columns
            whole, parts = features[start : start + 1], features[start + 1 : end]
            separator = self.separator[0].to(features.dtype)
            lines += [self._lay_out(parts, rows, columns), separator, self._lay_out(whole, 1, 1)]
            start = end
        tokens = self.project_out(F.gelu(self.project_in(torch.cat(lines))))
        return list(tokens.split([self.config.tokens(*shape) for shape in pictures.tiles]))

    def _lay_out(self, features: Tensor, rows: int, columns: int) -> Tensor:
        """(rows * columns, grid^2, hidden) -> (lines * (columns * merged + 1), 4 hidden)."""
        side, size = self.config.merged, self.config.hidden_size
        x = features.view(rows, columns, side, 2, side, 2, size)
        x = x.permute(0, 2, 1, 4, 3, 5, 6).reshape(rows * side, columns * side, 4 * size)
        newline = self.newline[0].to(x.dtype).expand(rows * side, 1, -1)
        return torch.cat([x, newline], 1).flatten(0, 1)

    def place(self, embedded: Tensor, tokens: Tensor, pictures: Pictures | None) -> Tensor:
        """Puts the pictures' tokens where `tokens` (batch, time) is negative: id -n stands for picture n.

        Rows count their own pictures from 1; `pictures` holds those of the first row, then of the second, and
        so on. A picture may be shown twice. embedded: (batch, time, hidden), the embeddings of the text.
        Raises ValueError where ids and pictures do not fit each other.
        """
        places = tokens < 0
        shown = (-tokens).amax(-1).clamp(min=0).tolist()
        given = 0 if pictures is None else len(pictures.tiles)
        if sum(shown) != given:
            raise ValueError(f"the tokens stand for {sum(shown)} pictures, but {given} were given")
        if pictures is None:
            return embedded
        made = iter(self(pictures))
        found = []
        for row, count in zip(tokens, shown, strict=True):
            mine = [next(made) for _ in range(count)]
            runs, lengths = torch.unique_consecutive(row[row < 0], return_counts=True)
            for number, length in zip((-runs).tolist(), lengths.tolist(), strict=True):
                times, rest = divmod(length, len(mine[number - 1]))
                if rest:
                    size = len(mine[number - 1])
                    raise ValueError(f"picture {number} has {size} tokens, but {length} stand for it")
                found.append(mine[number - 1].repeat(times, 1))
        return embedded.masked_scatter(places[..., None], torch.cat(found).to(embedded.dtype))
