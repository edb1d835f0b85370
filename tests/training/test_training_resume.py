"""Stopping and going on: to the bit, with every state, and without any pickle."""
import json
import pickle
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from training.whole import everything, flat, log

from python_models.data import compute_normalisation, open_dataset
from python_models.files import read_weights
from python_models.layers.network import IRSTDNet
from python_models.losses import SoftIoULoss
from python_models.runs import load_run
from python_models.training import train as module
from python_models.training.checkpoint import load_state
from python_models.training.config import TrainConfig
from python_models.training.loop import Task
from python_models.training.train import fit, train

PACKAGE = Path(module.__file__).parents[1]


@pytest.fixture
def stopped(monkeypatch):
    """A call that raises in the middle of an epoch, as if the process ended there."""

    def call(function, epoch, batch=1):
        step = Task.training_step

        def stopping(self, images, batch_idx):
            if (self.current_epoch, batch_idx) == (epoch, batch):
                raise RuntimeError("stopped")
            return step(self, images, batch_idx)

        with monkeypatch.context() as m:
            m.setattr(Task, "training_step", stopping)
            with pytest.raises(RuntimeError, match="stopped"):
                function()

    return call


@pytest.mark.parametrize("values", [
    {"ema": 0.9, "optimizer": "adamw"}, {"ema": 0.0, "optimizer": "sgd", "schedule_by": "epoch"}, {"optimizer": "adam", "precision": "bf16", "clip": 0.1},
    {"optimizer": "adan", "schedule": "step", "milestones": (2,), "noise": 0.5, "copy_paste": 0.5, "blur": 0.5, "drop_last": False, "batch_size": 5},
], ids=lambda v: v["optimizer"])
def test_resumed_equals_uninterrupted_to_the_bit(config, change, tmp_path, stopped, values):
    whole, broken = (change(config, out=tmp_path / name, epochs=4, val_every=2, early_stop=7, **values) for name in ("whole", "broken"))
    train(whole)
    stopped(lambda: train(broken), epoch=2)
    assert [r["epoch"] for r in log(broken.out)] == ["0", "1"]
    stopped(lambda: train(change(broken, resume=True)), epoch=3)
    half = flat(load_state(broken.out / "last"))
    train(change(broken, resume=True))
    one, other = everything(whole.out), everything(broken.out)
    assert one == other and len(one["log"]) == 4 and len(one["state"]) > 100
    assert sum(half[k] != v for k, v in one["state"].items()) > 50


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_no_bit_also_of_a_resumed_run(config, change, tmp_path, stopped, workers):
    whole, broken = (change(config, out=tmp_path / name, epochs=3, workers=w) for name, w in (("whole", 0), ("broken", workers)))
    train(whole)
    stopped(lambda: train(broken), epoch=1)
    train(change(broken, resume=True, workers=2 - workers))
    one, other = everything(whole.out), everything(broken.out)
    del one["config"]["train"]["workers"], other["config"]["train"]["workers"]
    assert one == other


def test_random_numbers_of_the_training_go_on_where_they_were(config, change, tmp_path, stopped, monkeypatch):
    step, drawn = Task.training_step, {}

    def drawing(self, batch, batch_idx):
        drawn.setdefault(self.config.out.name, []).append((self.current_epoch, batch_idx, torch.rand(1).item()))
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Task, "training_step", drawing)
    whole, broken = (change(config, out=tmp_path / name, epochs=3) for name in ("whole", "broken"))
    train(whole)
    stopped(lambda: train(broken), epoch=2)
    torch.manual_seed(9)
    train(change(broken, resume=True))
    redone = drawn["broken"][6:7]  # the one step of epoch 2 before the stop
    assert drawn["broken"] == drawn["whole"][:6] + redone + drawn["whole"][6:] and redone == drawn["whole"][6:7]
    assert len({x for *_, x in drawn["whole"]}) == 9


def test_no_pickle_is_loaded_and_none_is_written(config, change, stopped, monkeypatch):
    stopped(lambda: train(config), epoch=1)

    def no_pickle(*_, **__):
        raise AssertionError("pickle was loaded")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load"), (torch.serialization, "load")):
        monkeypatch.setattr(owner, name, no_pickle)
    train(change(config, resume=True))
    assert {p.suffix for p in config.out.rglob("*") if p.is_file()} == {".json", ".csv", ".safetensors"}
    sources = {p: p.read_text() for p in PACKAGE.rglob("*.py")}
    assert not [p for p, text in sources.items() if re.search(r"torch\.(load\((?!.*weights_only=True\))|save\()|^\s*(import|from) pickle|allow_pickle=True", text, re.MULTILINE)]


def test_a_run_killed_in_its_first_epoch_starts_again(config, change, tmp_path, stopped):
    stopped(lambda: train(config), epoch=0)
    assert (config.out / "config.json").is_file() and not (config.out / "last").exists()
    (config.out / ".model.safetensors.7.tmp").write_text("half a file")
    train(change(config, resume=True))
    assert not list(config.out.glob(".*"))
    train(change(config, out=tmp_path / "whole"))
    assert everything(config.out) == everything(tmp_path / "whole")


def test_a_run_killed_before_its_first_file_starts_again(config, change):
    config.out.mkdir()
    (config.out / ".config.json.7.tmp").write_text("{")
    train(change(config, resume=True, epochs=1))
    assert not list(config.out.glob(".*")) and len(log(config.out)) == 1


def test_resuming_a_finished_run_changes_nothing(config, change):
    train(config)
    before = everything(config.out)
    train(change(config, resume=True))
    assert before == everything(config.out)


def test_resume_refuses_another_run(config, change):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        train(change(config, resume=True))
    train(change(config, epochs=1))
    for field, value in (("lr", 0.1), ("epochs", 2), ("optimizer", "adan"), ("option", ("attention=linear", "widths=[4, 4, 8, 8, 12]", "heads=2"))):
        with pytest.raises(ValueError, match=f"^resume: (option widths|{field}) must be .*, got .*, for the run in "):
            train(change(config, **{"epochs": 1, "resume": True, field: value}))


def judged(monkeypatch, ious):
    """Judgements with these IoUs, one after the other."""
    left = iter(ious)
    monkeypatch.setattr(module, "evaluate", lambda *_: {"exact": {"IoU": next(left), "nIoU": 0.0, "Pd": 0.0, "Fa": 0.0}})


def test_early_stop_counts_judgements_without_a_better_one_also_over_a_resume(config, change, tmp_path, stopped, monkeypatch):
    ious = [0.2, 0.6, 0.5, float("nan"), 0.6, 0.9]
    for name, breaks in (("whole", ()), ("broken", (3, 4))):
        judged(monkeypatch, ious)
        one = change(config, out=tmp_path / name, epochs=9, early_stop=3)
        for epoch in breaks:
            stopped(partial(train, change(one, resume=one.out.exists())), epoch)
        summary = train(change(one, resume=bool(breaks)))
        assert summary["epochs"] == 5 and summary["selected"]["epoch"] == 1
        again = train(change(one, resume=True))  # a stopped run is finished
        assert again["steps"] == summary["steps"] == 15 and len(log(one.out)) == 5
    assert everything(tmp_path / "whole") == everything(tmp_path / "broken")


def test_raw_weights_are_kept_beside_the_averaged_ones(config, change, tmp_path):
    train(config)
    raw, model = (read_weights(config.out / f"{name}.safetensors") for name in ("raw", "model"))
    state = load_state(config.out / "last")["state_dict"]
    assert all(torch.equal(t, state[f"net.{k}"]) for k, t in raw.items()) and any(not torch.equal(raw[k], model[k]) for k in raw)
    loaded = load_run(config.out, "raw").state_dict()
    assert all(torch.equal(t, loaded[k]) for k, t in raw.items())
    plain = change(config, out=tmp_path / "plain", ema=0.0)
    train(plain)
    assert not (plain.out / "raw.safetensors").exists()
    assert all(torch.equal(a, b) for a, b in zip(load_run(plain.out, "raw").state_dict().values(), load_run(plain.out, "last").state_dict().values()))


class Gated(SoftIoULoss):
    """A loss with a schedule, and with a gate that a judgement opens."""

    def __init__(self):
        super().__init__()
        self.register_buffer("open", torch.tensor(False))
        self.epochs, self.seen = [], []

    def set_epoch(self, epoch):
        self.epochs.append((epoch, bool(self.open)))

    def after_validation(self, figures):
        self.seen.append(figures)
        self.open.fill_(len(self.seen) == 2 or bool(self.open))


class Small(IRSTDNet):
    """Two convolutions; the first learns slower, a third is frozen."""

    name, presets, default_preset = "small", {}, ""

    def __init__(self):
        super().__init__({}, in_channels=1)
        self.slow, self.fast, self.still = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1), nn.Conv2d(1, 1, 1).requires_grad_(False)
        self.loss = Gated()

    def parameter_groups(self, lr):
        return [{"params": self.fast.parameters()}, {"params": self.slow.parameters(), "lr": lr / 10}]

    def criterion(self):
        return self.loss

    def forward_maps(self, x):
        return {"logits": self.fast(self.slow(x)) + self.still(x)}


def test_groups_frozen_parts_and_gates_of_a_network(config, change, data, monkeypatch, stopped):
    sets = [open_dataset(data, "synth", part) for part in ("train", "val")]
    rates, step = [], Task.training_step

    def watched(self, batch, batch_idx):
        rates.append([g["lr"] for g in self.optimizers().param_groups])
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Task, "training_step", watched)
    nets, one = [], change(config, epochs=4, seed=3)
    one.out.mkdir()
    for resumes in (False, True):
        torch.manual_seed(0)
        nets.append(Small())
        before = {k: v.clone() for k, v in nets[-1].state_dict().items()}
        run = partial(fit, nets[-1], one, *sets, resumes=resumes)
        run() if resumes else stopped(run, epoch=2)
        changed = {k for k, v in nets[-1].state_dict().items() if not torch.equal(v, before[k])}
        assert {"slow.weight", "fast.weight"} <= changed and not [k for k in changed if k.startswith("still")]
    assert all(b == pytest.approx(a / 10) for a, b in rates) and len(rates) == 13
    assert nets[0].loss.epochs == [(0, False), (1, False), (2, True)] and nets[1].loss.epochs == [(2, True), (3, True)]
    assert [set(f) for f in nets[0].loss.seen] == [{"IoU", "nIoU", "Pd", "Fa"}] * 2


def test_the_stored_configuration_is_everything(config, change, data):
    train(change(config, epochs=1, recipe="mine.toml", copy_paste=0.2))
    stored = json.loads((config.out / "config.json").read_text())
    assert set(stored["train"]) == set(TrainConfig.__dataclass_fields__)
    assert stored["train"]["recipe"] == "mine.toml" and stored["train"]["option"] == list(config.option) and stored["train"]["preset"] == "paper"
    assert stored["train"]["crop"] == 32 and stored["train"]["device"] == "cpu" and stored["train"]["threads"] == 1 and stored["train"]["split"] == "synth"
    mean, std = compute_normalisation(open_dataset(data, "synth", "train"))
    assert stored["data"]["normalisation"] == {"mean": mean, "std": std, "of": "train"}
