"""What is a frame, in which order, under which name; and what is one line instead."""
import os
import socket
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from python_models.data import DataError
from python_models.inference import find_frames, read_frame

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)


def put(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(GREY).save(path)
    return folder


def names(*sources, recursive=False):
    frames, errors = find_frames(sources, recursive)
    assert not errors, errors
    assert [f.number for f in frames] == list(range(1, len(frames) + 1))
    return [f.name for f in frames]


def lines(*sources, recursive=False):
    frames, errors = find_frames(sources, recursive)
    assert all("\n" not in e for e in errors)
    return [f.name for f in frames], errors


def png(width, height, rows=b""):
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_video_frames_come_in_natural_order(tmp_path):
    put(tmp_path, "frame10.png", "frame9.png", "frame1.bmp", "Frame100.jpg", "frame09b.png", ".hidden.png")
    (tmp_path / "notes.txt").write_text("no list here")
    assert names(tmp_path) == ["frame1", "frame9", "frame09b", "frame10", "Frame100"]


def test_folders_inside_are_taken_when_asked_and_kept_in_the_names(tmp_path):
    put(tmp_path, "b.png", "seq2/f2.png", "seq2/f10.png", "seq10/f1.png")
    assert names(tmp_path) == ["b"]
    assert names(tmp_path, recursive=True) == ["b", "seq2/f2", "seq2/f10", "seq10/f1"]
    (tmp_path / "seq2" / "loop").symlink_to(tmp_path)
    assert names(tmp_path, recursive=True) == ["b", "seq2/f2", "seq2/f10", "seq10/f1"]


def test_sources_of_several_folders_keep_them(tmp_path):
    put(tmp_path, "data/a/1.png", "data/b/1.png", "data/b/2.png")
    assert names(tmp_path / "data" / "a", tmp_path / "data" / "b") == ["a/1", "b/1", "b/2"]
    assert names(tmp_path / "data" / "b" / "2.png", tmp_path / "data" / "a" / "1.png") == ["b/2", "a/1"]
    assert names(tmp_path / "data" / "b" / "2.png", tmp_path / "data" / "b") == ["2", "1"]  # once


def test_patterns(tmp_path, monkeypatch):
    put(tmp_path, "s/a1.png", "s/a10.png", "s/a2.png", "s/b1.png", "s/deep/er/a3.png", "odd[1].png")
    (tmp_path / "s" / "a.md").write_text("text")
    monkeypatch.chdir(tmp_path)
    assert names("s/a*") == ["a1", "a2", "a10"]
    assert names("s/**/a?.png") == ["a1", "a2", "deep/er/a3"]
    assert names("*/[ab]1.png") == ["s/a1", "s/b1"]
    assert names("odd[1].png") == ["odd[1]"]
    assert lines("s/z*.png")[1] == ["s/z*.png: the pattern matches no image (.png, .bmp, .jpg, .jpeg, .tif, .tiff, .npy)"]


def test_patterns_go_through_links_but_not_in_circles(tmp_path, monkeypatch):
    put(tmp_path, "s/a1.png", "s/deep/er/a2.png", "s/deep/.hidden/a3.png", "other/a4.png")
    for number in "12":  # glob would go round and round, along each of the two
        (tmp_path / "s" / "deep" / f"up{number}").symlink_to("..")
    (tmp_path / "s" / "video").symlink_to(tmp_path / "other")
    monkeypatch.chdir(tmp_path / "s")
    for pattern in ("**/*.png", str(tmp_path / "s" / "**" / "*.png"), "../s/**"):
        assert names(pattern) == ["a1", "deep/er/a2", "video/a4"], pattern
    assert names(f"{tmp_path}/[s]/**/a*.png") == ["s/a1", "s/deep/er/a2", "s/video/a4"]
    assert names("d*/**/e*/*.png") == ["deep/er/a2"]


def test_lists_are_relative_to_themselves(tmp_path):
    put(tmp_path, "set/images/x.png", "set/images/y.png", "elsewhere.png")
    list_ = tmp_path / "set" / "some.txt"
    list_.write_text("\ufeffimages/y.png\r\n\n  images/x.png\nimages/y.png\n", encoding="utf-8")
    assert names(list_) == ["images/y", "images/x"]
    list_.write_text(f"{tmp_path / 'elsewhere.png'}\nimages/x.png\n")
    assert names(list_) == ["elsewhere", "set/images/x"]


def test_what_a_list_names_wrongly_is_a_line_with_its_number(tmp_path):
    put(tmp_path, "x.png", "d/y.png")
    list_ = tmp_path / "some.txt"
    list_.write_text("gone.png\nx.png\n../../../../../../../../../../etc/passwd\nd\nnul\0.png\n" + "long" * 2000 + "\n")
    found, errors = lines(list_)
    assert found == ["x"] and len(errors) == 5
    assert f"{list_}, line 1: gone.png: no such file or folder" in errors[0] and "/etc/passwd: not a PNG" in errors[1]
    assert "line 4: d: is a folder, not an image" in errors[2] and "line 5: " in errors[3] and "line 6: " in errors[4] and len(errors[4]) < 500
    for content, words in ((b"\xff\xfe\0x", "must be UTF-8 text"), (b"\n \n", "the list names no image")):
        list_.write_bytes(content)
        assert words in lines(list_)[1][0]


def test_pages_and_stacks_are_frames(tmp_path):
    stack = np.stack([GREY.astype(np.uint16) + 100 * k for k in range(3)])
    tifffile.imwrite(tmp_path / "video.tif", stack, photometric="minisblack")
    np.save(tmp_path / "counts.npy", stack)
    np.save(tmp_path / "one.npy", stack[1])
    np.save(tmp_path / "rgb.npy", np.stack([GREY] * 3, axis=2))
    assert names(tmp_path) == [*(f"counts_p000{k}" for k in (1, 2, 3)), "one", "rgb", *(f"video_p000{k}" for k in (1, 2, 3))]
    frames, _ = find_frames([tmp_path])
    for k in range(3):
        for frame in (frames[k], frames[5 + k]):
            assert (frame.page, frame.label) == (k + 1, f"{frame.path}, page {k + 1}")
            assert np.array_equal(read_frame(frame)[0], (stack[k] / 65535).astype(np.float32))
    np.save(tmp_path / "none.npy", np.zeros((0, 5, 5)))
    assert "the stack has no pixels" in lines(tmp_path / "none.npy")[1][0]


def test_pages_of_different_sizes_are_all_frames(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for shape in ((8, 9), (5, 4)):
            tif.write(np.zeros(shape, np.uint8))
    assert [read_frame(f)[0].shape for f in find_frames([tmp_path])[0]] == [(8, 9), (5, 4)]


def test_no_two_frames_share_a_name(tmp_path):
    put(tmp_path, "a.png", "a.bmp", "A.tif", "b.png", "s_p0001.png", "a.bmp.png")
    np.save(tmp_path / "s.npy", np.zeros((2, 8, 8), np.uint8))
    found = names(tmp_path)
    assert len(found) == 8 and len({n.casefold() for n in found}) == 8 and {"a.png", "A.tif", "b", "s_p0001", "s_p0002"} < set(found)
    assert found == names(tmp_path)


@pytest.mark.parametrize("make, words", [
    (lambda p: p.write_text("no image"), "not a PNG"), (lambda p: p.write_bytes(b""), "the file is empty"),
    (lambda p: p.write_bytes(png(60000, 60000)), "pixels are read"), (os.mkfifo, "is not a regular file"), (os.mkdir, "is a folder, not an image"),
    (lambda p: p.symlink_to("nowhere"), "no such file"), (lambda p: p.write_bytes(b"\x93NUMPY\1\0garbage"), "cannot be read"),
    (lambda p: socket.socket(socket.AF_UNIX).bind(str(p)), "is not a regular file"),
])
def test_what_is_no_image_is_one_line_and_the_others_go_on(tmp_path, monkeypatch, make, words):
    put(tmp_path, "b.png")
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "a.png")
    for source in (".", "*.png"):
        found, errors = lines(source)
        assert found == ["b"] and len(errors) == 1 and "a.png: " in errors[0] and words in errors[0]
    if not (tmp_path / "a.png").is_dir():
        assert words in lines("a.png", "b.png")[1][0]


def test_an_unreadable_file_is_one_line(tmp_path, monkeypatch):
    put(tmp_path, "a.png", "b.png")
    real = open

    def refuse(path, *args, **kwargs):
        if str(path).endswith("a.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", refuse)
    found, errors = lines(tmp_path)
    assert found == ["b"] and errors == [f"{tmp_path / 'a.png'}: cannot be read: Permission denied"]


def test_folders_without_images(tmp_path):
    assert "holds no image" in lines(tmp_path)[1][0] and "--recursive" not in lines(tmp_path)[1][0]
    put(tmp_path, "inside/a.png")
    assert lines(tmp_path)[1][0].endswith("; --recursive looks into its folders")
    assert lines(tmp_path / "none")[1] == [f"{tmp_path / 'none'}: no such file or folder"]
    assert lines("")[1] == ["source: must be a path, got an empty one"]


def test_a_full_scale_the_type_cannot_reach_is_refused(tmp_path):
    put(tmp_path, "a.png")
    Image.fromarray(np.full((4, 4), 8191, np.uint16)).save(tmp_path / "b.png")
    np.save(tmp_path / "c.npy", np.full((4, 4), 300.0))
    a, b, c = find_frames([tmp_path])[0]
    with pytest.raises(DataError, match=r"a.png: full_scale \(--full-scale\) must be <= 255, .*got 16383"):
        read_frame(a, 16383)
    assert read_frame(b, 16383)[0][0, 0] == np.float32(8191 / 16383) and read_frame(c, 600)[0][0, 0] == 0.5
    with pytest.raises(DataError, match=r"c.npy: values must lie in 0\.\.1 .*--full-scale.*got 300"):
        read_frame(c)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the process's peak memory from /proc")
def test_headers_that_ask_for_gigabytes_get_none(tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "a.png").write_bytes(png(60000, 60000))
    (bad / "b.npy").write_bytes(b"\x93NUMPY\1\0\x76\0" + b"{'descr': '<u2', 'fortran_order': False, 'shape': (60000, 60000), }".ljust(117) + b"\n")
    Image.new("L", (5000, 5000)).save(tmp_path / "good.png")
    code = """
import re, sys
from python_models.inference import find_frames, read_frame
def peak():
    return int(re.search("VmHWM: *([0-9]+)", open("/proc/self/status").read().replace("\\t", " "))[1]) // 1024
before = peak()
frames, errors = find_frames([sys.argv[1]])
print(len(frames), len(errors), peak() - before)
read_frame(find_frames([sys.argv[2]])[0][0])
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code, str(bad), str(tmp_path / "good.png")], capture_output=True, text=True, check=True)
    frames, errors, megabytes, control = map(int, done.stdout.split())
    assert (frames, errors) == (0, 2) and megabytes < 50 < control
