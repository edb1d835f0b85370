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


def cross_mamba(u, *rest):
    """[B, D, H, W], rest in scan order -> [B, D, H, W]."""
    return cross_merge(mamba(cross_scan(u).flatten(1, 2), *rest).unflatten(1, (4, -1)), *u.shape[2:]).view(u.shape)


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
    want = both(cross_mamba, [image, *sequences], g)
    got = both(lambda *a: vmamba.cross_selective_scan_fn(*a, backend=backend), [image, *sequences], g)
    assert all(error(x, y) < 1e-12 for x, y in zip(got, want))
    swapped = vmamba.cross_selective_scan_fn(image, *sequences[:2], sequences[2].flip(1), *sequences[3:], backend=backend)
    assert error(swapped, want[0]) > 1e-3  # directions are not interchangeable
    by_direction = vmamba.cross_selective_scan_fn(image, sequences[0].unflatten(1, (4, D)), *sequences[1:], backend=backend)
    assert torch.equal(by_direction, got[0])


def test_backends_by_vmamba_s_names():
    args = draw(1, 4, 2, 3, 30)
    for ours, theirs in (("ext", ("oflex", "core", "mamba")), ("reference", ("torch",))):
        want = vmamba.selective_scan_fn(*args, backend=ours)
        assert all(torch.equal(vmamba.selective_scan_fn(*args, backend=name), want) for name in theirs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_neighbour_term_is_there_when_asked_for(backend):
    _, *sequences = draw(1, 4, 2, 3, 30)
    image = torch.randn(1, 2, 5, 6, generator=torch.Generator().manual_seed(3)).double()
    plain = vmamba.cross_selective_scan_fn(image, *sequences, backend=backend)
    weights = torch.zeros(2, 2, 2).double()
    assert error(vmamba.cross_selective_scan_fn(image, *sequences, W=weights, backend=backend), plain) < 1e-14
    assert error(vmamba.cross_selective_scan_fn(image, *sequences, W=weights + 0.1, backend=backend), plain) > 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype, backend):
    args = draw(2, 4, 3, 5, 30, dtype)
    exact = [a.double() for a in args]
    image = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(2)).to(dtype)
    want, eps = mamba(*exact), torch.finfo(dtype).eps
    assert vmamba.selective_scan_fn(*exact, backend=backend).dtype == torch.float64

    wide = vmamba.selective_scan_fn(*args, backend=backend)  # oflex
    assert wide.dtype == torch.float32 and error(wide, want) < 1e-5
    half = vmamba.selective_scan_fn(*args, oflex=False, backend=backend)
    assert half.dtype == dtype and 1e-5 < error(half, want) < 2 * eps  # two roundings at most: float32 sums, then the dtype
    across = vmamba.cross_selective_scan_fn(image, *args[1:], backend=backend)
    assert across.dtype == dtype and 1e-5 < error(across, cross_mamba(image.double(), *exact[1:])) < 2 * eps


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("index", range(5), ids=["u", "delta", "A", "B", "C"])
def test_what_is_not_finite_goes_where_a_plain_scan_takes_it(index, value, backend):
    args = draw(2, 2, 3, 5, 19)
    clean = vmamba.selective_scan_fn(*args, backend=backend)
    args[index] = args[index].clone()
    args[index][(1, 1, 3, 11)[-args[index].dim():] if index != 2 else (1, 3)] = value
    got, want = vmamba.selective_scan_fn(*args, backend=backend), mamba(*args)
    assert torch.equal(got.isfinite(), want.isfinite())
    assert error(got[want.isfinite()], want[want.isfinite()]) < 1e-12
    if index != 2:
        assert torch.equal(got[..., :11], clean[..., :11])  # causal
        assert want.isfinite().all() == (index == 1 and value == -torch.inf)  # softplus(-Inf) = 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_from_a_wrong_step_on_and_clean_gradients_before(backend):
    args = draw(2, 2, 3, 5, 19)
    g = torch.randn(2, 6, 19, generator=torch.Generator().manual_seed(1)).double()
    g[..., 11:] = 0
    want = both(lambda *a: vmamba.selective_scan_fn(*a, backend=backend), args, g)
    args[0][1, 4, 11] = torch.inf
    got = both(lambda *a: vmamba.selective_scan_fn(*a, backend=backend), args, g)
    assert got[0][1, 4, 11:].isnan().all() and got[0].isnan().sum() == 8
    assert all(error(x, y) < 1e-12 for x, y in zip(got[1:], want[1:]))


LAYOUTS = {  # argument: its index, a wrong value of it, the end of the line
    "selective_scan_fn": {
        "u": (0, (6, 7), "[B, K*D, L], got [6, 7]"),
        "delta": (1, (2, 6, 8), "[B, K*D, L] = [2, 6, 7], got [2, 6, 8]"),
        "A": (2, (5, 5), "[K*D, N >= 1] = [6, N], got [5, 5]"),
        "A, no states": (2, (6, 0), "[K*D, N >= 1] = [6, N], got [6, 0]"),
        "B, 3-D": (3, (2, 5, 7), "[B, K >= 1, N, L] = [2, K, 5, 7], got [2, 5, 7]"),
        "B, more states": (3, (2, 2, 6, 7), "[B, K >= 1, N, L] = [2, K, 5, 7], got [2, 2, 6, 7]"),
        "B, fewer states": (3, (2, 2, 4, 7), "[B, K >= 1, N, L] = [2, K, 5, 7], got [2, 2, 4, 7]"),
        "B, no groups": (3, (2, 0, 5, 7), "[B, K >= 1, N, L] = [2, K, 5, 7], got [2, 0, 5, 7]"),
        "B, batch": (3, (1, 2, 5, 7), "[B, K >= 1, N, L] = [2, K, 5, 7], got [1, 2, 5, 7]"),
        "C, more states": (4, (2, 2, 6, 7), "[B, K, N, L] = [2, 2, 5, 7], got [2, 2, 6, 7]"),
        "C, groups": (4, (2, 3, 5, 7), "[B, K, N, L] = [2, 2, 5, 7], got [2, 3, 5, 7]"),
        "D, short": (5, (3,), "[K*D] = [6], got [3]"),
        "D, long": (5, (12,), "[K*D] = [6], got [12]"),
        "D, one": (5, (), "[K*D] = [6], got []"),
        "delta_bias": (6, (1,), "[K*D] = [6], got [1]"),
        "delta_bias, 2-D": (6, (2, 3), "[K*D] = [6], got [2, 3]"),
    },
    "cross_selective_scan_fn": {
        "u": (0, (2, 3, 6), "[B, D, H, W], got [2, 3, 6]"),
        "delta, 2-D": (1, (12, 6), "[B, 4, D, L] = [2, 4, 3, 6], got [12, 6]"),
        "delta, 3-D": (1, (2, 6, 6), "[B, 4*D, L] = [2, 12, 6], got [2, 6, 6]"),
        "delta, 4-D": (1, (2, 4, 3, 7), "[B, 4, D, L] = [2, 4, 3, 6], got [2, 4, 3, 7]"),
        "delta, 5-D": (1, (2, 4, 3, 2, 3), "[B, 4, D, L] = [2, 4, 3, 6], got [2, 4, 3, 2, 3]"),
        "A": (2, (6, 5), "[4*D, N >= 1] = [12, N], got [6, 5]"),
        "A, no states": (2, (12, 0), "[4*D, N >= 1] = [12, N], got [12, 0]"),
        "B": (3, (2, 2, 5, 6), "[B, 4, N, L] = [2, 4, 5, 6], got [2, 2, 5, 6]"),
        "B, states": (3, (2, 4, 6, 6), "[B, 4, N, L] = [2, 4, 5, 6], got [2, 4, 6, 6]"),
        "C": (4, (2, 4, 5, 2, 3), "[B, 4, N, L] = [2, 4, 5, 6], got [2, 4, 5, 2, 3]"),
        "C, batch": (4, (1, 4, 5, 6), "[B, 4, N, L] = [2, 4, 5, 6], got [1, 4, 5, 6]"),
        "D": (5, (3,), "[4*D] = [12], got [3]"),
        "delta_bias": (6, (13,), "[4*D] = [12], got [13]"),
        "W": (8, (2, 2, 4), "[2, n >= 1, D] = [2, n, 3], got [2, 2, 4]"),
        "W, no windows": (8, (2, 0, 3), "[2, n >= 1, D] = [2, n, 3], got [2, 0, 3]"),
    },
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("function, case", [(f, case) for f, cases in LAYOUTS.items() for case in cases])
def test_a_wrong_shape_is_one_line(function, case, backend):
    index, shape, end = LAYOUTS[function][case]
    if function == "selective_scan_fn":
        args = draw(2, 2, 3, 5, 7)
    else:
        args = [torch.zeros(2, 3, 2, 3).double(), *draw(2, 4, 3, 5, 6)[1:], True, None]
    getattr(vmamba, function)(*args, backend=backend)
    args[index] = torch.zeros(shape).double()
    with pytest.raises(RuntimeError) as raised:
        getattr(vmamba, function)(*args, backend=backend)
    assert str(raised.value) == f"{function}: {case.split(',')[0]} must be {end}"


def test_other_errors_are_one_line():
    args = draw(1, 2, 3, 2, 6)
    with pytest.raises(RuntimeError, match=r"^selective_scan_fn: B must be \[B, K, N, L\] with K a divisor of the 6 rows of u, got \[1, 4, 2, 6\]$"):
        vmamba.selective_scan_fn(*args[:3], *[t.repeat(1, 2, 1, 1) for t in args[3:5]])
    for shape in ((1, 6, 6), (1, 3, 2, 6), (1, 4, 2, 5)):
        with pytest.raises(RuntimeError) as raised:
            vmamba.scan_to_image(torch.zeros(shape), 2, 3)
        size = ", ".join(str(s) for s in shape)
        assert str(raised.value) == f"scan_to_image: x must be [B, 4, F, H*W] = [B, 4, F, 6], got [{size}]"
    with pytest.raises(ValueError, match="^selective_scan_fn: backend must be 'ext' or 'reference', got 'cpu'$"):
        vmamba.selective_scan_fn(*args, backend="cpu")
    image, args = torch.zeros(1, 3, 2, 3).double(), draw(1, 4, 3, 2, 6)
    with pytest.raises(ValueError, match="^cross_selective_scan_fn: backend must be 'ext' or 'reference', got 'cpu'$"):
        vmamba.cross_selective_scan_fn(image, *args[1:], backend="cpu")


@pytest.mark.skipif(bool(_load.cpu_reason), reason=_load.cpu_reason or "")
def test_examples_run():
    result = doctest.testmod(vmamba)
    assert result.attempted > 0 and result.failed == 0
