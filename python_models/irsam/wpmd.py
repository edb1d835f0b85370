"""WPMD, wavelet-domain Perona-Malik diffusion: the project's reading of Eq. 1-4. The authors released no module of theirs to compare with."""
from __future__ import annotations

from math import expm1, log

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irstd_ext import get_ops


class WPMD(nn.Module):
    """x + conv3x3(wavelet_diffusion(x, k, steps, all_high)), (B, channels, H, W) to the same, for any encoder. [ours]

        k_c = softplus(kappa_c)                 contrast of channel c: differences well below it are smoothed, those well above it stay

    steps: unit steps of the diffusion. all_high: damp the diagonal band too, which Eq. 4 leaves out. The convolution starts at 0, so that the
    block begins as the identity and loaded features stay as they are; kappa, which starts at k = 1, gets a gradient once it has moved.

    >>> WPMD(8, backend="reference")(torch.ones(1, 8, 6, 5)).shape
    torch.Size([1, 8, 6, 5])
    """

    def __init__(self, channels: int, steps: int = 3, all_high: bool = False, backend: str = "ext") -> None:
        super().__init__()
        if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
            raise ValueError(f"WPMD: channels must be an integer >= 1, got {channels!r}")
        if not isinstance(all_high, bool):
            raise ValueError(f"WPMD: all_high must be True or False, got {all_high!r}")
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
            raise ValueError(f"WPMD: steps must be an integer >= 0, got {steps!r}")
        self.steps, self.all_high = steps, all_high
        self.kappa = nn.Parameter(torch.full((channels,), log(expm1(1))))
        self.proj = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)
        self.diffuse = get_ops(backend).wavelet_diffusion

    def k(self) -> Tensor:
        """The contrast of each channel, (channels,), > 0; in a form to log as well."""
        return F.softplus(self.kappa)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.proj(self.diffuse(x, self.k(), self.steps, self.all_high))

    def extra_repr(self) -> str:
        return f"steps={self.steps}, all_high={self.all_high}"
