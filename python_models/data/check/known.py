"""Counts of the public data sets, recognised by the names and the number of their images, never by a folder's name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .records import Record
from .result import Finding, PartSummary

_NEAR = 0.01  # a folder with a few files more or fewer is still recognised, and told so


@dataclass(frozen=True)
class Known:
    """``lists``: targets by number of images of the lists in circulation."""

    name: str
    pattern: str
    share: float
    size: tuple[int, int] | None
    images: int
    targets: int
    empty: int
    lists: Mapping[int, int]


KNOWN = (
    Known("SIRST v1", r"Misc_\d+", 1.0, None, 427, 533, 0, {213: 270, 214: 263, 341: 424, 86: 109}),
    Known("SIRST v2", r"Misc_\d+", 0.4, None, 1024, 648, 510, {768: 498, 256: 150}),
    Known("NUDT-SIRST", r"\d{6}", 1.0, (256, 256), 1327, 1863, 0, {663: 918, 664: 945}),
    Known("IRSTD-1k", r"XDU\d+", 1.0, None, 1001, 1494, 0, {201: 297}),
)


def recognise(records: list[Record]) -> Known | None:
    """The public set that these images are, if any."""
    for known in KNOWN:
        if abs(len(records) - known.images) > _NEAR * known.images:
            continue
        matching = sum(re.fullmatch(known.pattern, r.name.rpartition("/")[2]) is not None for r in records)
        if matching < known.share * len(records):
            continue
        if known.size is None or all(r.image is None or r.image.size == known.size for r in records):
            return known
    return None


def compare(records: list[Record], parts: list[PartSummary], listed: set[str]) -> tuple[list[str], list[Finding]]:
    """(what agrees, what does not) with the counts of the set that the folder was recognised as."""
    known = recognise(records)
    if known is None:
        return [], []
    masks = [r.mask for r in records if r.mask]
    seen = (len(records), sum(len(m.areas) for m in masks), sum(not m.areas for m in masks))
    said, findings = [], []

    def note(split: str, got: str, want: str) -> None:
        if got == want:
            said.append(f"as published for {known.name}: {got}")
        else:
            findings.append(Finding("warning", "known-counts", split, (), f"looks like {known.name}, but has {got}; published: {want}"))

    note("", *(f"{i} images, {t} targets, {e} empty masks" for i, t, e in (seen, (known.images, known.targets, known.empty))))
    for p in parts:
        if p.images in known.lists:
            note(p.split, *(f"{p.split} {p.part}, {p.images} images, {t} targets" for t in (p.targets, known.lists[p.images])))
    if known.name == "IRSTD-1k" and listed and "XDU997" not in listed:
        text = "IRSTD-1k: one 800/200 list in circulation leaves out XDU997, and so do the lists here; 800/201 is the usual one"
        findings.append(Finding("note", "known-list", "", ("XDU997",), text))
    return said, findings
