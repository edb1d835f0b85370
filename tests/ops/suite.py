"""The tests every operator passes on every backend. tests/ops/test_<op>.py subclasses `OpTests` with its spec and adds what is its own."""
import pytest
import torch
from irstd_ext.testing import OpSpec, bound, cast, error, verdict, with_grads
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from ops.backends import BACKENDS
from ops.layouts import layouts, upstream
from ops.torch_suite import TorchTests

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
NAMES = {t: str(t).removeprefix("torch.") for t in DTYPES}


def broken(t: Tensor, slightly: float) -> dict[str, Tensor]:
    """Wrong results that every tolerance must reject; those that happen to be right for this shape are left out."""
    flat = t.reshape(-1)
    one = t.clone()
    one.view(-1)[flat.abs().argmax()] *= 1 + 2 * slightly
    found = {"zeros": torch.zeros_like(t), "slightly larger": t * (1 + slightly), "one element": one}
    if t.dim():
        edge = t.clone()
        edge.select(-2 if t.dim() > 1 else 0, 0).zero_()
        found |= {"shifted": t.roll(1, -2 if t.dim() > 1 else 0), "zero border": edge, "mirrored": t.flip(-1)}
    return {name: wrong for name, wrong in found.items() if not torch.equal(wrong, t)}


class OpTests(TorchTests):
    spec: OpSpec

    def pytest_generate_tests(self, metafunc):
        if "backend" in metafunc.fixturenames:
            return metafunc.parametrize("backend, case, dtype", list(self.runs()))
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", list(self.spec.cases))
        if "hot" in metafunc.fixturenames:
            metafunc.parametrize("hot", list(self.spec.hot))
        if "bad" in metafunc.fixturenames:
            metafunc.parametrize("bad", self.spec.invalid, ids=lambda bad: bad.name)
        if "dtype" in metafunc.fixturenames:
            metafunc.parametrize("dtype", DTYPES, ids=NAMES.get)

    def runs(self):
        """Every case and dtype on every backend there is; one skipped run, with the reason, for a backend that is missing."""
        for name, backend in BACKENDS.items():
            ok, reason = backend.available()
            for case in self.spec.cases if ok else [self.spec.control]:
                for dtype in self.dtypes(name, case) if ok else DTYPES[1:2]:
                    marks = () if ok else pytest.mark.skip(reason=reason)
                    yield pytest.param(name, case, dtype, id=f"{name}-{case}-{NAMES[dtype]}", marks=marks)

    def dtypes(self, backend, case):
        """All; but Triton's interpreter takes seconds for a run: where an op has many cases, a small one has one dtype there, in turn, a large one none, and
        the control case all."""
        names = list(self.spec.cases)
        if backend != "triton_interpreter" or len(names) <= 16 or case == self.spec.control:
            return DTYPES
        small = max(a.numel() for a in self.spec.args(self.spec.cases[case]) if isinstance(a, Tensor)) <= 5000
        return [DTYPES[names.index(case) % len(DTYPES)]] if small else []

    # -- helpers

    def control_args(self, dtype=torch.float64, seed=0):
        return self.spec.args(self.spec.cases[self.spec.control], dtype, seed=seed)

    def op(self, *args):
        return getattr(torch.ops.irstd_ext, self.spec.op)(*args)

    def truth(self, args):
        """Output and gradients of the reference in float64, from the numbers `args` really hold."""
        wide = cast(args, torch.float64)
        g = upstream(self.spec.reference(*wide))
        return *with_grads(self.spec.reference, wide, self.spec.grads, g), g

    def check(self, args, run, dtype, slack=1.0):
        """run(args, upstream) -> (out, grads) against float64, by the house rule."""
        g = self.truth(args)[2].to(dtype)
        out, grads = with_grads(self.spec.reference, cast(args, torch.float64), self.spec.grads, g)
        ref_out, ref_grads = with_grads(self.spec.reference, args, self.spec.grads, g)
        got_out, got_grads = run(args, g)
        assert got_out.dtype == ref_out.dtype and got_out.shape == out.shape
        assert not (why := verdict(got_out, out, ref_out, self.spec.ulp, slack=slack)), f"output: {why}"
        assert len(got_grads) == len(grads)
        scale = max([x.abs().max().item() for x in grads if x.numel()], default=0.0)
        inputs = [args[i] for i in self.spec.grads if isinstance(args[i], Tensor)]
        for i, (a, got, exact, ref) in enumerate(zip(inputs, got_grads, grads, ref_grads)):
            assert got.shape == exact.shape and got.dtype == a.dtype
            assert not (why := verdict(got, exact, ref, self.spec.grad_ulp, scale, slack)), f"gradient {i}: {why}"

    def native_run(self, args, g):
        return with_grads(self.op, args, self.spec.grads, g)

    # -- accuracy

    def test_accuracy(self, backend, case, dtype):
        b = BACKENDS[backend]
        args = self.spec.args(self.spec.cases[case], dtype)

        def run(args, g):
            if backend == "cpu":
                return self.native_run(args, g)
            return b.forward(self.spec.op, *args), self.spec.gradients(lambda *a: b.backward(self.spec.op, *a), args, g)

        self.check(args, run, dtype, slack=2.0 if backend == "triton_interpreter" and dtype == torch.bfloat16 else 1.0)  # its bf16 stores truncate

    def test_tolerance_rejects_wrong_results(self, dtype):
        """The same rule as in `check`, on wrong results: of the output, and of every gradient that does not cancel to nothing."""
        args = self.control_args(dtype)
        out, grads, g = self.truth(args)
        ref, ref_grads = with_grads(self.spec.reference, args, self.spec.grads, g)
        scale = max(x.abs().max().item() for x in grads)
        for which, exact, reference, ulp, size in [("output", out, ref, self.spec.ulp, 0.0), *((f"gradient {i}", x, r, self.spec.grad_ulp, scale) for i, (x, r) in enumerate(zip(grads, ref_grads)))]:
            assert not verdict(exact.to(dtype), exact, reference, ulp, size), which
            if exact.abs().max() <= 1e-12 * scale:
                continue
            for name, wrong in broken(exact, 0.01 if dtype.itemsize > 2 else 0.05).items():  # 1 % is little more than an epsilon of bfloat16
                assert verdict(wrong.to(dtype), exact, reference, ulp, size), f"{which}: {name}"

    def test_extreme_values(self, hot):
        args = self.spec.hot[hot](self.control_args(torch.float32))
        out, got = self.spec.reference(*cast(args, torch.float64)), self.op(*args)
        same_dtype = self.spec.reference(*args)
        finite = out.isfinite() & same_dtype.isfinite()
        assert torch.equal(got[~finite].isfinite(), same_dtype[~finite].isfinite()) and bool(got[finite].isfinite().all())
        exact = torch.where(finite, out, torch.zeros_like(out))
        limit = bound(error(torch.where(finite, same_dtype, 0), exact), torch.float32, self.spec.ulp)
        assert error(torch.where(finite, got, 0), exact) <= limit
        if out.isfinite().all():
            self.check(args, self.native_run, torch.float32, slack=4)  # hot logits: rounding of one product moves a gradient by |T| epsilon

    def test_gradcheck(self):
        args = [a.requires_grad_(i in self.spec.grads) if isinstance(a, Tensor) else a for i, a in enumerate(self.control_args())]
        assert torch.autograd.gradcheck(self.op, args)

    def test_gradcheck_notices_a_wrong_gradient(self):
        args = [a.requires_grad_(i in self.spec.grads) if isinstance(a, Tensor) else a for i, a in enumerate(self.control_args())]

        class Wrong(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clone()

            @staticmethod
            def backward(ctx, g):
                return g * 1.01

        with pytest.raises(GradcheckError):
            torch.autograd.gradcheck(lambda *a: self.op(Wrong.apply(a[0]), *a[1:]), args)

    def test_second_derivative_is_refused(self):
        args = [a.requires_grad_(i in self.spec.grads) if isinstance(a, Tensor) else a for i, a in enumerate(self.control_args())]
        (first,) = torch.autograd.grad(self.op(*args).square().sum(), args[0], create_graph=True)
        with pytest.raises(RuntimeError, match="second derivatives are not implemented"):
            first.sum().backward()

    def test_only_wanted_gradients(self):
        for wanted in self.spec.grads:
            args = self.control_args(torch.float32)
            if not isinstance(args[wanted], Tensor):
                continue
            every = self.native_run(args, upstream(self.op(*args)))[1]
            alone = with_grads(self.op, args, (wanted,), upstream(self.op(*args)))[1][0]
            index = [i for i in self.spec.grads if isinstance(args[i], Tensor)].index(wanted)
            assert torch.equal(alone, every[index])

    # -- memory

    def test_layouts(self):
        args = self.control_args(torch.float32)
        out = self.op(*args)
        for i, a in enumerate(args):
            for name, other in layouts(a).items() if isinstance(a, Tensor) and a.dim() else ():
                changed = [*args[:i], other, *args[i + 1 :]]
                assert torch.equal(changed[i], a)
                self.check(changed, self.native_run, torch.float32)
                assert error(self.op(*changed), out) <= 1e-6, (i, name)

    def test_layouts_of_the_upstream_gradient(self):
        args = self.control_args(torch.float32)
        g = upstream(self.op(*args)).float()
        for name, other in {**layouts(g), "expanded": g[..., :1].expand_as(g)}.items():
            _, want = with_grads(self.spec.reference, cast(args, torch.float64), self.spec.grads, other)
            _, got = with_grads(self.op, args, self.spec.grads, other)
            for x, y in zip(got, want):
                assert error(x, y) <= 1e-5 or (x.double() - y).abs().max() <= 1e-6 * max(w.abs().max() for w in want), name

    def test_broadcast_inputs(self):
        args = self.control_args(torch.float32)
        for i, a in enumerate(args):
            if isinstance(a, Tensor) and a.dim():
                for axis in range(a.dim()):
                    same = a.select(axis, 0).unsqueeze(axis).expand_as(a)
                    changed = [*args[:i], same, *args[i + 1 :]]
                    out = self.spec.reference(*cast(changed, torch.float64))
                    assert error(self.op(*changed), out) <= bound(0, torch.float32, self.spec.ulp)

    def test_inputs_are_unchanged(self):
        args = self.control_args(torch.float32)
        before = [a.clone() if isinstance(a, Tensor) else a for a in args]
        self.native_run(args, upstream(self.op(*args)))
        assert all(torch.equal(a, b) for a, b in zip(args, before) if isinstance(a, Tensor))

    def test_every_output_element_is_written(self):
        torch.use_deterministic_algorithms(True)  # fresh memory is then filled with NaN
        try:
            assert torch.utils.deterministic.fill_uninitialized_memory and torch.empty(3).isnan().all()
            for sizes in self.spec.cases.values():
                args = self.spec.args(sizes, torch.float32)
                out, grads = self.native_run(args, upstream(self.op(*args)))
                assert not any(t.isnan().any() for t in (out, *grads))
        finally:
            torch.use_deterministic_algorithms(False)

    def test_reruns_and_threads_are_bit_equal(self):
        """On a shape large enough for the work to be split; and right there, since pieces then start in the middle."""
        args = self.spec.args(self.spec.split, torch.float32)
        self.check(args, self.native_run, torch.float32)
        g = upstream(self.op(*args)).float()
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            out, grads = self.native_run(args, g)
            for n in [1] * 10 + [2] * 5 + [3] * 5:
                torch.set_num_threads(n)
                out2, grads2 = self.native_run(args, g)
                assert torch.equal(out, out2) and all(torch.equal(x, y) for x, y in zip(grads, grads2))
        finally:
            torch.set_num_threads(threads)

    # -- errors

    def test_invalid_input(self, bad):
        args = bad.change(self.control_args(torch.float32))
        with pytest.raises(RuntimeError) as real:
            self.op(*args)
        with pytest.raises(RuntimeError) as fake:
            self.op(*[a.to("meta") if isinstance(a, Tensor) and "meta" not in bad.name else a for a in args])
        for text in (str(real.value).splitlines()[0], str(fake.value).splitlines()[0]):
            assert bad.message in text and text.startswith(self.spec.op + ": "), text
