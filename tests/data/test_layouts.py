"""Every layout of the published sets and repositories, read where it lies; pairs are checked by what the files hold."""

import pytest

from python_models.data import DataError, find_layout, open_dataset, read_mask, read_raw, split_hash

ABCD = {f"images/{n}.png": k for k, n in enumerate("abcd", 1)}
ABCD_MASKS = {f"masks/{n}.png": k for k, n in enumerate("abcd", 1)}
BOTH = {"train": ["a", "b"], "test": ["c", "d"]}

# root, images, masks, lists, name of the layout, {split: {part: names}}
CASES = {
    "SIRST v1": ("SIRST", {f"images/Misc_{k}.png": k for k in range(1, 6)}, {f"masks/Misc_{k}_pixels0.png": k for k in range(1, 6)},
                 {"idx_427/train.txt": ["Misc_2", "Misc_1"], "idx_427/val.txt": ["Misc_3"], "idx_427/trainval.txt": ["Misc_2", "Misc_1", "Misc_3"],
                  "idx_427/test.txt": ["Misc_4"], "idx_427/trainvaltest.txt": ["Misc_1"],
                  "idx_320/trainval.txt": ["Misc_1"], "idx_320/test.txt": ["Misc_5"]},
                 "images-masks", {"idx_427": {"train": ["Misc_2", "Misc_1"], "val": ["Misc_3"], "trainval": ["Misc_2", "Misc_1", "Misc_3"], "test": ["Misc_4"]},
                                  "idx_320": {"trainval": ["Misc_1"], "test": ["Misc_5"]}}),
    "SIRST v2, mixed": ("v2", {"mixed/Misc_1.png": 1, "mixed/iraytek-2.png": 2, "images/targets/Misc_1.png": 9, "images/backgrounds/iraytek-2.png": 9},
                        {"annotations/masks/Misc_1_pixels0.png": 1, "annotations/masks/iraytek-2_pixels0.png": 2},
                        {"splits/trainval_full.txt": ["Misc_1"], "splits/test_full.txt": ["iraytek-2"], "splits/train_v1.txt": ["Misc_1"],
                         "splits/test_v1fullv2target.txt": ["Misc_1"], "splits/v2background.txt": ["iraytek-2"]},
                        "sirst-v2", {"full": {"trainval": ["Misc_1"], "test": ["iraytek-2"]}, "v1": {"train": ["Misc_1"]},
                                     "v1fullv2target": {"test": ["Misc_1"]}}),
    "SIRST v2, two folders": ("v2", {"images/targets/Misc_1.png": 1, "images/backgrounds/S1_2.png": 2},
                              {"annotations/masks/Misc_1_pixels0.png": 1, "annotations/masks/S1_2_pixels0.png": 2},
                              {"splits/test_full.txt": ["S1_2", "Misc_1"]}, "sirst-v2", {"full": {"test": ["S1_2", "Misc_1"]}}),
    "NUDT-SIRST, DNANet": ("NUDT-SIRST", ABCD, ABCD_MASKS, {"50_50/train.txt": ["a", "b"], "50_50/test.txt": ["c", "d"]}, "images-masks", {"50_50": BOTH}),
    "IRSTD-1k": ("IRSTD-1k", {"IRSTD1k_Img/XDU0.png": 1, "IRSTD1k_Img/XDU1.png": 2}, {"IRSTD1k_Label/XDU0.png": 1, "IRSTD1k_Label/XDU1.png": 2},
                 {"80_20/train.txt": ["XDU1"], "80_20/test.txt": ["XDU0"]}, "irstd-1k", {"80_20": {"train": ["XDU1"], "test": ["XDU0"]}}),
    "NUST-SIRST": ("MDFA", {"training/000000_1.png": 1, "training/000001_1.png": 2, "test_org/00000.png": 3},
                   {"training/000000_2.png": 1, "training/000001_2.png": 2, "test_gt/00000.png": 3}, {"10000_100/train.txt": ["000001_1"]},
                   "mdfa", {"folders": {"train": ["000000_1", "000001_1"], "test": ["00000"]}, "10000_100": {"train": ["000001_1"]}}),
    "SIRST-Aug, same names": ("SIRST-Aug", {"trainval/images/000000.png": 1, "trainval/images/000001.png": 2, "test/images/000000.png": 3},
                              {"trainval/masks/000000.png": 1, "trainval/masks/000001.png": 2, "test/masks/000000.png": 3}, {}, "part-folders",
                              {"folders": {"trainval": ["trainval/000000", "trainval/000001"], "test": ["test/000000"]}}),
    "ABC, RPCANet": ("IRSTD", {"train/images/a.png": 1, "train/images/b.png": 2, "test/images/c.png": 3},
                     {"train/masks/a.png": 1, "train/masks/b_pixels0.png": 2, "test/masks/c.png": 3}, {}, "part-folders",
                     {"folders": {"train": ["a", "b"], "test": ["c"]}}),
    "NUDT-SIRST-Sea": ("Sea", {"images/14-05-03.png": 1, "images/14-05-04.png": 2}, {"masks/14-05-03.png": 1, "masks/14-05-04.png": 2},
                       {"img_idx/train_NUDT-SIRST-Sea.txt": ["14-05-03"], "img_idx/test_NUDT-SIRST-Sea.txt": ["14-05-04"]},
                       "images-masks", {"NUDT-SIRST-Sea": {"train": ["14-05-03"], "test": ["14-05-04"]}}),
    "IRDST": ("IRDST", {"images/44/1(814).bmp": 1, "images/68/1(814).bmp": 2, "images/9/1(1).bmp": 3},
              {"masks/44/1(814).bmp": 1, "masks/68/1(814).bmp": 2, "masks/9/1(1).png": 3},
              {"img_idx/train_IRDST-real.txt": ["/68/1(814)", "/9/1(1)"], "test_IRDST-real.txt": ["/44/1(814)"]},
              "images-masks", {"IRDST-real": {"test": ["44/1(814)"]}, "img_idx/IRDST-real": {"train": ["68/1(814)", "9/1(1)"]}}),
    "IRSTDID-SKY, lists beside (SAM-SPL, IR-SAM2)": (
        "dataset/SKY", ABCD | {"Target_image/a.png": 9, "Target_image/z.png": 9}, ABCD_MASKS | {"Target_mask/a.png": 9},
        {"../set_configs/SKY/train.txt": ["a", "b"], "../set_configs/SKY/test.txt": ["c", "d"], "../set_configs/OTHER/test.txt": ["z"]},
        "images-masks", {"set_configs": BOTH}),
    "set_configs inside": ("NUDT", ABCD, ABCD_MASKS, {"set_configs/NUDT/train.txt": ["a", "b"], "set_configs/NUDT/test.txt": ["c", "d"]},
                           "images-masks", {"set_configs/NUDT": BOTH}),
    "BasicIRSTD, SCTransNet": ("NUAA-SIRST", {"images/a.bmp": 9, "images/a.png": 1, "images/b.bmp": 2, "images/c.jpg": 3, "images/d.png": 4}, ABCD_MASKS,
                               {"img_idx/train_NUAA-SIRST.txt": ["a", "b"], "img_idx/test_NUAA-SIRST.txt": ["d"]}, "images-masks",
                               {"NUAA-SIRST": {"train": ["a", "b"], "test": ["d"]}}),
    "MSHNet, HDNet": ("NUAA", ABCD, ABCD_MASKS, {"trainval.txt": ["a", "b"], "test.txt": ["c", "d"]}, "images-masks",
                      {"root": {"trainval": ["a", "b"], "test": ["c", "d"]}}),
    "IRSAM": ("NUDT-SIRST00", {"train_images/a.png": 1, "train_images/b.png": 2, "test_images/c.png": 3},
              {"train_masks/a.png": 1, "train_masks/b.png": 2, "test_masks/c.png": 3}, {"trainval.txt": ["b.png", "a.png"], "test.txt": ["c.png"]},
              "part-folders", {"folders": {"train": ["a", "b"], "test": ["c"]}, "root": {"trainval": ["b", "a"], "test": ["c"]}}),
    "two conventions in one folder": ("mix", ABCD | {"test/images/a.png": 5}, ABCD_MASKS | {"test/masks/a.png": 5},
                                      {"50_50/train.txt": ["a", "b"], "50_50/test.txt": ["c", "d"], "test.txt": ["d"]}, "images-masks+part-folders",
                                      {"50_50": BOTH, "root": {"test": ["d"]}, "folders": {"test": ["test/a"]}}),
}


@pytest.mark.filterwarnings("ignore::python_models.data.DataWarning")
@pytest.mark.parametrize("case", CASES)
def test_layout_is_read_where_it_lies(lay, case):
    root, images, masks, lists, name, splits = CASES[case]
    root = lay(root, images, masks, lists)
    before = sorted(root.parent.rglob("*"))
    layout = find_layout(root)
    assert layout.name == name and layout.root == root
    assert {s: {p: part.names() for p, part in parts.items()} for s, parts in layout.splits().items()} == splits
    for split, parts in splits.items():
        for part, names in parts.items():
            for pair in layout.pairs(names):
                assert layout.images[pair.name] == pair.image and layout.mask(pair.name) == pair.mask
                assert read_raw(pair.image).values[0, 0] == read_mask(pair.mask).values.sum() > 0, "image and mask of two examples"
            if part in ("trainval", "test"):
                ds = open_dataset(root, split, part)
                assert ds.names == [item["name"] for item in ds] == names and ds.split_hash == split_hash(names)
    assert sorted(root.parent.rglob("*")) == before, "reading must not write into the data"


def test_every_image_of_a_set_has_a_name_of_its_own(lay):
    root, images, masks, lists, *_ = CASES["SIRST-Aug, same names"]
    layout = find_layout(lay(root, images, masks, lists))
    assert sorted(layout.images) == ["test/000000", "trainval/000000", "trainval/000001"] and len(set(layout.images.values())) == 3


def test_folders_and_lists_give_one_hash(lay):
    by_list = lay("lists", ABCD, ABCD_MASKS, {"s/train.txt": ["b", "a"], "s/test.txt": ["c", "d"]})
    by_folder = lay("folders", {"train/images/a.png": 1, "train/images/b.png": 2, "test/images/c.png": 3, "test/images/d.png": 4},
                    {"train/masks/a.png": 1, "train/masks/b.png": 2, "test/masks/c.png": 3, "test/masks/d.png": 4})
    assert open_dataset(by_list, "s", "test").split_hash == open_dataset(by_folder, "folders", "test").split_hash


def test_mask_is_looked_up_by_stem_then_by_pixels0(lay):
    masks = {"masks/a.png": 1, "masks/a_pixels0.png": 9, "masks/b_pixels0.png": 2, "masks/c.png": 3}
    layout = find_layout(lay("set", {"images/a.png": 1, "images/b.png": 2}, masks))
    assert layout.mask("a").name == "a.png" and layout.mask("b").name == "b_pixels0.png" and layout.mask("z") is None
    assert [p.name for p in layout.orphan_masks()] == ["a_pixels0.png", "c.png"]


def test_nothing_is_paired_by_order(lay):
    """Equal counts in both folders, one name off by one: sorted listings would pair b with c."""
    root = lay("set", {"images/a.png": 1, "images/b.png": 2}, {"masks/a.png": 1, "masks/c.png": 3}, {"s/test.txt": ["a", "b"]})
    with pytest.raises(DataError, match="s/test.txt, line 2: no mask for 1 of 2 names: b"):
        open_dataset(root, "s", "test")
    with pytest.raises(DataError, match="set: no mask for 1 of 1 names: b"):
        find_layout(root).pairs(["b"])


def test_masks_without_images_in_training_folder(lay):
    root = lay("MDFA", {"training/1_1.png": 1, "training/2_1.png": 2}, {"training/1_2.png": 1, "training/9_2.png": 9})
    layout = find_layout(root)
    assert sorted(layout.images) == ["1_1", "2_1"] and [p.name for p in layout.orphan_masks()] == ["9_2.png"]
    with pytest.raises(DataError, match="training: no mask for 1 of 2 names: 2_1"):
        open_dataset(root, "folders", "trainval")


def test_a_taken_split_name_gets_its_folder(lay):
    root = lay("set", ABCD, ABCD_MASKS, {"img_idx/test_x.txt": ["a"], "x/test.txt": ["b"], "splits/test_x.txt": ["c"]})
    assert {s: p["test"].names() for s, p in find_layout(root).splits().items()} == {"x": ["a"], "splits/x": ["c"], "x/x": ["b"]}


def test_one_name_twice_is_refused(lay):
    root = lay("v2", {"images/targets/a.png": 1, "images/backgrounds/a.png": 2}, {"annotations/masks/a.png": 1})
    with pytest.raises(DataError, match="two images are called a: .*targets.a.png and .*backgrounds.a.png"):
        find_layout(root)


def test_folders_that_are_no_data_set(lay, tmp_path):
    with pytest.raises(DataError, match="nowhere: no such folder"):
        find_layout(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file: must be a folder"):
        find_layout(tmp_path / "file")
    lay("one", ABCD, ABCD_MASKS)
    lay("two", {"mixed/a.png": 1}, {"annotations/masks/a.png": 1})
    lay("none", {"pictures/a.png": 1})
    with pytest.raises(DataError, match=r"no known layout of a data set \(such as folders images and masks\); data sets inside it: one, two$"):
        find_layout(tmp_path)
    for folder in ("images", "masks"):
        (tmp_path / "void" / folder).mkdir(parents=True)
    with pytest.raises(DataError, match="void.images: holds no image"):
        find_layout(tmp_path / "void")
