"""Checkpoints: exact, atomic, without pickle."""
import json
import math
import random
import resource

import numpy as np
import pytest
import torch

from python_models import files
from python_models.training import checkpoint as c

STATE = {
    "epoch": 3, "name": "a", "none": None, "flag": True, "nan": math.nan, "inf": -math.inf, "third": 1 / 3,
    "pair": (1, (2, "x")), "list": [torch.arange(3), {"lr": 0.1}],
    "state": {0: {"step": torch.tensor(4.0), "avg": torch.randn(2, 3).to(torch.bfloat16)}, 1: {}},
    "layouts": [torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), torch.randn(2, 3, 4, 5), torch.randn(4, 3, 1, 1)],
    "$tensor": "a key that looks like a tag", "words": np.arange(4, dtype=np.uint32), "count": np.int64(7),
}


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and a.stride() == b.stride() and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return a == b


def test_state_comes_back_exactly(tmp_path):
    c.save_state(tmp_path / "last", STATE)
    assert same(c.load_state(tmp_path / "last"), STATE)
    changed = {**STATE, "third": 1 / 3 + 1e-16}
    assert not same(c.load_state(tmp_path / "last"), changed)


def test_only_json_and_safetensors_are_written(tmp_path):
    for _ in range(3):
        c.save_state(tmp_path, STATE)
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors"}
    assert len(list(tmp_path.iterdir())) == 2
    json.loads((tmp_path / "state.json").read_text())


def test_unknown_type_is_refused_by_its_place():
    with pytest.raises(TypeError, match=r"state\.a\.0 must be .*, got set"):
        c.pack({"a": [{1, 2}]})


def test_shared_memory_is_no_obstacle(tmp_path):
    base = torch.arange(6.0)
    files.write_weights(tmp_path / "w.safetensors", {"a": base[:3], "b": base[:3], "t": base.view(2, 3).T})
    assert torch.equal(files.read_weights(tmp_path / "w.safetensors")["t"], base.view(2, 3).T)


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def half(temporary):
        temporary.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        files.atomic_write(path, half)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_longest_name_a_file_may_have_can_be_written(tmp_path):
    path = tmp_path / ("n" * 251 + ".txt")
    files.write_text(path, "whole")
    assert path.read_text() == "whole" and len(list(tmp_path.iterdir())) == 1


def test_a_failed_write_names_the_file_and_not_the_temporary_one(tmp_path):
    path, limits = tmp_path / "weights.safetensors", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # a real fault of the system, as a full disk is
    try:
        with pytest.raises(OSError, match=f"{path}: .*File too large"):
            files.write_weights(path, {"a": torch.zeros(1000)})
        with pytest.raises(OSError) as error:
            files.write_text(path, "x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.filename == str(path) and error.value.strerror == "File too large" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("broken", ["save_file", "write_text"])
def test_failure_in_the_middle_of_a_checkpoint_keeps_the_old_one(tmp_path, monkeypatch, broken):
    c.save_state(tmp_path, {"epoch": 1, "w": torch.ones(3)})

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(c, broken, fail)
        with pytest.raises(OSError):
            c.save_state(tmp_path, {"epoch": 2, "w": torch.zeros(3)})
    old = c.load_state(tmp_path)
    assert old["epoch"] == 1 and torch.equal(old["w"], torch.ones(3))
    c.save_state(tmp_path, {"epoch": 2, "w": torch.zeros(3)})
    assert c.load_state(tmp_path)["epoch"] == 2


def test_damage_is_one_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="state.json"):
        c.load_state(tmp_path)
    c.save_state(tmp_path, {"w": torch.ones(100)})
    file = next(tmp_path.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        c.load_state(tmp_path)


def test_checkpoint_cannot_name_a_file_elsewhere(tmp_path):
    files.write_weights(tmp_path / "secret.safetensors", {"a": torch.ones(1)})
    folder = tmp_path / "last"
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps({"tensors": "../secret.safetensors", "state": {}}))
    with pytest.raises(FileNotFoundError):
        c.load_state(folder)


def test_random_state_goes_on_where_it_was(tmp_path):
    def draw():
        return random.random(), float(np.random.rand()), float(torch.rand(1))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    draw()
    c.save_state(tmp_path, {"rng": c.rng_state()})
    expected = draw()
    assert draw() != expected
    c.set_rng_state(c.load_state(tmp_path)["rng"])
    assert draw() == expected
