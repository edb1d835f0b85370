"""Per-channel normalisation that travels with the weights."""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Normaliser(nn.Module):
    """(x - mean) / std per channel, for x (B, C, H, W) on the [0, 1] scale; float32 inside and out.

    mean and std [C] are buffers, saved and loaded with the network. They start at ImageNet's values (their average for one channel).

    >>> normalise = Normaliser(3)
    >>> normalise.set(0.43, 0.11)          # one value for all channels, or one per channel
    >>> normalise(torch.full((1, 3, 2, 2), 0.43)).abs().max().item()
    0.0
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            start = torch.tensor(values)
            self.register_buffer(name, start if channels == 3 else start.mean().expand(channels).clone())

    def set(self, mean: float | Sequence[float] | Tensor, std: float | Sequence[float] | Tensor) -> None:
        """Store mean and std: one number for all channels or one per channel, finite, std > 0. Raises ValueError otherwise."""
        new = {}
        for name, value in (("mean", mean), ("std", std)):
            value = torch.as_tensor(value, dtype=torch.float64).detach().cpu().flatten()
            if value.numel() not in (1, self.mean.numel()):
                raise ValueError(f"normaliser: {name} must hold 1 or {self.mean.numel()} values, got {value.numel()}")
            if not torch.isfinite(value).all() or (name == "std" and not (value > 0).all()):
                raise ValueError(f"normaliser: {name} must be finite{' and > 0' if name == 'std' else ''}, got {value.tolist()}")
            new[name] = value
        self.mean.copy_(new["mean"].expand_as(self.mean))
        self.std.copy_(new["std"].expand_as(self.std))

    def forward(self, x: Tensor) -> Tensor:
        mean, std = (b.float().view(1, -1, 1, 1) for b in (self.mean, self.std))
        return (x.float() - mean) / std

    def extra_repr(self) -> str:
        return f"channels={self.mean.numel()}"
