"""Cases, tolerances and cost model of pixel_difference."""
import torch
from torch import Tensor

from ..reference._neighbours import local_differences
from ..testing import Invalid, OpSpec, poked, replaced

MARGIN = 2e-3  # between a difference and its threshold: float32 and float64 must take the same branch


def margin(u: Tensor, n: int) -> Tensor:
    """How far each pixel is from the other branch of the gate; infinite where the window is flat. u: [B, D, H, W] in float64."""
    differences, variance = local_differences(u, n)
    least = torch.stack([sums[-1] for sums in differences]).amin(0)
    return torch.where(variance > 0, (least - variance.sqrt()).abs(), torch.inf)


def image(sizes, g: torch.Generator) -> Tensor:
    """White noise in steps of 1/16, which every dtype holds, away from the threshold of the gate where there is one."""
    shape, n = [sizes[name] for name in "BDHW"], sizes["n"]

    def draw(*shape):
        return (torch.randn(*shape, generator=g).double() * 16).round() / 16

    if sizes.get("flat"):
        return draw(*shape[:2], 1, 1).expand(shape).contiguous()
    u = draw(*shape)
    for _ in range(100 if n and u.numel() else 0):
        close = margin(u, n) < MARGIN
        if not close.any():
            break
        u = torch.where(close, draw(*shape), u)
    return u.contiguous(memory_format=torch.channels_last) if sizes.get("channels_last") else u


def weights(sizes, g: torch.Generator) -> Tensor:
    return torch.randn(2, sizes["n"], sizes["D"], generator=g).mul(0.3).double()


def sites(s) -> int:
    return s["B"] * s["D"] * s["H"] * s["W"]


def neighbour_flops(s) -> int:
    """Arms and windows, the weighted sum, and the deviation; nothing without weights."""
    n = s["n"]
    return sites(s) * (18 * n + 2 * (2 * n + 1) ** 2) if n else 0


SPEC = OpSpec(
    op="pixel_difference",
    inputs=lambda sizes, g: [image(sizes, g), weights(sizes, g), sizes.get("gamma", 1.0)],
    cases={
        "odd": dict(B=3, D=4, H=5, W=6, n=2),
        "n1": dict(B=2, D=2, H=8, W=5, n=1),
        "n3": dict(B=1, D=3, H=9, W=11, n=3),
        "gamma": dict(B=1, D=3, H=9, W=8, n=2, gamma=0.25),
        "negative_gamma": dict(B=1, D=2, H=6, W=7, n=2, gamma=-1.5),
        "flat": dict(B=1, D=3, H=8, W=8, n=2, flat=True),
        "row": dict(B=2, D=3, H=1, W=9, n=2),
        "column": dict(B=2, D=3, H=9, W=1, n=2),
        "pair": dict(B=1, D=1, H=1, W=2, n=2),
        "two_three": dict(B=1, D=4, H=2, W=3, n=2),
        "window_wider_than_image": dict(B=1, D=2, H=4, W=5, n=6),
        "D1": dict(B=1, D=1, H=12, W=9, n=2),
        "D16": dict(B=1, D=16, H=6, W=7, n=2),
        "D17": dict(B=1, D=17, H=7, W=6, n=2),
        "D33": dict(B=1, D=33, H=5, W=5, n=1),
        "channels_last": dict(B=2, D=32, H=7, W=9, n=2, channels_last=True),
        "large": dict(B=1, D=2, H=40, W=37, n=2),
        "no_batch": dict(B=0, D=3, H=4, W=4, n=2),
        "no_channel": dict(B=2, D=0, H=4, W=4, n=2),
        "no_row": dict(B=2, D=3, H=0, W=4, n=2),
        "no_column": dict(B=2, D=3, H=4, W=0, n=2),
    },
    split=dict(B=3, D=67, H=24, W=19, n=2),
    control="odd",
    bench={
        "B2_D96_64x64": dict(B=2, D=96, H=64, W=64, n=2, channels_last=True),
        "B1_D64_128x128": dict(B=1, D=64, H=128, W=128, n=2, channels_last=True),
        "B2_D96_64x64_contiguous": dict(B=2, D=96, H=64, W=64, n=2),
        "B8_D96_32x32_n1": dict(B=8, D=96, H=32, W=32, n=1, channels_last=True),
    },
    grads=(0, 1),
    gradients=lambda backward, args, g: list(backward(g, *args)),
    flops=neighbour_flops,
    backward_flops=lambda s: 2 * neighbour_flops(s),
    bytes=lambda s, size: 2 * size * sites(s),
    invalid=(
        Invalid("u dim", replaced(0, lambda t: t[0]), "u must be 4-D [B, D, H, W], got 3-D"),
        Invalid("W dim", replaced(1, lambda t: t[0]), "W must be 3-D [2, n, D], got 2-D"),
        Invalid("W axes", replaced(1, lambda t: t[:1]), "W must have size 2 (axes) in dimension 0, got 1"),
        Invalid("W channels", replaced(1, lambda t: t[..., 1:]), "W must have size 4 (D of u) in dimension 2, got 3"),
        Invalid("n=0", replaced(1, lambda t: t[:, :0]), "W must have n >= 1 windows, got n=0"),
        Invalid("integer u", replaced(0, lambda t: t.long()), "u must be float16, bfloat16, float32 or float64, got int64"),
        Invalid("integer W", replaced(1, lambda t: t.int()), "W must have the dtype of u, float32, got int32"),
        Invalid("half W", replaced(1, lambda t: t.half()), "W must have the dtype of u, float32, got float16"),
        Invalid("W for half u", lambda a: [a[0].bfloat16(), a[1].half(), *a[2:]], "W must have the dtype of u, bfloat16, or float32, got float16"),
        Invalid("meta W", replaced(1, lambda t: t.to("meta")), "must be on the device of u"),
    ),
    hot={
        "x 1e15": replaced(0, lambda t: t * 1e15),
        "x 1e-15": replaced(0, lambda t: t * 1e-15),
        "offset 1000": replaced(0, lambda t: t + 1000),
        "zeros": replaced(0, torch.zeros_like),
        "W 0": replaced(1, torch.zeros_like),
        "NaN in u": poked(0, float("nan"), 37),
        "Inf in u": poked(0, float("inf"), 37),
        "-Inf in u": poked(0, float("-inf"), 37),
        "NaN in W": poked(1, float("nan"), 5),
        "Inf in W": poked(1, float("inf"), 5),
    },
    ulp=6,
    grad_ulp=20,
)
