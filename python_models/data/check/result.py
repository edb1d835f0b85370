"""What a check hands back: findings, figures, a table for a person and JSON for a machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import some

SEVERITIES = ("error", "warning", "note")
_SHOWN = 12  # findings of one kind in the table; JSON has all of them


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing, on one line.

    ``severity``: "error" (``open_dataset`` refuses it, or a result on it cannot be trusted), "warning" (used after a repair,
    or a bias to know of) or "note" (nothing wrong). ``kind``: a fixed word per check. ``split``: the split it is about, or ""
    for the folder. ``names``: the images concerned, or tuples of images that belong together.
    """

    severity: str
    kind: str
    split: str
    names: tuple[str | tuple[str, ...], ...]
    text: str


@dataclass(frozen=True)
class PartSummary:
    """Figures of one list. ``images``: names in it; ``pairs``: those whose image and mask could be read; ``targets``: 8-connected
    components at half of full scale; ``areas``: smallest, median and largest target in px (None: no target)."""

    split: str
    part: str
    images: int
    pairs: int
    targets: int
    empty: int
    areas: tuple[int, float, int] | None
    hash: str


@dataclass(frozen=True)
class CheckResult:
    """Result of :func:`check`. ``known``: what the folder was recognised as and which of its counts agree, one line each;
    ``images``: figures of all images together (counts by mode and size, share of pixels at full scale)."""

    root: str
    layout: str
    images: dict[str, Any]
    parts: tuple[PartSummary, ...]
    known: tuple[str, ...]
    findings: tuple[Finding, ...]

    def count(self, severity: str) -> int:
        """Findings of one severity."""
        return sum(f.severity == severity for f in self.findings)

    def exit_code(self, strict: bool = False) -> int:
        """0, or 1 where there is an error (``strict``: or a warning)."""
        return int(self.count("error") + strict * self.count("warning") > 0)

    def to_json(self) -> str:
        """Everything as indented JSON text: ``format``, ``root``, ``layout``, ``images``, ``parts``, ``known``, ``counts``, ``findings``."""
        counts = {severity: self.count(severity) for severity in SEVERITIES}
        return json.dumps({"format": 1, **asdict(self), "counts": counts}, indent=2) + "\n"

    def table(self) -> str:
        """Everything for a person: what the folder holds, its lists, then one line per finding, worst first."""
        i = self.images
        modes = ", ".join(f"{mode} {n}" for mode, n in i["modes"].items())
        lines = [
            f"{self.root} ({self.layout}): {i['count']} images, {i['masks']} masks, {i['targets']} targets, {i['empty']} empty masks",
            f"sizes {i['sizes']}; modes {modes or 'none'}; {100 * i['saturated']:.3g} % of pixels at full scale",
        ]
        if self.parts:
            rows = [("split", "part", "images", "targets", "empty", "area min/median/max", "hash of list")]
            rows += [(p.split, p.part, str(p.images), str(p.targets), str(p.empty),
                      "-" if p.areas is None else "/".join(f"{a:g}" for a in p.areas), p.hash) for p in self.parts]
            lines += ["", *_align(rows)]
        lines += ["", *self.known] if self.known else []
        lines += ["", *self._finding_lines()] if self.findings else []
        total = ", ".join(counted(n, severity) for severity in SEVERITIES if (n := self.count(severity)))
        return "\n".join([*lines, "", total or "nothing found"])

    def _finding_lines(self) -> list[str]:
        lines, seen = [], {}
        for f in self.findings:
            key = (f.severity, f.kind)
            seen[key] = seen.get(key, 0) + 1
            if seen[key] <= _SHOWN:
                lines.append(f"{f.severity:8} {f.kind:16} {f'{f.split}: ' if f.split else ''}{f.text}")
        lines += [f"{severity:8} {kind:16} and {n - _SHOWN} more (--json has all)" for (severity, kind), n in seen.items() if n > _SHOWN]
        return sorted(lines, key=lambda line: SEVERITIES.index(line.split()[0]))


def counted(number: int, word: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number} {word}{'s' * (number != 1)}"


def named(groups: Iterable[tuple[str, ...]], sign: str, limit: int = 6) -> str:
    """``a = b, c = d and 3 more``."""
    return some([f" {sign} ".join(group) for group in groups], limit)


def _align(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(c.ljust(w) if k in (0, 1, 6) else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths))).rstrip() for row in rows]
