"""The gallery: which misses and false alarms, cut out where they are, with their boxes; images that are gone."""
import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from python_models.report.gallery import INNER, LARGEST, MARGIN, SIDE, galleries
from python_models.report.read import read_evaluation
from python_models.viz import to_grey8
from report.make_run import make_evaluation, make_images


def pixels(crop) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(crop.picture.partition(",")[2]))))


def judged(folder, images, targets=None, **facts):
    """An evaluation of ``images``; ``targets`` in place of those of make_evaluation."""
    make_evaluation(folder, images)
    if targets is not None:
        (folder / "targets.jsonl").write_text("".join(json.dumps({"scorer": "sgem_unet", "image": "0", "path": str(images[0]), **t}) + "\n" for t in targets))
    evaluation = read_evaluation(folder)
    return replace(evaluation, facts={**evaluation.facts, **facts})


def alarm(area, score, box=(30, 20, 3, 3), kind="false_alarm", **more):
    return {"kind": kind, "row": 21.0, "col": 31.0, "box": list(box), "area": area, "score": score, **more}


def test_a_crop_shows_the_pixels_around_its_target_and_every_box(tmp_path):
    images = make_images(tmp_path / "images")
    misses, alarms = galleries(judged(tmp_path / "e", images), "sgem_unet", 12)
    assert (misses.total, alarms.total) == (4, 2) and [c.target.image for c in alarms.crops] == ["2", "0"]
    crop = next(c for c in alarms.crops if c.target.image == "0")
    whole = np.asarray(Image.open(images[0])).astype(np.float32) / 255
    top, left = 64 - SIDE, 80 - SIDE  # the target is near the lower right corner: the window stays inside
    assert (crop.width, crop.height) == (SIDE, SIDE) and np.array_equal(pixels(crop), to_grey8(whole[top:, left:]))
    assert not np.array_equal(pixels(crop), to_grey8(whole[top - 1 : -1, left:]))
    true, subject = crop.boxes
    assert (subject.role, subject.subject, true.role, true.subject) == ("false_alarm", True, "hit", False)
    assert (subject.x, subject.y, subject.w, subject.h) == (60 - left - MARGIN, 50 - top - MARGIN, 4 + 2 * MARGIN, 2 + 2 * MARGIN)
    x, y = int(subject.x + subject.w / 2), int(subject.y + subject.h / 2)
    assert pixels(crop)[y, x] == 255


def test_the_found_box_of_a_hit_is_drawn_beside_the_true_one(tmp_path):
    targets = [alarm(9, 0.9, kind="hit", found_box=[29, 20, 5, 3]), alarm(4, 0.8, box=(20, 20, 2, 2))]
    crop = galleries(judged(tmp_path / "e", make_images(tmp_path / "images", 1), targets), "sgem_unet", 3)[0].crops[0]
    true, found, _ = crop.boxes
    assert [b.role for b in crop.boxes] == ["hit", "found", "false_alarm"] and (found.w, true.w) == (5 + 2 * INNER, 3 + 2 * MARGIN)


def test_misses_come_by_scr_and_false_alarms_by_area_then_by_score(tmp_path):
    images = make_images(tmp_path / "images", 1)
    targets = [alarm(a, s) for a, s in ((5, 0.9), (90, 0.6), (7, 0.99), (50, 0.7), (6, 0.8))]
    targets += [alarm(9, 0.1, kind="miss", scr=scr) for scr in (2.0, 8.0, None, 5.0)]
    misses, largest, certain = galleries(judged(tmp_path / "e", images, targets), "sgem_unet", 3)
    assert [c.target.scr for c in misses.crops] == [8.0, 5.0, 2.0] and misses.total == 4
    assert [c.target.area for c in largest.crops] == [90, 50] and [c.target.score for c in certain.crops] == [0.99]
    assert largest.total == certain.total == 5


def test_another_scorer_has_its_own_gallery(tmp_path):
    assert galleries(judged(tmp_path / "e", make_images(tmp_path / "images")), "top-hat", 12) == []


def test_a_large_target_keeps_its_shape_in_a_small_picture(tmp_path):
    image = tmp_path / "0.png"
    Image.fromarray(np.tile(np.arange(0, 240, dtype=np.uint8), (400, 2))[:, :470]).save(image)
    crop = galleries(judged(tmp_path / "e", [image], [alarm(9000, 0.9, box=(100, 100, 200, 120))]), "sgem_unet", 2)[0].crops[0]
    assert (crop.width, crop.height) == (400, 400) and pixels(crop).shape == (LARGEST, LARGEST) and crop.boxes[0].w == 200 + 2 * MARGIN


def test_boxes_are_drawn_at_the_size_that_was_judged(tmp_path):
    images = make_images(tmp_path / "images", 1, size=(128, 160))
    for size in (64, "64x64"):
        crop = galleries(judged(tmp_path / f"e{size}", images, [alarm(9, 0.9, box=(50, 50, 14, 14))], eval_size=size), "sgem_unet", 2)[0].crops[0]
        assert (crop.width, crop.height, crop.problem) == (SIDE, SIDE, None)
        assert crop.boxes[0].x == 50 - 16 - MARGIN
    outside = galleries(judged(tmp_path / "native", images, [alarm(9, 0.9, box=(150, 50, 14, 14))]), "sgem_unet", 2)[0].crops[0]
    assert "the image is 128x160 now and does not hold the box" in outside.problem


def test_images_that_moved_or_broke_are_named_and_the_page_is_made(run, reported):
    images = sorted((run.parent / "a-images").iterdir())
    images[0].unlink()
    images[1].write_text("no image")
    page = reported()
    assert len(page.all("image")) == 6 - 1 - 2 and page.words.count(str(images[0])) == 1 and page.words.count(str(images[1])) == 2
    for path in images[2:]:
        path.unlink()
    assert not reported().all("image")


@pytest.mark.parametrize("count,pictures", [(0, 0), (1, 2), (2, 4), (100, 6)])
def test_the_gallery_is_as_long_as_wanted(reported, count, pictures):
    assert len(reported(gallery=count).all("image")) == pictures


def test_a_thousand_errors_make_no_larger_page(run, reported):
    small = len(reported().html)
    path = run / "eval/Small-synth-test/targets.jsonl"
    line = json.loads(path.read_text().splitlines()[1])
    path.write_text("".join(json.dumps({**line, "kind": kind, "row": i}) + "\n" for i in range(1000) for kind in ("miss", "false_alarm")))
    page = reported()
    assert len(page.all("image")) == 24 and len(page.all("rect")) < 24 * 70 and len(page.html) < small + 24 * 14_000
