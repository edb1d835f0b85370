"""Cases, tolerances and cost model of linear_cross_attention."""
import torch

from ..testing import Invalid, OpSpec, poked, replaced


def _inputs(sizes, g):
    B, h, N, M, d, e = (sizes[n] for n in ("B", "h", "N", "M", "d", "e"))

    def draw(n, f):
        return torch.randn(B, h, n, f, generator=g).double()

    return [draw(N, d), draw(M, d), draw(M, e), sizes.get("eps", 1e-6)]


def _state(s):
    return s["B"] * s["h"] * s["d"] * s["e"]


SPEC = OpSpec(
    op="linear_cross_attention",
    inputs=_inputs,
    cases={
        "odd": dict(B=2, h=3, N=5, M=11, d=7, e=9),
        "eps": dict(B=1, h=2, N=6, M=5, d=4, e=4, eps=0.5),
        "eps_0": dict(B=1, h=2, N=6, M=5, d=4, e=4, eps=0.0),
        "one": dict(B=1, h=1, N=1, M=2, d=1, e=1),
        "tile": dict(B=1, h=1, N=64, M=64, d=32, e=32),
        "below": dict(B=1, h=1, N=63, M=127, d=31, e=15),
        "above": dict(B=1, h=1, N=65, M=129, d=33, e=17),
        "long": dict(B=1, h=1, N=3, M=700, d=3, e=2),
        "no_batch": dict(B=0, h=3, N=4, M=4, d=4, e=4),
        "no_query": dict(B=1, h=2, N=0, M=4, d=4, e=4),
        "no_value": dict(B=1, h=2, N=3, M=4, d=4, e=0),
    },
    split=dict(B=1, h=3, N=2100, M=1900, d=32, e=32),
    control="odd",
    bench={
        "N4096_d32": dict(B=8, h=4, N=4096, M=4096, d=32, e=32),
        "N4096_M1024_d32": dict(B=8, h=4, N=4096, M=1024, d=32, e=32),
        "B1_N4096_d32": dict(B=1, h=4, N=4096, M=4096, d=32, e=32),
        "N1024_d64": dict(B=8, h=4, N=1024, M=1024, d=64, e=64),
    },
    grads=(0, 1, 2),
    gradients=lambda backward, args, g: list(backward(g, *args)),
    flops=lambda s: 2 * _state(s) * (s["N"] + s["M"]),
    backward_flops=lambda s: 2 * _state(s) * (2 * s["N"] + 3 * s["M"]),
    bytes=lambda s, size: size * s["B"] * s["h"] * (s["N"] + s["M"]) * (s["d"] + s["e"]),
    invalid=(
        Invalid("q dim", replaced(0, lambda t: t[0]), "q must be 4-D [B, h, N, d], got 3-D"),
        Invalid("k dim", replaced(1, lambda t: t[0]), "k must be 4-D [B, h, M, d], got 3-D"),
        Invalid("v dim", replaced(2, lambda t: t[0]), "v must be 4-D [B, h, M, e], got 3-D"),
        Invalid("k batch", replaced(1, lambda t: t[:1]), "k must have size 2 (B of q) in dimension 0, got 1"),
        Invalid("k heads", replaced(1, lambda t: t[:, :1]), "k must have size 3 (h of q) in dimension 1, got 1"),
        Invalid("k features", replaced(1, lambda t: t[..., 1:]), "k must have size 7 (d of q) in dimension 3, got 6"),
        Invalid("v batch", replaced(2, lambda t: t[:1]), "v must have size 2 (B of q) in dimension 0, got 1"),
        Invalid("v tokens", replaced(2, lambda t: t[:, :, 1:]), "v must have size 11 (M of k) in dimension 2, got 10"),
        Invalid("eps", lambda a: [*a[:3], -0.5], "eps must be >= 0, got -0.5"),
        Invalid("eps NaN", lambda a: [*a[:3], float("nan")], "eps must be >= 0, got nan"),
        Invalid("M=0", lambda a: [a[0], a[1][:, :, :0], a[2][:, :, :0], *a[3:]], "k must hold at least one token, got M=0"),
        Invalid("k dtype", replaced(1, lambda t: t.bfloat16()), "k must have the dtype of q"),
        Invalid("v dtype", replaced(2, lambda t: t.half()), "v must have the dtype of q"),
        Invalid("integers", lambda a: [a[0].long(), a[1].long(), a[2].long(), *a[3:]], "q must be float16, bfloat16, float32 or float64, got int64"),
        Invalid("meta v", replaced(2, lambda t: t.to("meta")), "must be on the device of q"),
    ),
    hot={
        "inputs x20": lambda a: [a[0] * 20, a[1] * 20, *a[2:]],
        "near -20": lambda a: [a[0] - 20, a[1], *a[2:]],
        "all tiny": lambda a: [a[0] - 12, a[1] - 12, *a[2:]],
        "zeros": lambda a: [torch.zeros_like(a[0]), torch.zeros_like(a[1]), *a[2:]],
        "NaN in q": poked(0, float("nan"), 37),
        "NaN in k": poked(1, float("nan"), 37),
        "NaN in v": poked(2, float("nan"), 37),
        "-Inf in q": poked(0, float("-inf"), 37),
        "-Inf in k": poked(1, float("-inf"), 37),
        "Inf in v": poked(2, float("inf"), 37),
    },
    ulp=6,
    grad_ulp=40,
)
