"""The CUDA and Triton kernels where there is no GPU: more than the accuracy that tests/ops asks of every backend. With a GPU, the same there."""
import irstd_ext
import pytest
import torch
from cuda_on_cpu.edges import EDGES
from irstd_ext.testing import bound, cast, error, load_spec, verdict, with_grads
from ops.backends import BACKENDS, cuda_on_cpu_library
from ops.suite import layouts, upstream
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

OPS = ("bilinear_attention", "linear_cross_attention", "pixel_difference", "pixel_difference_scan", "wavelet_diffusion")
KERNELS = ("cuda_on_cpu", "triton_interpreter", "cuda", "triton")
# The arguments that have a batch.
BATCHED = {"bilinear_attention": (0, 1, 3, 5), "linear_cross_attention": (0, 1, 2), "pixel_difference": (0,), "pixel_difference_scan": (0, 1, 3, 4), "wavelet_diffusion": (0,)}


@pytest.fixture(params=KERNELS)
def backend(request):
    b = BACKENDS[request.param]
    ok, reason = b.available()
    if not ok:
        pytest.skip(reason)
    return b


@pytest.fixture(params=OPS)
def spec(request):
    return load_spec(request.param)


def control(b, spec) -> list:
    """The control case in float32; for the interpreter, which walks step by step, a scan of few."""
    short = b.name == "triton_interpreter" and spec.op == "pixel_difference_scan"
    return spec.args(dict(B=2, D=2, H=3, W=4, N=3, n=2) if short else spec.cases[spec.control], torch.float32)


def run(b, spec, args, g) -> tuple[Tensor, list[Tensor]]:
    return b.forward(spec.op, *args), spec.gradients(lambda *a: b.backward(spec.op, *a), args, g)


def check(b, spec, args, dtype, g=None, given=None) -> None:
    """As OpTests.check: against float64 by the house rule. The backend gets the arguments `given` where these are to give the same."""
    wide = cast(args, torch.float64)
    g = (upstream(spec.reference(*wide)) if g is None else g).to(dtype)
    out, grads = with_grads(spec.reference, wide, spec.grads, g)
    ref, ref_grads = with_grads(spec.reference, args, spec.grads, g)
    got, got_grads = run(b, spec, given or args, g)
    assert not (why := verdict(got, out, ref, spec.ulp)), f"output: {why}"
    scale = max(x.abs().max().item() for x in grads if x.numel())
    for i, (x, exact, r) in enumerate(zip(got_grads, grads, ref_grads)):
        assert not (why := verdict(x, exact, r, spec.grad_ulp, scale)), f"gradient {i}: {why}"


@pytest.mark.parametrize("op, name", [(op, name) for op, cases in EDGES.items() for name in cases])
def test_every_branch_at_its_edges(backend, op, name):
    sizes, dtype, expected = EDGES[op][name]
    if backend.name == "triton_interpreter" and op == "pixel_difference_scan" and sizes["D"] > 16:
        sizes = sizes | dict(H=2, W=3)  # it takes a second a step; here the edges are those of channels and states, in the other cases those of segments
    spec = load_spec(op)
    log = cuda_on_cpu_library(op).cpu_cuda_take_log if backend.name == "cuda_on_cpu" else bytes
    log()  # what earlier tests launched
    check(backend, spec, spec.args(sizes, dtype), dtype)
    if backend.name == "cuda_on_cpu":
        launched = {f"{kernel.split('<')[0].lstrip('(')} {line.rsplit(' ', 1)[1]}" for line in log().decode().splitlines() for kernel in [line]}
        assert expected <= launched


def test_extreme_values(backend, spec):
    for name, change in spec.hot.items():
        args = change(control(backend, spec))
        exact, same_dtype, got = spec.reference(*cast(args, torch.float64)), spec.reference(*args), backend.forward(spec.op, *args)
        finite = exact.isfinite() & same_dtype.isfinite()
        assert torch.equal(got[~finite].isfinite(), same_dtype[~finite].isfinite()) and bool(got[finite].isfinite().all()), name
        limit = bound(error(torch.where(finite, same_dtype, 0), torch.where(finite, exact, 0)), torch.float32, spec.ulp)
        assert error(torch.where(finite, got, 0), torch.where(finite, exact, 0)) <= limit, name


def test_layouts(backend, spec):
    args = control(backend, spec)
    g = upstream(spec.reference(*args)).float()
    every = [layouts(a) if isinstance(a, Tensor) and a.dim() else {} for a in args]
    if backend.name == "triton_interpreter":  # slow: one layout of all arguments at once
        changes = [[found.get(name, a) for found, a in zip(every, args)] for name in max(every, key=len)]
    else:
        changes = [[*args[:i], other, *args[i + 1 :]] for i, found in enumerate(every) for other in found.values()]
    for changed in changes:
        check(backend, spec, changed, torch.float32)
    for other in (*layouts(g).values(), g[..., :1].expand_as(g)):
        check(backend, spec, args, torch.float32, other)


def test_broadcast_inputs(backend, spec):
    args = control(backend, spec)

    def same(a, axis):
        return a.select(axis, 0).unsqueeze(axis).expand_as(a)

    if backend.name == "triton_interpreter":  # slow: all arguments at once, along different axes
        turns = range(max(a.dim() for a in args if isinstance(a, Tensor)))
        changes = [[same(a, (i + turn) % a.dim()) if isinstance(a, Tensor) and a.dim() else a for i, a in enumerate(args)] for turn in turns]
    else:
        changes = [[*args[:i], same(a, axis), *args[i + 1 :]] for i, a in enumerate(args) if isinstance(a, Tensor) for axis in range(a.dim())]
    for changed in changes:
        check(backend, spec, changed, torch.float32)


def test_strides_are_those_of_the_fake_kernels(backend, spec):
    args = control(backend, spec)
    for name in ("strided", "transposed", "channels innermost"):
        changed = [layouts(a)[name] if isinstance(a, Tensor) and a.dim() > 1 else a for a in args]
        g = upstream(spec.reference(*changed)).float()
        with FakeTensorMode() as mode:
            fake = [mode.from_tensor(a) if isinstance(a, Tensor) else a for a in (g, *changed)]
            outs = [getattr(torch.ops.irstd_ext, spec.op)(*fake[1:])]
            spec.gradients(lambda *a: outs.extend(getattr(torch.ops.irstd_ext, f"{spec.op}_backward")(*a)) or outs[1:], fake[1:], fake[0])
        real = [backend.forward(spec.op, *changed)]
        spec.gradients(lambda *a: real.extend(backend.backward(spec.op, *a)) or real[1:], changed, g)
        assert [(r.shape, r.stride(), r.dtype) for r in real] == [(f.shape, f.stride(), f.dtype) for f in outs], name


def test_invalid_input(backend, spec):
    for bad in spec.invalid:
        if "meta" in bad.name:
            continue  # the dispatcher takes these elsewhere
        args = bad.change(spec.args(spec.cases[spec.control], torch.float32))
        with pytest.raises(RuntimeError) as failure:
            backend.forward(spec.op, *args)
        assert bad.message in str(failure.value).splitlines()[0], bad.name


def test_results_do_not_depend_on_the_batch_and_reruns_are_bit_equal(backend, spec):
    case = {"bilinear_attention": dict(B=3, C=2, L=9, M=70, E=4), "linear_cross_attention": dict(B=3, h=2, N=5, M=200, d=6, e=4),
            "pixel_difference": dict(B=3, D=3, H=9, W=11, n=2), "pixel_difference_scan": dict(B=3, D=3, H=5, W=14, N=4, n=2),
            "wavelet_diffusion": dict(B=3, C=3, H=9, W=11, steps=5)}[spec.op]
    if backend.name == "triton_interpreter" and spec.op == "pixel_difference_scan":
        case |= dict(D=1, N=2)  # one program
    args = spec.args(case, torch.float32)
    g = upstream(spec.reference(*args)).float()
    out, grads = run(backend, spec, args, g)
    again, grads_again = run(backend, spec, args, g)
    assert torch.equal(out, again) and all(torch.equal(x, y) for x, y in zip(grads, grads_again))
    batched = [i in BATCHED[spec.op] and isinstance(a, Tensor) for i, a in enumerate(args)]
    one, one_grads = run(backend, spec, [a[1:2] if b else a for a, b in zip(args, batched)], g[1:2])
    assert torch.equal(one, out[1:2])
    of_tensors = [batched[i] for i in spec.grads if isinstance(args[i], Tensor)]
    assert len(of_tensors) == len(grads)
    for x, y, b in zip(one_grads, grads, of_tensors):
        assert not b or torch.equal(x, y[1:2])


def test_gamma_zero_returns_the_residual_bit_for_bit(backend):
    spec = load_spec("bilinear_attention")
    args = spec.args(dict(B=1, C=3, L=8, M=8, E=20, residual=True), torch.float32)
    args[4], args[5] = torch.zeros(()), torch.where(args[5] > 0, args[5], -0.0)
    assert torch.equal(backend.forward(spec.op, *args).view(torch.int32), args[5].view(torch.int32))


def test_offsets_beyond_2_to_31(backend, spec):
    sizes = {"bilinear_attention": dict(B=2, C=2, L=3, M=3, E=4), "linear_cross_attention": dict(B=2, h=2, N=3, M=3, d=4, e=4),
             "pixel_difference": dict(B=2, D=2, H=3, W=4, n=2), "pixel_difference_scan": dict(B=2, D=2, H=3, W=4, N=2, n=2),
             "wavelet_diffusion": dict(B=2, C=2, H=3, W=4, steps=2)}[spec.op]
    args = spec.args(sizes, torch.float16)
    g = upstream(spec.reference(*args)).half()
    out, grads = run(backend, spec, args, g)

    def far(t):
        strides = (2**31 - 64, *(512 // 4**i for i in range(t.dim() - 2)), 1)
        return torch.empty(2**31 + 4096, dtype=t.dtype).as_strided(t.shape, strides).copy_(t)  # only the pages written are taken

    for where in {"bilinear_attention": (3,), "linear_cross_attention": (2,), "pixel_difference": (0,), "pixel_difference_scan": (0, 1, 3, 4), "wavelet_diffusion": (0,)}[spec.op]:
        out2, grads2 = run(backend, spec, [*args[:where], far(args[where]), *args[where + 1 :]], g)
        assert torch.equal(out, out2) and all(torch.equal(x, y) for x, y in zip(grads, grads2)), where
    assert all(torch.equal(x, y) for x, y in zip(grads, run(backend, spec, args, far(g))[1]))


@pytest.mark.parametrize("sizes, dtype", [(dict(B=1, D=3, H=7, W=11, N=4, n=2), torch.float32), (dict(B=1, D=2, H=6, W=11, N=3, n=None), torch.float64)], ids=("float32", "float64"))
def test_rates_of_minus_infinity_forget_at_once(backend, sizes, dtype):
    """As -exp(A_log) is in float32 from 89 on. Over more than a chunk, of which the last is no multiple of a tile: steps that are not there change nothing."""
    spec = load_spec("pixel_difference_scan")
    args = spec.args(sizes, dtype)
    args[2][::2, 1] = -1e5  # forgets as well, in numbers
    check(backend, spec, args, dtype, given=[*args[:2], torch.where(args[2] == -1e5, -torch.inf, args[2]), *args[3:]])


@pytest.mark.parametrize("size, dtype", [(1e-25, torch.float32), (1e25, torch.float32), (1e-170, torch.float64)], ids=str)
def test_the_gate_is_closed_where_squares_leave_the_range(backend, size, dtype):
    """Then p is linear, as for dark spots."""
    spec = load_spec("pixel_difference")
    u, g = torch.zeros(1, 1, 7, 8, dtype=dtype), torch.ones(1, 1, 7, 8, dtype=dtype)
    u[..., 3, 4], g[..., 3, 5] = size, 3
    args = [u, torch.ones(2, 2, 1, dtype=dtype), 0.5]
    out, (du, dW) = run(backend, spec, args, g)
    dark, (du_dark, dW_dark) = with_grads(spec.reference, cast([-u, *args[1:]], torch.float64), spec.grads, g)
    assert error(out, -dark) < 1e-6 and error(du, du_dark) < 1e-6 and error(dW, -dW_dark) < 1e-6


def test_sizes_that_cuda_does_not_count(monkeypatch):
    """Refused at the call, and by the fake kernels where the CUDA library serves the device."""
    b, number = BACKENDS["cuda_on_cpu"], torch.zeros(())
    if not b.available()[0]:
        pytest.skip(b.available()[1])
    monkeypatch.setattr(irstd_ext._load, "cuda_backend", "cuda")
    for H, W, n, message in ((2**16, 2**15, 2, "u must have at most 2^30 pixels on CUDA, got 65536 x 32768"), (1, 2**31, 1, "u must have at most 2^30 pixels on CUDA, got 1 x"),
                             (3, 3, 2**14 + 1, "W must have at most 2^14 windows on CUDA, got 16385")):
        u, weight, maps = number.expand(1, 1, H, W), number.expand(2, n, 1), number.expand(1, 4, 1, H, W)
        for op, *args in (("pixel_difference", u, weight, 1.0), ("pixel_difference_scan", u, maps, number.expand(4, 1), maps, maps, None, None, weight, 1.0, True)):
            with FakeTensorMode():
                fake = [torch.empty_strided(a.shape, a.stride(), device="cuda") if isinstance(a, Tensor) else a for a in args]
            for run in (b.forward, lambda op, *a: b.backward(op, u, *a), lambda op, *a: getattr(torch.ops.irstd_ext, op)(*fake),
                        lambda op, *a: getattr(torch.ops.irstd_ext, f"{op}_backward")(fake[0], *fake)):
                with pytest.raises(RuntimeError) as failure:
                    run(op, *args)
                assert message in str(failure.value), (op, failure.value)


@pytest.mark.parametrize("op, sizes", [("bilinear_attention", dict(B=2, C=2, L=9, M=9, E=5)), ("bilinear_attention", dict(B=1, C=2, L=66, M=3, E=3)),
                                       ("linear_cross_attention", dict(B=2, h=1, N=130, M=140, d=3, e=35)),
                                       ("pixel_difference", dict(B=2, D=9, H=9, W=10, n=2)), ("pixel_difference_scan", dict(B=1, D=33, H=5, W=13, N=8, n=2)),
                                       ("pixel_difference_scan", dict(B=1, D=2, H=7, W=10, N=20, n=2, channels_last=True)),
                                       ("wavelet_diffusion", dict(B=2, C=9, H=9, W=10, steps=3)), ("wavelet_diffusion", dict(B=1, C=9, H=9, W=66, steps=4, channels_last=True))])
def test_the_order_of_threads_and_blocks_does_not_matter(op, sizes):
    """A barrier that is missing makes a result depend on which thread runs first."""
    b, spec = BACKENDS["cuda_on_cpu"], load_spec(op)
    if not b.available()[0]:
        pytest.skip(b.available()[1])
    library = cuda_on_cpu_library(op)
    args = spec.args(sizes, torch.float32)
    g = upstream(spec.reference(*args)).float()
    out, grads = run(b, spec, args, g)
    for order in (1, 2):
        library.cpu_cuda_set_order(order)
        try:
            out2, grads2 = run(b, spec, args, g)
        finally:
            library.cpu_cuda_set_order(0)
        assert torch.equal(out, out2) and all(torch.equal(x, y) for x, y in zip(grads, grads2))


def test_a_scan_is_one_pass_where_chains_are_plenty_and_gives_the_same():
    """98,304 chains of 66 steps in one pass, and half of them at a time in chunks; 64 steps are never cut."""
    b, spec = BACKENDS["cuda_on_cpu"], load_spec("pixel_difference_scan")
    if not b.available()[0]:
        pytest.skip(b.available()[1])
    log = cuda_on_cpu_library(spec.op).cpu_cuda_take_log

    def forward(args):
        log()
        return b.forward(spec.op, *args), "chunks_kernel" in log().decode()

    args = spec.args(dict(B=48, D=32, H=6, W=11, N=16, n=None, channels_last=True), torch.float32)
    out, cut = forward(args)
    assert not cut
    halves = [forward([a[half] if i in BATCHED[spec.op] else a for i, a in enumerate(args)]) for half in (slice(0, 24), slice(24, 48))]
    assert all(cut for _, cut in halves) and error(torch.cat([half for half, _ in halves]), out) < 1e-6
    assert not forward(spec.args(dict(B=1, D=2, H=8, W=8, N=4, n=None), torch.float32))[1]


def test_no_op_is_left_out():
    assert sorted(OPS) == sorted(irstd_ext.ops.__all__)
