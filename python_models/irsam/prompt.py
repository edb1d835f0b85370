"""The prompt encoder of SAM as IRSAM uses it: no prompt is given, so it hands out a position encoding and one learned vector."""
from __future__ import annotations

from math import pi

import torch
from torch import Tensor, nn

from python_models.irsam.kept import Keeping
from python_models.irsam.norm import LayerNorm2d


class PositionEncoding(Keeping):
    """(h, w) -> (1, h w, 2 features), row by row: [sin, cos] of 2 pi (2c - 1) G at the pixel centres c = ((column + 0.5) / w, (row + 0.5) / h).

    G [2, features] is a buffer that is saved and loaded; another draw of it is another network. keep: the result is kept while G and the
    grid stay as they are.

    >>> PositionEncoding(16)(3, 5).shape
    torch.Size([1, 15, 32])
    """

    def __init__(self, features: int, keep: bool = True) -> None:
        super().__init__()
        self.keep = keep
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, features))

    def forward(self, height: int, width: int) -> Tensor:
        if self.keep:
            return self.kept(lambda: self._encode(height, width), [self.positional_encoding_gaussian_matrix], height, width)
        return self._encode(height, width)

    def _encode(self, height: int, width: int) -> Tensor:
        stored = self.positional_encoding_gaussian_matrix
        matrix = stored.float() if stored.dtype.itemsize == 2 else stored
        x, y = (2 * ((torch.arange(n, dtype=matrix.dtype, device=matrix.device) + 0.5) / n) - 1 for n in (width, height))
        # products and a sum, not a matrix product: autocast would round that one, and its argument reaches hundreds of radians
        angle = 2 * pi * (x[None, :, None] * matrix[0] + y[:, None, None] * matrix[1])
        return torch.cat((angle.sin(), angle.cos()), -1).flatten(0, 1)[None].to(stored.dtype)


class PromptEncoder(nn.Module):
    """(h, w) -> (position encoding (1, h w, width), no_mask_embed (width)).

    Everything else, the embeddings of points and boxes, the convolutions of a mask prompt and the second matrix, is stored and never run.

    >>> [tuple(t.shape) for t in PromptEncoder(32)(2, 3)]
    [(1, 6, 32), (32,)]
    """

    unused = ("pe_layer_2", "point_embeddings", "not_a_point_embed", "mask_downscaling")

    def __init__(self, width: int = 256, keep: bool = True) -> None:
        super().__init__()
        self.pe_layer, self.pe_layer_2 = PositionEncoding(width // 2, keep), PositionEncoding(width // 8, keep)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, width)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, 2), LayerNorm2d(4), nn.GELU(), nn.Conv2d(4, 16, 2, 2), LayerNorm2d(16), nn.GELU(), nn.Conv2d(16, width, 1))
        self.no_mask_embed = nn.Embedding(1, width)

    def forward(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        return self.pe_layer(height, width), self.no_mask_embed.weight[0]
