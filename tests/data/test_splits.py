"""Parts of a split, the carved validation list, list files, the hash, and lists that are refused."""

import hashlib
import warnings

import numpy as np
import pytest

from python_models.data import DataError, DataWarning, open_dataset, part_names, split_hash
from python_models.data.splits import carve_val

EMPTY = np.zeros((12, 16), np.uint8)
NAMES = [f"n{i}" for i in range(20)]


def names(root, part, split="s", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
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


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_carved_val_part_is_said_once(make_set, part):
    root = make_set(dict.fromkeys(NAMES, EMPTY), {"s/train": NAMES[:14], "s/test": NAMES[14:]})
    with pytest.warns(DataWarning) as caught:
        open_dataset(root, "s", part, val_seed=3)
    assert [str(w.message) for w in caught] == [f"{root} s: no val list: 2 of its 14 training names, drawn by seed 3, are held out as val"]


def test_opening_train_and_val_says_it_once(make_set):
    root = make_set(dict.fromkeys(NAMES, EMPTY), {"s/train": NAMES[:14], "s/test": NAMES[14:]})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        train, val = (open_dataset(root, "s", part) for part in ("train", "val"))
    assert len(caught) == 1 and not set(train.names) & set(val.names)


@pytest.mark.filterwarnings("error")
def test_nothing_is_said_where_nothing_is_invented(make_set):
    lists = {"s/train": NAMES[:12], "s/val": NAMES[12:16], "s/test": NAMES[16:], "t/train": NAMES[:9], "t/test": NAMES[16:]}
    root = make_set(dict.fromkeys(NAMES, EMPTY), lists)
    for split, part in (("s", "train"), ("s", "val"), ("s", "trainval"), ("s", "test"), ("t", "trainval"), ("t", "test")):
        open_dataset(root, split, part)


def test_val_and_trainval_without_train(make_set):
    root = make_set(dict.fromkeys(NAMES, EMPTY), {"s/trainval": NAMES[:14], "s/val": NAMES[10:14], "s/test": NAMES[14:]})
    assert names(root, "train") == NAMES[:10] and names(root, "val") == NAMES[10:14]


def test_list_file_is_a_test_part(make_set, tmp_path):
    root = make_set(dict.fromkeys(NAMES, EMPTY), {"s/train": NAMES[:14], "s/test": NAMES[14:]})
    hard = tmp_path / "hard.txt"
    hard.write_text("n9.png\nn2\n")
    for given in (hard, str(hard)):
        ds = open_dataset(root, given)
        assert (ds.names, ds.split, ds.part) == (["n9", "n2"], "hard.txt", "test") and ds.split_hash == split_hash(["n2", "n9"])
    assert open_dataset(root, hard, "test").names == ["n9", "n2"]
    assert part_names(root, hard, "test") == ("hard.txt", ["n9", "n2"])
    with pytest.raises(DataError, match="hard.txt: a list file is a test part, for part 'train' give a named split"):
        open_dataset(root, hard, "train")
    with pytest.raises(DataError, match="soft.txt: no such list file"):
        open_dataset(root, tmp_path / "soft.txt")
    hard.write_text("n1\nghost\n")
    with pytest.raises(DataError, match="hard.txt, line 2: no image for 1 of 2 names: ghost"):
        open_dataset(root, hard)


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


def test_one_of_several_splits_must_be_named(make_set):
    root = make_set(dict.fromkeys(NAMES, EMPTY), {"s/test": NAMES[:14], "t/test": NAMES[14:]})
    with pytest.raises(DataError, match="set: say which split: s, t$"):
        open_dataset(root, part="test")
    with pytest.raises(DataError, match="set: split s has neither a train nor a trainval list"):
        open_dataset(root, "s")
    for split in "st":
        (root / split / "test.txt").unlink()
    with pytest.raises(DataError, match="set: holds no split: none .list files such as 50_50/train.txt make one"):
        open_dataset(root)


def test_missing_names_are_counted_and_named_with_their_line(make_set):
    root = make_set(dict.fromkeys(NAMES, EMPTY), {"s/train": [*NAMES[:3], "ghost", *NAMES[3:], "spook"]})
    with pytest.raises(DataError, match=r"s/train.txt, line 4: no image for 2 of 22 names: ghost, spook$"):
        open_dataset(root, "s", "trainval")
    (root / "masks" / "n3.png").unlink()
    (root / "s" / "train.txt").write_text("n3\nn4\nghost\n")
    with pytest.raises(DataError, match="s/train.txt, line 1: no mask for 1 of 3 names: n3; no image for 1 of 3 names: ghost$"):
        open_dataset(root, "s", "trainval")


def test_lists_that_share_names_are_refused(make_set):
    root = make_set(dict.fromkeys(NAMES, EMPTY), {"s/train": NAMES[:10], "s/test": NAMES[9:]})
    with pytest.raises(DataError, match="set split s: the train and test lists share 1 names: n9"):
        open_dataset(root, "s", "test")


def test_names_that_are_no_utf8_have_a_hash():
    """A folder from an old archive brings such names; those of every other list keep their hash."""
    assert split_hash(["b", "\udcff"]) == hashlib.sha256(b"b\n\xff\n").hexdigest()[:16]
    assert sorted(sum(carve_val(["a", "\udcff", "b"]), [])) == ["a", "b", "\udcff"]


def test_a_list_too_short_for_a_validation_part_is_named(make_set):
    root = make_set({"a": EMPTY}, {"s/train": ["a"]})
    with pytest.raises(DataError, match=r"s/train.txt: a validation part needs a train list of at least 2 names, got 1"):
        open_dataset(root, "s", "train")
