"""`data check`: every kind of finding on a small set with that one fault, and none on the set without it."""

import dataclasses
import json
import struct
import zlib

import numpy as np
import pytest
from data.check_set import NAMES, SIZE, TEST, TRAIN, add, make_clean, save, target, texture, write_list
from PIL import Image

from python_models.data import DataError, read_raw
from python_models.data.check import check, records


@pytest.fixture
def clean(tmp_path):
    return make_clean(tmp_path / "set")


def replace(kind, name, values):
    return lambda root: save(root / kind / f"{name}.png", values)


def write(path, data):
    return lambda root: (root / path).write_bytes(data)


def truncate(root):
    path = root / "images" / "b.png"
    path.write_bytes(path.read_bytes()[:200])


def huge_png():
    body = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + b"\0\0\0\0IEND\xaeB`\x82"


def deep(top):
    """Every image in 16 bits, none above ``top``."""
    def act(root):
        for key, name in enumerate(NAMES):
            values = np.random.default_rng(key).integers(0, top, SIZE).astype(np.uint16)
            values[:4, :] = top
            save(root / "images" / f"{name}.png", values)
    return act


def replace_full(raw, full_scale):
    return dataclasses.replace(raw, full_scale=full_scale) if raw.full_scale == 65535 else raw


def palette(root):
    Image.fromarray(texture(0)).convert("P").save(root / "images" / "a.png")


def link_out(root):
    save(root.parent / "elsewhere.png", texture(90))
    (root / "images" / "a.png").unlink()
    (root / "images" / "a.png").symlink_to(root.parent / "elsewhere.png")


def frames(root):
    """Two sequences as folders; one has frames on both sides."""
    for key, (part, name) in enumerate((("train", "44/1(1)"), ("train", "44/1(2)"), ("test", "44/1(3)"), ("test", "45/1(1)")), 50):
        save(root / "images" / f"{name}.png", texture(key))
        save(root / "masks" / f"{name}.png", target())
        add(root, part, f"/{name}.png")


def other_split(root):
    write_list(root, "other/train", ("a", "e", "f"))
    write_list(root, "other/test", ("b", "g"))


def twin(turn, noise=2, part_of="a", name="e"):
    """Image ``name`` shows what ``part_of`` shows, with noise, another target and turned."""
    def act(root):
        values = texture(NAMES.index(part_of)).astype(int) + np.random.default_rng(1).integers(-noise, noise + 1, SIZE)
        values[20:23, 30:33] = 255
        save(root / "images" / f"{name}.png", turn(values.astype(np.uint8)))
        save(root / "masks" / f"{name}.png", turn(target(20, 30)))
    return act


def faint_twins(root):
    """One low-contrast scene twice, each time with a bright target elsewhere."""
    for name, row in (("a", 6), ("e", 25)):
        values = (100 + texture(0) // 8).astype(np.uint8)
        values[row : row + 2, 20:22] = 250
        save(root / "images" / f"{name}.png", values)


def grey(values):
    return np.repeat(values[:, :, None], 3, axis=2)


def coloured():
    values = grey(texture(0))
    values[3, 4, 1] += 51
    return values


SHORT, LONG = target(size=(20, 24)), target(size=(40, 40))
FAULTS = {
    "missing-image": (lambda r: add(r, "test", "ghost"), [("error", "missing-image", "half", ("ghost",), "test (test.txt): no image for 1 of 4 names: ghost")]),
    "missing-mask": (lambda r: (r / "masks" / "b.png").unlink(), [("error", "missing-mask", "half", ("b",), "train (train.txt): no mask for 1 of 4 names: b")]),
    "missing-mask of an unlisted image": (replace("images", "z", texture(70)), [
        ("warning", "unlisted-image", "", ("z",), "1 image in no list: z"), ("warning", "missing-mask", "", ("z",), "1 image in no list and without a mask")]),
    "bad-name": (lambda r: add(r, "test", "../../etc/passwd", "ghost", "/etc/\tx"), [
        ("error", "bad-name", "half", ("line 4 '../../etc/passwd'", "line 6 '/etc/\\tx'"), "test.txt has 2 lines that cannot be a name"),
        ("error", "missing-image", "half", ("ghost",), "no image for 1 of 4 names: ghost")]),
    "repeated-name": (lambda r: add(r, "train", "c", "a"), [("error", "repeated-name", "half", ("a", "c"), "train.txt names 2 images more than once: a, c")]),
    "list": (write("half/val.txt", b"\xff\xfe\x80"), [("error", "list", "half", (), "val.txt: a list of names must be UTF-8 text")]),
    "empty list": (write("half/val.txt", b"\n"), [("error", "list", "half", (), "the list holds no name")]),
    "overlap": (lambda r: add(r, "test", "a"), [("error", "overlap", "half", ("a",), "train and test share 1 image: a")]),
    "cut-sequence": (frames, [("warning", "cut-sequence", "half", ("44",), "1 of 2 sequences have frames in train and in test (1 test frame): 44")]),
    "splits-differ": (other_split, [("note", "splits-differ", "half, other", (),
        "the test lists (3 and 2 images) share 1: results do not compare; "
        "2 test images of half trained on in other; 1 test image of other trained on in half")]),
    "orphan-mask": (replace("masks", "nobody", target()), [("warning", "orphan-mask", "", ("nobody.png",), "1 mask of no image: nobody.png")]),
    "outside": (link_out, [("error", "outside", "half", ("a",), "no file inside the data set (a link leads out of it) for 1 of 4 names: a")]),
    "unreadable-image": (truncate, [("error", "unreadable-image", "", ("b",), "b.png: cannot be read")]),
    "text called image": (write("images/c.png", b"not a picture\n"), [("error", "unreadable-image", "", ("c",), "c.png: not a PNG")]),
    "link to itself": (lambda r: (r / "images" / "z.png").symlink_to("z.png"), [
        ("error", "unreadable-image", "", ("z",), "z.png: cannot be read: Too many levels"),
        ("warning", "unlisted-image", "", ("z",), "1 image in no list: z"), ("warning", "missing-mask", "", ("z",), "without a mask")]),
    "same-name": (lambda r: [save(r / f"{kind}.bmp", texture(80)) for kind in ("images/a", "masks/b")], [
        ("warning", "same-name", "", ("images/a.bmp", "masks/b.bmp"), "2 files not used, another has the same name by an earlier suffix")]),
    "60000x60000": (write("images/c.png", huge_png()), [("error", "unreadable-image", "", ("c",), "c.png: ")]),
    "unreadable-mask": (write("masks/d.png", b""), [("error", "unreadable-mask", "", ("d",), "d.png: the file is empty")]),
    "size-mismatch, same shape": (replace("masks", "e", SHORT), [
        ("warning", "size-mismatch", "", ("e",), "e: image 48 x 40, mask 24 x 20; width / height agrees")]),
    "size-mismatch": (replace("masks", "e", LONG), [("error", "size-mismatch", "", ("e",), "e: image 48 x 40, mask 40 x 40; width / height differs")]),
    "grey-mask": (replace("masks", "f", target() - np.uint8(1) * (target() > 0)), [
        ("warning", "grey-mask", "", ("f",), "1 of 7 masks hold values other than")]),
    "faint-mask": (replace("masks", "f", target() // 3), [
        ("warning", "grey-mask", "", ("f",), "1 of 7 masks"), ("warning", "faint-mask", "", ("f",), "1 of 7 masks hold something, but nothing above half")]),
    "large-mask": (replace("masks", "g", 255 - target()), [("warning", "large-mask", "", ("g",), "1 of 7 masks mark more than 20 % of their image as target")]),
    "empty-mask": (replace("masks", "g", np.zeros(SIZE, np.uint8)), [("note", "empty-mask", "", ("g",), "1 of 7 masks are empty: g")]),
    "mask-mode": (replace("masks", "g", grey(target())), [("note", "mask-mode", "", ("g",), "1 of 7 masks are of mode RGB: g")]),
    "image-mode P": (palette, [("note", "image-mode", "", ("a",), "1 of 7 images are of mode P: a")]),
    "image-mode RGBA": (replace("images", "a", np.dstack([grey(texture(0)), texture(1)])), [
        ("note", "image-mode", "", ("a",), "1 of 7 images are of mode RGBA: a")]),
    "colour": (replace("images", "a", coloured()), [
        ("warning", "colour", "", ("a",), "1 of 7 images have channels that differ, by up to 20 % of full scale"),
        ("note", "image-mode", "", ("a",), "mode RGB")]),
    "constant-image": (replace("images", "a", np.full(SIZE, 255, np.uint8)), [("warning", "constant-image", "", ("a",), "1 of 7 images are constant")]),
    "saturation": (replace("images", "a", np.maximum(texture(0), np.eye(*SIZE, dtype=np.uint8) * 255)), [
        ("warning", "saturation", "", ("a",), "1 of 7 images have more than 1 % of their pixels at full scale: a 2.1 %")]),
    "depth": (deep(16383), [
        ("warning", "depth", "", (), "no value of the 16-bit images exceeds 16383: open them with full_scale=16383"),
        ("warning", "saturation", "", NAMES, "7 of 7 images have more than 1 % of their pixels at full scale: a 10.0 %"),
        ("note", "image-mode", "", NAMES, "7 of 7 images are of mode I;16 uint16")]),
    "duplicate across": (replace("images", "e", texture(0)), [
        ("error", "duplicate", "half", (("a", "e"),), "1 group of equal images, some in train and some in test: a = e")]),
    "duplicate inside": (replace("images", "b", grey(texture(0))), [
        ("warning", "duplicate", "half", (("a", "b"),), "1 group of equal images inside train or inside test: a = b"),
        ("note", "image-mode", "", ("b",), "RGB")]),
    "near-duplicate across": (twin(lambda x: x), [
        ("warning", "near-duplicate", "half", (("a", "e"),), "1 pair of the same scene, one in train and one in test: a ~ e")]),
    "near-duplicate with other targets": (faint_twins, [("warning", "near-duplicate", "half", (("a", "e"),), "one in train and one in test: a ~ e")]),
    "near-duplicate inside": (twin(lambda x: x, name="b"), [
        ("note", "near-duplicate", "half", (("a", "b"),), "1 pair of the same scene, both in train or both in test: a ~ b")]),
    "near-duplicate mirrored": (twin(np.fliplr), [("warning", "near-duplicate", "half", (("a", "e"),), "(1 turned or mirrored): a ~ e")]),
    "near-duplicate turned": (twin(np.rot90), [("warning", "near-duplicate", "half", (("a", "e"),), "(1 turned or mirrored): a ~ e")]),
}


def test_a_set_without_fault_gives_no_finding(clean):
    result = check(clean)
    assert result.findings == () and result.exit_code(strict=True) == 0
    assert [(p.split, p.part, p.images, p.pairs, p.targets, p.empty, p.areas) for p in result.parts] == [
        ("half", "test", 3, 3, 3, 0, (9, 9.0, 9)), ("half", "train", 4, 4, 4, 0, (9, 9.0, 9))]
    assert result.table().splitlines()[-1] == "nothing found"
    assert "7 images, 7 masks, 7 targets, 0 empty masks" in result.table() and "sizes 48 x 40; modes L 7; 0 % of" in result.table()


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_gives_its_findings_and_no_other(clean, fault):
    act, wanted = FAULTS[fault]
    act(clean)
    result = check(clean)
    assert [(f.severity, f.kind, f.split, f.names) for f in result.findings] == [w[:4] for w in wanted]
    for finding, want in zip(result.findings, wanted):
        assert want[4] in finding.text and "\n" not in finding.text and len(finding.text) < 400
        assert sum(f"{finding.kind:16}" in line and finding.text in line for line in result.table().splitlines()) == 1
    assert result.exit_code() == any(w[0] == "error" for w in wanted)
    assert result.exit_code(strict=True) == any(w[0] != "note" for w in wanted)


def test_different_scenes_under_one_gradient_are_no_near_duplicates(clean):
    ramp = np.linspace(30, 220, SIZE[1])[None] + np.zeros((SIZE[0], 1))
    for key, name in enumerate(NAMES):
        save(clean / "images" / f"{name}.png", (ramp + np.random.default_rng(key).normal(0, 2, SIZE)).astype(np.uint8))
    assert check(clean).findings == ()


def test_one_split_looks_at_its_lists_and_images_only(clean):
    other_split(clean)
    write("images/c.png", b"text")(clean)  # not in the other split
    result = check(clean, "other")
    assert result.findings == () and result.images["count"] == 5 and {p.split for p in result.parts} == {"other"}
    assert [f.kind for f in check(clean, "half").findings] == ["unreadable-image"]


def test_a_folder_without_lists_is_checked_as_one(clean):
    for part in ("train", "test"):
        (clean / "half" / f"{part}.txt").unlink()
    assert check(clean).findings == () and check(clean).parts == ()
    replace("images", "e", texture(0))(clean)
    assert [(f.severity, f.kind, f.split, f.names) for f in check(clean).findings] == [("warning", "duplicate", "", (("a", "e"),))]


def test_stated_full_scale(clean):
    deep(16383)(clean)
    assert [f.kind for f in check(clean, full_scale=16383.0).findings] == ["saturation", "image-mode"]
    wrong = check(clean, full_scale=1000.0)
    assert [f.kind for f in wrong.findings] == ["unreadable-image"] * 7 and "values must lie in 0..1000" in wrong.findings[0].text


def test_a_stated_depth_is_believed(clean, monkeypatch):
    """12 bits said by the file, as in some TIFF: a dark set is not taken for one of fewer bits."""
    deep(1000)(clean)
    assert "open them with full_scale=1023" in next(f.text for f in check(clean).findings if f.kind == "depth")
    monkeypatch.setattr(records, "read_raw", lambda path: replace_full(read_raw(path), 4095.0))
    assert [f.kind for f in check(clean).findings] == ["image-mode"]


def test_result_does_not_depend_on_threads(clean):
    for name in ("missing-image", "grey-mask", "near-duplicate across", "image-mode P"):
        FAULTS[name][0](clean)
    assert check(clean, threads=1).to_json() == check(clean, threads=4).to_json()


def test_json_holds_everything(clean):
    for name in ("near-duplicate across", "splits-differ"):
        FAULTS[name][0](clean)
    result = check(clean)
    data = json.loads(result.to_json())
    assert data["format"] == 1 and data["layout"] == "images-masks" and data["root"] == str(clean) and data["images"]["targets"] == 7
    assert data["counts"] == {"error": 0, "warning": 1, "note": 2} and len(data["parts"]) == 4
    assert [f["kind"] for f in data["findings"]] == [f.kind for f in result.findings]
    assert ["a", "e"] in [n for f in data["findings"] if f["kind"] == "near-duplicate" and f["split"] == "half" for n in f["names"]]


def test_long_tables_are_cut_but_json_is_not(clean):
    for number in range(20):
        write(f"images/bad{number:02d}.png", b"text")(clean)
    result = check(clean)
    unreadable = [line for line in result.table().splitlines() if "unreadable-image" in line]
    assert len(unreadable) == 13 and unreadable[-1].endswith("and 8 more (--json has all)")
    assert sum(f["kind"] == "unreadable-image" for f in json.loads(result.to_json())["findings"]) == 20


@pytest.mark.parametrize("options, rule", [
    ({"split": "third"}, "split must be one of: half; got 'third'"), ({"threads": 0}, "check: threads must be >= 1, got 0"),
    ({"full_scale": -1.0}, "check: full_scale must be > 0, got -1.0"),
])
def test_arguments_are_checked(clean, options, rule):
    with pytest.raises(DataError, match=rule):
        check(clean, **options)


def test_what_is_no_data_set(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(DataError) as caught:
            check(path)
        assert "\n" not in str(caught.value)
    assert len(TRAIN) + len(TEST) == len(NAMES)


def test_other_layouts(tmp_path):
    for key, (part, name) in enumerate((("train", "000001_1"), ("train", "000002_1"), ("test", "00001"))):
        folders = ("training", "training") if part == "train" else ("test_org", "test_gt")
        save(tmp_path / folders[0] / f"{name}.png", texture(key))
        save(tmp_path / folders[1] / f"{name.removesuffix('_1')}{'_2' if part == 'train' else ''}.png", target())
    result = check(tmp_path)
    assert result.findings == () and result.layout == "mdfa"
    assert [(p.split, p.part, p.images, p.targets) for p in result.parts] == [("folders", "train", 2, 2), ("folders", "test", 1, 1)]
