"""VMamba's calls against plain loops written from the published formulas: Mamba (Gu and Dao, 2023, Eq. 2-4) and the cross-scan of VMamba (Liu et al., 2024)."""
import doctest

import pytest
import torch
from irstd_ext import _load
from irstd_ext.compat import vmamba
from irstd_ext.testing import error

BACKENDS = [pytest.param("ext", marks=pytest.mark.skipif(bool(_load.cpu_reason), reason=_load.cpu_reason or "")), "reference"]


def mamba(u, delta, A, B, C, D=None, delta_bias=None, delta_softplus=True):
    """One step after the other. u, delta: [B, K D, L]; B, C: [B, K, N, L]."""
    batch, rows, L = u.shape
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = torch.log1p(torch.exp(delta))
    B, C = (t.repeat_interleave(rows // t.shape[1], 1) for t in (B, C))  # [B, K D, N, L]
    h, y = torch.zeros(batch, rows, A.shape[1], dtype=u.dtype), []
    for u_t, d_t, B_t, C_t in zip(u.unbind(2), delta.unbind(2), B.unbind(3), C.unbind(3)):
        h = torch.exp(d_t[..., None] * A) * h + (d_t * u_t)[..., None] * B_t
        y.append((h * C_t).sum(2))
    y = torch.stack(y, 2)
    return y if D is None else y + D[:, None] * u


def cross_scan(x):
    """[B, D, H, W] -> [B, 4, D, L]: rows, columns, and both from the end."""
    rows, columns = x.flatten(2), x.transpose(2, 3).flatten(2)
    return torch.stack([rows, columns, rows.flip(2), columns.flip(2)], 1)


def cross_merge(y, H, W):
    """[B, 4, D, L] -> [B, D, L]."""
    rows, columns = y[:, 0] + y[:, 2].flip(2), y[:, 1] + y[:, 3].flip(2)
    return rows + columns.unflatten(2, (W, H)).transpose(2, 3).flatten(2)


def draw(B, K, D, N, L, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = (B, K * D, L), (B, K * D, L), (K * D, N), (B, K, N, L), (B, K, N, L), (K * D,), (K * D,)
    u, delta, A, Bs, Cs, skip, bias = (torch.randn(*s, generator=g).to(dtype) for s in shapes)
    return [u, delta - 1, -A.abs() - 0.1, Bs, Cs, skip, bias]


def both(function, args, g):
    args = [a.clone().requires_grad_() if a is not None else None for a in args]
    out = function(*args)
    return [out.detach(), *torch.autograd.grad(out, [a for a in args if a is not None], g)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("softplus, optional", [(True, True), (False, False)])
@pytest.mark.parametrize("B, K, D, N, L", [(2, 4, 3, 4, 17), (1, 1, 5, 1, 9), (2, 2, 1, 5, 8), (1, 3, 16, 2, 1)])
def test_selective_scan(B, K, D, N, L, softplus, optional, backend):
    args = draw(B, K, D, N, L)
    if not softplus:
        args[1] = args[1].abs()
    if not optional:
        args[5:] = None, None
    g = torch.randn(B, K * D, L, generator=torch.Generator().manual_seed(1)).double()
    want = both(lambda *a: mamba(*a, delta_softplus=softplus), args, g)
    got = both(lambda *a: vmamba.selective_scan_fn(*a, delta_softplus=softplus, backend=backend), args, g)
    assert all(error(x, y) < 1e-12 for x, y in zip(got, want))
    assert error(got[0].roll(1, 2), want[0]) > 1e-3 or L == 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("B, D, N, H, W", [(2, 3, 4, 5, 7), (1, 4, 1, 6, 3), (1, 2, 3, 1, 5)])
def test_cross_selective_scan(B, D, N, H, W, backend):
    _, *sequences = draw(B, 4, D, N, H * W)
    image, g = torch.randn(2, B, D, H, W, generator=torch.Generator().manual_seed(2)).double()

    def plain(u, *rest):
        return cross_merge(mamba(cross_scan(u).flatten(1, 2), *rest).unflatten(1, (4, D)), H, W).view(B, D, H, W)

    want = both(plain, [image, *sequences], g)
    got = both(lambda *a: vmamba.cross_selective_scan_fn(*a, backend=backend), [image, *sequences], g)
    assert all(error(x, y) < 1e-12 for x, y in zip(got, want))
    swapped = vmamba.cross_selective_scan_fn(image, *sequences[:2], sequences[2].flip(1), *sequences[3:], backend=backend)
    assert error(swapped, want[0]) > 1e-3  # directions are not interchangeable
    by_direction = vmamba.cross_selective_scan_fn(image, sequences[0].unflatten(1, (4, D)), *sequences[1:], backend=backend)
    assert torch.equal(by_direction, got[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_neighbour_term_is_there_when_asked_for(backend):
    _, *sequences = draw(1, 4, 2, 3, 30)
    image = torch.randn(1, 2, 5, 6, generator=torch.Generator().manual_seed(3)).double()
    plain = vmamba.cross_selective_scan_fn(image, *sequences, backend=backend)
    weights = torch.zeros(2, 2, 2).double()
    assert error(vmamba.cross_selective_scan_fn(image, *sequences, W=weights, backend=backend), plain) < 1e-14
    assert error(vmamba.cross_selective_scan_fn(image, *sequences, W=weights + 0.1, backend=backend), plain) > 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
def test_output_dtype(backend):
    args = draw(1, 2, 3, 2, 6, torch.bfloat16)
    assert vmamba.selective_scan_fn(*args, backend=backend).dtype == torch.float32
    assert vmamba.selective_scan_fn(*args, oflex=False, backend=backend).dtype == torch.bfloat16
    assert vmamba.selective_scan_fn(*[a.double() for a in args], backend=backend).dtype == torch.float64


def test_wrong_shapes_are_one_line():
    args = draw(1, 2, 3, 2, 6)
    with pytest.raises(RuntimeError, match=r"^selective_scan_fn: B must be 4-D \[B, K, N, L\], got 3-D$"):
        vmamba.selective_scan_fn(*args[:3], args[3][0], *args[4:])
    with pytest.raises(RuntimeError, match="^selective_scan_fn: u and delta must be"):
        vmamba.selective_scan_fn(args[0][:, 1:], *args[1:])
    with pytest.raises(RuntimeError, match=r"^scan_to_image: x must be \[B, 4, F, 6\] for a 2 x 3 image, got \[1, 6, 6\]$"):
        vmamba.scan_to_image(args[0], 2, 3)
    with pytest.raises(RuntimeError, match="^cross_selective_scan_fn: u must be 4-D"):
        vmamba.cross_selective_scan_fn(*args)
    with pytest.raises(ValueError, match="^selective_scan_fn: backend must be 'ext' or 'reference', got 'torch'$"):
        vmamba.selective_scan_fn(*args, backend="torch")


@pytest.mark.skipif(bool(_load.cpu_reason), reason=_load.cpu_reason or "")
def test_examples_run():
    result = doctest.testmod(vmamba)
    assert result.attempted > 0 and result.failed == 0
