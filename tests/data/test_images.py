"""Exact reading of every format, and the rules of scale. TIFF has its own file, and so have broken files."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from python_models.data import DataError, image_size, page_count, read_image, read_raw

RAMP8 = np.arange(256, dtype=np.uint8).reshape(16, 16)
RAMP16 = (np.arange(65536, dtype=np.uint32).reshape(256, 256)).astype(np.uint16)


def expected(values, scale):
    return (np.asarray(values, np.float64) / scale).astype(np.float32)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_8bit_grey_is_exact(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RAMP8).save(path)
    got = read_image(path)
    assert got.dtype == np.float32 and np.array_equal(got, expected(RAMP8, 255))
    assert image_size(path) == (16, 16)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16bit_round_trip_is_exact(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RAMP16).save(path)
    assert np.array_equal(read_raw(path).values, RAMP16)
    got = read_image(path)
    assert np.array_equal(got, expected(RAMP16, 65535))
    assert len(np.unique(got)) == 65536


def test_14bit_data_wants_its_full_scale(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 16383]], np.uint16)).save(path)
    assert read_image(path, full_scale=16383).tolist() == [[0.0, 1.0]]
    with pytest.raises(DataError, match=r"a.png: values must lie in 0..1000 .*got 0..16383"):
        read_image(path, full_scale=1000)


@pytest.mark.parametrize("bits", [8, 12, 14, 16])
def test_every_level_of_every_depth_survives(tmp_path, bits):
    """All 2**bits levels, in a 16-bit file that holds fewer bits: distinct, exact, and back to the same integers."""
    levels = (1 << bits) - 1
    values = np.arange(1 << bits).reshape(-1, 16).astype(np.uint8 if bits == 8 else np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    got = read_image(tmp_path / "a.png", full_scale=levels)
    assert np.array_equal(got, expected(values, levels)) and np.array_equal(np.rint(got.astype(np.float64) * levels), values)
    top = (values >> max(0, bits - 8)) / 255
    assert bits == 8 or len(np.unique(top)) < len(np.unique(got)), "eight bits of it would lose levels"


def test_a_full_scale_the_type_cannot_reach_is_refused(tmp_path):
    """Eight-bit images among those of 14 bits would be black without a word."""
    Image.fromarray(RAMP8).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a.png: full_scale \(--full-scale\) must be <= 255, the largest value of its type, got 16383"):
        read_image(tmp_path / "a.png", full_scale=16383)


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_full_scale_is_checked(tmp_path, bad):
    Image.fromarray(RAMP8).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="full_scale must be > 0 and finite"):
        read_image(tmp_path / "a.png", full_scale=bad)


def test_colour_is_averaged_and_alpha_dropped(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    alpha = np.random.default_rng(1).integers(0, 256, (7, 5, 1), np.uint8)
    mean = rgb.astype(float).sum(axis=2) / 3 / 255
    for name, values in (("rgb", rgb), ("rgba", np.concatenate([rgb, alpha], axis=2))):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
        np.testing.assert_allclose(read_image(tmp_path / f"{name}.png"), mean, rtol=0, atol=1e-7)
    luma = np.asarray(Image.fromarray(rgb).convert("L")) / 255
    assert abs(luma - mean).max() > 0.01, "the tolerance must reject the luma formula"


def test_grey_stored_as_colour_equals_grey(tmp_path):
    Image.fromarray(np.stack([RAMP8] * 3, axis=2)).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), expected(RAMP8, 255))


def test_palette_is_looked_up(tmp_path):
    indexed = Image.new("P", (2, 2))
    indexed.putpalette([0, 0, 0, 255, 255, 255, 30, 60, 90] + [0] * 759)
    indexed.putdata([0, 1, 2, 1])
    indexed.save(tmp_path / "a.png")
    np.testing.assert_allclose(read_image(tmp_path / "a.png") * 255, [[0, 255], [60, 255]], atol=1e-4)


def test_one_bit_is_full_scale_one(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").tolist() == [[1.0, 0.0]]


def test_jpeg_is_what_pillow_decodes(tmp_path):
    Image.fromarray(RAMP8).save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        assert np.array_equal(read_image(tmp_path / "a.jpg"), expected(np.asarray(image), 255))


def test_float_must_lie_in_the_unit_interval(tmp_path):
    values = np.array([[0.0, 0.25], [0.5, 1.0]], np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values)
    np.save(tmp_path / "a.npy", values.astype(np.float64))
    assert np.array_equal(read_image(tmp_path / "a.tif"), values)
    assert np.array_equal(read_image(tmp_path / "a.npy"), values)
    tifffile.imwrite(tmp_path / "b.tif", values * 300)
    with pytest.raises(DataError, match=r"b.tif: values must lie in 0..1 .*got 0..300"):
        read_image(tmp_path / "b.tif")
    assert np.array_equal(read_image(tmp_path / "b.tif", full_scale=300), values)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1])
def test_values_outside_are_refused(tmp_path, value):
    np.save(tmp_path / "a.npy", np.array([[0.5, value]]))
    with pytest.raises(DataError, match="a.npy: (holds values that are not finite|values must lie in)"):
        read_image(tmp_path / "a.npy")


def test_32bit_integers_need_a_full_scale(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0, 70000]], np.int32))
    with pytest.raises(DataError, match="int32 values have no known full scale"):
        read_image(tmp_path / "a.npy")
    assert read_image(tmp_path / "a.npy", full_scale=140000).tolist() == [[0.0, 0.5]]


def test_big_endian_is_read_as_numbers(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0, 258]], ">u2"))
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 258]], np.uint16), byteorder=">")
    for name in ("a.npy", "a.tif"):
        assert np.array_equal(read_image(tmp_path / name), expected([[0, 258]], 65535))


def test_the_suffix_does_not_matter(tmp_path):
    tifffile.imwrite(tmp_path / "a.png", RAMP16)
    assert np.array_equal(read_raw(tmp_path / "a.png").values, RAMP16)


def png(values, colour, interlace=False, cut=0):
    """A 16-bit PNG of (H, W, C) in which the rows take all five filters in turn, less the last ``cut`` bytes of them."""
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    height, width = values.shape[:2]
    passes = [(0, 0, 1, 1)] if not interlace else [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b"".join(filtered(values[y::dy, x::dx]) for x, y, dx, dy in passes)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows[: len(rows) - cut])) + chunk(b"IEND", b"")


def filtered(values):
    if not values.size:
        return b""
    step = values.shape[2] * 2
    data = values.astype(">u2").reshape(len(values), -1).view(np.uint8).astype(int)
    above, rows = np.zeros_like(data[0]), b""
    for number, row in enumerate(data):
        left, corner = (np.concatenate([np.zeros(step, int), x[:-step]]) for x in (row, above))
        guess = left + above - corner
        near = np.abs(np.stack([left, above, corner]) - guess)
        paeth = np.choose(near.argmin(axis=0), [left, above, corner])
        kind = number % 5
        rows += bytes([kind]) + ((row - [0, left, above, (left + above) // 2, paeth][kind]) % 256).astype(np.uint8).tobytes()
        above = row
    return rows


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("channels, colour", [(2, 4), (3, 2), (4, 6)])
def test_16bit_colour_png_is_exact(tmp_path, channels, colour, interlace):
    values = np.random.default_rng(channels).integers(0, 65536, (23, 17, channels)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(png(values, colour, interlace))
    raw, grey = read_raw(tmp_path / "a.png"), values[..., 0] if channels == 2 else values[..., :3]
    assert raw.values.dtype == np.uint16 and raw.full_scale == 65535 and np.array_equal(raw.values, grey)
    mean = grey if channels == 2 else grey.astype(float).sum(axis=2) / 3
    assert np.array_equal(read_image(tmp_path / "a.png"), (mean / 65535).astype(np.float32)) and image_size(tmp_path / "a.png") == (23, 17)
    if channels > 2:
        with Image.open(tmp_path / "a.png") as image:
            assert not np.array_equal(np.asarray(image).astype(np.uint16)[..., :3] * 257, grey), "Pillow alone keeps eight bits"


@pytest.mark.parametrize("interlace", [False, True])
def test_rows_are_counted_to_the_byte(tmp_path, interlace):
    """A black image gives no other sign that its rows end early."""
    for height, width in ((2, 2), (2, 5), (5, 2), (7, 9), (16, 3), (23, 17)):
        whole = png(np.zeros((height, width, 3)), 2, interlace)
        (tmp_path / "a.png").write_bytes(whole)
        assert not read_raw(tmp_path / "a.png").values.any()
        total = len(zlib.decompress(whole[41 : 41 + int.from_bytes(whole[33:37], "big")]))
        first = 1 + 6 * (-(-width // 8) if interlace else width)
        (tmp_path / "a.png").write_bytes(png(np.zeros((height, width, 3)), 2, interlace, cut=total - first))
        with pytest.raises(DataError, match=f"the file ends after {first} of {total} bytes of its rows"):
            read_raw(tmp_path / "a.png")


def test_saturated_pixels_are_read_and_values_above_are_not(tmp_path):
    values = np.full((8, 8), 4095, np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", full_scale=4095).min() == 1.0
    values[0, 0] += 1
    Image.fromarray(values).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="must lie in 0..4095 .*got 4095..4096"):
        read_image(tmp_path / "a.png", full_scale=4095)


@pytest.mark.parametrize("mode", ["LA", "CMYK", "RGBA", "P"])
def test_other_modes_of_pillow(tmp_path, mode):
    grey = Image.fromarray(RAMP8)
    name = "a.jpg" if mode == "CMYK" else "a.png"
    (grey.convert("RGB").convert(mode) if mode != "P" else grey.convert("P")).save(tmp_path / name, quality=100)
    np.testing.assert_allclose(read_image(tmp_path / name) * 255, RAMP8, rtol=0, atol=2.5 if mode == "CMYK" else 1e-4)
    assert page_count(tmp_path / name) == 1 and image_size(tmp_path / name) == (16, 16)


def test_page_0_of_a_file_without_pages(tmp_path):
    Image.fromarray(RAMP8).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", page=0), read_image(tmp_path / "a.png"))
    with pytest.raises(DataError, match="a.png: page 1 was asked for but only a TIFF has pages"):
        read_image(tmp_path / "a.png", page=1)
