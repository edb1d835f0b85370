"""Names from lists: what they may hold, and that none of them reaches a file outside the data set."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from python_models.data import DataError, find_layout, open_dataset
from python_models.data.layouts.lists import clean_name, read_names

SET = {"images/a.png": 1, "images/b.png": 2}, {"masks/a.png": 1, "masks/b.png": 2}


@given(st.text() | st.text("./\\ab~\n\0 ", min_size=1))
@example("../../etc/passwd")
@example("//etc/passwd")
@example("a/../../b.png")
@example("\x1b[2Jred")
def test_no_name_leaves_its_folder(line):
    try:
        name = clean_name(line)
    except DataError as error:
        assert "\n" not in str(error) and len(str(error)) < 500
        return
    home = Path("/data/images")
    assert name and Path(os.path.normpath(home / name)).is_relative_to(home) and not any(ord(c) < 32 for c in name)


def test_the_check_above_can_fail():
    home = Path("/data/images")
    assert not Path(os.path.normpath(home / "../../etc/passwd")).is_relative_to(home)
    assert not Path(os.path.normpath(home / "/etc/passwd")).is_relative_to(home)


@pytest.mark.parametrize("line, name", [("Misc_1", "Misc_1"), (" Misc_1.png ", "Misc_1"), ("/44/1(814)", "44/1(814)"), ("44//1.BMP", "44/1"),
                                        ("./v1.2", "v1.2"), ("红外.tif", "红外")])
def test_clean_names(line, name):
    assert clean_name(line) == name


def test_list_syntax(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(b"\xef\xbb\xbfa.png\r\n\r\n b \r\nv1.2\r\n")
    assert read_names(path) == {"a": 1, "b": 3, "v1.2": 4}
    for content, rule in ((b"a\nb\na.png\n", "line 3: 'a' already stands on line 1"), (b"\n\n", "holds no name"), (b"\xff\xfe\x00", "UTF-8"),
                          (b"x" * 5000, "line 1: a name must")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rule) as caught:
            read_names(path)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("line", ["../../etc/passwd", "..", "a\\b", "../a.png", "x/../../a", ".", "a\tb"])
def test_names_that_climb_are_refused_with_list_and_line(lay, line):
    root = lay("set", *SET, {"s/test.txt": ["a", line]})
    with pytest.raises(DataError, match=r"s/test.txt, line 2: a name must stay inside its folder .*got ") as caught:
        open_dataset(root, "s", "test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["/etc/passwd", "//etc/passwd", "/a/b"])
def test_absolute_names_are_names_in_the_set_or_missing(lay, line):
    root = lay("set", *SET, {"s/test.txt": ["/a", line]})
    with pytest.raises(DataError, match="s/test.txt, line 2: no image for 1 of 2 names: (etc/passwd|a/b)"):
        open_dataset(root, "s", "test")


@pytest.mark.parametrize("folder, name", [("images", "c"), ("masks", "b"), ("images", "sub/c")])
def test_links_out_of_the_set_are_never_followed(lay, tmp_path, folder, name):
    root = lay("set", *SET, {"s/test.txt": ["a", name]})
    lay(".", {"secret.png": 9})
    link = root / folder / f"{name}.png"
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path / "secret.png")
    assert all(p != link for p in find_layout(root).images.values())
    with pytest.raises(DataError, match=rf"s/test.txt, line 2: no file inside the data set \(a link leads out of it\) for 1 of 2 names: {name}$"):
        open_dataset(root, "s", "test")


def test_links_to_folders_and_lists_outside(lay, tmp_path):
    root = lay("set", *SET, {"s/test.txt": ["sub/a"], "t/test.txt": ["a"]})
    other = lay("other", {"images/a.png": 1}, lists={"test.txt": ["a"]})
    (root / "images" / "sub").symlink_to(other / "images")
    with pytest.raises(DataError, match="s/test.txt, line 1: no image for 1 of 1 names: sub/a"):
        open_dataset(root, "s", "test")
    (root / "t" / "test.txt").unlink()
    (root / "t" / "test.txt").symlink_to(other / "test.txt")
    with pytest.raises(DataError, match="t.test.txt: is a link that leads out of the data set"):
        open_dataset(root, "t", "test")
    assert open_dataset(root, other / "test.txt").names == ["a"]


def test_links_inside_the_set_and_to_the_whole_folder_are_fine(lay, tmp_path):
    root = lay("set", *SET, {"s/test.txt": ["a", "c"]})
    (root / "images" / "c.png").symlink_to("b.png")
    (root / "masks" / "c.png").symlink_to(root / "masks" / "b.png")
    assert open_dataset(root, "s", "test")[1]["mask"].sum() == 2
    (tmp_path / "moved").mkdir()
    for folder in ("images", "masks", "s"):
        (tmp_path / "moved" / folder).symlink_to(root / folder)
    assert open_dataset(tmp_path / "moved", "s", "test").names == ["a", "c"]


def test_special_files_and_folders_are_no_images(lay):
    root = lay("set", *SET, {"s/test.txt": ["pipe"], "t/test.txt": ["folder"]})
    os.mkfifo(root / "images" / "pipe.png")
    (root / "images" / "folder.png").mkdir()
    for split, name in (("s", "pipe"), ("t", "folder")):
        with pytest.raises(DataError, match=f"no image for 1 of 1 names: {name}"):
            open_dataset(root, split, "test")
