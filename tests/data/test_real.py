"""The two real sets, where IRSTD_DATA names their folder."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from irstd_ext import targets
from PIL import Image

from python_models.data import DataError, DataWarning, compute_normalisation, find_layout, open_dataset, part_names, read_image, split_hash

HASHES = {
    ("NUAA-SIRST", "idx_427"): {"train": "55e731f5f649e7ff", "val": "4e0d3c467b0c61de", "trainval": "bd9fcc8a7ab5587c", "test": "bf5e0fb3f4ca930e"},
    ("NUAA-SIRST", "50_50"): {"train": "dbb57f5a219d8c9d", "val": "b90463cc6adc24c5", "trainval": "776aac4ebf3dafb1", "test": "55a0018878dcfdd4"},
    ("NUDT-SIRST", "50_50"): {"train": "fc4cf6ac2dcf96d3", "val": "662d805abe731f92", "trainval": "ffac2c06d3ecd192", "test": "7b8d769f40ed7a90"},
}
TARGETS = {("NUAA-SIRST", "idx_427"): (424, 109), ("NUAA-SIRST", "50_50"): (270, 263), ("NUDT-SIRST", "50_50"): (918, 945)}
SIZES = {("NUAA-SIRST", "idx_427"): (256, 85, 341, 86), ("NUAA-SIRST", "50_50"): (181, 32, 213, 214), ("NUDT-SIRST", "50_50"): (564, 99, 663, 664)}


def quiet(*args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return open_dataset(*args, **options)


@pytest.mark.parametrize("name, split", HASHES)
def test_parts_hashes_and_targets(real_data, name, split):
    names = {p: part_names(real_data(name), split, p)[1] for p in ("train", "val", "trainval", "test")}
    assert tuple(map(len, names.values())) == SIZES[name, split]
    assert {p: split_hash(n) for p, n in names.items()} == HASHES[name, split]
    for one, two in itertools.combinations(("train", "val", "test"), 2):
        assert not set(names[one]) & set(names[two])
    assert set(names["train"]) | set(names["val"]) == set(names["trainval"])
    assert len(names["trainval"]) + len(names["test"]) == {"NUAA-SIRST": 427, "NUDT-SIRST": 1327}[name]
    counted = []
    for part in ("trainval", "test"):
        ds = quiet(real_data(name), split, part)
        assert ds.names == names[part] and ds.split_hash == HASHES[name, split][part]
        counted.append(sum(len(targets.regions(ds[i]["mask"][0].numpy().astype(np.uint8))) for i in range(len(ds))))
    assert tuple(counted) == TARGETS[name, split]


def test_the_one_mask_of_another_size(real_data):
    root = real_data("NUAA-SIRST")
    with pytest.warns(DataWarning) as caught:
        ds = open_dataset(root, "idx_427", "test")
    assert len(caught) == 1 and "Misc_111_pixels0.png is 592 x 400, its image Misc_111.png is 325 x 220" in str(caught[0].message)
    item = ds[ds.names.index("Misc_111")]
    assert item["mask"].shape == item["image"].shape == (1, 220, 325) and item["mask"].any()
    assert len(quiet(root, "idx_427", "test", mask_mismatch="skip")) == 85
    with pytest.raises(DataError, match="Misc_111"):
        open_dataset(root, "idx_427", "test", mask_mismatch="error")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_dataset(root, "idx_427", "trainval", masks="strict")


def test_modes_are_read_to_grey(real_data):
    seen = {}
    for path in sorted((real_data("NUAA-SIRST") / "images").iterdir()):
        with Image.open(path) as image:
            seen[image.mode] = seen.get(image.mode, 0) + 1
            if seen[image.mode] > 10:
                continue
            want = np.asarray(image.convert("RGB")).astype(float).mean(axis=2) / 255
        assert abs(read_image(path) - want).max() < 1e-6
    assert seen == {"L": 268, "RGB": 122, "P": 37}


def test_training_statistics(real_data):
    mean, std = compute_normalisation(quiet(real_data("NUAA-SIRST"), "idx_427", "trainval"))
    assert abs(std * 255 - 57.5) < 1.5 and 100 < mean * 255 < 130


def test_a_folder_of_data_sets_names_them(real_data):
    with pytest.raises(DataError, match="data sets inside it: .*NUAA-SIRST, NUDT-SIRST"):
        open_dataset(real_data("NUAA-SIRST").parent)
    with pytest.raises(DataError, match="split must be one of: 50_50; got 'idx_427'"):
        open_dataset(real_data("NUDT-SIRST"), "idx_427")
    with pytest.raises(DataError, match="NUAA-SIRST: say which split: 50_50, idx_427$"):
        open_dataset(real_data("NUAA-SIRST"))


def test_layouts_of_the_real_sets(real_data):
    nuaa, nudt = find_layout(real_data("NUAA-SIRST")), find_layout(real_data("NUDT-SIRST"))
    assert (nuaa.name, len(nuaa.images), nuaa.orphan_masks()) == ("images-masks", 427, [])
    assert (nudt.name, len(nudt.images), nudt.orphan_masks()) == ("images-masks", 1327, [])
    assert {s: sorted(p) for s, p in nuaa.splits().items()} == {"50_50": ["test", "train"], "idx_427": ["test", "train", "trainval", "val"]}
    assert nuaa.mask("Misc_7").name == "Misc_7_pixels0.png" and nudt.mask("000007").name == "000007.png"


def test_mask_rules_agree_on_binary_masks(real_data):
    opened = [quiet(real_data("NUDT-SIRST"), "50_50", "test", masks=rule) for rule in ("binarise", "full", "nonzero", "strict")]
    for i in range(0, 664, 50):
        one, *others = (ds[i]["mask"] for ds in opened)
        assert one.any() and all(torch.equal(one, other) for other in others)
