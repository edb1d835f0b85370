"""Runs from several seeds: each a run like any other, resumable as a whole, mean and standard deviation."""
import json
import math
import statistics

import pytest
from small_run import words
from training.whole import everything

from python_models import cli
from python_models.runs import load_run
from python_models.training import seeds as module
from python_models.training.loop import Task
from python_models.training.seeds import seeds_table, spread, train_seeds
from python_models.training.train import train


def test_each_seed_is_the_run_that_it_is_alone(config, change, tmp_path, capsys, data):
    assert cli.main(words(data, config.out, "--epochs", 2, "--seeds", 5, 7)) == 0
    text = capsys.readouterr().out
    train(change(config, seed=7, out=tmp_path / "alone"))
    assert everything(config.out / "seed-7") == everything(tmp_path / "alone") != everything(config.out / "seed-5")
    stored = json.loads((config.out / "seeds.json").read_text())
    assert stored["seeds"] == [5, 7] and stored["part"] == "val" and stored["protocol"] == "exact" and stored["data"]["parts"]["val"]["hash"]
    selected = [json.loads((config.out / f"seed-{n}" / "metrics.json").read_text())["training"]["selected"] for n in (5, 7)]
    assert [r["selected"] for r in stored["runs"].values()] == selected and [r["folder"] for r in stored["runs"].values()] == ["seed-5", "seed-7"]
    for name in ("IoU", "nIoU", "Pd", "Fa"):
        values = [s[name] for s in selected]
        assert stored["mean"][name] == pytest.approx(statistics.mean(values)) and stored["std"][name] == pytest.approx(statistics.stdev(values))
    assert f"written to {config.out / 'seeds.json'}" in text and [line.split()[0] for line in text.splitlines()[2:6]] == ["seed", "seed", "mean", "std"]
    assert not load_run(config.out / "seed-5").training


def test_seeds_go_on_where_they_were_stopped(config, change, tmp_path, monkeypatch):
    whole, broken = (change(config, out=tmp_path / name, seeds=(0, 1, 2)) for name in ("whole", "broken"))
    train_seeds(whole)
    step = Task.training_step

    def stopping(self, batch, batch_idx):
        if self.config.seed == 1 and self.current_epoch == 1:
            raise RuntimeError("stopped")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as m:
        m.setattr(Task, "training_step", stopping)
        with pytest.raises(RuntimeError, match="stopped"):
            train_seeds(broken)
    assert not (broken.out / "seeds.json").exists()
    steps = []
    monkeypatch.setattr(Task, "training_step", lambda self, b, i: (steps.append((self.config.seed, self.current_epoch)), step(self, b, i))[1])
    train_seeds(change(broken, resume=True))
    assert steps == [(1, 1)] * 3 + [(2, 0)] * 3 + [(2, 1)] * 3
    assert (whole.out / "seeds.json").read_bytes() == (broken.out / "seeds.json").read_bytes()
    for seed in (0, 1, 2):
        assert everything(whole.out / f"seed-{seed}") == everything(broken.out / f"seed-{seed}")
    train_seeds(change(broken, resume=True, seeds=(0, 1, 2, 3), progress=True))  # more of them, later
    assert json.loads((broken.out / "seeds.json").read_text())["seeds"] == [0, 1, 2, 3] and len(steps) == 15


def test_what_is_there_is_never_replaced_unasked(config, change):
    one = change(config, epochs=1, seeds=(0,))
    with pytest.raises(FileNotFoundError, match="holds no seeds"):
        train_seeds(change(one, resume=True))
    train_seeds(one)
    before = everything(one.out / "seed-0")
    with pytest.raises(FileExistsError, match="seed-0 holds a run; give another --out, or --overwrite, or continue"):
        train_seeds(one)
    with pytest.raises(FileExistsError, match="holds a run, seeds need a folder of their own"):
        train_seeds(change(one, out=one.out / "seed-0"))
    assert before == everything(one.out / "seed-0")
    train_seeds(change(one, overwrite=True, epochs=2))
    assert before != everything(one.out / "seed-0")
    with pytest.raises(ValueError, match="seeds must be empty for one run"):
        train(one)


def test_spread_is_that_of_a_sample_and_has_no_deviation_of_one(config, change):
    assert spread([{"epoch": 1, "IoU": 0.25}, {"epoch": 2, "IoU": 0.75}]) == {"mean": {"IoU": 0.5}, "std": {"IoU": pytest.approx(0.5 / math.sqrt(2))}}
    assert spread([{"IoU": 0.25}]) == {"mean": {"IoU": 0.25}, "std": {"IoU": None}}
    assert math.isnan(spread([{"Pd": float("nan")}, {"Pd": 1.0}])["std"]["Pd"])
    assert spread([{"epoch": 3}, {"epoch": 3}]) == {"mean": {}, "std": {}}
    summary = train_seeds(change(config, epochs=1, seeds=(0,), final=True))
    assert summary["mean"] == {} and summary["part"] is None and json.loads((config.out / module.SEEDS).read_text())["runs"]["0"]["selected"]["epoch"] == 0
    assert "nan" in seeds_table({"runs": {"0": {"selected": {"IoU": 0.25}}}, **spread([{"IoU": 0.25}])})
