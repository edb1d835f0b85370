"""The generator: reproducible items, their description, the folder it writes, its knobs."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from python_models.data import DataError, SynthConfig, SyntheticDataset, collate, make_scene


def digest(indices, sizes=(64, 96, 256), seed=5):
    h = hashlib.sha256()
    for i in indices:
        s = make_scene(i, size=sizes[i % len(sizes)], seed=seed)
        h.update(s.raw.astype("<u2").tobytes() + s.image.tobytes() + s.mask.tobytes())
    return h.hexdigest()[:16]


def test_bytes_are_the_known_ones():
    assert digest(range(12)) == "8342179990c8a44b"
    assert digest(range(1), seed=6) != digest(range(1), seed=5)


def test_another_process_without_wide_vectors_makes_the_same_bytes():
    code = "from python_models.data import make_scene as m; import hashlib; print(hashlib.sha256(m(7, 64, 3).raw.tobytes()).hexdigest())"
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512F AVX2 FMA3"}  # NumPy warns of names it does not know
    out = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True, env=environment).stdout.strip()
    assert out == hashlib.sha256(make_scene(7, 64, 3).raw.tobytes()).hexdigest()


def test_item_depends_on_its_index_only():
    forward, backward = SyntheticDataset(4, 64, seed=2), SyntheticDataset(9, 64, seed=2, cache=True)
    for i in (3, 0, 2):
        for key in ("image", "mask"):
            assert torch.equal(forward[i][key], backward[i][key]) and torch.equal(backward[i][key], backward[i - 9][key])
    shifted = SyntheticDataset(2, 64, seed=2, start=2)
    assert torch.equal(shifted[0]["image"], forward[2]["image"]) and shifted.names[0] == forward.names[2]
    assert len(list(iter(forward))) == 4
    with pytest.raises(IndexError):
        forward[4]


def test_item_contract():
    ds = SyntheticDataset(3, 64, seed=1)
    item = ds[0]
    assert item["image"].shape == item["mask"].shape == (1, 64, 64) and item["image"].dtype == item["mask"].dtype == torch.float32
    assert 0 <= item["image"].min() and item["image"].max() <= 1 and set(item["mask"].unique().tolist()) <= {0.0, 1.0}
    assert len(ds.split_hash) == 16 and ds.split_hash != SyntheticDataset(3, 64, seed=2).split_hash
    assert json.loads(json.dumps(item["meta"])) == item["meta"]
    batch = next(iter(torch.utils.data.DataLoader(ds, batch_size=3, collate_fn=collate)))
    assert batch["image"].shape == (3, 1, 64, 64) and len(batch["meta"]) == 3


def test_raw_output_is_14_bits():
    ds = SyntheticDataset(1, 64, seed=1, config=SynthConfig(output="raw"))
    raw = ds.scene(0).raw
    assert raw.dtype == np.uint16 and raw.max() <= 16383
    assert np.array_equal(ds[0]["image"][0].numpy(), raw.astype(np.float32) / np.float32(16383))


def test_targets_are_described():
    seen = 0
    for i in range(30):
        s = make_scene(i, size=128, seed=9, config=SynthConfig(counts=(0, 0, 1), empty=0))
        union = np.zeros_like(s.mask)
        for t in s.meta["targets"]:
            x, y, w, h = t["box"]
            part = s.mask[y : y + h, x : x + w]
            assert part.sum() == t["area"] and part.any(axis=1).all() and part.any(axis=0).all()
            rows, cols = np.nonzero(part)
            assert abs(rows.mean() + y - t["row"]) < 0.6 and abs(cols.mean() + x - t["col"]) < 0.6
            union[y : y + h, x : x + w] |= part
            seen += 1
        assert np.array_equal(union, s.mask)
        firsts = [np.flatnonzero(s.mask[t["box"][1]])[0] + 128 * t["box"][1] for t in s.meta["targets"] if len(s.meta["targets"]) == 1]
        assert len(firsts) <= 1 and [t["box"][1] for t in s.meta["targets"]] == sorted(t["box"][1] for t in s.meta["targets"])
    assert seen > 60


def test_knobs_act():
    none = SynthConfig(empty=1.0)
    assert not any(make_scene(i, 64, config=none).mask.any() for i in range(5))
    dark = SynthConfig(empty=0.0, dark=1.0)
    targets = [t for i in range(10) for t in make_scene(i, 64, config=dark).meta["targets"]]
    assert targets and not any(t["bright"] for t in targets)
    for layer in ("gradient", "horizon", "cloud", "buildings", "glint"):
        off = {name: 0.0 for name in ("gradient", "horizon", "cloud", "buildings", "glint")}
        with_layer, without = (make_scene(3, 64, config=SynthConfig(**{**off, layer: p})) for p in (1.0, 0.0))
        assert with_layer.meta["background"]["layers"] == [layer] and not np.array_equal(with_layer.raw, without.raw), layer
    smooth = make_scene(3, 64, config=SynthConfig(jpeg=20.0))
    plain = make_scene(3, 64)
    assert np.array_equal(smooth.raw, plain.raw) and not np.array_equal(smooth.image, plain.image)
    assert abs(smooth.image.astype(float) - plain.image).mean() < 10
    direct = make_scene(3, 64, config=SynthConfig(agc=None))
    assert abs(direct.image - direct.raw * (255 / 16383)).max() <= 0.5 + 1e-9


def test_defects_show_and_spare_targets():
    config = SynthConfig(defects=(0.02, 0.02), empty=0)
    s = make_scene(1, 128, config=config)
    dead, hot = s.raw == 0, s.raw == 16383
    assert dead.sum() > 50 and hot.sum() > 50 and not (dead | hot)[s.mask].any()


@pytest.mark.parametrize("options, rule", [
    ({"beta": (4.0, 1.0)}, "beta must be a range"), ({"empty": 2.0}, "empty must be a probability"), ({"sigma": (0.0, 1.0)}, "sigma must be > 0"),
    ({"mask_level": 1.0}, "mask_level must be in"), ({"counts": ()}, "counts must be weights"), ({"output": "png"}, "output must be 8bit or raw"),
    ({"agc": (50.0, 50.0)}, "agc must be percentiles"), ({"agc_fill": (0.0, 1.0)}, "agc_fill must be in"), ({"anisotropy": (0.5, 1.0)}, "anisotropy must be"),
])
def test_config_is_checked(options, rule):
    with pytest.raises(DataError, match=f"SynthConfig: {rule}"):
        SynthConfig(**options)


def test_arguments_are_checked():
    for call, rule in ((lambda: make_scene(0, size=16), "size must be >= 32, got 16"), (lambda: make_scene(0, size=10**6), "size must be <= 8944, .*got 1000000"),
                       (lambda: make_scene(-1), "must be >= 0"),
                       (lambda: SyntheticDataset(0), "n must be >= 1")):
        with pytest.raises(DataError, match=rule):
            call()
