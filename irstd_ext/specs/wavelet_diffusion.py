"""Cases, tolerances and cost model of wavelet_diffusion."""
import torch

from ..testing import Invalid, OpSpec, poked, replaced


def _inputs(sizes, g: torch.Generator) -> list:
    """Noise, and contrasts from a tenth to ten times its differences."""
    shape = [sizes[name] for name in "BCHW"]
    u = torch.randn(*shape, generator=g).double() if not sizes.get("flat") else torch.randn(*shape[:2], 1, 1, generator=g).double().expand(shape).contiguous()
    k = (10 ** (2 * torch.rand(sizes["C"], generator=g) - 1) * sizes.get("k", 1.0)).double()
    if sizes.get("channels_last"):
        u = u.contiguous(memory_format=torch.channels_last)
    return [u, k, sizes["steps"], sizes.get("all_high", False)]


def _cells(s) -> int:
    return s["B"] * s["C"] * max(s["H"] - 1, 0) * max(s["W"] - 1, 0)


def _flops(s) -> int:
    """Of a cell: two differences, the same divided by k, two squares, two sums, a division, two products, and four to bring them to the corners; with all_high five
    more for X, and four to bring it there."""
    return _cells(s) * s["steps"] * (24 if s.get("all_high") else 15)


def _backward_flops(s) -> int:
    high = s.get("all_high")
    # a step's own: e, f, and the same of y; divided by k; g (5), its products (2), t (4), dk (5), the two flows (6), the corners (4). all_high: X and Y, t, the corners
    return _cells(s) * (max(s["steps"] - 1, 0) * (24 if high else 15) + s["steps"] * (48 if high else 32))


SPEC = OpSpec(
    op="wavelet_diffusion",
    inputs=_inputs,
    cases={
        "odd": dict(B=3, C=4, H=7, W=9, steps=2),
        "one_step": dict(B=2, C=3, H=9, W=12, steps=1),
        "all_high": dict(B=2, C=3, H=6, W=11, steps=2, all_high=True),
        "three": dict(B=1, C=2, H=17, W=23, steps=3),
        "five": dict(B=1, C=2, H=9, W=41, steps=5),
        "many": dict(B=1, C=2, H=13, W=11, steps=17),
        "many_all_high": dict(B=1, C=2, H=12, W=19, steps=9, all_high=True),
        "no_step": dict(B=2, C=3, H=5, W=6, steps=0),
        "flat": dict(B=1, C=3, H=8, W=9, steps=3, flat=True),
        "small_k": dict(B=1, C=3, H=8, W=10, steps=2, k=1e-3),
        "large_k": dict(B=1, C=3, H=8, W=10, steps=2, k=1e3),
        "cell": dict(B=2, C=3, H=2, W=2, steps=2),
        "two_rows": dict(B=1, C=3, H=2, W=17, steps=3),
        "two_columns": dict(B=1, C=3, H=17, W=2, steps=3),
        "row": dict(B=2, C=3, H=1, W=9, steps=2),
        "column": dict(B=2, C=3, H=9, W=1, steps=2),
        "one": dict(B=2, C=3, H=1, W=1, steps=2),
        "W16": dict(B=1, C=2, H=9, W=16, steps=2),
        "W17": dict(B=1, C=2, H=9, W=17, steps=2),
        "W33": dict(B=1, C=2, H=20, W=33, steps=1),
        "C16_channels_last": dict(B=2, C=16, H=6, W=7, steps=2, channels_last=True),
        "C17_channels_last": dict(B=1, C=17, H=7, W=5, steps=3, channels_last=True),
        "C35_channels_last": dict(B=2, C=35, H=5, W=6, steps=1, all_high=True, channels_last=True),
        "large": dict(B=1, C=2, H=70, W=67, steps=3),
        "bands": dict(B=1, C=1, H=70, W=5, steps=1),
        "bands_channels_last": dict(B=1, C=17, H=70, W=3, steps=1, channels_last=True),
        "no_batch": dict(B=0, C=3, H=4, W=4, steps=2),
        "no_channel": dict(B=2, C=0, H=4, W=4, steps=2),
        "no_row": dict(B=2, C=3, H=0, W=4, steps=2),
        "no_column": dict(B=2, C=3, H=4, W=0, steps=2),
    },
    split=dict(B=2, C=5, H=200, W=40, steps=3),
    control="odd",
    bench={
        f"B{B}_{C}x{side}x{side}_K{steps}{'_last' if last else ''}": dict(B=B, C=C, H=side, W=side, steps=steps, **({"channels_last": True} if last else {}))
        for B, C, side, steps, last in ((1, 64, 256, 1, False), (1, 128, 128, 1, False), (1, 160, 64, 1, False), (1, 320, 64, 1, False), (4, 64, 256, 1, False),
                                        (1, 64, 256, 5, False), (1, 160, 64, 5, False), (1, 64, 256, 1, True), (1, 64, 256, 5, True))
    },
    grads=(0, 1),
    gradients=lambda backward, args, g: list(backward(g, *args)),
    flops=_flops,
    backward_flops=_backward_flops,
    bytes=lambda s, size: 2 * size * s["B"] * s["C"] * s["H"] * s["W"],
    invalid=(
        Invalid("u dim", replaced(0, lambda t: t[0]), "u must be 4-D [B, C, H, W], got 3-D"),
        Invalid("k dim", replaced(1, lambda t: t[None]), "k must be 1-D [C], got 2-D"),
        Invalid("k size", replaced(1, lambda t: t[1:]), "k must have size 4 (C of u) in dimension 0, got 3"),
        Invalid("negative steps", replaced(2, lambda steps: -1), "steps must be >= 0, got -1"),
        Invalid("integer u", replaced(0, lambda t: t.long()), "u must be float16, bfloat16, float32 or float64, got int64"),
        Invalid("integer k", replaced(1, lambda t: t.int()), "k must have the dtype of u, float32, got int32"),
        Invalid("half k", replaced(1, lambda t: t.half()), "k must have the dtype of u, float32, got float16"),
        Invalid("k for half u", lambda a: [a[0].bfloat16(), a[1].half(), *a[2:]], "k must have the dtype of u, bfloat16, or float32, got float16"),
        Invalid("meta k", replaced(1, lambda t: t.to("meta")), "must be on the device of u"),
    ),
    hot={
        "x 1e15": replaced(0, lambda t: t * 1e15),
        "x 1e-15": replaced(0, lambda t: t * 1e-15),
        "offset 1000": replaced(0, lambda t: t + 1000),
        "zeros": replaced(0, torch.zeros_like),
        "k x 1e12": replaced(1, lambda t: t * 1e12),
        "k x 1e-12": replaced(1, lambda t: t * 1e-12),
        "k x 1e-25": replaced(1, lambda t: t * 1e-25),
        "NaN in u": poked(0, float("nan"), 37),
        "Inf in u": poked(0, float("inf"), 37),
        "-Inf in u": poked(0, float("-inf"), 37),
        "NaN in k": poked(1, float("nan"), 1),
    },
    ulp=6,
    grad_ulp=20,
)
