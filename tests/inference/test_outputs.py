"""What a target is, the 16-bit score map, and the folder: what is refused, what an interrupt leaves."""
import csv
import json
import resource

import numpy as np
import pytest
import torch
from PIL import Image

from python_models.data import read_image, read_raw
from python_models.files import save_png
from python_models.inference import Predictor, find_frames, find_targets, predict_files, predict_logits, quantise_scores
from python_models.inference.outputs import OUTPUTS


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


def tree(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


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


def test_score_maps_have_the_mask_of_the_logits(tmp_path):
    tiny = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1e-20, -1e-20, 1e-7, -1e-7, 6e-8, 3e-5, -3e-5, 40, -40, 1e4, -1e4, torch.inf, -torch.inf])
    logits = torch.cat((tiny, torch.randn(983, generator=torch.Generator().manual_seed(0)) * 3)).reshape(20, 50)
    q = quantise_scores(logits)
    p = torch.sigmoid(logits.double()).numpy()
    assert np.array_equal(q / 65535 > 0.5, (logits > 0).numpy()) and q.dtype == np.uint16
    assert np.abs(q / 65535 - p).max() <= 0.5 / 65535 + 1e-15
    assert (q[0, 0], q[0, 13], q[0, 14]) == (32767, 65535, 0)
    assert not np.array_equal(np.rint(65535 * p) / 65535 > 0.5, (logits > 0).numpy()), "plain rounding must fail this test"
    save_png(tmp_path / "a.png", Image.fromarray(q))
    raw = read_raw(tmp_path / "a.png")
    assert np.array_equal(raw.values, q) and raw.full_scale == 65535


def test_files_written(net, images, run, tmp_path):
    out = tmp_path / "out"
    results = run(net, images, out, outputs=OUTPUTS)
    targets = [t for r in results for t in r.targets]
    assert targets and not any(r.error for r in results)
    assert tree(out) == {*(f"{kind}/{name}.png" for kind in ("masks", "scores", "overlays") for name in "abc"),
                         *(f"logits/{name}.npy" for name in "abc"), "targets.jsonl", "targets.csv", "predictions.json"}
    for path in images:
        pictures = [Image.open(out / kind / f"{path.stem}.png") for kind in ("masks", "scores", "overlays")]
        assert {p.size for p in pictures} == {Image.open(path).size} and pictures[0].mode == "L" and pictures[2].mode == "RGB"
        mask, scores = (np.asarray(p) for p in pictures[:2])
        assert set(np.unique(mask)) <= {0, 255} and scores.dtype == np.uint16 and np.array_equal(mask == 255, scores / 65535 > 0.5)
        assert np.array_equal(np.load(out / "logits" / f"{path.stem}.npy"), predict_logits(net, torch.from_numpy(read_image(path))[None]))
        assert (mask == 255).sum() == sum(t["area"] for t in targets if t["image"] == path.name)
    stored = [json.loads(line) for line in (out / "targets.jsonl").read_text().splitlines()]
    assert stored == targets and list(stored[0]) == ["image", "name", "frame", "row", "col", "box", "area", "score"]
    rows = list(csv.DictReader(open(out / "targets.csv", newline="")))
    assert [(r["image"], r["name"], int(r["frame"]), r["page"], float(r["row"]), [int(r[k]) for k in "xywh"], float(r["score"])) for r in rows] == [
        (t["image"], t["name"], t["frame"], "", t["row"], t["box"], t["score"]) for t in stored]
    about = json.loads((out / "predictions.json").read_text())
    assert (about["complete"], about["images"], about["of"], about["targets"], about["threshold"]) == (True, 3, 3, len(targets), 0.5)


def test_outputs_are_chosen(net, images, run, tmp_path):
    run(net, images, tmp_path / "out", outputs=("scores",))
    assert tree(tmp_path / "out") == {"predictions.json", *(f"scores/{n}.png" for n in "abc")}
    for outputs, words in ((("mask",), "got mask"), ((), "got none")):
        with pytest.raises(ValueError, match=f"outputs must be one or more of masks, scores, logits, overlays, targets, {words}"):
            run(net, images, tmp_path / "new", outputs=outputs)
    assert not (tmp_path / "new").exists()


def test_names_keep_folders_and_pages_are_told(net, images, run, tmp_path):
    deep = tmp_path / "images" / "deep" / "er"
    deep.mkdir(parents=True)
    np.save(deep / "s.npy", np.random.default_rng(1).random((2, 40, 33), np.float32))
    results = run(net, [tmp_path / "images"], tmp_path / "out", recursive=True)
    assert {"masks/a.png", "masks/deep/er/s_p0001.png", "overlays/deep/er/s_p0002.png"} < tree(tmp_path / "out")
    pages = {(t["image"], t["name"], t["page"]) for r in results for t in r.targets if "page" in t}
    assert pages == {("deep/er/s.npy", f"deep/er/s_p000{k}", k) for k in (1, 2)}


def test_a_bad_image_is_a_line_and_the_others_go_on(net, images, tmp_path, run):
    cut, small = images[0].with_name("ab.png"), images[0].with_name("ac.png")
    cut.write_bytes(images[0].read_bytes()[:2000])
    Image.new("L", (9, 9)).save(small)
    for batch in (1, 5):
        results = run(net, [*images, cut, small], tmp_path / f"{batch}", batch=batch)
        assert [r.error is None for r in results] == [True] * 3 + [False] * 2
        assert str(cut) in results[3].error and f"{small}: sgem_unet: x must be at least 16x16, got 9x9" == results[4].error
    done = json.loads((tmp_path / "5" / "predictions.json").read_text())
    assert (done["images"], done["of"]) == (3, 5)


def test_logits_that_are_no_numbers_are_refused(net, images, run, tmp_path):
    handle = net.head.register_forward_hook(lambda *args: args[2] * torch.nan)
    results = run(net, images, tmp_path / "out")
    handle.remove()
    assert all("logits must be numbers, got NaN" in r.error for r in results)
    assert not (tmp_path / "out").exists()


def test_too_large_for_the_memory_is_a_line(net, images, run, tmp_path, monkeypatch):
    def full(self, images, at_once):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(Predictor, "_whole", full)
    assert run(net, images[:1], tmp_path / "out")[0].error == f"{images[0]}: not enough memory for 64x64 pixels at once; use --tile, or a smaller one"


def test_other_folders_are_never_written_into(net, images, run, tmp_path):
    folder, link = images[0].parent, tmp_path / "link"
    link.symlink_to(folder)
    for out in (folder, link, tmp_path):
        with pytest.raises(ValueError, match="out: .* must not contain a source image, got "):
            run(net, images, out, overwrite=True)
    other = tmp_path / "other"
    (other / "masks").mkdir(parents=True)
    (other / "masks" / "a.png").write_text("precious")
    with pytest.raises(FileExistsError, match="is not empty and holds no predictions"):
        run(net, images, other, overwrite=True)
    with pytest.raises(NotADirectoryError, match="must be a folder, got a file"):
        run(net, images, images[0])
    assert (other / "masks" / "a.png").read_text() == "precious" and tree(folder) == {"a.png", "b.png", "c.bmp"}


def test_predictions_are_replaced_only_when_told_and_whole(net, images, run, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "images" / "deep").mkdir()
    images.append(images[0].rename(tmp_path / "images" / "deep" / "a.png"))
    run(net, images[1:], out, outputs=OUTPUTS)
    (out / "masks" / "notes.md").write_text("mine")
    before = (out / "targets.jsonl").read_bytes()
    with pytest.raises(FileExistsError, match="holds predictions; give another --out, or --overwrite"):
        run(net, images[1:], out)
    cut = images[0].with_name("cut.png")
    cut.write_bytes(images[-1].read_bytes()[:2000])
    assert run(net, [cut], out, overwrite=True)[0].error
    assert (out / "targets.jsonl").read_bytes() == before  # nothing was predicted, nothing is lost
    run(net, images[1:2], out, outputs=("masks",), overwrite=True)
    assert tree(out) == {"masks/b.png", "masks/notes.md", "predictions.json"}


def test_lines_appear_as_images_are_done_and_an_interrupt_keeps_them(net, images, tmp_path):
    out = tmp_path / "out"
    running = predict_files(Predictor(net), find_frames([images[0].parent])[0], out)
    so_far = []
    for _ in range(2):
        so_far += next(running).targets
        partial = (out / "targets.jsonl.partial").read_text()
        assert [json.loads(line) for line in partial.splitlines()] == so_far and (not partial or partial.endswith("\n"))
    running.close()
    assert tree(out) == {"masks/a.png", "masks/b.png", "overlays/a.png", "overlays/b.png", "targets.jsonl.partial", "predictions.json"}
    assert json.loads((out / "predictions.json").read_text())["complete"] is False


def test_a_full_disk_leaves_no_half_line(net, images, tmp_path):
    from python_models.inference.outputs import Writer

    frame = find_frames([images[0]])[0][0]
    writer = Writer(tmp_path / "out", ("targets",), {})
    image, logits = np.zeros((9, 9)), torch.full((9, 9), -5.0)
    logits[::3, ::3] = 5.0
    writer.write(frame, image, logits, 0.5)
    before = (tmp_path / "out" / "targets.jsonl.partial").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(OSError, match="the disk is full"):
            writer.write(frame, image, logits, 0.5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert before.count(b"\n") == 9 and (tmp_path / "out" / "targets.jsonl.partial").read_bytes() == before
