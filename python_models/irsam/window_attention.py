"""Self-attention within square windows of a token map, with a learned bias for each distance."""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from python_models.irsam.kept import Keeping
from python_models.layers.in_place import add


class WinAttn(Keeping):
    """Tokens (B, H, W, channels) -> tokens + attention(tokens), in windows of `window` x `window` from the top left, for any H and W.

        x = zero-pad(tokens) to whole windows at the bottom and right                                  before the norm
        q, k, v = qkv(LayerNorm(x)), for each head [q | k | v]                                         head dimension d = channels / heads
        proj(softmax(q k^T / sqrt(d) + table[head, |row distance| * window + |column distance|]) v), cropped

    The padding is not masked: its tokens are LayerNorm(0), the norm's bias, and every query of their window attends to them. [code]

    rewrites: the bias gathered once for each state of the table (`kept.py`), fused attention where it is faster, and the projection of the
    cropped tokens alone. False: one step after the other. Raises ValueError where heads does not divide channels.

    >>> WinAttn(16, heads=2, window=7)(torch.zeros(1, 9, 5, 16)).shape
    torch.Size([1, 9, 5, 16])
    """

    def __init__(self, channels: int, heads: int, window: int, rewrites: bool = True) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"WinAttn: heads must divide the {channels} channels, got {heads}")
        self.heads, self.window, self.rewrites = heads, window, rewrites
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def bias(self) -> Tensor:
        """The table at every pair of tokens of a window: (heads, window^2, window^2)."""
        return self.kept(self._gather, (self.attention_biases,)) if self.rewrites else self._gather()

    def _gather(self) -> Tensor:
        side, tokens = self.window, self.window * self.window
        place = torch.arange(side, device=self.attention_biases.device)
        distance = (place[:, None] - place).abs()
        index = distance[:, None, :, None] * side + distance[:, None, :]  # [row, column, other row, other column]
        return self.attention_biases.index_select(1, index.flatten()).unflatten(1, (tokens, tokens))

    def forward(self, tokens: Tensor) -> Tensor:
        _, height, width, channels = tokens.shape
        side, dim = self.window, channels // self.heads
        down, across = -(-height // side), -(-width // side)
        x = F.pad(tokens, (0, 0, 0, across * side - width, 0, down * side - height))
        x = x.unflatten(2, (across, side)).unflatten(1, (down, side)).transpose(2, 3).flatten(3, 4).flatten(0, 2)  # [B windows, side^2, C]
        # the norm after the padding, though its result there is known: skipping it saves less than the copy that would put it in
        q, k, v = self.qkv(self.norm(x)).unflatten(2, (self.heads, 3, dim)).permute(3, 0, 2, 1, 4)
        # on the CPU a bias that learns is no case for fused attention: it would fall back to a slower form of the second line
        if self.rewrites and not (torch.is_grad_enabled() and x.device.type == "cpu"):
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias()[None])
        else:
            x = (q * dim**-0.5 @ k.transpose(2, 3) + self.bias()).softmax(-1) @ v
        x = x.transpose(1, 2).flatten(2)
        if not self.rewrites:
            x = self.proj(x)
        x = x.unflatten(1, (side, side)).unflatten(0, (-1, down, across)).transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :height, :width]
        return add(self.proj(x), tokens) if self.rewrites else tokens + x
