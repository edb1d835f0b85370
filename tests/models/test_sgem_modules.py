"""The SGEM modules as the network uses them, against their vectors and the properties of the specification."""
import pytest
import torch

from python_models.sgem_unet.reference_modes import add_attention, flat_attention
from python_models.sgem_unet.sgem import BilinearSGEM, LinearSGEM

BACKENDS = ["ext", "reference"]
PRECISIONS = [pytest.param(torch.float32, 1e-5, 3e-5, id="float32"), pytest.param(torch.float64, 1e-11, 1e-10, id="float64")]
BILINEAR = {"wq": "query_conv.weight", "bq": "query_conv.bias", "Lq": "query_linear.weight", "lbq": "query_linear.bias", "wk": "key_conv.weight",
            "bk": "key_conv.bias", "Lk": "key_linear.weight", "lbk": "key_linear.bias", "w": "weight", "b": "bias", "gamma": "gamma"}
LINEAR = {"Wq": "query.weight", "bq": "query.bias", "Wk": "key.weight", "bk": "key.bias", "Wv": "value.weight", "bv": "value.bias",
          "Wo": "out.weight", "bo": "out.bias", "gamma": "gamma"}


def _load(module, case, names, dtype):
    module.to(dtype).load_state_dict({name: case[key].view_as(module.state_dict()[name]) for key, name in names.items()})


def _compare(assert_close, module, inputs, case, names, tolerance, grad_tolerance):
    leaves = {key: case[key].clone().requires_grad_() for key in inputs}
    out = module(*leaves.values())
    assert_close(out.detach(), case["out"], tolerance, "out")
    out.backward(case["g_out"])
    got = {**{key: leaf.grad for key, leaf in leaves.items()}, **{key: module.get_parameter(name).grad for key, name in names.items()}}
    for key, grad in got.items():
        if key != "b":  # cancels in the softmax; has its own test
            assert_close(grad.view_as(case[f"d_{key}"]), case[f"d_{key}"], grad_tolerance, f"d_{key}")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype, tolerance, grad_tolerance", PRECISIONS)
def test_bilinear_vectors(load_vectors, assert_close, backend, dtype, tolerance, grad_tolerance):
    case = load_vectors("bilinear_attention/sgem_module_small", dtype)
    module = BilinearSGEM(3, 5, 4, backend=backend)
    _load(module, case, BILINEAR, dtype)
    _compare(assert_close, module, ["E3", "D1"], case, BILINEAR, tolerance, grad_tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype, tolerance, grad_tolerance", PRECISIONS)
def test_linear_vectors(load_vectors, assert_close, backend, dtype, tolerance, grad_tolerance):
    case = load_vectors("linear_cross_attention/linear_module_small", dtype)
    module = LinearSGEM(6, 8, inner=4, heads=2, eps=1e-6, backend=backend)
    _load(module, case, LINEAR, dtype)
    _compare(assert_close, module, ["E3", "D1", "U"], case, LINEAR, tolerance, grad_tolerance)


@pytest.mark.parametrize("mode, expected", [(flat_attention, "out_flat"), (add_attention, "out_add")])
def test_other_readings(load_vectors, assert_close, mode, expected):
    case = load_vectors("bilinear_attention/bilinear_small")
    args = [case[key] for key in ("q", "k", "weight", "value", "gamma", "residual", "bias")]
    assert_close(mode(*args), case[expected], 1e-12)
    assert not torch.allclose(mode(*args), case["out"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["flat", "add"])
def test_other_readings_in_the_module(mode):
    torch.manual_seed(0)
    e3, d1 = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randn(2, 5, 4, 4, dtype=torch.float64)
    module, row = BilinearSGEM(3, 5, 4, mode=mode, backend="reference").double(), BilinearSGEM(3, 5, 4, backend="reference").double()
    row.load_state_dict(module.state_dict())
    assert torch.equal(module(e3, d1), d1)
    module.gamma.data.fill_(0.5), row.gamma.data.fill_(0.5)
    weights = (module(e3, d1) - d1) / 0.5
    if mode == "add":
        assert torch.allclose(weights.sum(-1), torch.ones_like(weights[..., 0]))
    else:
        assert torch.allclose(module(e3, torch.ones_like(d1)).mean((2, 3)), torch.full((2, 5), 1 + 0.5 / 4, dtype=torch.float64))
    assert not torch.allclose(module(e3, d1), row(e3, d1))


@pytest.mark.parametrize("options, message", [
    ({"mode": "column"}, "BilinearSGEM: mode must be 'row', 'flat' or 'add', got 'column'"),
    ({"mode": "flat", "backend": "ext"}, 'BilinearSGEM: mode \'flat\' exists only with backend="reference", got backend=\'ext\''),
])
def test_wrong_mode(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        BilinearSGEM(3, 5, 4, **options)


@pytest.mark.parametrize("heads", [0, 3])
def test_wrong_heads(heads):
    with pytest.raises(ValueError, match=f"^LinearSGEM: heads must divide the 8 inner channels, got {heads}$"):
        LinearSGEM(8, 16, heads=heads)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("value_proj", [False, True])
def test_bilinear_starts_as_identity(backend, value_proj):
    e3, d1 = torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)
    module = BilinearSGEM(3, 5, 4, value_proj=value_proj, backend=backend)
    assert torch.equal(module(e3, d1), d1)
    module.gamma.data.fill_(0.1)
    assert not torch.equal(module(e3, d1), d1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_linear_starts_as_identity(backend):
    e3, d1, u = torch.randn(2, 8, 6, 10), torch.randn(2, 5, 3, 5), torch.randn(2, 8, 6, 10)
    module = LinearSGEM(8, 5, backend=backend)
    assert torch.equal(module(e3, d1, u), u)
    module.gamma.data.fill_(0.1)
    assert not torch.equal(module(e3, d1, u), u)


@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_weight_averages_the_rows(backend):
    e3, d1 = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randn(2, 5, 4, 4, dtype=torch.float64)
    module = BilinearSGEM(3, 5, 4, backend=backend).double()
    module.weight.data.zero_(), module.gamma.data.fill_(0.5)
    assert torch.allclose(module(e3, d1), d1 + 0.5 * d1.mean(2, keepdim=True), rtol=0, atol=1e-12)
    module.weight.data.fill_(1.0)
    assert not torch.allclose(module(e3, d1), d1 + 0.5 * d1.mean(2, keepdim=True), rtol=0, atol=1e-3)


def test_bias_has_no_gradient():
    module = BilinearSGEM(3, 5, 4)
    module.bias.data.normal_(), module.gamma.data.fill_(0.5)
    e3, d1 = torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)
    out = module(e3, d1)
    out.square().sum().backward()
    assert module.bias.grad is not None and not module.bias.grad.any() and module.weight.grad.any()
    module.bias.data.zero_()
    assert torch.equal(module(e3, d1), out)


@pytest.mark.parametrize("backend", BACKENDS)
def test_hot_logits_stay_finite(backend):
    module = BilinearSGEM(3, 5, 4, backend=backend)
    module.gamma.data.fill_(0.5)
    e3, d1 = torch.randn(2, 3, 8, 8, requires_grad=True), torch.randn(2, 5, 4, 4, requires_grad=True)
    q, k = (module.query_linear(module.query_conv(e3).flatten(1)), module.key_linear(module.key_conv(d1).flatten(1)))
    module.weight.data.mul_(2000 / (module.weight.abs().max() * q.abs().max() * k.abs().max()).item())
    out = module(e3, d1)
    out.sum().backward()
    assert torch.isfinite(out).all() and all(torch.isfinite(p.grad).all() for p in [e3, d1, *module.parameters()])
