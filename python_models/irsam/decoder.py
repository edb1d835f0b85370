"""The granularity-aware decoder with its edge head (Eq. 5-9)."""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from python_models.irsam.norm import LayerNorm2d
from python_models.irsam.two_way import TwoWayTransformer

_MASKS = 4
_START = -80.0  # sum of the mask vector's first biases: logits begin at -2 to -4 on average, since few pixels are target [ours]
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU}


class MLP(nn.Module):
    """Three Linear layers with ReLU between: width -> width -> width -> out."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList((nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, out)))

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.layers
        return last(second(first(x).relu()).relu())


class MaskDecoder(nn.Module):
    """(X (B, width, h, w), tap (B, tap_width, h, w) or None, positions (1, h w, width), no_mask_embed (width)) -> logits, edge (B, 1, 4h, 4w).

        X_coarse = up(keys)                                              after Eq. 5, `two_way.py`
        X_fine = M(X_coarse) + X_multi                                   Eq. 6, M [code]
        X_multi = deep(X) + shallow(tap)                                 Eq. 7; activation `multi_act`
        e = sigmoid(<edge_mlp(edge token), X_fine>)                      Eq. 8, sigmoid [code]
        m = <mlp(mask token), X_coarse>,  m <- m (1 + e)                 Eq. 9, gate [code]

    Tokens: one for the mask quality, four for masks, one for the edge; of the masks the first is returned. shallow, deep: the branches of
    X_multi that run; edge=False leaves out the edge token, X_fine and the gate, and returns None as the edge. Logits and edge probability
    come at their own resolution: the caller upsamples. What does not run (`unused()`) has weights all the same, so that every checkpoint loads.

    rewrites: what is exact but quicker: the two-way transformer's, and the last convolutions of X_fine collapsed with the edge vector, which
    is all that X_fine is used for. False: the plain form.

    >>> net = MaskDecoder(width=32, tap_width=16, hidden=64)
    >>> x, tap = torch.zeros(2, 32, 3, 4), torch.zeros(2, 16, 3, 4)
    >>> [tuple(t.shape) for t in net(x, tap, torch.zeros(1, 12, 32), torch.zeros(32))]
    [(2, 1, 12, 16), (2, 1, 12, 16)]
    """

    def __init__(self, width: int = 256, tap_width: int = 160, hidden: int = 2048, shallow: bool = True, deep: bool = True, edge: bool = True,
                 multi_act: str = "relu", rewrites: bool = True) -> None:
        super().__init__()
        up, out, act = width // 4, width // 8, ACTIVATIONS[multi_act]
        self.shallow, self.deep, self.edge, self.rewrites = shallow, deep, edge, rewrites
        self.transformer = TwoWayTransformer(width, hidden, rewrites)
        self.iou_token, self.mask_tokens = nn.Embedding(1, width), nn.Embedding(_MASKS, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, up, 2, 2), LayerNorm2d(up), nn.GELU(), nn.ConvTranspose2d(up, out, 2, 2), nn.GELU())
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(width, out) for _ in range(_MASKS))
        self.iou_prediction_head = MLP(width, _MASKS)
        self.edge_token, self.edge_mlp = nn.Embedding(1, width), MLP(width, out)
        self.compress_vit_feat = _branch(tap_width, width, out, act)
        self.embedding_encoder = _branch(width, up, out, act)
        self.embedding_maskfeature = nn.Sequential(
            nn.ConvTranspose2d(out, up, 3, 1, 1), LayerNorm2d(up), nn.GELU(), nn.ConvTranspose2d(up, out, 3, 1, 1))
        nn.init.constant_(self.output_hypernetworks_mlps[0].layers[-1].bias, _START / out)

    def unused(self) -> list[nn.Module]:
        """The modules that never take part in a result, as this decoder is configured; the plain form computes masks 1 to 3 for nothing."""
        dead: list[nn.Module] = [*self.output_hypernetworks_mlps[1:], self.iou_prediction_head]
        if not self.edge:
            dead += [self.edge_token, self.edge_mlp, self.embedding_maskfeature]
        dead += [self.compress_vit_feat] * (not (self.edge and self.shallow)) + [self.embedding_encoder] * (not (self.edge and self.deep))
        return dead

    def forward(self, x: Tensor, tap: Tensor | None, positions: Tensor, no_mask_embed: Tensor) -> tuple[Tensor, Tensor | None]:
        tokens = [self.iou_token.weight, self.mask_tokens.weight, *([self.edge_token.weight] if self.edge else [])]
        rows = [*([1] if self.rewrites else range(1, 1 + _MASKS)), *([1 + _MASKS] if self.edge else [])]
        keys = (x + no_mask_embed[:, None, None]).flatten(2).transpose(1, 2)
        queries, keys = self.transformer(keys, positions, tokens, rows)
        coarse = self.output_upscaling(keys.transpose(1, 2).unflatten(2, x.shape[2:]))
        if self.rewrites:
            vectors = self.output_hypernetworks_mlps[0](queries[:, :1])
        else:
            vectors = torch.stack([mlp(queries[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], 1)
        masks = _products(vectors, coarse)
        if not self.edge:
            return masks[:, :1], None
        vector = self.edge_mlp(queries[:, -1])
        score = self._edge_collapsed(vector, x, tap, coarse) if self.rewrites else self._edge(vector, x, tap, coarse)
        edge = score.float().sigmoid() if score.dtype.itemsize == 2 else score.sigmoid()  # in half precision 1 - e has no digits left for the loss
        return (masks * (1 + edge))[:, :1], edge

    def _edge(self, vector: Tensor, x: Tensor, tap: Tensor | None, coarse: Tensor) -> Tensor:
        """Eq. 6-8 as they stand: <vector (B, out), X_fine> (B, 1, 4h, 4w)."""
        fine = self.embedding_maskfeature(coarse)
        if self.deep:
            fine = fine + self.embedding_encoder(x)
        if self.shallow:
            fine = fine + self.compress_vit_feat(tap)
        return _products(vector[:, None], fine)

    def _edge_collapsed(self, vector: Tensor, x: Tensor, tap: Tensor | None, coarse: Tensor) -> Tensor:
        """The same: <v, W * a + b> = (v W) * a + <v, b>, a convolution to one channel with a kernel for each image."""
        first, norm, act, last = self.embedding_maskfeature
        # a transposed convolution of stride 1 is a convolution with the kernel turned around
        hidden = act(norm(F.conv2d(coarse, first.weight.flip(2, 3).transpose(0, 1), first.bias, padding=1)))
        score, bias = _collapsed3(vector, last, hidden), last.bias
        for on, branch, feature in ((self.deep, self.embedding_encoder, x), (self.shallow, self.compress_vit_feat, tap)):
            if on:
                *hidden_layers, last = branch
                for layer in hidden_layers:
                    feature = layer(feature)
                score, bias = score + _collapsed2(vector, last, feature), bias + last.bias
        return score + (vector @ bias)[:, None, None, None]


def _branch(inside: int, hidden: int, out: int, act: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(inside, hidden, 2, 2), LayerNorm2d(hidden), act(), nn.ConvTranspose2d(hidden, out, 2, 2))


def _products(vectors: Tensor, features: Tensor) -> Tensor:
    """Dot products over the channels: (B, n, C), (B, C, H, W) -> (B, n, H, W)."""
    return (vectors @ features.flatten(2)).unflatten(2, features.shape[2:])


def _kernels(vector: Tensor, conv: nn.ConvTranspose2d) -> Tensor:
    """Kernels to one channel, (B, taps, C), of a transposed convolution C -> O and vectors (B, O)."""
    return torch.einsum("bo,cot->btc", vector, conv.weight.flatten(2))


def _collapsed2(vector: Tensor, conv: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """Kernel 2, stride 2, without bias: every pixel becomes 2x2 pixels."""
    return F.pixel_shuffle(_products(_kernels(vector, conv), x), 2)


def _collapsed3(vector: Tensor, conv: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """Kernel 3, stride 1, padding 1, without bias: nine maps, added shifted."""
    return F.fold((_kernels(vector, conv) @ x.flatten(2)), x.shape[2:], 3, padding=1)
