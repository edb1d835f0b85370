"""The check itself: reads every image and mask once, with threads, and asks each part of this package."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from os import PathLike

import numpy as np
from tqdm import tqdm

from ..errors import DataError, some
from ..layouts import find_layout
from ..splits import split_hash
from . import known
from .duplicates import find_duplicates
from .lists import NameList, compare_lists, read_lists, unlisted
from .pixels import describe, judge
from .records import Record, read_record
from .result import SEVERITIES, CheckResult, PartSummary


def check(root: str | PathLike, split: str | None = None, full_scale: float | None = None, threads: int = 1, progress: bool = False) -> CheckResult:
    """Look over a data-set folder: its lists, pairs, pixels, duplicates, and counts known from the literature.

    ``split``: look at the lists of this split and their images only (default: every list and every image). ``full_scale``: the value of an
    image file that means 1.0, as in ``open_dataset``. ``threads`` decode files; the result does not depend on them. An image is kept as a
    thumbnail of 8 KB, so memory does not grow with the size of the images. Targets are the 8-connected components of
    what lies above half of a mask's full scale.

    Raises :class:`DataError` for what cannot be checked at all: no such folder, no layout that fits, no such split. Everything
    else is a :class:`Finding`, in an order that depends on the data only.

    >>> result = check("NUAA-SIRST", threads=2)  # doctest: +SKIP
    >>> [f.names for f in result.findings if f.kind == "size-mismatch"]  # doctest: +SKIP
    [('Misc_111',)]
    """
    if threads < 1:
        raise DataError(f"check: threads must be >= 1, got {threads}")
    if full_scale is not None and not 0 < full_scale < float("inf"):
        raise DataError(f"check: full_scale must be > 0, got {full_scale}")
    layout = find_layout(root)
    splits = layout.splits()
    if split is not None:
        if split not in splits:
            raise DataError(f"{layout.root}: split must be one of: {some(sorted(splits), 20) or 'none'}; got {split!r}")
        splits = {split: splits[split]}
    lists, findings = read_lists(layout, splits)
    names = list(layout.images) if split is None else sorted({n for entry in lists for n in entry.names})
    findings += compare_lists(lists)
    if split is None:
        findings += unlisted(layout, lists)
    jobs = ((n, layout.images[n], layout.mask(n), full_scale) for n in names)
    records = list(_read(jobs, len(names), threads, progress))
    findings += judge(records, full_scale) + find_duplicates(records, lists, progress)
    by_name = {r.name: r for r in records}
    parts = [_summary(entry, by_name) for entry in lists]
    said: list[str] = []
    if split is None:
        said, more = known.compare(records, parts, {n for entry in lists for n in entry.names})
        findings += more
    findings.sort(key=lambda f: SEVERITIES.index(f.severity))
    return CheckResult(str(layout.root), layout.name, describe(records, full_scale), tuple(parts), tuple(said), tuple(findings))


def _read(jobs: Iterable[tuple], count: int, threads: int, progress: bool) -> Iterable[Record]:
    bar = {"desc": "data check", "unit": "image", "total": count, "disable": not progress, "dynamic_ncols": True, "leave": False}
    with ThreadPoolExecutor(threads) as pool:
        yield from tqdm(pool.map(lambda job: read_record(*job), jobs), **bar)


def _summary(entry: NameList, records: dict[str, Record]) -> PartSummary:
    masks = [records[n].mask for n in entry.names if records[n].mask]
    areas = [a for m in masks for a in m.areas]
    both = sum(records[n].image is not None and records[n].mask is not None for n in entry.names)
    spread = (min(areas), float(np.median(areas)), max(areas)) if areas else None
    return PartSummary(entry.split, entry.part, len(entry.names), both, len(areas), sum(not m.areas for m in masks), spread, split_hash(entry.names))
