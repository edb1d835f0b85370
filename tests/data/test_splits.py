"""Parts of a split, the carved validation list, the hash, and lists that are refused."""

import hashlib

import numpy as np
import pytest

from python_models.data import DataError, open_dataset, split_hash
from python_models.data.splits import carve_val, read_names

EMPTY = np.zeros((12, 16), np.uint8)
NAMES = [f"n{i}" for i in range(20)]


def names(root, part, split="s", **options):
    return open_dataset(root, split, part, **options).names


def test_hash_formula():
    assert split_hash(["b", "a"]) == hashlib.sha256(b"a\nb\n").hexdigest()[:16]
    assert split_hash(["ab"]) != split_hash(["a", "b"])


def test_given_val_list_is_used(make_set):
    root = make_set(dict.fromkeys(NAMES, EMPTY), {"s/train": NAMES[:12], "s/val": NAMES[12:16], "s/test": NAMES[16:]})
    assert names(root, "train") == NAMES[:12] and names(root, "val") == NAMES[12:16] and names(root, "test") == NAMES[16:]
    assert names(root, "trainval") == NAMES[:16]


def test_val_is_carved_from_train_where_there_is_none(make_set):
    root = make_set(dict.fromkeys(NAMES, EMPTY), {"s/train": NAMES[:14], "s/test": NAMES[14:]})
    train, val = names(root, "train"), names(root, "val")
    assert len(val) == 2 and not set(train) & set(val) and sorted(train + val) == sorted(NAMES[:14])
    assert names(root, "trainval") == NAMES[:14]
    assert any(names(root, "val", val_seed=s) != val for s in range(1, 6))


def test_only_a_trainval_list(make_set):
    root = make_set(dict.fromkeys(NAMES, EMPTY), {"s/trainval": NAMES[:14], "s/test": NAMES[14:]})
    assert names(root, "trainval") == NAMES[:14] and len(names(root, "train")) == 12 and len(names(root, "val")) == 2


def test_carving_depends_on_names_only():
    train, val = carve_val(NAMES)
    again, val_again = carve_val(NAMES[::-1])
    assert set(train) == set(again) and set(val) == set(val_again)
    assert sorted(val) == ["n1", "n5", "n6"], "the choice is part of the public behaviour"


def test_only_split_is_found_and_unknown_ones_are_named(make_set):
    root = make_set(dict.fromkeys(NAMES, EMPTY), {"s/train": NAMES[:14], "s/test": NAMES[14:]})
    assert open_dataset(root, None, "test").split == "s"
    for split in ("idx_427", "../s", "", "/etc"):
        with pytest.raises(DataError, match="split must be one of: s; got"):
            open_dataset(root, split)
    with pytest.raises(DataError, match="part must be one of train, val, test, trainval, got 'tests'"):
        open_dataset(root, "s", "tests")


@pytest.mark.parametrize("line", ["../../etc/passwd", "/etc/passwd", "a/b", "..", "a\\b", "../n1.png"])
def test_names_that_leave_the_folder_are_refused(make_set, line):
    root = make_set(dict.fromkeys(NAMES, EMPTY), {"s/train": [*NAMES[:3], line]})
    with pytest.raises(DataError, match="train.txt, line 4: a name must be a plain file name") as caught:
        open_dataset(root, "s")
    assert "\n" not in str(caught.value)


def test_missing_names_are_counted_and_named(make_set):
    root = make_set(dict.fromkeys(NAMES, EMPTY), {"s/train": [*NAMES, "ghost", "spook"]})
    with pytest.raises(DataError, match="images: no image for 2 of 22 names: ghost, spook .from split s/trainval."):
        open_dataset(root, "s", "trainval")
    (root / "masks" / "n3.png").unlink()
    (root / "s" / "train.txt").write_text("n3\nn4\n")
    with pytest.raises(DataError, match="masks: no mask for 1 of 2 names: n3"):
        open_dataset(root, "s", "trainval")


def test_lists_that_share_names_are_refused(make_set):
    root = make_set(dict.fromkeys(NAMES, EMPTY), {"s/train": NAMES[:10], "s/test": NAMES[9:]})
    with pytest.raises(DataError, match="train.txt and test.txt share 1 names: n9"):
        open_dataset(root, "s", "test")


def test_list_syntax(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes(b"\xef\xbb\xbfa.png\r\n\r\n b \r\nv1.2\r\n")
    assert read_names(path) == ["a", "b", "v1.2"]
    for content, rule in ((b"a\nb\na.png\n", "line 3: 'a' already stands on line 1"), (b"\n\n", "holds no name"), (b"\xff\xfe\x00", "UTF-8")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rule):
            read_names(path)
