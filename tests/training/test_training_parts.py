"""Order, sharing and augmentation of training items, configuration and recipes."""
import doctest
import math
from importlib import import_module
from itertools import chain
from pathlib import Path

import pytest
import torch

from python_models.commands.train import parse
from python_models.data import Augment
from python_models.training.check import check
from python_models.training.config import TrainConfig, find_recipe, parse_options, read_recipe
from python_models.training.data import Both, Cached, EpochSampler, SharedBatches, TrainItems, Unreadable, train_loader


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
    loader.batch_sampler.sampler.set_epoch(epoch)
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


@pytest.mark.parametrize("length,batch,drop,world", [
    (10, 4, True, 2), (10, 4, False, 2), (11, 4, False, 2), (9, 4, False, 4), (3, 4, True, 2), (11, 6, False, 3)])
def test_parts_of_all_processes_are_together_the_batches_of_one(length, batch, drop, world):
    """None is repeated, and none is lost, except where a last batch has fewer images than there are processes."""
    alone = list(SharedBatches(EpochSampler(length, seed=1), batch, drop))
    shared = [list(SharedBatches(EpochSampler(length, seed=1), batch, drop, rank, world)) for rank in range(world)]
    together = [list(chain(*parts)) for parts in zip(*shared)]
    assert together == [b for b in alone if len(b) >= world]
    assert len(alone) == -(-length // batch) - (drop and length > batch and length % batch > 0)
    sizes = [[len(b) for b in own] for own in shared]
    assert [list(part) for part in zip(*sizes)] == SharedBatches(EpochSampler(length, seed=1), batch, drop, 0, world).parts
    assert all(max(part) - min(part) <= 1 for part in zip(*sizes))


def test_an_item_that_cannot_be_read_takes_the_place_of_its_batch():
    class Broken(Images):
        def __getitem__(self, index):
            if index == 7:
                raise OSError(5, "Input/output error", "images/7.png")
            return super().__getitem__(index)

    for workers in (0, 1):
        found = [b for b in train_loader(TrainItems(Broken(), Augment(size=16), seed=5), 2, workers) if not isinstance(b, dict)]
        assert found == [Unreadable("[Errno 5] Input/output error: 'images/7.png'")]


def test_changes_of_a_sample_follow_each_other_with_one_generator():
    def add(sample, generator):
        return {"x": sample["x"] + [torch.rand(1, generator=generator).item()]}

    pair = Both(add, add)({"x": []}, torch.Generator().manual_seed(0))["x"]
    one = torch.Generator().manual_seed(0)
    assert pair == [torch.rand(1, generator=one).item(), torch.rand(1, generator=one).item()]


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
    ({"optimizer": "adan", "betas": (0.9, 0.999)}, "train: betas must be 3 numbers for adan, got (0.9, 0.999)"),
    ({"optimizer": "sgd", "betas": (0.9, 0.999)}, "train: betas must be 0 numbers for sgd, got (0.9, 0.999)"),
    ({"lr_min": 0.1}, "train: lr_min must lie in [0, lr], got 0.1"),
    ({"schedule": "step"}, "train: milestones must be given with the schedule step, and only then, got ()"),
    ({"schedule": "step", "milestones": (3.0, 2.0)}, "train: milestones must be rising epochs > 0, got (3.0, 2.0)"),
    ({"warmup": "exponential", "warmup_start": 0.0}, "train: warmup_start must be > 0 for an exponential warm-up, got 0.0"),
    ({"early_stop": 2, "final": True}, "train: early_stop must be 0 with final, which has no validation list, got 2"),
    ({"batch_size": 6, "devices": 2, "nodes": 2}, "train: batch_size must be a multiple of the 4 processes that share a batch, got 6"),
    ({"seeds": (1, 1)}, "train: seeds must be different numbers >= 0, got (1, 1)"),
])
def test_values_out_of_range_name_field_rule_and_value(values, message):
    check(config())
    with pytest.raises(ValueError) as error:
        check(config(**values))
    assert str(error.value) == message


def test_network_options_are_read_as_toml_else_as_text():
    assert parse_options(("attention=linear", "heads=2", "value_proj=true", "widths=[4, 8]")) == {
        "attention": "linear", "heads": 2, "value_proj": True, "widths": [4, 8]}
    assert parse_options(("pdmamba=False", "lrm=True")) == {"pdmamba": False, "lrm": True}
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
    ("epoch = 3", "unknown key 'epoch', did you mean epochs"), ("batch-size = 3", r"'batch-size', did you mean batch_size.*\? Keys are the long options of irstd train --help"),
    ("zzzz = 3", "unknown key 'zzzz'; Keys are the long"), ("out = 'x'", "unknown key 'out'; it belongs to the command line"),
    ("option = ['a=1']", r"unknown key 'option'; network options are a table \[options\]"), ("epochs = ", "not valid TOML"),
    ("options = 3", "options must be a table, got int"),
])
def test_wrong_recipes_name_the_file(tmp_path, text, message):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_recipe(path)
    assert str(path) in str(error.value) and len(str(error.value)) - len(str(path)) < 180


def test_defaults_then_recipe_then_command_line(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('optimizer = "adan"\nbetas = [0.9, 0.8, 0.99]\nlr = 0.01\nflip = false\nschedule = "step"\nmilestones = [10, 20]\ncrop = 64\n'
                    '[options]\nheads = 2\n')
    resolved = parse(["sgem_unet", "--data", "d", "--recipe", str(path), "--lr", "0.02", "--milestones", "5", "--seeds", "3", "4"])
    c = resolved.config
    found = (c.optimizer, c.betas, c.lr, c.flip, c.milestones, c.crop, c.seeds, c.epochs)
    assert found == ("adan", (0.9, 0.8, 0.99), 0.02, False, (5.0,), 64, (3, 4), 80)
    assert resolved.options == {"heads": 2}
    assert parse(["sgem_unet", "--data", "d", "--recipe", str(path), "--crop", "None", "--betas", "None", "--flip"]).config == TrainConfig(
        model="sgem_unet", data=Path("d"), recipe=str(path), optimizer="adan", lr=0.01, schedule="step", milestones=(10.0, 20.0))


@pytest.mark.parametrize("text", ['lr = "high"', "flip = 3", "betas = 3.5.1", 'optimizer = "lion"', "seeds = [0.5]"])
def test_recipes_obey_the_types_of_the_command_line(tmp_path, text):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match="r.toml"):
        parse(["sgem_unet", "--data", "d", "--recipe", str(path)])


@pytest.mark.parametrize("text,message", [
    ('epochs = "1"', "epochs must be a number, without quotes, got '1'"), ('scale = ["0.5", 1.0]', r"scale must be a number, without quotes, got \('0.5', 1.0\)"),
    ("normalisation = 3", "normalisation must be text, in quotes, got 3"), ("epochs = true", "epochs must not be true or false, got True"),
    ('flip = "true"', "flip must be true or false, got 'true'"),
])
def test_recipes_know_text_from_numbers(tmp_path, text, message):
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^recipe: .*r.toml: {message}$"):
        parse(["sgem_unet", "--data", "d", "--recipe", str(path)])


def test_the_recipe_in_the_documentation_is_one(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    path = tmp_path / "r.toml"
    path.write_text(page.split("```toml\n")[1].split("```")[0])
    resolved = parse(["sgem_unet", "--data", "d", "--recipe", str(path)])
    c = resolved.config
    assert (c.epochs, c.scale, c.schedule, resolved.options) == (100, (0.5, 2.0), "poly", {"attention": "linear"})


@pytest.mark.parametrize("name", ["data", "optim", "schedule", "seeds"])
def test_examples_in_docstrings_run(name):
    result = doctest.testmod(import_module(f"python_models.training.{name}"))
    assert result.attempted > 0 and result.failed == 0
