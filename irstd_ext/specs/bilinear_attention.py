"""Cases, tolerances and cost model of bilinear_attention."""
import torch

from ..testing import Invalid, OpSpec, poked, replaced


def _inputs(sizes, g):
    B, C, L, M, E = (sizes[n] for n in "BCLME")

    def draw(*shape):
        return torch.randn(*shape, generator=g).double()

    value = draw(B, C, M, E)
    if sizes.get("channels_last"):
        value = value.contiguous(memory_format=torch.channels_last)
    residual = draw(B, C, L, E) if sizes.get("residual", L != M) else None
    bias = draw(C) if sizes.get("bias") else None
    return [draw(B, L), draw(B, M), draw(C), value, torch.tensor(0.75, dtype=torch.float64), residual, bias]


def _gradients(backward, args, g):
    residual, bias = args[5], args[6]
    found = list(backward(g, *args[:5], residual is None))
    return found + ([g] if residual is not None else []) + ([torch.zeros_like(bias)] if bias is not None else [])


def _products(s):
    return s["B"] * s["C"] * s["L"] * s["M"] * s["E"]


SPEC = OpSpec(
    op="bilinear_attention",
    inputs=_inputs,
    cases={
        "odd": dict(B=2, C=3, L=5, M=7, E=9, bias=True),
        "shared": dict(B=2, C=4, L=8, M=8, E=6),
        "residual": dict(B=1, C=2, L=6, M=6, E=5, residual=True, bias=True),
        "one": dict(B=1, C=1, L=1, M=1, E=1),
        "tile": dict(B=1, C=2, L=32, M=16, E=32),
        "below": dict(B=1, C=2, L=31, M=15, E=31),
        "above": dict(B=1, C=2, L=33, M=17, E=33),
        "rows": dict(B=1, C=1, L=70, M=3, E=2),
        "no_batch": dict(B=0, C=3, L=4, M=4, E=4),
        "no_query": dict(B=2, C=3, L=0, M=4, E=4),
        "no_column": dict(B=2, C=3, L=4, M=4, E=0),
        "no_channel": dict(B=2, C=0, L=4, M=4, E=4),
    },
    split=dict(B=3, C=67, L=40, M=40, E=40),
    control="odd",
    bench={"C256_32x32": dict(B=8, C=256, L=32, M=32, E=32), "C128_64x64": dict(B=8, C=128, L=64, M=64, E=64), "B1_C256_32x32": dict(B=1, C=256, L=32, M=32, E=32),
           "channels_last": dict(B=8, C=256, L=32, M=32, E=32, channels_last=True)},
    grads=(0, 1, 2, 3, 4, 5, 6),
    gradients=_gradients,
    flops=lambda s: 2 * _products(s),
    backward_flops=lambda s: 4 * _products(s),
    bytes=lambda s, size: size * s["B"] * s["C"] * s["E"] * (s["M"] + s["L"] + (s["L"] if s.get("residual", s["L"] != s["M"]) else 0)),
    invalid=(
        Invalid("q dim", replaced(0, lambda t: t[0]), "q must be 2-D [B, L], got 1-D"),
        Invalid("k dim", replaced(1, lambda t: t[None]), "k must be 2-D [B, M], got 3-D"),
        Invalid("weight dim", replaced(2, lambda t: t[None]), "weight must be 1-D [C], got 2-D"),
        Invalid("value dim", replaced(3, lambda t: t[0]), "value must be 4-D [B, C, M, E], got 3-D"),
        Invalid("q batch", replaced(0, lambda t: t[:1]), "q must have size 2 (B of value) in dimension 0, got 1"),
        Invalid("k size", replaced(1, lambda t: t[:, 1:]), "k must have size 7 (M of value) in dimension 1, got 6"),
        Invalid("weight size", replaced(2, lambda t: t[1:]), "weight must have size 3 (C of value) in dimension 0, got 2"),
        Invalid("gamma", replaced(4, lambda t: torch.stack([t, t])), "gamma must hold one number, got shape [2]"),
        Invalid("gamma dim", replaced(4, lambda t: t.view(1, 1)), "gamma must hold one number, got shape [1, 1]"),
        Invalid("integer bias", replaced(6, lambda t: t.long()), "bias must have the dtype of value, float32, got int64"),
        Invalid("residual needed", replaced(5, lambda t: None), "residual is required unless L == M, got L=5, M=7"),
        Invalid("residual shape", replaced(5, lambda t: t[..., 1:]), "residual must have size 9 (E of value) in dimension 3, got 8"),
        Invalid("residual dtype", replaced(5, lambda t: t.bfloat16()), "residual must have the dtype of value"),
        Invalid("bias", replaced(6, lambda t: t[1:]), "bias must have size 3 (C of value) in dimension 0, got 2"),
        Invalid("integer value", replaced(3, lambda t: t.long()), "value must be float16, bfloat16, float32 or float64, got int64"),
        Invalid("integer q", replaced(0, lambda t: t.int()), "q must have the dtype of value, float32, got int32"),
        Invalid("meta q", replaced(0, lambda t: t.to("meta")), "must be on the device of value"),
        Invalid("M=0", lambda a: [a[0], a[1][:, :0], a[2], a[3][:, :, :0], *a[4:]], "value must have M >= 1 rows to attend to, got M=0"),
    ),
    hot={
        "logits of 2000": lambda a: [a[0] * 30, a[1] * 30, a[2], *a[3:]],
        "weight 0": replaced(2, torch.zeros_like),
        "equal keys": replaced(1, torch.ones_like),
        "gamma 0": replaced(4, torch.zeros_like),
        "NaN in q": poked(0, float("nan"), 5),
        "NaN in k": poked(1, float("nan"), 5),
        "NaN in value": poked(3, float("nan"), 50),
        "Inf in value": poked(3, float("inf"), 50),
        "Inf in q": poked(0, float("inf"), 5),
        "-Inf in k": poked(1, float("-inf"), 5),
        "NaN in residual": poked(5, float("nan"), 5),
    },
    ulp=6,
    grad_ulp=40,
)
