"""Every field of every vector file: integers equal, ratios within 1e-12, NaN where undefined."""
from pathlib import Path

import numpy as np
import pytest

from irstd_ext import targets
from python_models.metrics import CoarseSweep, IRSTDMetrics, ProtocolMetrics, pixel_auc

FOLDER = Path(__file__).parents[1] / "vectors" / "metrics"
CASES = ("area_collision", "diagonal_8conn", "dist_exactly_3", "empty_both", "empty_pred", "mixed_sizes", "rand_small")
PIXEL = {"TP", "FP", "FN", "TN", "n_gt", "pixels", "n_images", "background_pixels", "IoU", "nIoU_zero", "nIoU_skip",
         "precision", "recall", "F1", "F1_eps"}
TARGET = {"n_hit", "Pd", "n_fp_objects", "fa_pixels_exact", "fa_pixels_legacy", "Fa_exact", "Fa_legacy", "Fa_objects_per_image"}
RUNS = (
    ({"protocol": "exact"}, PIXEL | TARGET), ({"protocol": "legacy"}, PIXEL | TARGET),
    ({"protocol": "overlap"}, PIXEL | {"overlap_n_hit", "overlap_fa_pixels", "overlap_Pd", "overlap_Fa"}),
    ({"protocol": "overlap", "maxnorm": True}, {"overlap_maxnorm_Pd", "overlap_maxnorm_Fa"}),
    ({"protocol": "shooting"}, PIXEL | {"shooting_n_hit", "shooting_fa_pixels", "shooting_Pd", "shooting_Fa"}))
CURVE = ("thr", "n_hit", "fa_pixels", "fp_objects", "tp", "fp")
BUDGETS = (1, 5, 10, 50, 100, 1000)


def load(case):
    with np.load(FOLDER / f"{case}.npz") as file:
        arrays = {k: file[k] for k in file.files}
    n = int(arrays["exp_n_images"])
    expected = {k[4:]: v for k, v in arrays.items() if k.startswith("exp_")}
    return [arrays[f"score_{i}"] for i in range(n)], [arrays[f"mask_{i}"] for i in range(n)], expected


def same(got, want):
    got, want = np.asarray(got), np.asarray(want)
    if want.dtype.kind in "iu":
        return got.dtype.kind in "iu" and np.array_equal(got, want)
    return got.shape == want.shape and np.allclose(got, want, rtol=0, atol=1e-12, equal_nan=True)


def results(case):
    """Everything computed for a case: list of (field, value)."""
    scores, masks, _ = load(case)
    for options, fields in RUNS:
        metric = IRSTDMetrics(input="scores", **options)
        for score, mask in zip(scores, masks):
            metric.update(score, mask)
        computed = metric.compute()
        yield from ((f, computed[f]) for f in sorted(fields))
    sweep = CoarseSweep()
    for score, mask in zip(scores, masks):
        sweep.update(score, mask)
    yield from ((k, v) for k, v in sweep.compute().items() if k.startswith(("roc_", "sweep_")))
    curve = targets.curve(scores, masks)
    yield from ((f"curve_{f}", getattr(curve, f)) for f in CURVE)
    yield from ((f"Pd_at_Fa_{b}e-6", curve.pd_at_fa(b * 1e-6)) for b in BUDGETS)


def test_the_seven_files_are_there():
    assert sorted(p.stem for p in FOLDER.glob("*.npz")) == list(CASES)


@pytest.mark.parametrize("case", CASES)
def test_every_field(case):
    expected = load(case)[2]
    seen = set()
    for field, value in results(case):
        assert same(value, expected[field]), (field, value, expected[field])
        seen.add(field)
    assert seen == set(expected)  # no expected field is left unchecked


@pytest.mark.parametrize("case", CASES)
def test_one_pass_gives_every_protocol(case):
    scores, masks, expected = load(case)
    for options, fields in RUNS:
        metric = ProtocolMetrics(input="scores", maxnorm=options.get("maxnorm", False))
        for score, mask in zip(scores, masks):
            metric.update(score, mask)
        computed = metric.compute(options["protocol"])
        assert all(same(computed[f], expected[f]) for f in fields)


@pytest.mark.parametrize("case", CASES)
def test_area_under_the_exact_curve(case):
    scores, masks, expected = load(case)
    tp, fp = np.append(0, expected["curve_tp"]), np.append(0, expected["curve_fp"])
    twice = int(((tp[1:] + tp[:-1]) * np.diff(fp)).sum())
    want = twice / (2 * tp[-1] * fp[-1]) if tp[-1] and fp[-1] else np.nan
    assert same(pixel_auc(scores, masks), np.float64(want))
    assert tp[-1] == expected["TP"] + expected["FN"] and fp[-1] == expected["FP"] + expected["TN"]  # the point at -inf holds every pixel


def test_comparison_rejects_small_errors():
    """Negative control of `same`: a ratio off by 2e-12, an integer off by one, NaN against a number."""
    assert same(0.5 + 5e-13, np.float64(0.5)) and same(np.nan, np.float64(np.nan))
    assert not same(0.5 + 2e-12, np.float64(0.5))
    assert not same(np.nan, np.float64(0)) and not same(0.0, np.float64(np.nan))
    assert not same(4, np.int64(5)) and not same(5.0, np.int64(5))
    assert not same(np.zeros(3), np.zeros(4))


@pytest.mark.parametrize("case", CASES)
def test_logits_give_the_same_counts(case):
    scores, masks, expected = load(case)
    metric = IRSTDMetrics()
    for score, mask in zip(scores, masks):
        with np.errstate(divide="ignore"):
            logits = np.clip(np.log(score.astype(np.float64)) - np.log1p(-score.astype(np.float64)), -50, 50)
        metric.update(logits, mask)
    assert all(same(metric.compute()[f], expected[f]) for f in PIXEL | TARGET)


@pytest.mark.parametrize("case", CASES)
def test_curve_at_half_equals_the_headline(case):
    scores, masks, expected = load(case)
    curve = targets.curve(scores, masks)
    k = curve.at(0.5)
    assert curve.n_hit[k] == expected["n_hit"] and curve.fa_pixels[k] == expected["fa_pixels_exact"]
    assert curve.fp_objects[k] == expected["n_fp_objects"]
    assert (curve.tp[k], curve.fp[k]) == (expected["TP"], expected["FP"])
