"""Results depend neither on the batch nor on what else is in it."""
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from python_models.inference import Predictor, predict_batch, predict_logits

TOLERANCE = 1e-5  # of the largest logit, where a batch goes through as one; measured up to 2e-7
SIZES = [(64, 64), (64, 64), (50, 70), (64, 64), (50, 70), (33, 41), (64, 64)]


@pytest.fixture
def at_once(monkeypatch):
    """What a GPU does, here: the batch goes through the network as one."""
    monkeypatch.setattr("python_models.inference.logits._batches", lambda device: True)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(1, *size, generator=generator) for size in SIZES]


@pytest.fixture
def folder(images, tmp_path):
    (tmp_path / "images").mkdir()
    for i, image in enumerate(images):
        Image.fromarray((image[0] * 255).byte().numpy()).save(tmp_path / "images" / f"{i}.png")
    return tmp_path / "images"


def largest_error(net, images):
    """Of batches of 1, 2, 3 and 7, forwards and backwards, against each image alone."""
    alone = [predict_logits(net, image) for image in images]
    errors = []
    for batch in (1, 2, 3, 7):
        together = predict_batch(net, images, batch=batch)
        backwards = predict_batch(net, images[::-1], batch=batch)[::-1]
        errors += [((a - b).abs().max() / a.abs().max()).item() for other in (together, backwards) for a, b in zip(alone, other)]
    return max(errors)


def test_on_the_cpu_no_bit_depends_on_the_batch(net, images):
    assert largest_error(net, images) == 0


def test_as_one_batch_only_rounding_differs(net, images, at_once):
    assert largest_error(net, images) < TOLERANCE


def test_the_tolerance_rejects_statistics_of_the_batch(net, images, at_once):
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = 0.0
    assert largest_error(net, images) > 100 * TOLERANCE
    for norm in norms:
        norm.eval()


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix in (".png", ".jsonl", ".csv")}


OUTPUTS = ("masks", "scores", "overlays", "targets")


@pytest.mark.parametrize("tile", [None, 32])
def test_files_are_the_same_bytes_for_every_batch(net, folder, run, tmp_path, tile):
    found = {batch: files(tmp_path / f"{batch}") for batch in (1, 3, 16)
             if run(net, [folder], tmp_path / f"{batch}", batch=batch, tile=tile, outputs=OUTPUTS)}
    assert len(found[1]) == 3 * len(SIZES) + 2 and found[1] == found[3] == found[16]


@pytest.mark.parametrize("tile", [None, 32])
def test_masks_and_targets_are_the_same_in_one_batch(net, folder, run, tmp_path, at_once, tile):
    one, many = ({r.frame.name: r for r in run(net, [folder], tmp_path / f"{batch}", batch=batch, tile=tile, outputs=OUTPUTS)} for batch in (1, 3))
    assert sum(len(r.targets) for r in one.values()) > 3
    for name in one:
        masks, scores = ([np.asarray(Image.open(tmp_path / batch / kind / f"{name}.png")) for batch in "13"] for kind in ("masks", "scores"))
        assert np.array_equal(*masks) and np.abs(np.subtract(*scores, dtype=np.int64)).max() <= 1
        for a, b in zip(one[name].targets, many[name].targets, strict=True):
            assert a["score"] == pytest.approx(b["score"], abs=2e-6) and {**a, "score": 0} == {**b, "score": 0}


def test_an_image_alone_gives_what_it_gives_among_others(net, folder, run, tmp_path):
    run(net, [folder], tmp_path / "all", outputs=OUTPUTS)
    lines = [json.loads(line) for line in (tmp_path / "all" / "targets.jsonl").read_text().splitlines()]
    for path in sorted(folder.iterdir()):
        (alone,) = run(net, [path], tmp_path / path.stem, outputs=OUTPUTS)
        assert [{**t, "frame": 0} for t in alone.targets] == [{**t, "frame": 0} for t in lines if t["image"] == path.name]
        for kind in ("masks", "scores", "overlays"):
            one, many = ((tmp_path / f / kind / path.name).read_bytes() for f in (path.stem, "all"))
            assert one == many


def test_a_network_in_training_mode_is_refused(net, images):
    net.train()
    try:
        with pytest.raises(ValueError, match="must be in eval mode"):
            predict_logits(net, images[0])
    finally:
        net.eval()


def test_bfloat16_is_near_and_not_the_same(net, images):
    full = Predictor(net)(images)
    half = Predictor(net, precision="bf16")(images)
    errors = [((a - b).abs().max() / a.abs().max()).item() for a, b in zip(full, half)]
    assert 1e-4 < max(errors) < 0.1 and all(x.dtype == torch.float32 for x in half)
