"""A training that begins with given weights."""
from pathlib import Path

import pytest
import torch

from python_models import build_model
from python_models.commands.train import parse
from python_models.files import read_weights, write_weights
from python_models.runs import load_run, read_config
from python_models.training.config import parse_options
from python_models.training.train import train
from small_run import OPTIONS, words


@pytest.fixture
def weights(tmp_path) -> Path:
    torch.manual_seed(99)
    net = build_model("sgem_unet", backend="reference", **parse_options(OPTIONS))
    write_weights(tmp_path / "start.safetensors", net.state_dict())
    return tmp_path / "start.safetensors"


def test_training_begins_with_the_weights(config, change, weights):
    slow = change(config, lr=1e-12, weight_decay=0.0, ema=0.0, epochs=1, weights=weights)
    train(slow)
    start, end = read_weights(weights), load_run(slow.out, "last", "reference").state_dict()
    parameters = {name for name, _ in build_model("sgem_unet", backend="reference", **parse_options(OPTIONS)).named_parameters()}
    assert all(torch.allclose(end[k], start[k], rtol=0, atol=1e-8) for k in parameters)
    assert read_config(slow.out)["train"]["weights"] == str(weights)
    assert not torch.equal(end["normaliser.mean"], start["normaliser.mean"])  # the data's, as the run's normalisation says
    other = change(slow, weights=None, out=slow.out.with_name("other"))
    train(other)
    assert read_config(other.out)["train"]["weights"] is None
    assert not torch.allclose(load_run(other.out, "last", "reference").state_dict()["enc1.0.weight"], start["enc1.0.weight"], rtol=0, atol=1e-3)


def test_a_resumed_run_goes_on_and_needs_them_no_more(config, change, weights):
    first = change(config, weights=weights)
    train(first)
    whole = read_weights(first.out / "model.safetensors")
    part = change(first, out=first.out.with_name("part"), early_stop=0)
    train(part)
    weights.unlink()
    stored = parse(["--resume", "--out", str(part.out)]).config
    assert stored.weights == weights
    train(change(stored, progress=False))
    assert all(torch.equal(v, whole[k]) for k, v in read_weights(part.out / "model.safetensors").items())


def test_weights_that_do_not_fit_are_one_line(config, change, weights, tmp_path, data, capsys):
    tensors = read_weights(weights)
    del tensors["head.bias"]
    tensors |= {"head.weight": torch.zeros(1, 5, 1, 1), "more": torch.zeros(1)}
    write_weights(weights, tensors)
    with pytest.raises(ValueError) as error:
        train(change(config, weights=weights))
    wrong = "it lacks head.bias; it has besides more; of another shape are head.weight"
    assert str(error.value) == f"train: weights {weights} do not fit sgem_unet paper: {wrong}"
    assert not config.out.exists()
    with pytest.raises(FileNotFoundError, match="none.safetensors does not exist"):
        train(change(config, weights=tmp_path / "none.safetensors"))
    from python_models import cli

    assert cli.main(words(data, config.out, "--weights", weights)) == 2 and "do not fit sgem_unet" in capsys.readouterr().err
