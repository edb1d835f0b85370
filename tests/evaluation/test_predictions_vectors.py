"""`irstd eval --predictions` over folders written from the metric vectors: every expected figure comes back."""
import csv

import numpy as np
import pytest
from evaluation.sets import judge, vectors, write_predictions, write_set

CASES = ("area_collision", "diagonal_8conn", "dist_exactly_3", "empty_both", "empty_pred", "mixed_sizes", "rand_small")
PIXEL = ("TP", "FP", "FN", "TN", "n_gt", "pixels", "n_images", "background_pixels", "IoU", "nIoU_zero", "nIoU_skip", "precision", "recall", "F1", "F1_eps")
TARGET = ("n_hit", "Pd", "n_fp_objects", "fa_pixels_exact", "fa_pixels_legacy", "Fa_exact", "Fa_legacy", "Fa_objects_per_image")
OWN = {"exact": TARGET, "legacy": TARGET, "overlap": [f"overlap_{k}" for k in ("n_hit", "fa_pixels", "Pd", "Fa")],
       "shooting": [f"shooting_{k}" for k in ("n_hit", "fa_pixels", "Pd", "Fa")]}


def same(got, want):
    got = np.array(got, np.float64)  # null becomes NaN
    return got.shape == want.shape and np.allclose(got, want, rtol=0, atol=0 if want.dtype.kind in "iu" else 1e-12, equal_nan=True)


def check_figures(figures, expected):
    for protocol, fields in OWN.items():
        for field in (*PIXEL, *fields):
            assert same(figures[protocol][field], expected[field]), (protocol, field, figures[protocol][field], expected[field])


@pytest.mark.parametrize("case", CASES)
def test_scores_as_npy(case, tmp_path, capsys):
    scores, masks, expected = vectors(case)
    data, folder = write_set(tmp_path / "set", masks), write_predictions(tmp_path / "p", scores)
    result = judge(capsys, folder, data, "--input", "scores", "--bootstrap", 0, "--out", tmp_path / "out")
    found = result["scorers"]["p"]
    check_figures(found["figures"], expected)
    for key, value in expected.items():
        if key.startswith(("roc_", "sweep_")):
            assert same(found["sweep"][key], value), key
        elif key.startswith("Pd_at_Fa_"):
            assert same(found["pd_at_fa"][f"{float(key.removeprefix('Pd_at_Fa_')):g}"], value), key
    with open(tmp_path / "out" / "curve.csv", newline="") as file:
        points = list(csv.DictReader(file))
    for column, field in (("threshold", "thr"), ("n_hit", "n_hit"), ("fa_pixels", "fa_pixels"), ("fp_objects", "fp_objects"), ("tp", "tp"), ("fp", "fp")):
        assert same([float(p[column]) for p in points], expected[f"curve_{field}"].astype(np.float64)), column
    maxnorm = judge(capsys, folder, data, "--input", "scores", "--bootstrap", 0, "--maxnorm", "--protocol", "overlap", "--out", tmp_path / "maxnorm")
    for field in ("overlap_maxnorm_Pd", "overlap_maxnorm_Fa"):
        assert same(maxnorm["scorers"]["p"]["figures"]["overlap"][field], expected[field]), field


def test_the_comparison_rejects_small_errors():
    assert same(None, np.float64(np.nan)) and same(0.5 + 5e-13, np.float64(0.5)) and same([1, 2], np.array([1, 2]))
    assert not same(0.5 + 2e-12, np.float64(0.5)) and not same(0.0, np.float64(np.nan)) and not same([1, 3], np.array([1, 2]))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("full", [1, 255])
def test_masks_as_png(case, full, tmp_path, capsys):
    scores, masks, expected = vectors(case)
    folder = write_predictions(tmp_path / "p", [((s > 0.5) * full).astype(np.uint8) for s in scores], "png", "_pred")
    result = judge(capsys, folder, write_set(tmp_path / "set", masks), "--suffix", "_pred", "--out", tmp_path / "out")
    assert result["input"] == "mask"
    check_figures(result["scorers"]["p"]["figures"], expected)


def test_logits_as_npy(tmp_path, capsys):
    scores, masks, expected = vectors("rand_small")
    with np.errstate(divide="ignore"):
        logits = [np.clip(np.log(s / (1 - s.astype(np.float64))), -1e9, 1e9) for s in scores]
    result = judge(capsys, write_predictions(tmp_path / "p", logits), write_set(tmp_path / "set", masks), "--input", "logits", "--out", tmp_path / "out")
    check_figures(result["scorers"]["p"]["figures"], expected)
