"""Cases, tolerances and cost model of pixel_difference_scan."""
import torch
from torch import Tensor

from ..testing import Invalid, OpSpec, poked, replaced
from .pixel_difference import image, neighbour_flops, sites, weights


def _inputs(sizes, g):
    B, D, H, W, N = (sizes[n] for n in "BDHWN")
    softplus = sizes.get("softplus", True)

    def draw(*shape):
        return torch.randn(*shape, generator=g).double()

    def maps(t):
        """Image order, with channels or states innermost in memory where asked for."""
        return t.movedim(2, -1).contiguous().movedim(-1, 2) if sizes.get("channels_last") else t

    u = image(sizes, g)
    # Step sizes of 0.01 to 1, as in a network: the states of one pixel reach a few to many pixels.
    delta = maps((draw(B, 4, D, H, W) * 0.5 - 1.0 if softplus else draw(B, 4, D, H, W).abs() * 0.3 + 0.01).float().double())
    A = -(torch.arange(1.0, N + 1).double() * (0.75 + 0.5 * torch.rand(4 * D, N, generator=g).double())).float().double()
    skip = draw(4 * D) if sizes.get("skip", True) else None
    bias = (draw(4 * D) - 1.5 if softplus else draw(4 * D).abs() * 0.1).float().double() if sizes.get("bias", True) else None
    B_map, C_map = maps(draw(B, 4, N, H, W)), maps(draw(B, 4, N, H, W))
    return [u, delta, A, B_map, C_map, skip, bias, weights(sizes, g) if sizes["n"] else None, sizes.get("gamma", 1.0), softplus]


def _gradients(backward, args, g):
    return [x for x, a in zip(backward(g, *args), args) if isinstance(a, Tensor)]


def _elements(s):
    return 4 * sites(s) * s["N"]


def _bytes(s, size):
    pixels = s["B"] * s["H"] * s["W"]
    return size * pixels * (2 * s["D"] + 4 * s["D"] + 8 * s["N"])


def _maps_invalid(index, name, rows, what):
    """Every wrong size of delta, B or C of the control case."""
    changes = ((0, 2, 3, "B of u"), (1, 3, 4, "directions"), (2, rows - 1, rows, what), (3, 4, 5, "H of u"), (4, 7, 8, "W of u"))
    return tuple(Invalid(f"{name} dimension {axis}", replaced(index, lambda t, axis=axis: t.narrow(axis, 0, t.shape[axis] - 1)),
                         f"{name} must have size {want} ({of}) in dimension {axis}, got {got}") for axis, got, want, of in changes)


SPEC = OpSpec(
    op="pixel_difference_scan",
    inputs=_inputs,
    cases={
        "odd": dict(B=3, D=2, H=5, W=8, N=4, n=2),  # more steps than a chunk of the CPU kernel
        "n1": dict(B=1, D=2, H=7, W=6, N=3, n=1),
        "n3": dict(B=1, D=2, H=9, W=8, N=2, n=3),
        "gamma": dict(B=1, D=2, H=6, W=7, N=2, n=2, gamma=0.25),
        "plain": dict(B=2, D=3, H=6, W=5, N=4, n=None),
        "bare": dict(B=1, D=3, H=5, W=7, N=2, n=2, softplus=False, bias=False, skip=False),
        "plain_bare": dict(B=1, D=2, H=4, W=5, N=3, n=None, softplus=False, bias=False, skip=False),
        "no_softplus": dict(B=1, D=2, H=7, W=6, N=2, n=2, softplus=False),
        "no_bias": dict(B=1, D=2, H=5, W=5, N=2, n=2, bias=False),
        "no_skip": dict(B=1, D=2, H=5, W=5, N=2, n=2, skip=False),
        "flat": dict(B=1, D=3, H=6, W=6, N=2, n=2, flat=True),
        "row": dict(B=2, D=3, H=1, W=9, N=2, n=2),
        "column": dict(B=2, D=3, H=9, W=1, N=2, n=2),
        "one": dict(B=2, D=3, H=1, W=1, N=2, n=2),
        "two_three": dict(B=1, D=4, H=2, W=3, N=2, n=2),
        "N1": dict(B=1, D=5, H=6, W=5, N=1, n=2),
        "N5": dict(B=1, D=3, H=4, W=7, N=5, n=2),
        "N16": dict(B=1, D=4, H=6, W=6, N=16, n=2),
        "N17": dict(B=1, D=2, H=5, W=6, N=17, n=None),
        "D1": dict(B=1, D=1, H=9, W=8, N=3, n=2),
        "D16": dict(B=1, D=16, H=5, W=6, N=2, n=2),
        "D17": dict(B=1, D=17, H=6, W=5, N=3, n=2),
        "D33": dict(B=1, D=33, H=4, W=5, N=1, n=1),
        "channels_last": dict(B=2, D=32, H=5, W=7, N=16, n=2, channels_last=True),
        "long": dict(B=1, D=2, H=36, W=31, N=2, n=2),
        "D300": dict(B=1, D=300, H=3, W=2, N=2, n=1),  # more channels, and below more images, than the CPU kernel takes at once
        "B17": dict(B=17, D=1, H=3, W=3, N=2, n=1),
        "no_batch": dict(B=0, D=3, H=4, W=4, N=2, n=2),
        "no_channel": dict(B=2, D=0, H=4, W=4, N=2, n=2),
        "no_row": dict(B=2, D=3, H=0, W=4, N=2, n=2),
        "no_column": dict(B=2, D=3, H=4, W=0, N=2, n=None),
    },
    split=dict(B=2, D=40, H=21, W=19, N=4, n=2),
    control="odd",
    bench={
        "B1_D64_32x32_N16": dict(B=1, D=64, H=32, W=32, N=16, n=2, channels_last=True),
        "B2_D96_64x64_N16_plain": dict(B=2, D=96, H=64, W=64, N=16, n=None, channels_last=True),
        "B2_D96_64x64_N16": dict(B=2, D=96, H=64, W=64, N=16, n=2, channels_last=True),
        "B2_D96_64x64_N1_plain": dict(B=2, D=96, H=64, W=64, N=1, n=None, channels_last=True),
    },
    grads=(0, 1, 2, 3, 4, 5, 6, 7),
    gradients=_gradients,
    flops=lambda s: 9 * _elements(s) + neighbour_flops(s),
    backward_flops=lambda s: 23 * _elements(s) + 2 * neighbour_flops(s),
    bytes=_bytes,
    invalid=(
        Invalid("u dim", replaced(0, lambda t: t[0]), "u must be 4-D [B, D, H, W], got 3-D"),
        Invalid("delta dim", replaced(1, lambda t: t[0]), "delta must be 5-D [B, K, D, H, W], got 4-D"),
        Invalid("A dim", replaced(2, lambda t: t[0]), "A must be 2-D [K*D, N], got 1-D"),
        Invalid("B dim", replaced(3, lambda t: t[0]), "B must be 5-D [B, K, N, H, W], got 4-D"),
        Invalid("C dim", replaced(4, lambda t: t[0]), "C must be 5-D [B, K, N, H, W], got 4-D"),
        *_maps_invalid(1, "delta", 2, "D of u"),
        *_maps_invalid(3, "B", 4, "N of A"),
        *_maps_invalid(4, "C", 4, "N of A"),
        Invalid("A rows", replaced(2, lambda t: t[1:]), "A must have size 8 (4 D of u) in dimension 0, got 7"),
        Invalid("N=0", lambda a: [a[0], a[1], a[2][:, :0], a[3][:, :, :0], a[4][:, :, :0], *a[5:]], "A must have N >= 1 states, got N=0"),
        Invalid("D_skip dim", replaced(5, lambda t: t[None]), "D_skip must be 1-D [K*D], got 2-D"),
        Invalid("D_skip size", replaced(5, lambda t: t[1:]), "D_skip must have size 8 (4 D of u) in dimension 0, got 7"),
        Invalid("delta_bias dim", replaced(6, lambda t: t[None]), "delta_bias must be 1-D [K*D], got 2-D"),
        Invalid("delta_bias size", replaced(6, lambda t: t[:3]), "delta_bias must have size 8 (4 D of u) in dimension 0, got 3"),
        Invalid("W dim", replaced(7, lambda t: t[0]), "W must be 3-D [2, n, D], got 2-D"),
        Invalid("W axes", replaced(7, lambda t: t[:1]), "W must have size 2 (axes) in dimension 0, got 1"),
        Invalid("W channels", replaced(7, lambda t: t[..., 1:]), "W must have size 2 (D of u) in dimension 2, got 1"),
        Invalid("n=0", replaced(7, lambda t: t[:, :0]), "W must have n >= 1 windows, got n=0"),
        Invalid("integers", replaced(0, lambda t: t.long()), "u must be float16, bfloat16, float32 or float64, got int64"),
        Invalid("delta dtype", replaced(1, lambda t: t.bfloat16()), "delta must have the dtype of u, float32, got bfloat16"),
        Invalid("B dtype", replaced(3, lambda t: t.double()), "B must have the dtype of u, float32, got float64"),
        Invalid("C dtype", replaced(4, lambda t: t.half()), "C must have the dtype of u, float32, got float16"),
        Invalid("A dtype", replaced(2, lambda t: t.double()), "A must have the dtype of u, float32, got float64"),
        Invalid("D_skip dtype", replaced(5, lambda t: t.int()), "D_skip must have the dtype of u, float32, got int32"),
        Invalid("delta_bias dtype", replaced(6, lambda t: t.half()), "delta_bias must have the dtype of u, float32, got float16"),
        Invalid("W dtype", replaced(7, lambda t: t.double()), "W must have the dtype of u, float32, got float64"),
        Invalid("A for half u", lambda a: [t.half() if isinstance(t, Tensor) and i != 2 else t for i, t in enumerate([*a[:2], a[2].bfloat16(), *a[3:]])],
                "A must have the dtype of u, float16, or float32, got bfloat16"),
        Invalid("meta delta", replaced(1, lambda t: t.to("meta")), "must be on the device of u"),
        Invalid("meta W", replaced(7, lambda t: t.to("meta")), "must be on the device of u"),
    ),
    hot={
        "steps of 30": replaced(1, lambda t: t + 30),
        "steps of 1e-9": replaced(1, lambda t: t - 20),
        "A 0": replaced(2, torch.zeros_like),
        "fast decay": replaced(2, lambda t: t * 1000),
        "u 0": replaced(0, torch.zeros_like),
        "u x 1e6": replaced(0, lambda t: t * 1e6),
        "u x 1e-18": replaced(0, lambda t: t * 1e-18),
        "W 0": replaced(7, torch.zeros_like),
        "NaN in u": poked(0, float("nan"), 137),
        "Inf in u": poked(0, float("inf"), 137),
        "NaN in delta": poked(1, float("nan"), 137),
        "Inf in delta": poked(1, float("inf"), 137),
        "-Inf in delta": poked(1, float("-inf"), 137),
        "NaN in A": poked(2, float("nan"), 7),
        "instant decay": replaced(2, lambda t: t * 1e6),
        "Inf in B": poked(3, float("inf"), 137),
        "NaN in C": poked(4, float("nan"), 137),
        "-Inf in C": poked(4, float("-inf"), 137),
        "NaN in D_skip": poked(5, float("nan"), 7),
        "NaN in delta_bias": poked(6, float("nan"), 7),
        "NaN in W": poked(7, float("nan"), 5),
    },
    ulp=16,
    grad_ulp=40,
)
