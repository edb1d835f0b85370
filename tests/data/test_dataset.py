"""Opening a data set: items, warnings that count, size mismatches, folders of images."""

import warnings

import numpy as np
import pytest
import torch

from python_models.data import DataError, DataWarning, ImageFolder, collate, list_images, open_dataset

BINARY = np.zeros((12, 16), np.uint8)
BINARY[3:5, 7:10] = 255
GREY = BINARY // 255 * 200
LISTS = {"s/train": ["a", "b", "c"], "s/test": ["d"]}


def masks(**changed):
    return {**dict.fromkeys("abcd", BINARY), **changed}


def test_item(make_set):
    ds = open_dataset(make_set(masks(), LISTS, ending="_pixels0"), "s", "trainval")
    item = ds[1]
    assert set(item) == {"image", "mask", "name", "path"} and item["name"] == "b" and item["path"].endswith("b.png")
    assert item["image"].dtype == item["mask"].dtype == torch.float32
    assert item["image"].shape == item["mask"].shape == (1, 12, 16)
    assert torch.equal(item["image"], torch.full((1, 12, 16), 10.0) / 255)
    assert np.array_equal(item["mask"][0].numpy(), BINARY / 255)
    assert [i["name"] for i in ds] == ["a", "b", "c"] and ds[-1]["name"] == "c" and len(ds) == 3


def test_mask_lookup_order(make_set, save):
    root = make_set(masks(), LISTS)
    save(root / "masks" / "a_pixels0.png", BINARY * 0)
    assert open_dataset(root, "s", "trainval")[0]["mask"].any()


@pytest.mark.filterwarnings("error")
def test_binary_set_is_silent(make_set):
    assert len(open_dataset(make_set(masks(), LISTS), "s", "trainval", masks="strict")) == 3


def test_grey_masks_are_counted_in_one_warning(make_set):
    root = make_set(masks(a=GREY, c=BINARY // 255), LISTS)
    with pytest.warns(DataWarning) as caught:
        ds = open_dataset(root, "s", "trainval")
    assert len(caught) == 1
    text = str(caught[0].message)
    assert "2 of 3 masks are not binary and were binarised at half scale: a, c" in text and "1 of them hold nothing above half scale" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ds[0]["mask"].sum() == 6 and ds[2]["mask"].sum() == 0
    with pytest.raises(DataError, match="2 of 3 masks are not binary.*masks='strict'"):
        open_dataset(root, "s", "trainval", masks="strict")


def test_mismatch_policies(make_set):
    double = BINARY.repeat(2, 0).repeat(2, 1)
    root = make_set(masks(b=double), LISTS)
    with pytest.warns(DataWarning, match="mask resized to its image by nearest neighbour: b.png is 32 x 24, its image b.png is 16 x 12"):
        ds = open_dataset(root, "s", "trainval")
    assert np.array_equal(ds[1]["mask"][0].numpy(), BINARY / 255)
    with pytest.warns(DataWarning, match="left out, mask and image differ in size: b.png"):
        skipped = open_dataset(root, "s", "trainval", mask_mismatch="skip")
    assert skipped.names == ["a", "c"] and skipped.split_hash != ds.split_hash
    with pytest.raises(DataError, match="mask and image differ in size: b.png is 32 x 24"):
        open_dataset(root, "s", "trainval", mask_mismatch="error")


def test_mask_of_another_shape_is_never_resized(make_set):
    root = make_set(masks(b=BINARY.T.copy()), LISTS)
    with pytest.raises(DataError, match="differ in size and in shape .*b.png is 12 x 16, its image b.png is 16 x 12"):
        open_dataset(root, "s", "trainval")


@pytest.mark.parametrize("option, value", [("masks", "loose"), ("mask_mismatch", "crop")])
def test_unknown_options(make_set, option, value):
    with pytest.raises(DataError, match=f"open_dataset: {option} must be one of .*got '{value}'"):
        open_dataset(make_set(masks(), LISTS), "s", **{option: value})


def test_cache_gives_equal_items_that_do_not_alias(make_set):
    root = make_set(masks(), LISTS)
    plain, cached = (open_dataset(root, "s", "trainval", cache=c) for c in (False, True))
    cached[1]["image"].fill_(7)
    cached[1]["mask"].fill_(7)
    cached[-2]["mask"].fill_(7)
    for key in ("image", "mask"):
        assert torch.equal(cached[1][key], plain[1][key])


def test_folders_that_are_no_data_set(make_set, tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        open_dataset(tmp_path / "nowhere")
    make_set(masks(), LISTS)
    with pytest.raises(DataError, match="needs the folders images and masks; data sets inside it: set"):
        open_dataset(tmp_path)


def test_broken_image_is_named_at_opening(make_set):
    root = make_set(masks(), LISTS)
    (root / "images" / "b.png").write_text("hello")
    with pytest.raises(DataError, match="b.png: not a PNG"):
        open_dataset(root, "s", "trainval")


def test_image_folder(make_set, tmp_path):
    root = make_set(masks(), LISTS)
    (root / "images" / "notes.txt").write_text("no image")
    folder = ImageFolder(root / "images")
    assert folder.names == ["a", "b", "c", "d"] and set(folder[0]) == {"image", "name", "path"}
    assert list_images(root / "images" / "c.png") == [root / "images" / "c.png"]
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="void: holds no image"):
        list_images(tmp_path / "void")
    with pytest.raises(DataError, match="gone: no such file or folder"):
        ImageFolder(tmp_path / "gone")


def test_collate(make_set):
    ds = open_dataset(make_set(masks(), LISTS), "s", "trainval")
    batch = collate([ds[0], ds[2]])
    assert batch["image"].shape == batch["mask"].shape == (2, 1, 12, 16) and batch["name"] == ["a", "c"]
    with pytest.raises(DataError, match="collate: one batch needs one size of image"):
        collate([ds[0], {**ds[1], "image": torch.zeros(1, 5, 5)}])
