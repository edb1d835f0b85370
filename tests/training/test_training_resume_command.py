"""`irstd train --resume`: what is not given comes from the run, what is given must agree."""
import json

import pytest
import torch
from small_run import words
from training.whole import everything, log

from python_models import cli
from python_models.commands.train import parse
from python_models.runs import CONFIG
from python_models.training.loop import Task


@pytest.fixture
def stop(monkeypatch):
    """stop(words, epoch, seed=None): a training that ends in the middle of an epoch."""
    step = Task.training_step

    def call(args, epoch, seed=None):
        def stopping(self, batch, batch_idx):
            if (self.current_epoch, batch_idx) == (epoch, 1) and seed in (None, self.config.seed):
                raise RuntimeError("stopped")
            return step(self, batch, batch_idx)

        with monkeypatch.context() as m:
            m.setattr(Task, "training_step", stopping)
            assert cli.main(args) == 1

    return call


def alike(one, other):
    """The same to the bit, but for where the data set was said to be."""
    one, other = everything(one), everything(other)
    for found in (one, other):
        del found["config"]["train"]["data"]
    assert one == other


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_run_goes_on_without_any_option(data, tmp_path, stop, monkeypatch, epoch):
    more = ["--epochs", 2, "--lr", "0.003", "--scale", "0.5", "1.0", "--optimizer", "adan"]
    assert cli.main(words(data, tmp_path / "whole", *more)) == 0
    stop(words(data, tmp_path / "broken", *more), epoch)
    monkeypatch.chdir(data)  # the data set is found from anywhere
    torch.set_num_threads(1)
    assert cli.main(["train", "--resume", "--out", str(tmp_path / "broken")]) == 0
    alike(tmp_path / "whole", tmp_path / "broken")


def test_a_run_with_a_recipe_goes_on_without_it_and_with_it(data, tmp_path, stop, capsys):
    recipe = tmp_path / "r.toml"
    recipe.write_text("epochs = 2\nlr = 0.01\nflip = false\n[options]\nupsample = 'bilinear'\n")
    args, out = words(data, tmp_path / "a", "--recipe", recipe), tmp_path / "a"
    stop(args, 1)
    found = parse(["--resume", "--out", str(out)])
    assert (found.config.recipe, found.config.lr, found.config.flip, found.options["upsample"]) == (str(recipe), 0.01, False, "bilinear")
    recipe.write_text("epochs = 2\nlr = 0.02\nflip = false\n[options]\nupsample = 'nearest'\n")
    capsys.readouterr()
    assert cli.main(["train", "--resume", "--out", str(out), "--recipe", str(recipe)]) == 2
    line = capsys.readouterr().err
    assert line == f"irstd train: resume: lr must be 0.01, got 0.02; option upsample must be 'bilinear', got 'nearest', for the run in {out}\n"
    recipe.unlink()
    assert cli.main(["train", "--resume", "--out", str(out)]) == 0 and len(log(out)) == 2


def test_everything_that_disagrees_is_one_line_and_what_is_free_is_not(trained, data, capsys, tmp_path):
    before = everything(trained)
    args = ["train", "--resume", "--out", str(trained)]
    assert cli.main([*args, "--preset", "tiny", "--epochs", "3", "--lr", "0.1", "--option", "attention=bilinear", "input_size=64", "--split", "other"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("irstd train: resume: split must be 'synth', got 'other'; preset must be 'paper', got 'tiny'; epochs must be 2, got 3; lr must be 0.002, got 0.1; ")
    assert line.endswith(f"option attention must be 'linear', got 'bilinear'; option input_size must be None, got 64, for the run in {trained}\n")
    assert cli.main(["train", "other_net", *args[1:]]) == 2
    assert capsys.readouterr().err == f"irstd train: resume: model must be 'sgem_unet', got 'other_net', for the run in {trained}\n"
    assert cli.main([*args, "--workers", "1", "--device", "auto" if not torch.cuda.is_available() else "cpu", "--epochs", "2", "--option", "heads=2"]) == 0
    assert everything(trained) == before


def test_without_a_run_the_line_says_so(tmp_path, data, capsys):
    assert cli.main(["train", "--resume", "--out", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"irstd train: resume: {tmp_path / 'none'} holds no run ({CONFIG} is missing)\n"
    assert cli.main(["train", "--out", str(tmp_path / "none")]) == 2
    assert "MODEL" in capsys.readouterr().err


def test_a_replaced_run_does_not_replace_itself_again(data, tmp_path, stop):
    out = tmp_path / "run"
    stop(words(data, out, "--epochs", 2), 0)
    stop(words(data, out, "--epochs", 2, "--overwrite"), 1)
    assert json.loads((out / CONFIG).read_text())["train"]["overwrite"] is True
    assert cli.main(["train", "--resume", "--out", str(out)]) == 0 and [r["epoch"] for r in log(out)] == ["0", "1"]


def test_seeds_go_on_without_any_option_and_others_may_follow(data, tmp_path, stop):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert cli.main(words(data, whole, "--epochs", 1, "--seeds", 3, 11)) == 0
    stop(words(data, broken, "--epochs", 1, "--seeds", 3, 11), 0, seed=11)
    assert cli.main(["train", "--resume", "--out", str(broken)]) == 0
    assert json.loads((broken / "seeds.json").read_text())["seeds"] == [3, 11]
    for seed in (3, 11):
        alike(whole / f"seed-{seed}", broken / f"seed-{seed}")
    assert cli.main(["train", "--resume", "--out", str(broken), "--seeds", "3", "11", "5"]) == 0
    found = json.loads((broken / "seed-5" / CONFIG).read_text())
    assert found["train"]["seed"] == 5 and found["model"] == json.loads((broken / "seed-3" / CONFIG).read_text())["model"]


def test_the_first_line_says_what_is_trained(data, tmp_path, capsys):
    args = [w for w in words(data, tmp_path / "run", "--epochs", 1) if w != "--no-progress"]
    assert cli.main(args) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    from python_models.runs import load_run

    count = sum(p.numel() for p in load_run(tmp_path / "run").parameters())
    assert first == f"train sgem_unet paper, {count:,} parameters, on data synth (12 train, 4 val images), 1 epochs, on cpu, into {tmp_path / 'run'}"
    assert len(rest) == 2
    assert cli.main([*args, "--resume", "--minutes", "5"]) == 0
    assert capsys.readouterr().out.startswith("continue sgem_unet paper, ") and cli.main([*args, "--overwrite", "--no-progress"]) == 0
    assert not capsys.readouterr().out.startswith("train ")
