"""Labelling and regions: against scipy.ndimage, and the compiled form against the NumPy form."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from irstd_ext import _targets, _targets_numpy, targets

FORMS = {"native": _targets, "numpy": _targets_numpy}
SHAPES = st.tuples(st.integers(0, 20), st.integers(0, 90)) | st.tuples(st.just(1), st.integers(0, 200)) | st.tuples(st.integers(0, 200), st.just(1))
MASKS = SHAPES.flatmap(lambda shape: hnp.arrays(bool, shape, elements=st.booleans()))
EIGHT = np.ones((3, 3), int)
quick = settings(max_examples=120, deadline=None, derandomize=True, database=None)


def dense(seed, shape, density):
    return np.random.default_rng(seed).random(shape) < density


def check(mask):
    want, n = ndimage.label(mask, EIGHT)
    for form in FORMS.values():
        labels, stats = form.label(mask.view(np.uint8))
        assert labels.dtype == np.int32 and stats.dtype == np.int64 and stats.shape == (n, 7)
        assert np.array_equal(labels, want)
        assert np.array_equal(form.regions(mask.view(np.uint8)), stats)
        for k, row in enumerate(stats.tolist(), 1):
            rows, cols = np.nonzero(want == k)
            assert row == [len(rows), rows.sum(), cols.sum(), rows.min(), cols.min(), rows.max() + 1, cols.max() + 1]


@quick
@given(MASKS)
def test_forms_equal_scipy(mask):
    check(mask)


@pytest.mark.parametrize("density", [0.02, 0.2, 0.35, 0.45, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("shape", [(37, 61), (1, 130), (130, 1), (64, 64), (3, 33)])
def test_forms_equal_scipy_at_every_density(shape, density):
    for seed in range(3):
        check(dense(seed, shape, density))


def spiral(n):
    mask = np.zeros((n, n), bool)
    top, left, bottom, right = 0, 0, n - 1, n - 1
    while top <= bottom and left <= right:
        mask[top, left:right + 1] = mask[top:bottom + 1, right] = mask[bottom, left:right + 1] = True
        mask[top + 2:bottom + 1, left] = True
        mask[top + 2, left:left + 2] = True
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    return mask


@pytest.mark.parametrize("mask", [spiral(33), np.indices((40, 40)).sum(0) % 2 == 0, np.tile(np.arange(64) % 2 == 0, (9, 1)),
                                  np.eye(50, dtype=bool)[:, ::-1].copy(), np.tril(np.ones((30, 30), bool)) ^ np.eye(30, dtype=bool)])
def test_forms_equal_scipy_on_hard_shapes(mask):
    check(mask)


@pytest.mark.parametrize("shape", [(0, 0), (0, 7), (7, 0), (5, 9)])
def test_empty_masks_have_no_component(shape):
    labels, n = targets.label(np.zeros(shape, bool))
    assert labels.shape == shape and n == 0 and not labels.any()
    assert targets.regions(np.zeros(shape, bool)) == []


@pytest.mark.parametrize("offset", range(0, 70))
def test_one_pixel_is_found_at_every_column(offset):
    mask = np.zeros((3, 70), bool)
    mask[1, offset] = True
    assert targets.regions(mask) == [targets.Region(1.0, float(offset), (offset, 1, 1, 1), 1, 1)]


def test_diagonal_pixels_are_one_component():
    mask = np.eye(4, dtype=bool)
    assert targets.label(mask)[1] == 1
    assert ndimage.label(mask)[1] == 4  # negative control: 4-connectivity tells them apart


def test_numbers_follow_the_first_pixel():
    mask = np.zeros((4, 7), bool)
    mask[0, 6] = mask[1, 5] = mask[2, 4] = mask[3, 3] = True  # starts in row 0, far right
    mask[1, 0] = mask[3, 6] = True
    labels, n = targets.label(mask)
    assert n == 3 and labels[0, 6] == labels[3, 3] == 1 and labels[1, 0] == 2 and labels[3, 6] == 3


def test_region_fields():
    mask = np.zeros((9, 12), bool)
    mask[2, 3:6] = mask[3, 5] = mask[4, 6:8] = True
    (region,) = targets.regions(mask)
    assert (region.row, region.col) == (17 / 6, 30 / 6)
    assert region.box == (3, 2, 5, 3) and region.area == 6 and region.label == 1
    assert all(type(v) is int for v in (*region.box, region.area, region.label))


@pytest.mark.parametrize("value", [1, 2, 127, 128, 255])
def test_any_non_zero_byte_is_foreground(value):
    mask = dense(1, (20, 70), 0.3)
    for form in FORMS.values():
        assert np.array_equal(form.label(mask * np.uint8(value))[0], form.label(mask.view(np.uint8))[0])


def test_sums_do_not_overflow_32_bits():
    mask = np.ones((3000, 1500), np.uint8)
    (stats,) = _targets.regions(mask).tolist()
    assert stats == [4500000, 1500 * (2999 * 3000 // 2), 3000 * (1499 * 1500 // 2), 0, 0, 3000, 1500]
    assert stats[1] > 2**31
    assert stats == _targets_numpy.regions(mask)[0].tolist()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_input_is_not_modified_and_runs_are_equal(form):
    mask = dense(3, (50, 60), 0.4).view(np.uint8)
    before = mask.copy()
    first = form.label(mask)
    for _ in range(5):
        again = form.label(mask)
        assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert np.array_equal(mask, before)
