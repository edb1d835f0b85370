"""One line for every broken, hostile or special file, in bounded memory and without waiting."""

import os
import resource
import struct
import threading
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from python_models.data import DataError, image_size, page_count, read_image, read_mask, read_raw

PNG = b"\x89PNG\r\n\x1a\n"


def png(width, height, depth, colour, rows=b"", end=True):
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"") * end


def whole(tmp_path, suffix, size=64):
    path = tmp_path / f"whole.{suffix}"
    values = np.random.default_rng(0).integers(0, 256, (size, size), np.uint8)
    if suffix == "npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)
    return path.read_bytes()


def huge_tiff(tmp_path, **options):
    """A small TIFF whose header is changed to 60000 x 60000."""
    tifffile.imwrite(tmp_path / "huge.tif", np.zeros((8, 8), np.uint8), **options)
    data = bytearray((tmp_path / "huge.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "huge.tif") as tif:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            found = tif.pages[0].tags[tag]
            data[found.valueoffset : found.valueoffset + 2] = struct.pack(tif.byteorder + "H", 60000)
    return bytes(data)


def bomb_tiff(tmp_path):
    """32 x 32 pixels whose only strip inflates to 400 MB."""
    tifffile.imwrite(tmp_path / "bomb.tif", np.zeros((32, 32), np.uint8), compression="zlib")
    squeeze = zlib.compressobj(1)
    strip = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(400)) + squeeze.flush()
    data = bytearray((tmp_path / "bomb.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "bomb.tif") as tif:
        for tag, value in (("StripOffsets", len(data)), ("StripByteCounts", len(strip))):
            found = tif.pages[0].tags[tag]
            data[found.offset + 2 : found.offset + 12] = struct.pack(tif.byteorder + "HII", 4, 1, value)
    return bytes(data) + strip


def endless_tiff(tmp_path):
    """A deflated strip that claims nearly 4 GB."""
    tifffile.imwrite(tmp_path / "endless.tif", np.zeros((32, 32), np.uint8), compression="zlib")
    data = bytearray((tmp_path / "endless.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "endless.tif") as tif:
        found = tif.pages[0].tags["StripByteCounts"]
        data[found.offset + 2 : found.offset + 12] = struct.pack(tif.byteorder + "HII", 4, 1, 0xFFFFFF00)
    return bytes(data)


def header_60000(kind):
    return {
        "bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 58, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0),
        "jpg": b"\xff\xd8\xff\xc0\x00\x0b\x08" + struct.pack(">HH", 60000, 60000) + b"\x01\x01\x11\x00\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\xff\xd9",
    }[kind]


BROKEN = {
    "empty": (lambda t: b"", "the file is empty"),
    "text": (lambda t: b"this is a text file, not an image\n", "not a PNG, BMP, JPEG, TIFF or .npy file"),
    "PNG signature": (lambda t: PNG, "cannot be read"),
    "PNG header": (lambda t: PNG + b"\0\0\0\rIHDR", "cannot be read"),
    "truncated PNG": (lambda t: whole(t, "png")[:1500], "cannot be read"),
    "truncated BMP": (lambda t: whole(t, "bmp")[:1500], "cannot be read"),
    "truncated JPEG": (lambda t: whole(t, "jpg")[:1000], "cannot be read"),
    "truncated TIFF": (lambda t: whole(t, "tif")[:1500], "cannot be read"),
    "truncated npy": (lambda t: whole(t, "npy")[:1500], "cannot be read"),
    "damaged PNG": (lambda t: whole(t, "png")[:200] + bytes(100) + whole(t, "png")[300:], "cannot be read"),
    "PNG of too few rows": (lambda t: png(4, 4, 8, 0, b"\0\1\2\3\4"), "the file ends after 5 of 20 bytes of its rows"),
    "16-bit colour PNG of too few rows": (lambda t: png(2, 3, 16, 2, b"\0" + b"\1\2" * 6), "the file ends after 13 of 39 bytes of its rows"),
    "60000 x 60000 PNG": (lambda t: png(60000, 60000, 8, 0), "at most 80000000 pixels are read .*, the header says 60000 x 60000"),
    "60000 x 60000 16-bit colour PNG": (lambda t: png(60000, 60000, 16, 2), "at most 80000000 pixels"),
    "60000 x 60000 BMP": (lambda t: header_60000("bmp"), "at most 80000000 pixels"),
    "60000 x 60000 JPEG": (lambda t: header_60000("jpg"), "at most 80000000 pixels"),
    "60000 x 60000 TIFF": (huge_tiff, "at most 80000000 pixels"),
    "60000 x 60000 npy": (lambda t: whole(t, "npy").replace(b"(64, 64), }      ", b"(60000, 60000), }"), "cannot be read: mmap length"),
    "9400 x 9400": (lambda t: png(9400, 9400, 8, 0), "at most 80000000 pixels .*, the header says 9400 x 9400"),
    "TIFF without pages": (lambda t: b"II*\0\x08\0\0\0", "cannot be read"),
    "TIFF zip bomb": (bomb_tiff, "the compressed data is larger than the image it states"),
    "TIFF of an endless strip": (endless_tiff, "the file ends before its pixels do"),
    "npy header": (lambda t: b"\x93NUMPY\x01\0broken", "cannot be read"),
    "PostScript": (lambda t: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a PNG"),
    "GIF": (lambda t: b"GIF89a" + bytes(30), "not a PNG"),
}


@pytest.fixture
def little_memory():
    """At most 300 MB more than now, so that a file which asks for its header's pixels fails another way."""
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + (300 << 20), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_give_one_line(tmp_path, request, case):
    content, rule = BROKEN[case]
    path = tmp_path / "broken.png"
    path.write_bytes(content(tmp_path))
    request.getfixturevalue("little_memory")
    for read in (read_image, read_mask, read_raw):
        with pytest.raises(DataError, match=rule) as caught:
            read(path)
        text = str(caught.value)
        assert text.startswith(str(path)) and "\n" not in text and len(text) < len(str(path)) + 250


def test_the_memory_limit_bites(little_memory):
    with pytest.raises(MemoryError):
        np.ones(400 << 20, np.uint8)


@pytest.mark.parametrize("case", ["60000 x 60000 PNG", "60000 x 60000 TIFF", "text", "empty"])
def test_headers_and_page_counts_are_checked_too(tmp_path, case):
    path = tmp_path / "broken.png"
    path.write_bytes(BROKEN[case][0](tmp_path))
    with pytest.raises(DataError, match=BROKEN[case][1]):
        image_size(path)
    if "TIFF" not in case:
        with pytest.raises(DataError, match=BROKEN[case][1]):
            page_count(path)


def test_the_limit_of_pixels_can_be_moved(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((9400, 9400), np.uint8)).save(tmp_path / "a.png", compress_level=1)
    monkeypatch.setenv("IRSTD_MAX_PIXELS", str(9400 * 9400))
    assert image_size(tmp_path / "a.png") == (9400, 9400) and read_raw(tmp_path / "a.png").values.shape == (9400, 9400)
    monkeypatch.setenv("IRSTD_MAX_PIXELS", "100")
    with pytest.raises(DataError, match="at most 100 pixels are read"):
        image_size(tmp_path / "a.png")
    for bad in ("0", "-1", "many"):
        monkeypatch.setenv("IRSTD_MAX_PIXELS", bad)
        with pytest.raises(DataError, match=f"IRSTD_MAX_PIXELS must be a positive whole number, got '{bad}'"):
            image_size(tmp_path / "a.png")


def test_missing_file_folder_and_special_files(tmp_path):
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone.png")
    for name, rule in (("none.png", "no such file"), ("dangling.png", "no such file"), ("folder.png", "must be an image file, this is a folder"),
                       ("pipe.png", "must be an image file, this is a special file")):
        for read in (read_image, image_size, page_count):
            waiting = threading.Timer(5, lambda: os.close(os.open(tmp_path / "pipe.png", os.O_RDWR | os.O_NONBLOCK)))
            waiting.start()  # so that a reader that opens the FIFO fails instead of waiting for ever
            with pytest.raises(DataError, match=rule):
                read(tmp_path / name)
            waiting.cancel()


def test_a_file_without_permission(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)  # root may read everything
        with pytest.raises(DataError, match="a.png: cannot be read: Permission denied"):
            read_image(tmp_path / "a.png")
    finally:
        if root:
            os.seteuid(0)


def test_black_images_are_whole(tmp_path):
    for name, dtype, shape in (("grey", np.uint8, (5, 7)), ("deep", np.uint16, (5, 7)), ("bits", bool, (5, 7)), ("rgba", np.uint8, (5, 7, 4))):
        Image.fromarray(np.zeros(shape, dtype)).save(tmp_path / f"{name}.png")
        assert not read_raw(tmp_path / f"{name}.png").values.any()
    for interlace in (0, 1):  # 5 x 7 pixels of one bit: seven passes of Adam7 hold 8 + 4 rows
        rows = bytes(7 * 2) if not interlace else bytes(sum(r * 2 for r in (1, 1, 1, 2, 2, 4, 3)))
        data = bytearray(png(5, 7, 1, 0, rows))
        data[28] = interlace
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        (tmp_path / "adam7.png").write_bytes(data)
        assert read_raw(tmp_path / "adam7.png").values.shape == (7, 5)


def test_pickled_npy_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="a.npy: cannot be read"):
        read_image(tmp_path / "a.npy")


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4, 1), (3, 8, 8), (0, 5)])
def test_array_shapes(tmp_path, shape):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with pytest.raises(DataError, match="H x W|no pixels"):
        read_image(tmp_path / "a.npy")
