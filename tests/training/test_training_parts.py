"""Schedule, weight average, order and augmentation of training items, configuration and recipes."""
import math

import pytest
import torch

from python_models.data import Augment
from python_models.training.config import TrainConfig, check, find_recipe, parse_options, read_recipe
from python_models.training.data import Cached, EpochSampler, TrainItems, train_loader
from python_models.training.optim import WeightAverage, build_optimizer, lr_factor


@pytest.mark.parametrize("schedule,middle", [("cosine", 0.5), ("poly", 0.5**0.9), ("constant", 1.0)])
def test_schedule_warms_up_then_follows_its_formula(schedule, middle):
    def factor(progress):
        return lr_factor(progress, 0.2, schedule, floor=0.0)

    assert [factor(p) for p in (0.0, 0.1, 0.2)] == pytest.approx([0.0, 0.5, 1.0])
    assert factor(0.6) == pytest.approx(middle)
    assert factor(1.0) == factor(1.5) == pytest.approx(1.0 if schedule == "constant" else 0.0)


def test_schedule_has_a_floor_and_no_unknown_name():
    assert lr_factor(1.0, 0.0, "cosine", floor=0.01) == 0.01
    with pytest.raises(ValueError, match="schedule must be cosine, poly or constant, got 'step'"):
        lr_factor(0.5, 0.0, "step")


@pytest.mark.parametrize("name,kind", [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_optimizers_by_name(name, kind):
    optimizer = build_optimizer([torch.nn.Parameter(torch.ones(1))], name, 0.1, 0.01)
    assert type(optimizer) is kind and optimizer.defaults["lr"] == 0.1 and optimizer.defaults["weight_decay"] == 0.01


def test_weight_average_is_the_recursion_with_warm_up():
    net = torch.nn.BatchNorm1d(1)
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


def test_every_epoch_is_another_permutation():
    sampler, orders = EpochSampler(20, seed=1), []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert {e for e, _ in keys} == {epoch} and sorted(i for _, i in keys) == list(range(20))
        orders.append([i for _, i in keys])
    assert orders[0] != orders[1] != orders[2]
    assert [i for _, i in EpochSampler(20, seed=2)] != orders[0]


class Images(torch.utils.data.Dataset):
    """Ten random images; counts what is read."""

    def __init__(self):
        self.reads = 0

    def __len__(self):
        return 10

    def __getitem__(self, index):
        self.reads += 1
        g = torch.Generator().manual_seed(index)
        return {"image": torch.rand(1, 40, 50, generator=g), "mask": (torch.rand(1, 40, 50, generator=g) > 0.99).float(), "name": str(index)}


def batches(workers, epoch, batch_size=4):
    loader = train_loader(TrainItems(Cached(Images()), Augment(size=16), seed=5), batch_size, workers)
    loader.sampler.set_epoch(epoch)
    return [b["image"] for b in loader]


def test_items_do_not_depend_on_workers_nor_on_batches():
    alone, shared = batches(0, 1), batches(2, 1)
    assert len(alone) == len(shared) == 2
    assert all(torch.equal(a, b) for a, b in zip(alone, shared))
    assert torch.equal(torch.cat(alone), torch.cat(batches(0, 1, batch_size=2))[:8])
    assert not torch.equal(alone[0], batches(0, 2)[0])


def test_short_batch_is_dropped_unless_it_is_the_only_one():
    assert [len(b) for b in batches(0, 0, batch_size=8)] == [8]
    assert [len(b) for b in batches(0, 0, batch_size=16)] == [10]


def test_cache_reads_once_within_its_room_and_hands_out_the_same():
    images = Images()
    one = 40 * 50 * 4 * 2
    cached = Cached(images, room=3 * one)
    first = [cached[i]["image"].clone() for i in range(10)]
    assert images.reads == 10
    assert all(torch.equal(cached[i]["image"], first[i]) for i in range(10))
    assert images.reads == 10 + 7


def config(**values):
    return TrainConfig(model="m", data=".", **values)


@pytest.mark.parametrize("values,message", [
    ({"epochs": 0}, "train: epochs must be >= 1, got 0"),
    ({"lr": -1.0}, "train: lr must be > 0, got -1.0"),
    ({"lr": math.nan}, "train: lr must be > 0, got nan"),
    ({"scale": (2.0, 1.0)}, "train: scale must be 0 < low <= high, got (2.0, 1.0)"),
    ({"ema": 1.0}, "train: ema must lie in [0, 1), got 1.0"),
    ({"resume": True, "overwrite": True}, "train: resume and overwrite exclude each other, got both"),
])
def test_values_out_of_range_name_field_rule_and_value(values, message):
    check(config())
    with pytest.raises(ValueError) as error:
        check(config(**values))
    assert str(error.value) == message


def test_network_options_are_read_as_toml_else_as_text():
    assert parse_options(("attention=linear", "heads=2", "value_proj=true", "widths=[4, 8]")) == {
        "attention": "linear", "heads": 2, "value_proj": True, "widths": [4, 8]}
    with pytest.raises(ValueError, match="option must be NAME=VALUE, got 'heads'"):
        parse_options(("heads",))


def test_recipe_reads_values_and_options(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('epochs = 3\nscale = [0.5, 1.0]\n[options]\nattention = "linear"\n')
    recipe = read_recipe(path)
    assert recipe.values == {"epochs": 3, "scale": (0.5, 1.0)} and recipe.options == {"attention": "linear"}
    assert find_recipe("a", {"a": path}) == path
    with pytest.raises(ValueError, match="one of a, got 'b'"):
        find_recipe("b", {"a": path})


@pytest.mark.parametrize("text,message", [
    ("epoch = 3", "unknown key 'epoch'"), ("out = 'x'", "unknown key 'out'"), ("epochs = ", "not valid TOML"), ("options = 3", "options must be a table, got int"),
])
def test_wrong_recipes_name_the_file(tmp_path, text, message):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_recipe(path)
    assert str(path) in str(error.value)
