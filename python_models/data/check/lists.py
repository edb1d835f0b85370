"""What the lists of a data set say: lines that are no names, repeated names, missing files, overlaps, sequences cut by frame."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, one_line, some
from ..layouts import Layout, Part
from ..layouts.lists import clean_name
from .result import Finding, counted

TRAIN_SIDE = ("train", "val", "trainval")
_NEVER_BOTH = (("train", "test"), ("val", "test"), ("trainval", "test"), ("train", "val"))
_FRAME = re.compile(r"(.+?)[ _-]?\(\d+\)")  # 1(814): frame 814 of sequence 1


@dataclass(frozen=True)
class NameList:
    """One part of one split: the names that are in the data set, in the order of the list."""

    split: str
    part: str
    names: tuple[str, ...]


def read_lists(layout: Layout, splits: dict[str, dict[str, Part]]) -> tuple[list[NameList], list[Finding]]:
    """Every list with what is wrong in it; a bad line costs that line only."""
    lists, findings = [], []
    for split, parts in splits.items():
        for part, source in parts.items():
            try:
                names = source.names()
            except DataError as error:
                names, wrong = _read_leniently(layout, source.source, split)
                names = names if wrong else []
                findings += wrong or [Finding("error", "list", split, (), one_line(error, 300))]
            where = f"{part} ({source.source.name})"
            faults: dict[str, list[str]] = {}
            for name, fault in layout.faults(names).items():
                faults.setdefault(fault, []).append(name)
            for fault, faulty in sorted(faults.items()):
                kind = {"no image": "missing-image", "no mask": "missing-mask"}.get(fault, "outside")
                findings.append(Finding("error", kind, split, tuple(faulty), f"{where}: {fault} for {len(faulty)} of {len(names)} names: {some(faulty)}"))
            names = [n for n in names if n in layout.images]
            lists.append(NameList(split, part, tuple(names)))
    return lists, findings


def _read_leniently(layout: Layout, source: Path, split: str) -> tuple[list[str], list[Finding]]:
    """(names, what is wrong) of a list file that the strict reader refuses; nothing of a link, which may lead anywhere."""
    if source.is_symlink() or not source.is_file():
        return [], []
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return [], []
    names, bad = [], []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                names.append(clean_name(line))
            except DataError:
                bad.append(f"line {number} {line.strip()[:80]!r}")
    findings = []
    if bad:
        text = f"{source.name} has {counted(len(bad), 'line')} that cannot be a name inside the folder: {some(bad)}"
        findings.append(Finding("error", "bad-name", split, tuple(bad), text))
    twice = tuple(n for n, k in Counter(names).items() if k > 1)
    if twice:
        findings.append(Finding("error", "repeated-name", split, twice, f"{source.name} names {_images(twice)} more than once: {some(list(twice))}"))
    return list(dict.fromkeys(names)), findings


def compare_lists(lists: list[NameList]) -> list[Finding]:
    """Names and sequences on both sides of one split, and what two splits share."""
    findings = []
    splits: dict[str, dict[str, NameList]] = {}
    for entry in lists:
        splits.setdefault(entry.split, {})[entry.part] = entry
    for split, parts in splits.items():
        for one, two in _NEVER_BOTH:
            shared = _shared(parts.get(one), parts.get(two))
            if shared:
                findings.append(Finding("error", "overlap", split, tuple(shared), f"{one} and {two} share {_images(shared)}: {some(shared)}"))
        findings += _cut_sequences(split, parts)
    named = list(splits.items())
    for k, (one, first) in enumerate(named):
        for two, second in named[k + 1 :]:
            text = _compare_splits(one, first, two, second)
            if text:
                findings.append(Finding("note", "splits-differ", f"{one}, {two}", (), text))
    return findings


def _compare_splits(one: str, first: dict[str, NameList], two: str, second: dict[str, NameList]) -> str | None:
    """How the lists of two splits relate: a result on one is no result on the other, and training on one may have seen the other's test."""
    said = []
    if "test" in first and "test" in second:
        a, b = set(first["test"].names), set(second["test"].names)
        if a == b:
            said.append(f"the test lists are the same {len(a)} images")
        else:
            said.append(f"the test lists ({len(a)} and {len(b)} images) share {len(a & b)}: results do not compare")
    for (tested, test), (trained, train) in (((one, first), (two, second)), ((two, second), (one, first))):
        seen = set().union(*(train[p].names for p in TRAIN_SIDE if p in train)) & set(test["test"].names) if "test" in test else set()
        if seen:
            said.append(f"{counted(len(seen), 'test image')} of {tested} trained on in {trained}")
    return "; ".join(said) or None


def _cut_sequences(split: str, parts: dict[str, NameList]) -> list[Finding]:
    """Sequences (a folder of frames, or numbered names like ``1(814)``) with frames on both sides."""
    if "test" not in parts:
        return []
    trained = {s for p in TRAIN_SIDE if p in parts for n in parts[p].names if (s := sequence(n))}
    tested = Counter(s for n in parts["test"].names if (s := sequence(n)))
    cut = sorted(trained & tested.keys())
    if not cut:
        return []
    frames = sum(tested[s] for s in cut)
    text = f"{len(cut)} of {len(trained | tested.keys())} sequences have frames in train and in test ({counted(frames, 'test frame')}): {some(cut)}"
    return [Finding("warning", "cut-sequence", split, tuple(cut), text)]


def sequence(name: str) -> str | None:
    """The sequence a frame belongs to, by its folder or by a frame number in brackets.

    >>> sequence("44/1(814)"), sequence("1(814)"), sequence("Misc_1")
    ('44', '1', None)
    """
    folder = name.rpartition("/")[0]
    frame = _FRAME.fullmatch(name)
    return folder or (frame.group(1) if frame else None)


def unlisted(layout: Layout, lists: list[NameList]) -> list[Finding]:
    """Files that no list and no image asks for."""
    findings = []
    masks = tuple(p.name for p in layout.orphan_masks())
    if masks:
        findings.append(Finding("warning", "orphan-mask", "", masks, f"{counted(len(masks), 'mask')} of no image: {some(list(masks))}"))
    behind = tuple(str(p.relative_to(layout.root)) for p in layout.behind_others())
    if behind:
        text = f"{counted(len(behind), 'file')} not used, another has the same name by an earlier suffix: {some(list(behind))}"
        findings.append(Finding("warning", "same-name", "", behind, text))
    listed = {n for entry in lists for n in entry.names}
    lone = tuple(n for n in layout.images if n not in listed) if lists else ()
    if lone:
        findings.append(Finding("warning", "unlisted-image", "", lone, f"{_images(lone)} in no list: {some(list(lone))}"))
    bare = tuple(n for n in layout.images if n not in listed and layout.mask(n) is None)
    if bare:
        findings.append(Finding("warning", "missing-mask", "", bare, f"{_images(bare)} in no list and without a mask: {some(list(bare))}"))
    return findings


def _shared(one: NameList | None, two: NameList | None) -> list[str]:
    return sorted(set(one.names) & set(two.names)) if one and two else []


def _images(names: Sized) -> str:
    return counted(len(names), "image")
