"""The half-scale rule, and the size rule of a mask that does not fit."""

import numpy as np
import pytest
from PIL import Image

from python_models.data import DataError, binarise, read_mask
from python_models.data.images import RawImage
from python_models.data.masks import resize_nearest, same_aspect


@pytest.mark.parametrize("values, full, foreground", [
    (np.array([[0, 127, 128, 255]], np.uint8), 255, [[0, 0, 1, 1]]),
    (np.array([[0, 32767, 32768, 65535]], np.uint16), 65535, [[0, 0, 1, 1]]),
    (np.array([[0.0, 0.5, 0.51, 1.0]], np.float32), None, [[0, 0, 1, 1]]),
    (np.array([[False, True]]), 1, [[0, 1]]),
])
def test_half_scale_rule(values, full, foreground):
    assert binarise(RawImage(values, full, "")).values.astype(int).tolist() == foreground


@pytest.mark.parametrize("rule, foreground", [("binarise", [0, 0, 0, 1, 1, 1]), ("strict", [0, 0, 0, 1, 1, 1]), ("full", [0, 0, 0, 0, 0, 1]),
                                              ("nonzero", [0, 1, 1, 1, 1, 1])])
def test_named_rules(rule, foreground):
    values = np.array([[0, 1, 127, 128, 254, 255]], np.uint8)
    for raw in (RawImage(values, 255, ""), RawImage((values / 255).astype(np.float32), None, ""), RawImage(values.astype(np.uint16) * 257, 65535, "")):
        assert binarise(raw, rule=rule).values.astype(int).tolist() == [foreground]
    one_bit = np.array([[False, True]])
    assert np.array_equal(binarise(RawImage(one_bit, 1, ""), rule=rule).values, one_bit)


def test_full_is_what_a_cast_to_integers_gives():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    cast = (values / 255).astype(np.int64)
    assert np.array_equal(binarise(RawImage(values, 255, ""), rule="full").values, cast == 1)
    assert not np.array_equal(binarise(RawImage(values, 255, "")).values, cast == 1)


def test_unknown_rule_is_one_line():
    with pytest.raises(DataError, match="rule must be one of binarise, strict, full, nonzero, got 'half'"):
        binarise(RawImage(np.zeros((2, 2), np.uint8), 255, ""), rule="half")


def test_grey_and_faint_are_told_apart():
    kinds = {}
    for name, values in {"binary": [0, 255], "empty": [0, 0], "grey": [0, 254], "faint": [0, 1]}.items():
        mask = binarise(RawImage(np.array([values], np.uint8), 255, ""))
        kinds[name] = (mask.grey, mask.faint)
    assert kinds == {"binary": (False, False), "empty": (False, False), "grey": (True, False), "faint": (True, True)}


def test_colour_palette_and_alpha_masks(tmp_path):
    square = np.zeros((6, 6), np.uint8)
    square[2:4, 2:5] = 255
    opaque = np.full_like(square, 255)
    Image.fromarray(np.stack([square] * 3, axis=2)).save(tmp_path / "rgb.png")
    Image.fromarray(np.stack([square] * 3 + [opaque], axis=2)).save(tmp_path / "rgba.png")
    Image.fromarray(square).convert("P").save(tmp_path / "p.png")
    Image.fromarray(square > 0).save(tmp_path / "one.png")
    for name in ("rgb", "rgba", "p", "one"):
        mask = read_mask(tmp_path / f"{name}.png")
        assert np.array_equal(mask.values, square > 0) and not mask.grey, name


def test_values_above_full_scale_are_refused():
    with pytest.raises(DataError, match="mask values must lie in 0..1, got 0..255"):
        binarise(RawImage(np.array([[0.0, 255.0]]), None, ""), "m.tif")


def test_resize_nearest_takes_the_pixel_under_the_centre():
    values = np.arange(12).reshape(3, 4)
    assert np.array_equal(resize_nearest(values, (3, 4)), values)
    assert np.array_equal(resize_nearest(values, (6, 8)), values.repeat(2, 0).repeat(2, 1))
    assert resize_nearest(values, (1, 2)).tolist() == [[5, 7]]


def test_aspect_rule():
    assert same_aspect((220, 325), (400, 592))
    assert same_aspect((100, 100), (200, 201)) and not same_aspect((100, 100), (200, 203))
    assert not same_aspect((100, 200), (200, 100))
