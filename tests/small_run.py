"""Fixtures of training, evaluation, inference and report: a small synthetic set and a training short enough for a test."""
import dataclasses
from pathlib import Path

import pytest

from python_models.data import SynthConfig, write_synthetic
from python_models.training.config import TrainConfig

pytest.importorskip("pytorch_lightning", reason="the extra `train` is not installed")

OPTIONS = ("attention=linear", "widths=[4, 4, 8, 8, 8]", "heads=2")


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """20 images of 64x64: 12 train, 4 val, 4 test."""
    folder = tmp_path_factory.mktemp("set") / "data"
    return write_synthetic(folder, 20, size=64, seed=3, config=SynthConfig(empty=0.0, scr=(10.0, 25.0)), parts=(0.6, 0.2, 0.2), raw=False)


@pytest.fixture
def config(data, tmp_path) -> TrainConfig:
    """Two epochs of three steps."""
    return TrainConfig(model="sgem_unet", data=data, split="synth", out=tmp_path / "run", option=OPTIONS, backend="reference", epochs=2,
                       batch_size=4, crop=32, warmup_epochs=1.0, device="cpu", progress=False)


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory) -> Path:
    """A finished run folder; read only."""
    from python_models.training.train import train

    out = tmp_path_factory.mktemp("runs") / "trained"
    train(TrainConfig(model="sgem_unet", data=data, split="synth", out=out, option=OPTIONS, backend="reference", epochs=2, batch_size=4,
                      crop=32, device="cpu", progress=False))
    return out


@pytest.fixture(autouse=True)
def always_one_thread(one_thread):
    """For every test here."""


@pytest.fixture
def change():
    """`dataclasses.replace`, for configurations."""
    return dataclasses.replace


def words(data: Path, out: Path, *more) -> list[str]:
    """Arguments of the command that trains the same network on the same set."""
    first = ["train", "sgem_unet", "--data", data, "--split", "synth", "--out", out, "--option", *OPTIONS, "--backend", "reference", "--batch-size", 4,
             "--crop", 32, "--warmup-epochs", 1, "--device", "cpu", "--threads", 1, "--no-progress"]
    return [str(word) for word in (*first, *more)]
