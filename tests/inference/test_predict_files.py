"""Prediction: what a target is, what is written, and that images do not see each other."""
import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from python_models.inference import find_targets, predict_files
from python_models.runs import load_run


@pytest.fixture(scope="module")
def net(trained):
    """The trained network, its output shifted so that it finds some targets and not everything."""
    net = load_run(trained, backend="reference")
    with torch.no_grad():
        logits = net(net.preprocess(torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))))["logits"]
        net.head.bias -= logits.quantile(0.98)
    return net


@pytest.fixture
def images(tmp_path):
    """Three images of three sizes and types."""
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).save(folder / "a.png")
    Image.fromarray(rng.integers(0, 65536, (50, 70), dtype=np.uint16)).save(folder / "b.png")
    Image.fromarray(rng.integers(0, 256, (33, 41, 3), dtype=np.uint8)).save(folder / "c.bmp")
    return sorted(folder.iterdir())


def run(net, paths, out, **options):
    *_, report = predict_files(net, paths, out, **options)
    return report


def test_targets_are_those_of_the_logits():
    logits = torch.full((20, 30), -5.0)
    logits[2:4, 5:9] = torch.tensor([1.0, 2.0, 3.0, 1.0])
    logits[10, 10] = logits[11, 11] = 0.5
    logits[15, 20] = 0.0
    mask, found = find_targets(logits)
    assert mask.sum() == 10 and mask[15, 20] == 0
    assert found[0] == {"row": 2.5, "col": 6.5, "box": [5, 2, 4, 2], "area": 8, "score": round(1 / (1 + np.exp(-3.0)), 6)}
    assert found[1]["box"] == [10, 10, 2, 2] and found[1]["area"] == 2 and (found[1]["row"], found[1]["col"]) == (10.5, 10.5)
    assert len(find_targets(logits, 0.9)[1]) == 1 and len(find_targets(logits, 0.4)[1]) == 3
    with pytest.raises(ValueError, match=r"threshold must lie in \(0, 1\), got 1"):
        find_targets(logits, 1)


def test_a_score_belongs_to_its_own_target():
    logits = torch.full((9, 9), -5.0)
    logits[0, :] = logits[:, 0] = 1.0  # an L around another target inside its box
    logits[4, 4] = 4.0
    assert [t["score"] for t in find_targets(logits)[1]] == [round(1 / (1 + np.exp(-s)), 6) for s in (1.0, 4.0)]


def test_files_written(net, images, tmp_path):
    out = tmp_path / "out"
    report = run(net, images, out)
    assert report.images == 3 and not report.errors and report.targets
    assert {str(p.relative_to(out)) for p in out.rglob("*.*")} == {
        *(f"{kind}/{name}.png" for kind in ("masks", "overlays") for name in "abc"), "targets.jsonl", "targets.csv"}
    for path in images:
        with Image.open(path) as image, Image.open(out / "masks" / f"{path.stem}.png") as mask, Image.open(out / "overlays" / f"{path.stem}.png") as over:
            assert image.size == mask.size == over.size and mask.mode == "L" and over.mode == "RGB"
            values = np.asarray(mask)
            assert set(np.unique(values)) <= {0, 255}
            area = sum(t["area"] for t in report.targets if t["image"] == path.name)
            assert (values == 255).sum() == area
    lines = [json.loads(line) for line in (out / "targets.jsonl").read_text().splitlines()]
    assert lines == report.targets and set(lines[0]) == {"image", "row", "col", "box", "area", "score"}
    rows = list(csv.DictReader(open(out / "targets.csv", newline="")))
    assert [(r["image"], float(r["row"]), [int(r[k]) for k in "xywh"], float(r["score"])) for r in rows] == [
        (t["image"], t["row"], t["box"], t["score"]) for t in lines]


def test_an_image_alone_gives_what_it_gives_among_others(net, images, tmp_path):
    together = run(net, images, tmp_path / "all")
    backwards = run(net, images[::-1], tmp_path / "back")
    for path in images:
        alone = run(net, [path], tmp_path / path.name)
        own = [t for t in together.targets if t["image"] == path.name]
        assert alone.targets == own == [t for t in backwards.targets if t["image"] == path.name]
        for kind in ("masks", "overlays"):
            one, many = ((tmp_path / folder / kind / f"{path.stem}.png").read_bytes() for folder in (path.name, "all"))
            assert one == many


def test_unreadable_files_are_lines_and_the_others_go_on(net, images, tmp_path):
    text, cut = images[0].with_name("aa.png"), images[0].with_name("ab.png")
    text.write_text("no image")
    cut.write_bytes(images[0].read_bytes()[:100])
    report = run(net, [images[0], text, cut, *images[1:]], tmp_path / "out")
    assert report.images == 3 and len(report.errors) == 2
    assert str(text) in report.errors[0] and str(cut) in report.errors[1] and not any("\n" in e for e in report.errors)


def test_files_that_share_a_stem_do_not_overwrite_each_other(net, images, tmp_path):
    twin = images[0].with_suffix(".bmp")
    Image.open(images[0]).save(twin)
    run(net, [images[0], twin, images[1]], tmp_path / "out")
    assert {p.name for p in (tmp_path / "out" / "masks").iterdir()} == {"a.png.png", "a.bmp.png", "b.png"}
