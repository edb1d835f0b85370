"""Opening a data set: items, warnings that count, size mismatches, equivariance, folders of images."""

import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from python_models.data import DataError, DataWarning, collate, open_dataset

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
    assert "2 of 3 masks are not binary and were binarised at half scale: a, c; 1 of them came out empty: c" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ds[0]["mask"].sum() == 6 and ds[2]["mask"].sum() == 0
    with pytest.raises(DataError, match="2 of 3 masks are not binary.*masks=strict"):
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


@pytest.mark.parametrize("rule, sums, said", [
    ("binarise", [6, 6, 0], "binarised at half scale: a, c; 1 of them came out empty: c"),
    ("full", [0, 6, 0], r"counted as foreground only at full scale \(masks=full\): a, c; 2 of them came out empty: a, c"),
    ("nonzero", [6, 6, 6], r"counted as foreground wherever above 0 \(masks=nonzero\): a, c$"),
])
def test_mask_rules_by_name(make_set, rule, sums, said):
    root = make_set(masks(a=GREY, c=BINARY // 255), LISTS)
    with pytest.warns(DataWarning, match=f"2 of 3 masks are not binary and were {said}") as caught:
        ds = open_dataset(root, "s", "trainval", masks=rule)
    assert len(caught) == 1 and [item["mask"].sum() for item in ds] == sums


def test_the_scan_does_not_depend_on_threads(make_set, monkeypatch):
    root = make_set({f"n{k:02d}": GREY if k % 3 == 0 else BINARY for k in range(30)}, {"s/test": [f"n{k:02d}" for k in range(30)]})
    said = []
    for count in (1, 8):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        with pytest.warns(DataWarning, match="10 of 30 masks"):
            said.append(open_dataset(root, "s", "test").findings)
    assert said[0] == said[1] and said[0].grey == tuple(f"n{k:02d}" for k in range(0, 30, 3))
    for name in ("n20", "n04", "n11"):
        (root / "masks" / f"{name}.png").write_text("no image")
    for _ in range(5):
        with pytest.raises(DataError, match="n04.png: not a PNG"):
            open_dataset(root, "s", "test")


def test_order_is_that_of_the_list(make_set):
    root = make_set(masks(), {"s/test": ["c", "a", "d", "b"], "t/test": ["a", "b", "c", "d"]})
    one, two = open_dataset(root, "s", "test"), open_dataset(root, "t", "test")
    assert one.names == [item["name"] for item in one] == ["c", "a", "d", "b"] and one.split_hash == two.split_hash


MOVES = {"rows": lambda x: x[::-1], "columns": lambda x: x[:, ::-1], "transpose": lambda x: x.T, "rotate": np.rot90}


@pytest.mark.parametrize("kind", ["uint8", "uint16", "rgb"])
@pytest.mark.parametrize("move", MOVES)
def test_moving_the_files_moves_what_is_loaded(tmp_path, save, move, kind):
    """Flips and transposes of image and mask commute with the loader, bit by bit."""
    rng, moved = np.random.default_rng(0), MOVES[move]
    image = rng.integers(0, 65536, (13, 18)).astype(np.uint16)
    image = {"uint8": image.astype(np.uint8), "uint16": image, "rgb": np.stack([image.astype(np.uint8) + k for k in range(3)], axis=2)}[kind]
    mask = (rng.random((13, 18)) < 0.2).astype(np.uint8) * 255
    turned = np.ascontiguousarray(np.swapaxes(image, 0, 1) if move == "transpose" else moved(image))
    for name, values, label in (("a", image, mask), ("b", turned, np.ascontiguousarray(moved(mask)))):
        save(tmp_path / "images" / f"{name}.png", values)
        save(tmp_path / "masks" / f"{name}.png", label)
    (tmp_path / "test.txt").write_text("a\nb\n")
    plain, other = open_dataset(tmp_path, None, "test")
    for key in ("image", "mask"):
        want = torch.from_numpy(np.ascontiguousarray(moved(plain[key][0].numpy())))
        assert torch.equal(other[key][0], want)
        assert plain[key].shape != other[key].shape or not torch.equal(other[key], plain[key]), "a loader that ignores the files would pass"


def test_resizing_a_mask_commutes_with_transposing(tmp_path, save):
    mask = (np.random.default_rng(0).random((30, 45)) < 0.3).astype(np.uint8) * 255
    for name, values in (("a", mask), ("b", np.ascontiguousarray(mask.T))):
        save(tmp_path / "images" / f"{name}.png", np.zeros((22, 33) if name == "a" else (33, 22), np.uint8))
        save(tmp_path / "masks" / f"{name}.png", values)
    (tmp_path / "test.txt").write_text("a\nb\n")
    with pytest.warns(DataWarning, match="mask resized"):
        one, two = open_dataset(tmp_path, None, "test")
    assert torch.equal(one["mask"][0].T, two["mask"][0]) and not torch.equal(one["mask"][0], two["mask"][0].reshape(22, 33))


def test_broken_image_is_named_at_opening(make_set):
    root = make_set(masks(), LISTS)
    (root / "images" / "b.png").write_text("hello")
    with pytest.raises(DataError, match="b.png: not a PNG"):
        open_dataset(root, "s", "trainval")


def test_missing_folder_is_one_line(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        open_dataset(tmp_path / "nowhere")


def test_full_scale_of_14_bit_images(make_set):
    root = make_set(masks(), LISTS)
    for k, name in enumerate("abcd"):
        Image.fromarray(np.full((12, 16), 16383 - k, np.uint16)).save(root / "images" / f"{name}.png")
    with pytest.warns(DataWarning, match="a.png has 100.0 % of its pixels at full scale"):
        assert open_dataset(root, "s", "trainval", full_scale=16383)[0]["image"].unique().tolist() == [1.0]
    assert open_dataset(root, "s", "trainval")[0]["image"].max() < 0.26, "the type's own scale would make it dark"
    with pytest.raises(DataError, match=r"a.png: values must lie in 0..4095 .*full_scale, --full-scale.*got 16383..16383"):
        open_dataset(root, "s", "trainval", full_scale=4095)[0]


def test_collate(make_set):
    ds = open_dataset(make_set(masks(), LISTS), "s", "trainval")
    batch = collate([ds[0], ds[2]])
    assert batch["image"].shape == batch["mask"].shape == (2, 1, 12, 16) and batch["name"] == ["a", "c"]
    with pytest.raises(DataError, match="collate: one batch needs one size of image"):
        collate([ds[0], {**ds[1], "image": torch.zeros(1, 5, 5)}])


def test_saturated_images_are_warned_of_once(make_set):
    root = make_set(masks(), LISTS)
    image = np.zeros((12, 16), np.uint8)
    image[0, 0] = 255
    for name, row in (("a", image), ("b", np.maximum(image, np.eye(12, 16, dtype=np.uint8) * 255)), ("c", image | 255)):
        Image.fromarray(row).save(root / "images" / f"{name}.png")
    ds = open_dataset(root, "s", "trainval")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds[0]
    with pytest.warns(DataWarning, match=r"s/trainval: b.png has 6.2 % of its pixels at full scale, where what is brighter is lost") as caught:
        ds[1], ds[2], ds[1]
    assert len(caught) == 1
