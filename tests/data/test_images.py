"""Exact reading of every format, and one line for every broken file."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from python_models.data import DataError, image_size, read_image, read_raw

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


@pytest.mark.parametrize("bad", [0, -1, float("nan")])
def test_full_scale_is_checked(tmp_path, bad):
    Image.fromarray(RAMP8).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="full_scale must be > 0"):
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


def test_tiff_pages_are_chosen(tmp_path):
    stack = np.stack([RAMP16[:8, :8] + k for k in range(3)])
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    assert np.array_equal(read_raw(tmp_path / "a.tif", page=2).values, stack[2])
    with pytest.raises(DataError, match="a.tif: holds 3 pages, choose one with page="):
        read_image(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"page must be in 0..2, got 3"):
        read_image(tmp_path / "a.tif", page=3)


def test_compressed_and_colour_tiff(tmp_path):
    Image.fromarray(RAMP16).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    assert np.array_equal(read_raw(tmp_path / "lzw.tif").values, RAMP16)
    rgb = np.random.default_rng(0).integers(0, 65536, (5, 6, 3)).astype(np.uint16)
    for name, planar in (("chunky", "contig"), ("planes", "separate")):
        values = rgb if planar == "contig" else np.moveaxis(rgb, 2, 0).copy()
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric="rgb", planarconfig=planar)
        np.testing.assert_allclose(read_image(tmp_path / f"{name}.tif"), rgb.mean(axis=2) / 65535, atol=1e-7)


def test_white_is_zero_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RAMP8, photometric="miniswhite")
    assert np.array_equal(read_image(tmp_path / "a.tif"), expected(255 - RAMP8.astype(int), 255))


def test_the_suffix_does_not_matter(tmp_path):
    tifffile.imwrite(tmp_path / "a.png", RAMP16)
    assert np.array_equal(read_raw(tmp_path / "a.png").values, RAMP16)


def png(width, height, depth, colour, rows=b""):
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def whole_png(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(tmp_path / "whole.png")
    return (tmp_path / "whole.png").read_bytes()


@pytest.mark.parametrize("content, rule", [
    (lambda t: b"", "the file is empty"),
    (lambda t: b"this is a text file, not an image\n", "not a PNG, BMP, JPEG, TIFF or .npy file"),
    (lambda t: b"\x89PNG\r\n\x1a\n", "not a PNG|cannot be read"),
    (lambda t: whole_png(t)[:1500], "cannot be read"),
    (lambda t: png(60000, 60000, 8, 0), "the header asks for more than|at most"),
    (lambda t: png(9400, 9400, 8, 0), "at most 80000000 pixels are read, the header says 9400 x 9400"),
    (lambda t: png(2, 1, 16, 2, b"\0" + b"\1\2" * 6), "a 16-bit PNG must be grey"),
    (lambda t: b"II*\0\x08\0\0\0", "cannot be read"),
    (lambda t: b"\x93NUMPY\x01\0broken", "cannot be read"),
    (lambda t: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a PNG"),
])
@pytest.mark.filterwarnings("error")
def test_broken_files_give_one_line(tmp_path, content, rule):
    path = tmp_path / "broken.png"
    path.write_bytes(content(tmp_path))
    with pytest.raises(DataError, match=rule) as caught:
        read_image(path)
    text = str(caught.value)
    assert "broken.png" in text and "\n" not in text and len(text) < 400


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="none.png: no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="cannot be read: .*directory"):
        read_image(tmp_path)


def test_pickled_npy_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="a.npy: cannot be read"):
        read_image(tmp_path / "a.npy")


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4, 1), (3, 8, 8), (0, 5)])
def test_array_shapes(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(DataError, match="H x W|no pixels"):
        read_image(tmp_path / "a.npy")
