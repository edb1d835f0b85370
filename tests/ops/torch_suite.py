"""Tests of what torch does with every operator: opcheck, fake tensors, compilation, export, autocast, vmap, FLOP counting."""
import pytest
import torch
from irstd_ext.testing import cast, with_grads
from torch import Tensor

from ops.layouts import layouts, upstream


class TorchTests:
    """Mixed into `OpTests`, which gives `spec`, `op`, `control_args` and `native_run`."""

    def test_opcheck(self):
        args = [a.requires_grad_(i in self.spec.grads) if isinstance(a, Tensor) else a for i, a in enumerate(self.control_args(torch.float32))]
        torch.library.opcheck(getattr(torch.ops.irstd_ext, self.spec.op).default, args)

    def test_fake_strides(self, case):
        from torch._subclasses.fake_tensor import FakeTensorMode

        args = self.spec.args(self.spec.cases[case], torch.float32)
        for name in ["contiguous", *layouts(args[0])]:
            changed = [layouts(a).get(name, a) if isinstance(a, Tensor) and a.dim() else a for a in args]
            real = self.op(*changed)
            with FakeTensorMode() as mode:
                fake = self.op(*[mode.from_tensor(a) if isinstance(a, Tensor) else a for a in changed])
            assert fake.shape == real.shape and fake.dtype == real.dtype
            # of an axis of one element torch's own empty_like has another stride where it is fake
            assert real.numel() == 0 or all(f == r for f, r, size in zip(fake.stride(), real.stride(), real.shape) if size > 1), name

    def test_compile_one_graph_and_no_recompilation(self):
        torch._dynamo.reset()
        graphs = []

        def count(module, inputs):
            graphs.append(module)
            return module.forward

        compiled = torch.compile(lambda *a: self.op(*a).sin(), fullgraph=True, dynamic=True, backend=count)
        sizes = dict(self.spec.cases[self.spec.control])
        for extra in (0, 2, 5):
            args = self.spec.args({**sizes, "B": sizes["B"] + extra}, torch.float32)
            assert torch.equal(compiled(*args), self.op(*args).sin())
        assert len(graphs) == 1

    def test_compiled_gradients(self):
        torch._dynamo.reset()
        args = self.control_args(torch.float32)
        g = upstream(self.op(*args)).float()
        compiled = torch.compile(self.op, fullgraph=True, backend="aot_eager")
        out, grads = with_grads(compiled, args, self.spec.grads, g)
        want, want_grads = self.native_run(args, g)
        assert torch.equal(out, want) and all(torch.equal(x, y) for x, y in zip(grads, want_grads))

    def test_inductor(self):
        """The real backend of torch.compile, forward and backward, on inputs in other memory orders."""
        torch._dynamo.reset()
        args = self.control_args(torch.float32)
        compiled = torch.compile(lambda *a: self.op(*a).mul(2), fullgraph=True)
        for name in ("contiguous", "transposed"):
            changed = [layouts(a).get(name, a) if isinstance(a, Tensor) and a.dim() else a for a in args]
            g = upstream(self.op(*changed)).float()
            out, grads = with_grads(compiled, changed, self.spec.grads, g)
            want, want_grads = with_grads(lambda *a: self.op(*a).mul(2), changed, self.spec.grads, g)
            assert torch.equal(out, want) and all(torch.equal(x, y) for x, y in zip(grads, want_grads)), name

    def test_forward_mode_is_refused(self):
        args = self.control_args(torch.float32)
        with pytest.raises(RuntimeError, match="forward-mode derivatives are not implemented"):
            torch.func.jvp(lambda x: self.spec.native(x, *args[1:]), (args[0],), (torch.ones_like(args[0]),))

    def test_export(self):
        class Module(torch.nn.Module):
            def forward(_, *args):
                return self.op(*args)

        args = tuple(self.control_args(torch.float32))
        program = torch.export.export(Module(), args)
        assert torch.equal(program.module()(*args), self.op(*args))
        assert any(self.spec.op in str(node.target) for node in program.graph.nodes)

    @pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
    def test_autocast_keeps_dtypes(self, half):
        args = self.control_args(torch.float32)
        with torch.autocast("cpu", half):
            assert self.op(*args).dtype == torch.float32
            assert torch.equal(self.op(*args), self.op(*args))
            assert self.op(*cast(args, half)).dtype == half
        assert torch.equal(self.op(*args), self.op(*args))

    def test_vmap(self):
        batches = [self.control_args(torch.float32, seed=s) for s in range(3)]
        tensors = [i for i, a in enumerate(batches[0]) if isinstance(a, Tensor)]
        stacked = [torch.stack([b[i] for b in batches]) for i in tensors]

        def call(*values):
            args = list(batches[0])
            for i, v in zip(tensors, values):
                args[i] = v
            return self.op(*args)

        want = torch.stack([self.op(*b) for b in batches])
        assert torch.allclose(torch.vmap(call)(*stacked), want, rtol=0, atol=1e-6)
        one = torch.vmap(call, in_dims=tuple(0 if n == 0 else None for n in range(len(tensors))))(stacked[0], *[batches[0][i] for i in tensors[1:]])
        want = torch.stack([call(s, *[batches[0][i] for i in tensors[1:]]) for s in stacked[0]])
        assert torch.allclose(one, want, rtol=0, atol=1e-6)

    def test_flop_formula(self):
        from torch.utils.flop_counter import FlopCounterMode

        sizes = self.spec.cases[self.spec.control]
        args = self.control_args(torch.float32)
        with FlopCounterMode(display=False) as counter:
            self.native_run(args, upstream(self.spec.reference(*args)))
        counts = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
        assert counts[f"irstd_ext.{self.spec.op}"] == self.spec.flops(sizes)
        assert counts[f"irstd_ext.{self.spec.op}_backward"] == self.spec.backward_flops(sizes)


class Float32UnderAutocast:
    """For operators that compute in float32 under autocast. Put before `OpTests`."""

    test_autocast_keeps_dtypes = None

    def narrowed(self, args, half):
        """The control arguments as a network under autocast has them."""
        return cast(args, half)

    @pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
    def test_autocast_computes_in_float32(self, half):
        args = self.control_args(torch.float32)
        with torch.autocast("cpu", half):
            with pytest.raises(RuntimeError, match="u must be float16, bfloat16, float32 or float64, got int64"):
                self.op(args[0].long(), *args[1:])
            assert torch.equal(self.op(*args), self.op(*args)) and self.op(*args).dtype == torch.float32
            narrow = self.narrowed(args, half)
            out, grads = self.native_run(narrow, upstream(args[0]))
            assert torch.equal(out, self.spec.native(*cast(narrow, torch.float32)))
            assert [g.dtype for g in grads] == [narrow[i].dtype for i in self.spec.grads]
            assert self.op(*self.control_args()).dtype == torch.float64
        assert self.op(*cast(args, half)).dtype == half
