"""The same numbers in other memory."""
import torch
from torch import Tensor


def upstream(out: Tensor, seed: int = 7) -> Tensor:
    return torch.randn(out.shape, generator=torch.Generator().manual_seed(seed)).to(torch.float64)


def layouts(t: Tensor) -> dict[str, Tensor]:
    """The same numbers in other memory: transposed, strided, offset, channels innermost, broadcast (where they are equal along an axis)."""
    n = t.dim()
    wide = t.new_full([2 * s for s in t.shape], float("nan"))
    every_second = wide[tuple(slice(0, 2 * s, 2) for s in t.shape)]
    every_second.copy_(t)
    guarded = t.new_full((t.numel() + 37,), float("nan"))
    inner = guarded[19 : 19 + t.numel()].view(t.shape)
    inner.copy_(t)
    found = {"strided": every_second, "offset": inner}
    if n >= 2:
        found["padded rows"] = t.new_full([*t.shape[:-1], t.shape[-1] + 5], float("nan"))[..., : t.shape[-1]].copy_(t)
        found["transposed"] = t.transpose(-1, -2).contiguous().transpose(-1, -2)
        found["reversed"] = t.permute(*reversed(range(n))).contiguous().permute(*reversed(range(n)))
        found["channels innermost"] = t.movedim(1, -1).contiguous().movedim(-1, 1)
    return found
