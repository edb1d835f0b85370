"""The folder that the generator writes: what it holds, the same for any number of processes, whole or not at all."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from python_models.commands.data import parse, run
from python_models.data import DataError, SynthConfig, SyntheticDataset, open_dataset, read_image, write_synthetic
from python_models.data.check import check
from python_models.data.synth import write as module

CONTENT = "1224b05e8760c3d774e00d54c528c91208c4d2711cce63f6e1e5e9cd22f5cdf4"  # of 4 images of 64x64, seed 3


def files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.filterwarnings("error")
def test_written_set_is_read_back(tmp_path):
    root = write_synthetic(tmp_path / "made", 10, size=64, seed=4)
    made = SyntheticDataset(10, 64, seed=4)
    parts = {p: open_dataset(root, "synth", p, masks="strict", mask_mismatch="error") for p in ("train", "val", "test")}
    assert [len(parts[p]) for p in ("train", "val", "test")] == [7, 1, 2]
    items = [item for p in ("train", "val", "test") for item in parts[p]]
    for i, item in enumerate(items):
        assert item["name"] == f"{i + 1:06d}"
        assert torch.equal(item["image"], made[i]["image"]) and torch.equal(item["mask"], made[i]["mask"])
        raw = read_image(root / "raw" / f"{item['name']}.png", full_scale=16383)
        assert np.array_equal(raw, made.scene(i).raw.astype(np.float32) / np.float32(16383))
    meta = json.loads((root / "meta.json").read_text())
    assert meta["seed"] == 4 and meta["images"]["000003"]["targets"] == made[2]["meta"]["targets"]
    assert meta["config"]["mask_level"] == SynthConfig().mask_level
    with Image.open(root / "masks" / "000001.png") as mask:
        assert set(np.unique(np.asarray(mask))) <= {0, 255}
    assert not [f for f in check(root).findings if f.kind not in ("empty-mask", "saturation")]


def test_content_hash_is_that_of_the_pixels(tmp_path):
    root = write_synthetic(tmp_path / "made", 4, size=64, seed=3, raw=False)
    digest = hashlib.sha256()
    for name in ("000001", "000002", "000003", "000004"):
        for kind in ("images", "masks"):
            digest.update(np.asarray(Image.open(root / kind / f"{name}.png")).tobytes())
    said = json.loads((root / "meta.json").read_text())["content_hash"]
    assert said == digest.hexdigest() == CONTENT
    other = write_synthetic(tmp_path / "other", 4, size=64, seed=4, raw=False)
    assert json.loads((other / "meta.json").read_text())["content_hash"] != CONTENT


def test_every_file_is_the_same_for_any_number_of_workers(tmp_path):
    one, two = (files(write_synthetic(tmp_path / f"by{k}", 9, size=64, seed=3, workers=k)) for k in (1, 2))
    assert one == two and len(one) == 3 * 9 + 4
    assert files(write_synthetic(tmp_path / "other", 9, size=64, seed=4)).keys() == one.keys()


def test_existing_folders(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    write_synthetic(empty, 3, size=64, raw=False)
    before = files(empty)
    for path, rule in ((empty, "this one holds files"), (empty / "meta.json", "this is a file")):
        with pytest.raises(DataError, match=f"must be a new or an empty folder, {rule}"):
            write_synthetic(path, 3, size=64)
    assert files(empty) == before and os.listdir(tmp_path) == ["empty"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), DataError("x")], ids=["full disk", "interrupted", "data"])
def test_a_failure_leaves_nothing(tmp_path, monkeypatch, error):
    real = module.make_scene

    def fail_late(index, *rest):
        if index == 3:
            raise error
        return real(index, *rest)

    monkeypatch.setattr(module, "make_scene", fail_late)
    with pytest.raises(type(error)):
        write_synthetic(tmp_path / "made", 5, size=64)
    assert os.listdir(tmp_path) == []


def test_a_worker_that_dies_is_one_line():
    with pytest.raises(DataError, match="a worker process died") as caught:
        with module._results(os._exit, 4, workers=2) as results:
            list(results)
    assert "\n" not in str(caught.value)


def test_a_killed_run_leaves_no_data_set(tmp_path):
    code = f"from python_models.data import write_synthetic; write_synthetic({str(tmp_path / 'made')!r}, 100000, size=32)"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        while process.poll() is None and sum(1 for _ in tmp_path.rglob("masks/*.png")) < 10:
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (tmp_path / "made").exists()
    (rest,) = tmp_path.iterdir()
    with pytest.raises(DataError):
        open_dataset(rest, None, "train")


@pytest.mark.parametrize("options, rule", [
    ({"n": 2}, "n must be >= 3"), ({"n": 5, "parts": (0.0, 0.9, 0.1)}, "leave none for train"), ({"n": 5, "workers": 0}, "workers must be >= 1, got 0"),
    ({"n": 5, "parts": (0.5, float("nan"), 0.5)}, "parts three shares"), ({"n": 5, "size": 16}, "size must be >= 32, got 16"),
])
def test_arguments_are_checked(tmp_path, options, rule):
    with pytest.raises(DataError, match=rule):
        write_synthetic(tmp_path / "b", **options)
    assert os.listdir(tmp_path) == []


def test_command(tmp_path, capsys):
    options = "--images 6 --size 64 --seed 2 --no-raw --parts 1 1 1 --empty 1 --scr 3 4"
    words = ["synth", str(tmp_path / "made"), *options.split()]
    assert run(parse(words)) == 0
    meta = json.loads((tmp_path / "made" / "meta.json").read_text())
    out, err = capsys.readouterr()
    assert f"6 images of 64x64 written to {tmp_path / 'made'}, split synth, content hash {meta['content_hash']}" in out and "6/6" in err
    assert meta["config"] == json.loads(json.dumps(vars(SynthConfig(empty=1.0, scr=(3.0, 4.0))))) and meta["seed"] == 2
    assert not any(image["targets"] for image in meta["images"].values()) and not (tmp_path / "made" / "raw").exists()
    assert [len(open_dataset(tmp_path / "made", "synth", p)) for p in ("train", "val", "test")] == [2, 2, 2]
    with pytest.raises(DataError, match="must be a new or an empty folder"):
        run(parse(words))
    with pytest.raises(DataError, match="SynthConfig: empty must be a probability"):
        run(parse([*words, "--empty", "2"]))
