"""Optimizers, parameter groups, schedules and the recipes of the papers, against torch's own and against the vectors."""
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as torch_schedules

from python_models.training.check import check
from python_models.training.config import TrainConfig, read_recipe
from python_models.training.optim import WeightAverage, build_optimizer, parameter_groups
from python_models.training.schedule import learning_rate

VECTORS = Path(__file__).parents[1] / "vectors" / "adan" / "recipe.npz"


def config(**values):
    return TrainConfig(model="m", data=".", **values)


def rates(cfg, epochs, steps=1):
    """Learning rates at every step (of ``steps`` per epoch)."""
    return [learning_rate(cfg, cfg.lr, n / steps) for n in range(epochs * steps)]


def torch_rates(kind, lr, count, **arguments):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    schedule, found = kind(optimizer, **arguments), []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("by", ["epoch", "step"])
def test_cosine_is_that_of_torch_by_epoch_and_by_step(by):
    cfg = config(schedule_by=by, lr=0.01, lr_min=1e-6, epochs=30, warmup_epochs=0.0)
    if by == "step":
        expected = torch_rates(torch_schedules.CosineAnnealingLR, 0.01, 120, T_max=120, eta_min=1e-6)
    else:
        expected = np.repeat(torch_rates(torch_schedules.CosineAnnealingLR, 0.01, 30, T_max=30, eta_min=1e-6), 4)
    found = rates(cfg, 30, 4)
    assert found == pytest.approx(expected, rel=1e-9)
    other = rates(config(schedule_by="step" if by == "epoch" else "epoch", lr=0.01, lr_min=1e-6, epochs=30, warmup_epochs=0.0), 30, 4)
    assert found != pytest.approx(other, rel=1e-3)


def test_cosine_with_a_period_swings_as_torch_does_beyond_t_max():
    cfg = config(schedule_by="epoch", lr=1e-4, epochs=201, warmup_epochs=0.0, cosine_period=50.0)
    assert rates(cfg, 201) == pytest.approx(torch_rates(torch_schedules.CosineAnnealingLR, 1e-4, 201, T_max=50), rel=1e-7, abs=1e-12)
    assert learning_rate(cfg, 1e-4, 50) == pytest.approx(0, abs=1e-12) and learning_rate(cfg, 1e-4, 100) == pytest.approx(1e-4)


def test_poly_step_and_constant_are_those_of_torch():
    poly = config(schedule="poly", poly_power=0.9, lr=1e-4, epochs=20, warmup_epochs=0.0)
    assert rates(poly, 20, 3) == pytest.approx(torch_rates(torch_schedules.PolynomialLR, 1e-4, 60, total_iters=60, power=0.9), rel=1e-9)
    step = config(schedule="step", milestones=(3, 7), gamma=0.5, lr=1.0, epochs=10, warmup_epochs=0.0)
    assert rates(step, 10) == pytest.approx(torch_rates(torch_schedules.MultiStepLR, 1.0, 10, milestones=[3, 7], gamma=0.5))
    assert set(rates(config(schedule="constant", lr=0.3, epochs=5, warmup_epochs=0.0), 5)) == {0.3}
    floor = config(schedule="step", milestones=(1, 2), gamma=0.1, lr=1.0, lr_min=0.05, epochs=4, warmup_epochs=0.0)
    assert rates(floor, 4) == pytest.approx([1.0, 0.1, 0.05, 0.05])


@pytest.mark.parametrize("form,expected", [
    ("linear", [0.1, 0.325, 0.55, 0.775]), ("constant", [0.1] * 4), ("exponential", [0.1, 0.1**0.75, 0.1**0.5, 0.1**0.25])])
def test_warm_up_has_its_form_and_is_at_most_half(form, expected):
    cfg = config(warmup=form, warmup_start=0.1, warmup_epochs=4.0, lr=2.0, epochs=10, schedule="constant")
    assert rates(cfg, 6) == pytest.approx([2 * e for e in expected] + [2, 2])
    linear = torch_rates(torch_schedules.LinearLR, 2.0, 6, start_factor=0.1, total_iters=4)
    assert (rates(cfg, 6) == pytest.approx(linear)) == (form == "linear")
    assert rates(config(warmup=form, warmup_start=0.1, warmup_epochs=9.0, lr=2.0, epochs=8, schedule="constant"), 6) == pytest.approx(rates(cfg, 6))


def test_groups_keep_the_ratio_of_their_rates_down_to_the_common_floor():
    cfg = config(lr=1e-4, lr_min=1e-6, epochs=100, warmup_epochs=10.0)
    assert learning_rate(cfg, 1e-5, 5) / learning_rate(cfg, 1e-4, 5) == pytest.approx(0.1)
    assert learning_rate(cfg, 1e-5, 100) == learning_rate(cfg, 1e-4, 100) == 1e-6
    assert learning_rate(cfg, 1e-7, 100) == 1e-7  # a rate below the floor does not rise to it


RECIPES = {
    "irmamba": 'optimizer = "adam"\nlr = 1e-3\nweight_decay = 0.0\nlr_min = 1e-5\nepochs = 600\nbatch_size = 8\nwarmup_epochs = 0.0\nschedule_by = "epoch"',
    "irsam": 'optimizer = "adamw"\nlr = 1e-4\nweight_decay = 0.0\nepochs = 500\nbatch_size = 4\nwarmup_epochs = 0.0\nschedule_by = "epoch"',
    "irsam released": 'lr = 1e-4\nbetas = [0.9, 0.999]\neps = 1e-8\nweight_decay = 0.0\nepochs = 1001\ncosine_period = 50\nwarmup_epochs = 0.0\n'
                      'schedule_by = "epoch"',
    "irsam2": 'optimizer = "adan"\nlr = 0.01\nbetas = [0.98, 0.92, 0.99]\neps = 1e-8\nweight_decay = 1e-4\nclip = 0.0\nlr_min = 1e-6\nepochs = 300\n'
              'batch_size = 12\ndrop_last = false\nema = 0.0\nseed = 2727\nwarmup_epochs = 0.0\nschedule_by = "epoch"',
    "na_irstd": 'optimizer = "adam"\nlr = 1e-4\nbetas = [0.9, 0.999]\nweight_decay = 0.0\nlr_min = 1e-6\nclip = 1.0\nepochs = 1500\nbatch_size = 8\n'
                'warmup_epochs = 0.0',
    "simir": 'optimizer = "adamw"\nlr = 1e-4\nweight_decay = 0.1\ndecay_norms = false\nclip = 0.01\nwarmup_epochs = 5.0\nprecision = "fp16"\nbatch_size = 8',
    "sgem_unet": 'optimizer = "adamw"\nlr = 1e-4\nweight_decay = 0.01\nschedule = "poly"\npoly_power = 0.9\nwarmup_epochs = 5.0\nepochs = 1500\nbatch_size = 8',
}
EXPECTED = {  # epoch -> learning rate
    "irmamba": {0: 1e-3, 300: 1e-5 + 0.5 * 0.99e-3, 599: 1e-5 + 0.5 * 0.99e-3 * (1 + math.cos(math.pi * 599 / 600))},
    "irsam": {0: 1e-4, 250: 5e-5}, "irsam released": {0: 1e-4, 50: 0.0, 75: 5e-5, 100: 1e-4, 1000: 1e-4},
    "irsam2": {0: 0.01, 150: 1e-6 + 0.5 * (0.01 - 1e-6)}, "na_irstd": {0: 1e-4, 1500: 1e-6}, "simir": {2.5: 0.505e-4, 5: 1e-4},
    "sgem_unet": {2.5: 0.505e-4, 5: 1e-4, 752.5: 1e-4 * 0.5**0.9},
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_of_the_papers_can_be_written(name, tmp_path):
    (tmp_path / "r.toml").write_text(RECIPES[name])
    cfg = config(**read_recipe(tmp_path / "r.toml").values)
    check(cfg)
    for epoch, lr in EXPECTED[name].items():
        assert learning_rate(cfg, cfg.lr, epoch) == pytest.approx(lr, rel=1e-9, abs=1e-15)
    net = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    made = build_optimizer(parameter_groups(net, cfg.lr, cfg.decay_norms), cfg.optimizer, cfg.lr, cfg.weight_decay, cfg.betas, cfg.eps)
    assert made.defaults["eps"] == 1e-8 and tuple(made.defaults["betas"]) == (cfg.betas or (0.9, 0.999))
    decays = {len(g["params"]): g["weight_decay"] for g in made.param_groups}
    assert decays == ({4: cfg.weight_decay} if cfg.decay_norms else {1: 0.1, 3: 0.0})


@pytest.mark.parametrize("name,kind", [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_optimizers_by_name(name, kind):
    optimizer = build_optimizer([nn.Parameter(torch.ones(1))], name, 0.1, 0.01, eps=1e-6, momentum=0.8, nesterov=False)
    assert type(optimizer) is kind and optimizer.defaults["lr"] == 0.1 and optimizer.defaults["weight_decay"] == 0.01
    assert optimizer.defaults["momentum" if name == "sgd" else "eps"] == (0.8 if name == "sgd" else 1e-6)
    with pytest.raises(ValueError, match="optimizer must be adamw, adam, adan or sgd, got 'lion'"):
        build_optimizer([nn.Parameter(torch.ones(1))], "lion", 0.1)


def adan_run(dtype, **changes):
    """Largest errors of the parameters after each of the 12 steps of the vectors."""
    v = np.load(VECTORS)
    params = [nn.Parameter(torch.tensor(v[f"p{j}_init"], dtype=dtype)) for j in (0, 1)]
    settings = {"lr": float(v["lr"]), "weight_decay": float(v["weight_decay"]), "betas": tuple(v["betas"].tolist()), "eps": float(v["eps"]), **changes}
    optimizer = build_optimizer(params, "adan", **settings)
    assert not v["no_prox"] and v["max_grad_norm"] == 0
    errors = []
    for step in range(12):
        for j, p in enumerate(params):
            p.grad = torch.tensor(v[f"p{j}_grads"][step], dtype=dtype)
        optimizer.param_groups[0]["lr"] = float(v["lr_each_step"][step])
        optimizer.step()
        errors.append(max(np.abs(p.detach().numpy() - v[f"p{j}_after"][step]).max() for j, p in enumerate(params)))
    return max(errors)


@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_adan_is_that_of_the_vectors(dtype, tolerance):
    assert adan_run(dtype) < tolerance
    assert adan_run(dtype, betas=(0.98, 0.92, 0.999)) > tolerance and adan_run(dtype, weight_decay=2e-3) > tolerance


class Two(nn.Module):
    """A network whose second part learns slower and whose third is frozen."""

    def __init__(self, groups):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1).requires_grad_(False)
        self.groups = groups

    def parameter_groups(self, lr):
        return self.groups(self, lr)


def test_networks_choose_the_rates_of_their_parts():
    net = Two(lambda n, lr: [{"params": n.a.parameters()}, {"params": n.b.parameters(), "lr": lr / 10, "weight_decay": 0.0}, {"params": n.c.parameters()}])
    optimizer = build_optimizer(parameter_groups(net, 0.1), "adamw", 0.1, 0.01)
    assert [(g["lr"], g["base_lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups] == [(0.1, 0.1, 0.01, 2), (0.01, 0.01, 0.0, 2)]
    plain = parameter_groups(nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1).requires_grad_(False)), 0.1)
    assert len(plain) == 1 and len(plain[0]["params"]) == 2


@pytest.mark.parametrize("groups,message", [
    (lambda n, lr: [{"params": n.a.parameters()}], "must hold b.weight once, got it 0 times"),
    (lambda n, lr: [{"params": n.parameters()}, {"params": n.a.parameters()}], "must hold a.weight once, got it 2 times"),
])
def test_parameters_forgotten_or_doubled_are_named(groups, message):
    with pytest.raises(ValueError, match=message):
        parameter_groups(Two(groups), 0.1)
    with pytest.raises(ValueError, match="must have a parameter to train, all are frozen"):
        parameter_groups(nn.Linear(1, 1).requires_grad_(False), 0.1)


def test_weight_average_is_the_recursion_with_warm_up():
    net = nn.BatchNorm1d(1)
    average = WeightAverage(net, 0.5)
    expected = 1.0
    for n, value in enumerate((3.0, -1.0, 2.0), 1):
        net.weight.data.fill_(value)
        net.num_batches_tracked.fill_(n)
        average.update(net)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    assert average.shadow["weight"].item() == pytest.approx(expected, rel=1e-6)
    assert average.shadow["num_batches_tracked"].item() == 3
    other = WeightAverage(net, 0.5)
    other.restore(average.state())
    assert other.updates == 3 and torch.equal(other.shadow["weight"], average.shadow["weight"])
