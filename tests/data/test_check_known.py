"""`data check` against the published counts, on made-up figures and on the two real sets where IRSTD_DATA names them."""

import pytest

from python_models.data.check import PartSummary, check
from python_models.data.check.known import KNOWN, compare, recognise
from python_models.data.check.records import ImageRecord, MaskRecord, Record

NAMES = {"SIRST v1": "Misc_{}", "SIRST v2": "Misc_{}", "NUDT-SIRST": "{:06d}", "IRSTD-1k": "XDU{}"}


def records(pattern, images, targets=0, empty=0, size=(256, 256)):
    """``images`` records with ``targets`` in all, ``empty`` of them without."""
    image = ImageRecord(size, "L", False, False, False, 0.5, 0.1, 0.0, b"", None)
    counts = [1] * (images - empty)
    for k in range(targets - sum(counts)):
        counts[k % len(counts)] += 1
    return [Record(pattern.format(k), image, MaskRecord(size, "L", False, False, False, (9,) * n)) for k, n in enumerate(counts + [0] * empty)]


def part(split, name, images, targets):
    return PartSummary(split, name, images, images, targets, 0, None, "")


@pytest.mark.parametrize("known", KNOWN, ids=lambda k: k.name)
def test_published_counts_are_recognised_and_said(known):
    made = records(NAMES[known.name], known.images, known.targets, known.empty)
    parts = [part("some", f"list{n}", n, t) for n, t in known.lists.items()] + [part("own", "test", 77, 1)]
    said, findings = compare(made, parts, {r.name for r in made})
    assert findings == [] and len(said) == 1 + len(known.lists)
    assert said[0] == f"as published for {known.name}: {known.images} images, {known.targets} targets, {known.empty} empty masks"


@pytest.mark.parametrize("known", KNOWN, ids=lambda k: k.name)
def test_other_counts_are_found(known):
    made = records(NAMES[known.name], known.images - 3, known.targets - 1, known.empty)
    images, targets = next(iter(known.lists.items()))
    said, findings = compare(made, [part("some", "train", images, targets + 1)], set())
    assert said == [] and [(f.severity, f.kind, f.split) for f in findings] == [("warning", "known-counts", ""), ("warning", "known-counts", "some")]
    listed = f"some train, {images} images"
    assert findings[1].text == f"looks like {known.name}, but has {listed}, {targets + 1} targets; published: {listed}, {targets} targets"


@pytest.mark.parametrize("made", [
    records("img{}", 427, 533), records("Misc_{}", 300, 400), records("XDU{}", 800, 1000),
    records("{:06d}", 1327, 1863, size=(128, 128)), records("{:06d}", 1000, 1200), [],
], ids=["names", "few", "part", "size", "synthetic", "none"])
def test_other_sets_are_not_recognised(made):
    assert recognise(made) is None and compare(made, [], set()) == ([], [])


def test_the_list_without_xdu997():
    made = records("XDU{}", 1001, 1494)
    everything = {r.name for r in made}
    assert "XDU997" in everything and compare(made, [], everything)[1] == [] == compare(made, [], set())[1]
    assert [(f.kind, f.names) for f in compare(made, [], everything - {"XDU997"})[1]] == [("known-list", ("XDU997",))]


def test_the_real_sirst_v1(real_data):
    result = check(real_data("NUAA-SIRST"), threads=2)
    by_kind = {f.kind: f for f in result.findings if f.kind != "image-mode"}
    assert by_kind.keys() == {"size-mismatch", "colour", "saturation", "splits-differ"} and result.exit_code() == 0
    assert by_kind["size-mismatch"].names == ("Misc_111",)
    assert by_kind["size-mismatch"].text.startswith("Misc_111: image 325 x 220, mask 592 x 400; width / height agrees within 1 %")
    differ = by_kind["splits-differ"].text
    assert "the test lists (214 and 86 images) share 42" in differ and "172 test images of 50_50 trained on in idx_427" in differ
    assert result.images["modes"] == {"L": 268, "P": 37, "RGB": 122} and result.images["sizes"].endswith("(381 different)")
    assert result.known == tuple(f"as published for SIRST v1: {text}" for text in (
        "427 images, 533 targets, 0 empty masks", "50_50 test, 214 images, 263 targets", "50_50 train, 213 images, 270 targets",
        "idx_427 test, 86 images, 109 targets", "idx_427 trainval, 341 images, 424 targets"))


def test_the_real_nudt_sirst(real_data):
    result = check(real_data("NUDT-SIRST"), threads=2)
    assert result.known == tuple(f"as published for NUDT-SIRST: {text}" for text in (
        "1327 images, 1863 targets, 0 empty masks", "50_50 test, 664 images, 945 targets", "50_50 train, 663 images, 918 targets"))
    near = [f for f in result.findings if f.kind == "near-duplicate"]
    assert [(f.severity, len(f.names)) for f in near] == [("warning", 40), ("note", 37)] and "turned" not in near[0].text + near[1].text
    assert [f.kind for f in result.findings if f not in near] == ["saturation"] and result.exit_code() == 0 and result.exit_code(strict=True) == 1
