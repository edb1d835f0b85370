"""Layer restoration against its vectors, and against the equations as the paper prints them."""
import pytest
import torch

from python_models.irmamba.lrm import LRM, ChannelAttention, LRMStage, SpatialAttention

PRECISIONS = [pytest.param(torch.float32, 5e-5, id="float32"), pytest.param(torch.float64, 1e-9, id="float64")]
INPUTS = ["xh", "xl", "H", "L"]
MLP = {f"ca_{path}_{ours}": f"ca_{path}.mlp.{theirs}" for path in "hl"
       for ours, theirs in (("w1", "0.weight"), ("b1", "0.bias"), ("w2", "2.weight"), ("b2", "2.bias"))}
NAMES = {"rho": "rho", "alpha_h": "alpha_h", "alpha_l": "alpha_l", "A_weight": "A.conv.weight", "At_weight": "At.conv.weight", **MLP,
         "sa_h_conv": "sa_h.conv.weight", "sa_l_conv": "sa_l.conv.weight"}


@pytest.fixture
def stage_case(load_vectors):
    """stage_case(dtype) -> the vectors, and a stage that holds their parameters."""
    def load(dtype):
        case = load_vectors("lrm/stage_2x32x9x7", dtype)
        stage = LRMStage(32).to(dtype)
        stage.load_state_dict({name: case[key].view_as(stage.state_dict()[name]) for key, name in NAMES.items()})
        return case, stage
    return load


@pytest.mark.parametrize("dtype, tolerance", PRECISIONS)
def test_vectors(stage_case, assert_close, dtype, tolerance):
    case, stage = stage_case(dtype)
    assert {name for name, _ in stage.named_parameters()} == set(NAMES.values())
    leaves = {key: case[key].clone().requires_grad_() for key in INPUTS}
    xh, xl = stage(*leaves.values())
    assert_close(xh.detach(), case["xh_out"], tolerance, "xh_out")
    assert_close(xl.detach(), case["xl_out"], tolerance, "xl_out")
    torch.autograd.backward((xh, xl), (case["grad_xh_out"], case["grad_xl_out"]))
    got = {**{key: leaf.grad for key, leaf in leaves.items()}, **{key: stage.get_parameter(name).grad for key, name in NAMES.items()}}
    for key, grad in got.items():
        assert_close(grad.view_as(case[f"grad_{key}"]), case[f"grad_{key}"], tolerance, f"grad_{key}")


def test_intermediate_vectors(stage_case, assert_close):
    case, stage = stage_case(torch.float64)
    vh, vl = stage.gradient_step(*(case[key] for key in INPUTS))
    got = {"v_h": vh, "v_l": vl, "sa_of_vl": stage.sa_l(vl), "ca_of_vh": stage.ca_h(vh), "map_l": stage.ca_l(stage.sa_l(vl) * vh),
           "map_h": stage.sa_h(stage.ca_h(vh) * vl)}
    for key, value in got.items():
        assert_close(value.detach().view_as(case[key]), case[key], 1e-9, key)


@pytest.mark.parametrize("change", ["swap the paths", "swap the attentions", "no rho", "adjoint from A"])
def test_another_reading_fails_the_vectors(stage_case, change):
    """The tolerance tells the equations from their neighbours."""
    case, stage = stage_case(torch.float32)
    inputs = [case[key] for key in INPUTS]
    if change == "swap the paths":
        inputs = [inputs[i] for i in (1, 0, 2, 3)]
    elif change == "swap the attentions":
        stage.ca_h, stage.ca_l = stage.ca_l, stage.ca_h
    elif change == "no rho":
        stage.rho.data.fill_(1.0)
    else:
        stage.At.load_state_dict(stage.A.state_dict())
    error = (stage(*inputs)[0].detach() - case["xh_out"]).abs().max() / case["xh_out"].abs().max()
    assert error > 100 * 5e-5


def test_equations_as_printed(stage_case, assert_close):
    """Eq. 20 and 21 apply A^T three times for each path; the module does so once, and A^T is linear."""
    case, stage = stage_case(torch.float64)
    xh, xl, high, low = (case[key] for key in INPUTS)
    a, at, rho = stage.A, stage.At, stage.rho
    vh = xh - rho * (at(a(xh)) - at(stage.alpha_h * (low - high)) - at(high))
    vl = xl - rho * (at(a(xl)) - at(stage.alpha_l * (high - low)) - at(low))
    for got, expected in zip(stage.gradient_step(xh, xl, high, low), (vh, vl)):
        assert_close(got.detach(), expected.detach(), 1e-13)


def test_start():
    """rho and alpha at 0.5; A and its counterpart near the identity, and not the same."""
    stage = LRMStage(32)
    assert stage.rho.item() == 0.5 and (stage.alpha_h == 0.5).all() and (stage.alpha_l == 0.5).all()
    deviation = 0.1 * (2 / (32 * 9)) ** 0.5
    for operator in (stage.A, stage.At):
        assert 0.95 < operator.conv.weight.std().item() / deviation < 1.05
        x = torch.randn(1, 32, 8, 8)
        assert torch.allclose(operator(x) - x, operator.conv(x), atol=1e-5)
        wide = operator.double()(x.double(), stage.rho.double())
        assert torch.allclose(wide, 0.5 * (x + operator.conv(x.double())), rtol=0, atol=1e-12)
        operator.float()
        with torch.autocast("cpu", torch.bfloat16):
            assert (operator(x, stage.rho) - wide).abs().max() < 0.02 < (operator(x) - wide).abs().max()
        assert torch.allclose(operator(3 * x), 3 * operator(x), atol=1e-5)
    assert not torch.equal(stage.A.conv.weight, stage.At.conv.weight)


@pytest.mark.parametrize("channels, hidden", [(32, 4), (64, 4), (128, 8), (256, 16)])
def test_channel_attention(channels, hidden):
    attention, x = ChannelAttention(channels), torch.randn(2, channels, 5, 6)
    expected = torch.sigmoid(attention.mlp(x.mean((2, 3))) + attention.mlp(x.flatten(2).max(2).values))
    assert attention.mlp[0].out_features == hidden
    assert torch.allclose(attention(x), expected.view(2, channels, 1, 1), atol=1e-6)


def test_spatial_attention():
    attention, x = SpatialAttention(), torch.randn(2, 8, 9, 10)
    pooled = torch.stack((x.max(1).values, x.mean(1)), 1)
    expected = torch.sigmoid(torch.nn.functional.conv2d(pooled, attention.conv.weight, padding=3))
    assert torch.allclose(attention(x), expected, atol=1e-6)


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_stages_follow_one_another(stages):
    module = LRM(8, stages).double()
    high, low = torch.randn(2, 8, 6, 5, dtype=torch.float64), torch.randn(2, 8, 6, 5, dtype=torch.float64)
    xh, xl = high, low
    for stage in module.stages:
        xh, xl = stage(xh, xl, high, low)
    assert len(module.stages) == stages
    assert torch.equal(module(high, low), module.out(torch.cat((xh, xl), 1)))


@pytest.mark.parametrize("channels, stages, parameters", [(32, 4, 79_188), (64, 3, 233_895), (128, 2, 632_362), (256, 1, 1_328_613)])
def test_counts(channels, stages, parameters):
    assert sum(p.numel() for p in LRM(channels, stages).parameters()) == parameters
