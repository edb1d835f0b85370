"""Dice of the mask together with the cross-entropy of an edge map."""
from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import torch
from torch import Tensor
from torch.nn import functional as F

from python_models.losses.base import Criterion

_MASK = ("dice", "iou")
_EDGE = ("morph", "inner")


class DiceEdgeLoss(Criterion):
    """L = mask term + edge_weight * BCE(edge), IRSAM's loss (Eq. 10 and 11), over the whole batch at once.

    With p = sigmoid(logits), S = sum p, T = sum y, I = sum p y: "dice" is 1 - (2 I + eps) / (S + T + eps), "iou" is
    1 - (I + eps) / (S + T - I + eps); nothing predicted and nothing wanted gives 0. The cross-entropy -(e log P + (1 - e) log(1 - P)) is the
    mean over pixels of the edge probability P = out["edge"], its logarithms not below -100. (The paper prints a union for I and the mask
    for e in the second factor; both are misprints.)

    The edge target e is target["edge"] where that is given, a map of values in [0, 1], else `edge_of(mask, edge)`. edge_weight=0 reads no edge.
    Computed in float32 (float64 for float64 logits), also under autocast. Arguments and errors as `Criterion`; unknown terms, a weight
    that is no finite number >= 0, and a missing or misshapen edge raise ValueError.

    >>> out = {"logits": torch.full((2, 1, 4, 4), 20.0), "edge": torch.zeros(2, 1, 4, 4)}
    >>> round(DiceEdgeLoss()(out, torch.ones(2, 4, 4)).item(), 4)
    0.0
    """

    def __init__(self, edge_weight: float = 10.0, mask: str = "dice", edge: str = "morph", eps: float = 1e-6) -> None:
        super().__init__()
        if isinstance(edge_weight, bool) or not isinstance(edge_weight, (int, float)) or not isfinite(edge_weight) or edge_weight < 0:
            raise ValueError(f"DiceEdgeLoss: edge_weight must be a finite number >= 0, got {edge_weight!r}")
        for name, value, known in (("mask", mask, _MASK), ("edge", edge, _EDGE)):
            if value not in known:
                raise ValueError(f"DiceEdgeLoss: {name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        if not eps > 0:
            raise ValueError(f"DiceEdgeLoss: eps must be > 0, got {eps}")
        self.edge_weight, self.mask, self.edge, self.eps = edge_weight, mask, edge, eps

    def forward(self, out: Mapping[str, Tensor] | Tensor, target: Mapping[str, Tensor] | Tensor) -> Tensor:
        logits, mask = self.read(out, target)
        p = torch.sigmoid(logits)
        both, total = (p * mask).sum(), p.sum() + mask.sum()
        if self.mask == "dice":
            loss = 1 - (2 * both + self.eps) / (total + self.eps)
        else:
            loss = 1 - (both + self.eps) / (total - both + self.eps)
        return loss + self.edge_weight * self._cross_entropy(out, target, mask) if self.edge_weight else loss

    def _cross_entropy(self, out: Mapping[str, Tensor] | Tensor, target: Mapping[str, Tensor] | Tensor, mask: Tensor) -> Tensor:
        if not isinstance(out, Mapping) or "edge" not in out:
            raise ValueError('DiceEdgeLoss: out must hold "edge" where edge_weight is not 0, got none')
        wanted = target["edge"] if isinstance(target, Mapping) and "edge" in target else edge_of(mask, self.edge)
        wanted = wanted[:, None] if wanted.ndim == 3 else wanted
        for name, value in (("edge", out["edge"]), ('target["edge"]', wanted)):
            if value.shape != mask.shape:
                raise ValueError(f"DiceEdgeLoss: {name} must be {tuple(mask.shape)}, got {tuple(value.shape)}")
        # interpolation may pass 1 by a rounding error, which the cross-entropy refuses
        probability = out["edge"].to(mask.dtype).clamp(0, 1)
        with torch.autocast(mask.device.type, enabled=False):
            return F.binary_cross_entropy(probability, wanted.to(mask.dtype), reduction="sum") / max(mask.numel(), 1)

    def extra_repr(self) -> str:
        return f"edge_weight={self.edge_weight}, mask={self.mask!r}, edge={self.edge!r}, eps={self.eps}"


def edge_of(mask: Tensor, kind: str = "morph") -> Tensor:
    """The edge of the targets of a floating mask (B, 1, H, W), target above 1/2, as 0 and 1 in its dtype.

    "morph": what a 3x3 cross dilates to and not erodes to, a two-pixel line over the border of a target; it is never empty where there is a
    target (unless the target is the whole image) and marks even one pixel (5). "inner": the targets' own pixels of it. Beyond the image its
    last pixels go on, so that its frame is no edge.

    >>> mask = torch.zeros(1, 1, 5, 5); mask[..., 2, 2] = 1
    >>> edge_of(mask).sum().item(), edge_of(mask, "inner").sum().item()
    (5.0, 1.0)
    """
    inside = (mask > 0.5).to(mask.dtype)
    eroded = 1 - _cross(1 - inside)
    return (inside if kind == "inner" else _cross(inside)) - eroded


def _cross(x: Tensor) -> Tensor:
    """Largest value of the 3x3 cross; a replicated border adds nothing to it, nor does max pooling's."""
    return torch.maximum(F.max_pool2d(x, (3, 1), 1, (1, 0)), F.max_pool2d(x, (1, 3), 1, (0, 1)))
