"""The tests every network passes. tests/models/test_<network>.py subclasses `NetworkTests` and adds what is its own."""
import pytest
import torch

from python_models import build_model

BACKENDS = ["ext", "reference"]


def count(module):
    """Parameters of a module."""
    return sum(p.numel() for p in module.parameters())


def gradients(net, x, mask):
    """Logits, and the gradients of the network's own loss by the image and every parameter."""
    leaf = x.clone().requires_grad_()
    logits = net(leaf)["logits"]
    net.criterion()({"logits": logits}, mask).backward()
    return {"logits": logits.detach(), "x": leaf.grad, **{k: p.grad for k, p in net.named_parameters()}}


def train_statistics(net, x):
    """The network in evaluation mode, its BatchNorms used to x."""
    for _ in range(3):
        net(x)
    return net.eval()


class NetworkTests:
    """name: of the network. slim: options that make it small. variants: more options, by the names of their tests; for autocast and compilation their own, where given. channels, size: of the test images.
    compiled_on: backends whose graph is compiled here. compared: the parameter whose gradient the compiled network must share."""

    name: str
    slim: dict
    variants: dict
    channels = 3
    size = (32, 32)
    autocast_variants = compiled_variants = None  # all
    compiled_on = BACKENDS
    compared: str

    def pytest_generate_tests(self, metafunc):
        if "backend" in metafunc.fixturenames:
            metafunc.parametrize("backend", self.compiled_on if "compiled" in metafunc.function.__name__ else BACKENDS)
        for fixture, chosen in (("variant", None), ("autocast_variant", self.autocast_variants), ("compiled_variant", self.compiled_variants)):
            if fixture in metafunc.fixturenames:
                metafunc.parametrize(fixture, [pytest.param(options, id=name) for name, options in (chosen or self.variants).items()])

    def ready(self, net):
        """Whatever starts at zero made to act."""

    def still(self, net):
        """Parameters whose true gradient is 0."""
        return set()

    def build(self, options, backend="ext", seed=0, **more):
        """A small double-precision network in training mode."""
        torch.manual_seed(seed)
        net = build_model(self.name, "paper", backend, **{**self.slim, **options, **more}).double()
        self.ready(net)
        return net

    def images(self, count, size=None):
        return torch.randn(count, self.channels, *(size or self.size), dtype=torch.float64)

    def test_state_dict_is_the_same_on_both_backends(self, variant):
        ext, reference = self.build(variant), self.build(variant, "reference", seed=1)
        assert [(k, v.shape) for k, v in ext.state_dict().items()] == [(k, v.shape) for k, v in reference.state_dict().items()]
        reference.load_state_dict(ext.state_dict())

    def test_ext_equals_reference(self, assert_close, variant):
        ext, reference = self.build(variant), self.build(variant, "reference")
        reference.load_state_dict(ext.state_dict())
        x = self.images(2)
        mask = torch.rand(2, 1, *self.size) > 0.98
        got, want = gradients(ext, x, mask), gradients(reference, x, mask)
        largest = max(g.abs().max() for k, g in want.items() if k != "logits")
        assert got.keys() == want.keys()
        for key, expected in want.items():
            if key in self.still(ext):
                assert got[key].abs().max() <= 1e-12 * largest
            else:
                assert_close(got[key], expected, 1e-9, key)

    def test_every_parameter_learns(self, backend, variant):
        net = self.build(variant, backend)
        net(self.images(4))["logits"].square().sum().backward()
        assert all(p.grad is not None for p in net.parameters())
        assert {name for name, p in net.named_parameters() if p.grad.abs().max() < 1e-9} <= self.still(net)

    def test_channels_last_equals_contiguous(self, assert_close, backend, variant):
        x = self.images(2)
        net = train_statistics(self.build(variant, backend), x)
        expected = net(x)["logits"].detach()
        assert_close(net(x.to(memory_format=torch.channels_last))["logits"].detach(), expected, 1e-11)
        assert_close(net.to(memory_format=torch.channels_last)(x)["logits"].detach(), expected, 1e-11)
        wide = self.images(2, [2 * s for s in self.size])[:, :, ::2, ::2]
        assert_close(net(wide)["logits"].detach(), net(wide.contiguous())["logits"].detach(), 1e-11)

    def test_images_do_not_influence_each_other(self, assert_close, backend, variant):
        x = self.images(3)
        net = train_statistics(self.build(variant, backend), x)
        together, order = net(x)["logits"].detach(), torch.tensor([2, 0, 1])
        assert_close(net(x[order])["logits"].detach(), together[order], 1e-11)
        for i in range(3):
            assert_close(net(x[i : i + 1])["logits"].detach(), together[i : i + 1], 1e-11)

    def test_compiled_to_one_graph(self, assert_close, backend, compiled_variant):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        net, twin = self.build(compiled_variant, backend), self.build(compiled_variant, backend)
        compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
        for _ in range(2):
            x = self.images(2)
            expected, got = net(x)["logits"], compiled(x)["logits"]
            expected.square().sum().backward(), got.square().sum().backward()
            assert_close(got.detach(), expected.detach(), 1e-10)
        assert_close(twin.get_parameter(self.compared).grad, net.get_parameter(self.compared).grad, 1e-9)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
        torch._dynamo.reset()

    def test_autocast(self, backend, autocast_variant):
        net = self.build(autocast_variant, backend).float()
        x, mask = self.images(4).float(), torch.rand(4, *self.size) > 0.95
        exact = net(x)["logits"].detach()
        spread = (exact - exact.mean()).abs().mean()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = net(x)
            loss = net.criterion()(out, mask)
        assert loss.dtype == torch.float32
        error = (out["logits"].detach().float() - exact).abs().mean() / spread
        assert error < 0.25 < (exact.roll(1, -1) - exact).abs().mean() / spread
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in net.parameters())
