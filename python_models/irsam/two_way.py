"""The two-way transformer of SAM (Eq. 5): tokens look at the image and the image at the tokens."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from python_models.irsam.kept import Keeping


class Attention(nn.Module):
    """Multi-head attention of q (B, N, width) on k and v (B, M, width), inside at `inner` channels, scale (inner / heads)^-1/2 -> (B, N, width).

    >>> Attention(32, 16)(torch.zeros(2, 6, 32), torch.zeros(2, 9, 32), torch.zeros(2, 9, 32)).shape
    torch.Size([2, 6, 32])
    """

    def __init__(self, width: int, inner: int, heads: int = 8) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, width)
        self.heads, self.scale = heads, (inner // heads) ** -0.5

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = self._split(self.q_proj(q)), self._split(self.k_proj(k)), self._split(self.v_proj(v))
        return self.out_proj(((self.scale * q @ k.transpose(2, 3)).softmax(-1) @ v).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)  # [B, heads, N, inner / heads]

    def _back(self, x: Tensor, weight: Tensor) -> Tensor:
        """Rows x [B, heads, T, d] through the transpose of a projection [inner, width]: [B, heads T, width], one row a head and token."""
        return (x @ weight.unflatten(0, (self.heads, -1))).flatten(1, 2)


class TokenToImage(Attention):
    """The same function where q are few tokens: no pixel is projected.

    <q, W k> = <W^T q, k> for each head and token, the bias of k adds the same to every pixel and softmax drops it, and the mean of projected
    values is the projected mean. 2 heads T products a pixel and channel instead of 2 inner: 96 for 256.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rows = self._back(self.scale * self._split(self.q_proj(q)), self.k_proj.weight)
        mean = ((rows @ k.transpose(1, 2)).softmax(-1) @ v).unflatten(1, (self.heads, -1))  # [B, heads, T, width]
        mixed = (mean @ self.v_proj.weight.unflatten(0, (self.heads, -1)).transpose(1, 2)).transpose(1, 2).flatten(2)
        return self.out_proj(mixed + self.v_proj.bias)


class ImageToToken(Attention):
    """The same function where k and v are few tokens: no pixel is projected. As `TokenToImage`, with the output's projection on the tokens."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k = self.scale * self._split(self.k_proj(k))
        rows, offset = self._back(k, self.q_proj.weight), k @ self.q_proj.bias.view(self.heads, -1, 1)
        scores = q @ rows.transpose(1, 2) + offset.flatten(1)[:, None]  # [B, N, heads T]
        weights = scores.unflatten(2, (self.heads, -1)).softmax(-1).flatten(2)
        return weights @ self._back(self._split(self.v_proj(v)), self.out_proj.weight.t()) + self.out_proj.bias


class FeedForward(nn.Module):
    """width -> hidden, ReLU, hidden -> width."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1, self.lin2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(self.lin1(x).relu())


class TwoWayLayer(nn.Module):
    """(tokens (B, T, width), keys (B, N, width), positions of both) -> both anew. first: neither positions nor residual in the self-attention.

    >>> layer, tokens, keys = TwoWayLayer(32, 64, first=False), torch.zeros(1, 6, 32), torch.zeros(1, 9, 32)
    >>> [tuple(t.shape) for t in layer(tokens, keys, tokens, keys)]
    [(1, 6, 32), (1, 9, 32)]
    """

    def __init__(self, width: int, hidden: int, first: bool, rewrites: bool = True) -> None:
        super().__init__()
        self.self_attn = Attention(width, width)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = (TokenToImage if rewrites else Attention)(width, width // 2)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width, hidden)
        self.norm3, self.norm4 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.cross_attn_image_to_token = (ImageToToken if rewrites else Attention)(width, width // 2)
        self.first = first

    def attend_tokens(self, tokens: Tensor, token_positions: Tensor) -> Tensor:
        """The self-attention and its norm, the part that no image enters."""
        if self.first:
            return self.norm1(self.self_attn(tokens, tokens, tokens))
        positioned = tokens + token_positions
        return self.norm1(tokens + self.self_attn(positioned, positioned, tokens))

    def attend_image(self, tokens: Tensor, keys: Tensor, token_positions: Tensor, key_positions: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens to image, their MLP, image to tokens."""
        positioned = keys + key_positions
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_positions, positioned, keys))
        tokens = self.norm3(tokens + self.mlp(tokens))
        return tokens, self.norm4(keys + self.cross_attn_image_to_token(positioned, tokens + token_positions, tokens))

    def forward(self, tokens: Tensor, keys: Tensor, token_positions: Tensor, key_positions: Tensor) -> tuple[Tensor, Tensor]:
        return self.attend_image(self.attend_tokens(tokens, token_positions), keys, token_positions, key_positions)


class TwoWayTransformer(Keeping):
    """Eq. 5: (keys (B, N, width), their positions (1, N, width), tokens) -> (tokens (B, len(rows), width), keys (B, N, width)).

    tokens: parameters [any, width] that make up the T tokens, in this order; their positions are they themselves. Two layers and a last
    attention of the tokens on the image. `rows`: the tokens that are wanted; all T take part until then, and the last attention mixes none
    of them with another. rewrites: pixels are not projected in the attention between tokens and image; what the first layer does before it
    sees an image is computed once for the batch, and kept where nothing is differentiated; the last attention is for the wanted tokens alone.

    >>> net, tokens = TwoWayTransformer(32, 64), [torch.zeros(1, 32), torch.zeros(5, 32)]
    >>> [tuple(t.shape) for t in net(torch.zeros(2, 9, 32), torch.zeros(1, 9, 32), tokens, (1, 5))]
    [(2, 2, 32), (2, 9, 32)]
    """

    def __init__(self, width: int = 256, hidden: int = 2048, rewrites: bool = True) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayLayer(width, hidden, i == 0, rewrites) for i in range(2))
        self.final_attn_token_to_image = (TokenToImage if rewrites else Attention)(width, width // 2)
        self.norm_final_attn = nn.LayerNorm(width)
        self.rewrites = rewrites
        for attention in (*(layer.cross_attn_token_to_image for layer in self.layers), self.final_attn_token_to_image):
            attention.k_proj.bias.requires_grad_(False)  # softmax drops it, so its gradient is 0, and the rewritten form never reads it

    def forward(self, keys: Tensor, key_positions: Tensor, tokens: Sequence[Tensor], rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        joined = torch.cat(list(tokens))[None]
        start = joined.expand(keys.shape[0], -1, -1)
        first, second = self.layers
        if self.rewrites:
            sources = [*tokens, *first.self_attn.parameters(), *first.norm1.parameters()]
            queries = self.kept(lambda: first.attend_tokens(joined, joined), sources)
            queries, keys = first.attend_image(queries.expand_as(start), keys, start, key_positions)
        else:
            queries, keys = first(start, keys, start, key_positions)
        queries, keys = second(queries, keys, start, key_positions)
        if self.rewrites:
            queries, start = (torch.stack([t[:, row] for row in rows], 1) for t in (queries, start))
        queries = self.norm_final_attn(queries + self.final_attn_token_to_image(queries + start, keys + key_positions, keys))
        return (queries if self.rewrites else queries[:, list(rows)]), keys
