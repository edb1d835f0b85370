"""Layer restoration: a decoder map and its skip connection as two layers of one mixture, separated by unrolled gradient steps."""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


class LinearOperator(nn.Module):
    """A(x) = x + conv3x3(x) without bias, (B, C, H, W) to the same: linear, and near the identity at the start. A scale multiplies the result.

    One convolution, whose kernel takes in the x and the scale; but not in half precision, where the 1 in it would round its neighbours' digits away.

    >>> LinearOperator(4)(torch.zeros(1, 4, 8, 8)).shape
    torch.Size([1, 4, 8, 8])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv.weight)
        with torch.no_grad():
            self.conv.weight.mul_(0.1)
        identity = torch.zeros_like(self.conv.weight, requires_grad=False)
        nn.init.dirac_(identity)
        self.register_buffer("identity", identity, persistent=False)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        if x.dtype.itemsize == 2 or (x.device.type != "meta" and torch.is_autocast_enabled(x.device.type)):
            return x + self.conv(x) if scale is None else scale * (x + self.conv(x))
        kernel = self.conv.weight + self.identity
        return F.conv2d(x, kernel if scale is None else kernel * scale, padding=1)


class ChannelAttention(nn.Module):
    """CBAM's channel map, not multiplied: sigmoid(mlp(mean) + mlp(max)) over the pixels. (B, C, H, W) -> (B, C, 1, 1).

    >>> ChannelAttention(8)(torch.zeros(2, 8, 4, 4)).shape
    torch.Size([2, 8, 1, 1])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 16, 4)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        return (self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))).sigmoid()[..., None, None]


class SpatialAttention(nn.Module):
    """CBAM's spatial map, not multiplied: sigmoid(conv7x7([max; mean])) over the channels. (B, C, H, W) -> (B, 1, H, W).

    >>> SpatialAttention()(torch.zeros(2, 8, 4, 4)).shape
    torch.Size([2, 1, 4, 4])
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)).sigmoid()


class LRMStage(nn.Module):
    """One step of the two paths, (x_h, x_l, H, L) -> (x_h', x_l'), all (B, C, H, W).

        Y_h = alpha_h (L - H) + H,   Y_l = alpha_l (H - L) + L                                         Eq. 14-17
        v = x - rho A^T(A(x) - Y) on each path                                                         Eq. 20, 21
        x_l' = v_l CA_l(SA_l(v_l) v_h),   x_h' = v_h SA_h(CA_h(v_h) v_l)                               Eq. 22, 23

    Eq. 20 and 21 apply A^T to A x, alpha (L - H) and H one by one; A^T is linear, so once to their sum is the same. A, A^T (of independent
    weights) and rho serve both paths.

    >>> x = torch.zeros(1, 8, 6, 6)
    >>> [y.shape for y in LRMStage(8)(x, x, x, x)]
    [torch.Size([1, 8, 6, 6]), torch.Size([1, 8, 6, 6])]
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.A, self.At = LinearOperator(channels), LinearOperator(channels)
        self.rho = nn.Parameter(torch.tensor(0.5))
        # not bounded to (0, 1): alpha = 1 - 1/beta (Eq. 11, 12) is negative for beta in (0, 1)
        self.alpha_h, self.alpha_l = (nn.Parameter(torch.full((1, channels, 1, 1), 0.5)) for _ in range(2))
        self.ca_h, self.ca_l = ChannelAttention(channels), ChannelAttention(channels)
        self.sa_h, self.sa_l = SpatialAttention(), SpatialAttention()

    def gradient_step(self, xh: Tensor, xl: Tensor, high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        """Eq. 20 and 21: v_h and v_l."""
        difference = low - high
        yh, yl = high + self.alpha_h * difference, low - self.alpha_l * difference
        return xh - self.At(self.A(xh) - yh, self.rho), xl - self.At(self.A(xl) - yl, self.rho)

    def forward(self, xh: Tensor, xl: Tensor, high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        vh, vl = self.gradient_step(xh, xl, high, low)
        return vh * self.sa_h(self.ca_h(vh) * vl), vl * self.ca_l(self.sa_l(vl) * vh)


class LRM(nn.Module):
    """Layer restoration module: `stages` steps from x_h = H (decoder) and x_l = L (skip), then conv1x1([x_h; x_l]). (H, L) -> (B, C, H, W).

    checkpoint=True computes each stage again in the backward pass instead of keeping its activations; the gradients are the same.

    >>> LRM(8, stages=2)(torch.zeros(1, 8, 6, 6), torch.zeros(1, 8, 6, 6)).shape
    torch.Size([1, 8, 6, 6])
    """

    def __init__(self, channels: int, stages: int, checkpoint: bool = False) -> None:
        super().__init__()
        self.stages = nn.ModuleList(LRMStage(channels) for _ in range(stages))
        self.out = nn.Conv2d(2 * channels, channels, 1)
        self.checkpoint = checkpoint

    def forward(self, high: Tensor, low: Tensor) -> Tensor:
        xh, xl = high, low
        for stage in self.stages:
            if self.checkpoint and torch.is_grad_enabled():
                xh, xl = checkpoint(stage, xh, xl, high, low, use_reentrant=False, preserve_rng_state=False)
            else:
                xh, xl = stage(xh, xl, high, low)
        return self.out(torch.cat((xh, xl), 1))
