"""TIFF: depths, compressions, colour, pages read one at a time."""

import os
import struct
import tracemalloc

import numpy as np
import pytest
import tifffile
from PIL import Image

from python_models.data import DataError, image_size, page_count, read_image, read_raw
from python_models.data.tiff import unpack_bits

RAMP8 = np.arange(256, dtype=np.uint8).reshape(16, 16)
RAMP16 = np.arange(65536, dtype=np.uint32).reshape(256, 256).astype(np.uint16)


def test_pages_are_chosen(tmp_path):
    stack = np.stack([RAMP16[:8, :8] + k for k in range(3)])
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    assert page_count(tmp_path / "a.tif") == 3 and image_size(tmp_path / "a.tif", page=2) == (8, 8)
    assert np.array_equal(read_raw(tmp_path / "a.tif", page=2).values, stack[2])
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"a.tif: holds 3 pages, say which by page \(0..2\)"):
            read(tmp_path / "a.tif")
    for page in (3, -1):
        with pytest.raises(DataError, match=f"page must be in 0..2, got {page}"):
            read_image(tmp_path / "a.tif", page=page)


def test_pages_of_several_sizes_and_depths(tmp_path):
    pages = [RAMP8, RAMP16, RAMP8[:5]]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in pages:
            writer.write(page, photometric="minisblack", metadata=None)
    assert page_count(tmp_path / "a.tif") == 3
    for k, page in enumerate(pages):
        assert np.array_equal(read_raw(tmp_path / "a.tif", page=k).values, page)


@pytest.mark.parametrize("imagej", [False, True])
def test_a_stack_behind_one_directory(tmp_path, imagej):
    """ImageJ keeps stacks above 4 GB so, tifffile where asked to."""
    stack = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", imagej=imagej, **({} if imagej else {"metadata": {"axes": "TYX"}}))
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        first = tif.pages[0]
        entries = int.from_bytes(data[first.offset : first.offset + 2], "big" if tif.byteorder == ">" else "little")
        link = first.offset + 2 + 12 * entries
    data[link : link + 4] = bytes(4)  # no next directory
    (tmp_path / "b.tif").write_bytes(data)
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        assert len(tif.pages) == 1
    assert page_count(tmp_path / "b.tif") == 5
    for k in range(5):
        assert np.array_equal(read_raw(tmp_path / "b.tif", page=k).values, stack[k])
    with pytest.raises(DataError, match="page must be in 0..4, got 5"):
        read_raw(tmp_path / "b.tif", page=5)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_one_page_of_ten_thousand_costs_one_page(tmp_path, compression):
    page = np.random.default_rng(0).integers(0, 65536, (40, 50)).astype(np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for k in range(200 if compression else 10_000):
            writer.write(page + np.uint16(k), contiguous=compression is None, compression=compression, photometric="minisblack")
    size = os.path.getsize(tmp_path / "a.tif")
    read_raw(tmp_path / "a.tif", page=0)
    tracemalloc.start()
    try:
        got = read_raw(tmp_path / "a.tif", page=150).values
        peak = tracemalloc.get_traced_memory()[1]
        whole = tifffile.imread(tmp_path / "a.tif", key=slice(0, 200))
        assert tracemalloc.get_traced_memory()[1] > 200 * page.nbytes, "the measure must see a whole stack"
    finally:
        tracemalloc.stop()
    assert np.array_equal(got, whole[150]) and np.array_equal(got, page + np.uint16(150))
    assert peak < min(size, 40 * page.nbytes)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
@pytest.mark.parametrize("values", [RAMP16, RAMP8, RAMP16 > 99, RAMP16.astype(np.float32) / 65535], ids=lambda v: str(v.dtype))
def test_compressed_grey(tmp_path, compression, values):
    Image.fromarray(values).save(tmp_path / "a.tif", compression=compression)
    raw = read_raw(tmp_path / "a.tif")
    assert raw.values.dtype == values.dtype and np.array_equal(raw.values, values)


def test_colour_of_16_bits(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 65536, (5, 6, 3)).astype(np.uint16)
    planes = np.moveaxis(rgb, 2, 0).copy()
    for name, values, options in (("chunky", rgb, {"planarconfig": "contig"}), ("planes", planes, {"planarconfig": "separate"}),
                                  ("deflated", rgb, {"compression": "zlib", "predictor": True}), ("tiled", np.tile(rgb, (4, 3, 1)), {"tile": (16, 16)})):
        tifffile.imwrite(tmp_path / f"{name}.tif", values, photometric="rgb", **options)
        got = read_raw(tmp_path / f"{name}.tif").values
        assert np.array_equal(got, np.tile(rgb, (4, 3, 1)) if name == "tiled" else rgb), name


@pytest.mark.parametrize("values", [RAMP8, RAMP16, RAMP16 > 99], ids=lambda v: str(v.dtype))
def test_white_is_zero(tmp_path, values):
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    assert np.array_equal(read_raw(tmp_path / "a.tif").values, ~values)


def test_palette(tmp_path):
    colours = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", RAMP8, photometric="palette", colormap=colours)
    raw = read_raw(tmp_path / "a.tif")
    assert raw.full_scale == 65535 and np.array_equal(raw.values, np.moveaxis(colours[:, RAMP8], 0, -1))


@pytest.mark.parametrize("bits", [2, 4, 6, 10, 12, 14])
def test_packed_samples(tmp_path, bits):
    """Rows of an odd number of samples, packed from the highest bit on, in several strips."""
    values = np.random.default_rng(bits).integers(0, 1 << bits, (21, 19)).astype(np.uint16)
    (tmp_path / "a.tif").write_bytes(packed_tiff(values, bits, 8))
    raw = read_raw(tmp_path / "a.tif")
    assert np.array_equal(raw.values, values) and raw.full_scale == (1 << bits) - 1
    assert np.array_equal(read_image(tmp_path / "a.tif"), (values / raw.full_scale).astype(np.float32))


def pack(values, bits):
    text = ["".join(f"{v:0{bits}b}" for v in row) for row in values.tolist()]
    return b"".join(int(t.ljust(-(-len(t) // 8) * 8, "0"), 2).to_bytes(-(-len(t) // 8), "big") for t in text)


def packed_tiff(values, bits, rows):
    strips = [pack(values[k : k + rows], bits) for k in range(0, len(values), rows)]
    table = 8 + 2 + 12 * 9 + 4
    inline = len(strips) == 1  # then the tag holds the number itself
    first = table + 8 * len(strips)
    offsets = [first + sum(map(len, strips[:k])) for k in range(len(strips))]
    tags = [(256, 3, 1, values.shape[1]), (257, 3, 1, values.shape[0]), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 1),
            (273, 4, len(strips), first if inline else table), (277, 3, 1, 1), (278, 3, 1, rows),
            (279, 4, len(strips), len(strips[0]) if inline else table + 4 * len(strips))]
    numbers = struct.pack(f"<{2 * len(strips)}I", *offsets, *map(len, strips))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *t) for t in tags) + bytes(4) + numbers + b"".join(strips)


def test_packed_12_bits_as_pillow_reads_them(tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (9, 10)).astype(np.uint16)
    (tmp_path / "a.tif").write_bytes(packed_tiff(values, 12, 9))
    with Image.open(tmp_path / "a.tif") as image:
        assert np.array_equal(np.asarray(image), values)
    assert np.array_equal(unpack_bits(pack(values, 12), 9, 10, 12), values)
    assert not np.array_equal(unpack_bits(pack(values, 12)[1:] + b"\0", 9, 10, 12), values)


def test_what_is_not_read_says_so(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8, 6), np.uint8), photometric="minisblack", planarconfig="contig")
    with pytest.raises(DataError, match="a.tif: a TIFF page must be H x W with 1 to 4 equal channels"):
        read_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((8, 8), np.complex64))
    with pytest.raises(DataError, match="b.tif: values must be numbers, got complex64"):
        read_image(tmp_path / "b.tif")
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((8, 8), np.uint32))
    with pytest.raises(DataError, match=r"c.tif: uint32 values have no known full scale, give full_scale \(--full-scale\)"):
        read_image(tmp_path / "c.tif")
