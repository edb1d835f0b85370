"""One pass over made images: every protocol, rows and objects that add up, curve, ROC and AUC at the headline, intervals, sizes, maxnorm."""
import json
import math

import numpy as np
import pytest
import torch

from irstd_ext import targets
from python_models.evaluation import Rules, Source, assess, evaluate
from python_models.evaluation.results import as_json, roc, write_results
from python_models.evaluation.text import tables
from python_models.metrics import IRSTDMetrics, pixel_auc, target_scr


def samples(count=5, seed=0, sizes=((40, 48), (33, 31), (64, 64)), empty=()):
    """Noise with square targets of 3 px, of which the last of each image is faint."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(count):
        h, w = sizes[i % len(sizes)]
        image, mask = rng.normal(0.3, 0.05, (h, w)), np.zeros((h, w))
        for k in range(0 if i in empty else 3):
            row, col = 5 + 9 * k, int(rng.integers(4, w - 6))
            image[row : row + 3, col : col + 3] += (0.5, 0.3, 0.12)[k]
            mask[row : row + 3, col : col + 3] = 1
        image = np.clip(image, 0, 1).astype(np.float32)
        out.append({"image": torch.from_numpy(image)[None], "mask": torch.from_numpy(mask.astype(np.float32))[None], "name": f"n{i}", "path": f"set/n{i}.png"})
    return out


SOURCE = Source("bright", lambda sample, image: 30 * (image[0] - 0.44))


@pytest.fixture(scope="module")
def found():
    return assess(SOURCE, samples(), Rules(bootstrap=200))


def test_figures_are_those_of_the_metric_of_each_protocol(found):
    for protocol, figures in found.figures.items():
        metric = IRSTDMetrics(protocol)
        for s in samples():
            metric.update(SOURCE.scores(s, s["image"]), s["mask"][0])
        assert figures == metric.compute()
    assert list(found.figures) == list(targets.PROTOCOLS)
    assert evaluate(lambda image: SOURCE.scores(None, image), samples())["exact"] == found.figures["exact"]
    assert 0 < found.figures["exact"]["n_hit"] < found.figures["exact"]["n_gt"] and found.figures["exact"]["n_fp_objects"] > 0  # nothing is trivial here


def test_rows_add_up_to_the_figures(found):
    total = {k: sum(r[k] for r in found.rows) for k in found.rows[0] if k not in ("scorer", "name", "path", "IoU")}
    exact = found.figures["exact"]
    for name in ("TP", "FP", "FN", "n_gt", "n_hit", "n_fp_objects", "fa_pixels"):
        assert total[name] == exact[name]
    assert total["fa_pixels_legacy"] == found.figures["legacy"]["fa_pixels"]
    for protocol in ("overlap", "shooting"):
        assert (total[f"{protocol}_n_hit"], total[f"{protocol}_fa_pixels"]) == (found.figures[protocol]["n_hit"], found.figures[protocol]["fa_pixels"])
    assert sum(r["height"] * r["width"] for r in found.rows) == exact["pixels"]
    assert math.isclose(sum(r["IoU"] for r in found.rows) / len(found.rows), exact["nIoU"])
    assert [r["name"] for r in found.rows] == [s["name"] for s in samples()]


def test_objects_are_the_targets_and_the_false_alarms(found):
    exact = found.figures["exact"]
    kinds = [o["kind"] for o in found.objects]
    assert (kinds.count("hit"), kinds.count("miss"), kinds.count("false_alarm")) == (exact["n_hit"], exact["n_gt"] - exact["n_hit"], exact["n_fp_objects"])
    assert sum(o["area"] for o in found.objects if o["kind"] == "false_alarm") == exact["fa_pixels"]
    for o in found.objects:
        s = next(s for s in samples() if s["name"] == o["image"])
        x, y, w, h = o["box"]
        assert (o["score"] > 0.5) == (o["kind"] != "miss") and ("found_box" in o) == (o["kind"] == "hit")
        if o["kind"] == "false_alarm":
            assert "scr" not in o and o["score"] == torch.sigmoid(SOURCE.scores(s, s["image"])[y : y + h, x : x + w].double().max()).item()
        else:
            region = next(r for r in targets.regions(s["mask"][0].bool()) if r.box == tuple(o["box"]))
            assert (o["row"], o["col"], o["area"]) == (region.row, region.col, 9) == (y + 1, x + 1, w * h)
            assert o["scr"] == target_scr(s["image"][0], s["mask"][0], region)


def test_an_image_of_noise_lists_its_highest_false_alarms(monkeypatch):
    monkeypatch.setattr("python_models.evaluation.assessment.LISTED", 7)
    noise = Source("noise", lambda sample, image: torch.from_numpy(np.random.default_rng(len(image[0])).normal(0, 1, image[0].shape)))
    found = assess(noise, samples(2), Rules(bootstrap=0))
    listed = [o for o in found.objects if o["kind"] == "false_alarm"]
    assert len(listed) == 14 and len(listed) + found.unlisted == found.figures["exact"]["n_fp_objects"]
    peak = max(o["score"] for o in listed if o["image"] == "n0")
    assert peak == torch.sigmoid(noise.scores(None, samples(1)[0]["image"]).max()).item()


def test_breakdown_counts_every_target(found):
    exact = found.figures["exact"]
    for bins in found.breakdown.values():
        assert (sum(b["n_gt"] for b in bins), sum(b["n_hit"] for b in bins)) == (exact["n_gt"], exact["n_hit"])


def headline(found, threshold=None):
    c, exact, point = found.curve, found.figures["exact"], found.point if threshold is None else threshold
    got = [int(getattr(c, k)[point]) for k in ("n_hit", "fa_pixels", "fp_objects", "tp", "fp")]
    return got == [exact[k] for k in ("n_hit", "fa_pixels", "n_fp_objects", "TP", "FP")]


@pytest.mark.parametrize("threshold", [0.5, 0.31, 0.9])
@pytest.mark.parametrize("limit", [100_000, 50])
@pytest.mark.parametrize("fixed", [None, 256])
def test_the_curve_passes_through_the_headline(threshold, limit, fixed, monkeypatch):
    monkeypatch.setattr("python_models.evaluation.assessment.EXACT_SCORES", limit, raising=True)
    found = assess(SOURCE, samples(), Rules(threshold=threshold, bootstrap=0, fixed_pixels=fixed))
    assert found.curve_scores == ("exact" if limit > 50 else "rounded")
    assert headline(found) and not headline(found, found.point + 1) and not headline(found, found.point - 1)
    assert math.isclose(found.curve.fa[found.point], found.figures["exact"]["Fa"]) and math.isclose(found.curve.pd[found.point], found.figures["exact"]["Pd"])
    fpr, tpr = roc(found.curve)
    assert math.isclose(tpr[found.point], found.figures["exact"]["recall"]) and (fpr[-1], tpr[-1]) == (1, 1)


@pytest.mark.parametrize("limit", [100_000, 50])
def test_auc_and_exact_curve_are_those_of_the_whole_set(limit, monkeypatch):
    monkeypatch.setattr("python_models.evaluation.assessment.EXACT_SCORES", limit)
    found = assess(SOURCE, samples(), Rules(bootstrap=0))
    scores, masks = [SOURCE.scores(s, s["image"]) for s in samples()], [s["mask"][0] for s in samples()]
    assert found.auc == pixel_auc(scores, masks)  # of every distinct score, whatever the curve has
    whole = targets.curve([x.numpy() for x in scores], [m.numpy() > 0.5 for m in masks])
    assert (len(found.curve.thr) == len(whole.thr)) == (limit > 50)
    at = [whole.at(t) for t in found.curve.thr]
    assert np.array_equal(whole.n_hit[at], found.curve.n_hit) and np.array_equal(whole.fa_pixels[at], found.curve.fa_pixels)


def test_order_changes_no_figure(found):
    other = assess(SOURCE, samples()[::-1], Rules(bootstrap=0))
    assert (other.figures, other.auc, other.breakdown) == (found.figures, found.auc, found.breakdown)
    assert np.array_equal(other.curve.n_hit, found.curve.n_hit)


def test_intervals_are_seeded_and_hold_the_figure(found):
    again, other = (assess(SOURCE, samples(), Rules(bootstrap=200, seed=seed)) for seed in (0, 1))
    assert again.intervals == found.intervals != other.intervals
    for protocol, fields in found.intervals.items():
        assert {"IoU", "nIoU", "F1", "precision", "recall", "Pd", "Fa"} <= set(fields)
        for field, (low, high) in fields.items():
            assert low <= found.figures[protocol][field] <= high
    assert assess(SOURCE, samples(), Rules(bootstrap=0)).intervals == {}


def test_both_forms_of_niou_where_an_image_has_no_target():
    quiet = Source("quiet", lambda sample, image: 20 * sample["mask"][0] - 10)
    found = assess(quiet, samples(empty=(1,)), Rules(bootstrap=50))
    exact = found.figures["exact"]
    assert (exact["nIoU_zero"], exact["nIoU_skip"], exact["nIoU"]) == (0.8, 1.0, 0.8)
    assert assess(quiet, samples(empty=(1,)), Rules(empty="skip", bootstrap=0)).figures["exact"]["nIoU"] == 1
    text = tables([found])
    assert "nIoU zero %" in text and "nIoU skip %" in text and "100.00 [100.00, 100.00]" in text
    assert math.isnan(found.rows[1]["IoU"]) and "nIoU zero" not in tables([assess(quiet, samples(), Rules(bootstrap=0))])


def test_a_set_without_targets():
    found = assess(SOURCE, samples(empty=range(5)), Rules(bootstrap=20))
    exact = found.figures["exact"]
    assert math.isnan(exact["Pd"]) and exact["Fa"] > 0 and math.isnan(found.auc) and all(map(math.isnan, found.pd_at_fa.values()))
    assert "nan" in tables([found])
    silent = assess(Source("silent", lambda s, image: image[0] * 0 - 1), samples(empty=range(5)), Rules(bootstrap=20))
    assert math.isnan(silent.figures["exact"]["IoU"]) and silent.objects == [] and tables([silent])


def test_maxnorm_gives_every_image_a_detection():
    weak = Source("weak", lambda sample, image: 0.2 * image[0], "scores")
    plain, normed = (assess(weak, samples(empty=(0,)), Rules(maxnorm=m, bootstrap=0)) for m in (False, True))
    assert plain.figures["exact"]["TP"] == 0 and all(r["TP"] + r["FP"] > 0 for r in normed.rows) and headline(normed)
    metric = IRSTDMetrics("overlap", input="scores", maxnorm=True)
    for s in samples(empty=(0,)):
        metric.update(weak.scores(s, s["image"]), s["mask"][0])
    assert normed.figures["overlap"] == metric.compute()
    logits = assess(Source("weak", lambda s, image: torch.logit((0.2 * image[0]).double())), samples(empty=(0,)), Rules(maxnorm=True, bootstrap=0))
    assert logits.figures["exact"]["TP"] == normed.figures["exact"]["TP"]


def test_sizes():
    found = assess(SOURCE, samples(), Rules(eval_size=32, bootstrap=0))
    assert found.figures["exact"]["pixels"] == 5 * 32 * 32 and {r["height"] for r in found.rows} == {32}
    one = {"image": torch.zeros(1, 60, 60), "mask": torch.zeros(1, 60, 60), "name": "x", "path": "x"}
    one["mask"][0, 20, 20] = 1
    pixels = {how: assess(SOURCE, [one], Rules(eval_size=15, mask_resize=how, bootstrap=0)).curve.gt_pixels for how in ("nearest", "area")}
    assert pixels == {"nearest": 0, "area": 1}  # the centre of the cell is another pixel


@pytest.mark.parametrize("kind", ["nan", "inf"])
def test_scores_that_are_not_finite_name_the_image(kind):
    def scorer(sample, image):
        out = image[0] - 1  # logits
        out[3, 4] = float(kind) if sample["name"] == "n2" else 0
        return out

    with pytest.raises(ValueError, match=r"^eval: set/n2.png: scores must be finite, got 1 of 4096 that are not$"):
        assess(Source("broken", scorer), samples())
    with pytest.raises(ValueError, match="n0.png: scores must be finite, got 1920 of 1920"):
        evaluate(lambda image: image[0] * float(kind), samples())


@pytest.mark.parametrize("options,words", [
    ({"threshold": 0.0}, "threshold must lie in (0, 1), got 0.0"), ({"threshold": 1.0}, "threshold"), ({"eval_size": 0}, "eval_size must be >= 1, got 0"),
    ({"fixed_pixels": 0}, "fixed_pixels must be >= 1"), ({"bootstrap": -1}, "bootstrap must be >= 0"), ({"seed": -1}, "seed must be >= 0"),
    ({"protocols": ("exakt",)}, "protocol must be among exact, legacy, overlap, shooting, got exakt"), ({"protocols": ()}, "got none"),
])
def test_rules_are_checked(options, words):
    with pytest.raises(ValueError) as error:
        Rules(**options)
    assert words in str(error.value)


def test_json_has_no_nan_and_curve_files_agree(found, tmp_path):
    write_results(tmp_path, as_json({"data": "d"}, [found]), [found])
    text = (tmp_path / "result.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["scorers"]["bright"]["figures"]["exact"]["n_hit"] == found.figures["exact"]["n_hit"]
    head, *points = (tmp_path / "curve.csv").read_text().splitlines()
    assert head == "scorer,threshold,logit,Pd,Fa,n_hit,fa_pixels,fp_objects,tp,fp" and len(points) == len(found.curve.thr)
    middle = points[found.point].split(",")
    assert float(middle[1]) <= 0.5 and float(middle[2]) <= 0 and int(middle[5]) == found.figures["exact"]["n_hit"]
    assert points[-1].split(",")[1:3] == ["-inf", "-inf"]
