"""An evaluation as tables for a person."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .assessment import Assessment

_MASKS = {"binarise": "binarised at half scale", "strict": "binary", "full": "at full scale only", "nonzero": "above 0"}
PIXELS = ("IoU", "nIoU", "F1", "precision", "recall")


def headlines(facts: Mapping[str, Any], found: Sequence[Assessment], described: str = "") -> str:
    """Data, list and rules of result.json in words; ``described``: a line about prediction files."""
    size = f"{facts['eval_size']} size" + (f" (masks {facts['mask_resize']})" if facts["eval_size"] != "native" else "")
    rules = [size, f"threshold {facts['threshold']:g}", f"masks {_MASKS[facts['masks']]}"]
    rules += [f"{facts['weights']} weights"] if facts["weights"] else []
    rules += [f"Fa per {facts['fixed_pixels']} pixels an image"] if facts["fixed_pixels"] else []
    rules += ["each prediction divided by its own maximum"] if facts["maxnorm"] else []
    lines = [f"{facts['data']} split {facts['split']} ({facts['split_hash']}) {facts['part']}: {facts['images']} images, {found[0].curve.n_gt} targets"]
    lines[0] += f"; {facts['part_note']}" if facts["part_note"] else ""
    lines.append(", ".join(rules))
    empty = sum(row["n_gt"] == 0 for row in found[0].rows)
    if empty:
        lines.append(f"{empty} images have no target; without a prediction they count 0 in nIoU zero and are left out of nIoU skip")
    samples, seed = facts["bootstrap"]["samples"], facts["bootstrap"]["seed"]
    if samples:
        lines.append(f"[..]: 95 % intervals from {samples} bootstrap samples of the images, seed {seed}")
    return "\n".join([*lines, described] if described else lines)


def tables(found: Sequence[Assessment]) -> str:
    """Pixel figures, target figures by protocol, Pd at budgets of Fa, and Pd by size and SCR; a row per scorer in each."""
    first = found[0]
    protocols = list(first.figures)
    # Pixel figures and both forms of nIoU are the same under every protocol.
    fields = list(PIXELS)
    if any(row["n_gt"] == 0 for row in first.rows):
        fields[1:2] = ["nIoU_zero", "nIoU_skip"]
    rows = {a.name: [_percent(a, protocols[0], f) for f in fields] + [_number(100 * a.auc, ".4f")] for a in found}
    parts = [_table("pixels", [f"{f.replace('_', ' ')} %" for f in fields] + ["AUC %"], rows)]
    for protocol in protocols:
        rows = {a.name: _target_row(a, protocol) for a in found}
        parts.append(_table(protocol, ["Pd %", "Fa 1e-6", "found", "false pixels", "false objects/image"], rows))
    rows = {a.name: [_number(100 * v, ".2f") for v in a.pd_at_fa.values()] for a in found}
    parts.append(_table("Pd % at Fa of at most", list(first.pd_at_fa), rows))
    for key, title, name in (("by_size", "Pd % by target size, pixels", _pixels), ("by_scr", "Pd % by SCR", _scr)):
        heads = [name(b["low"], b["high"]) for b in first.breakdown[key]]
        rows = {a.name: [f"{_number(100 * b['Pd'], '.1f')} ({b['n_hit']}/{b['n_gt']})" if b["n_gt"] else "-" for b in a.breakdown[key]] for a in found}
        parts.append(_table(title, heads, rows))
    return "\n\n".join(parts)


def _table(title: str, heads: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """Right-aligned columns under their heads.

    >>> print(_table("pixels", ["IoU %"], {"net": ["50.00"]}))
    pixels  IoU %
    net     50.00
    """
    label = max(len(title), *(len(name) for name in rows))
    widths = [max(len(head), *(len(row[i]) for row in rows.values())) for i, head in enumerate(heads)]
    lines = [(title, heads), *rows.items()]
    return "\n".join("  ".join([f"{name:{label}}", *(f"{cell:>{w}}" for cell, w in zip(cells, widths))]) for name, cells in lines)


def _target_row(a: Assessment, protocol: str) -> list[str]:
    f = a.figures[protocol]
    false = _number(f["Fa_objects_per_image"], ".3f") if "Fa_objects_per_image" in f else "-"
    fa = _interval(a, protocol, "Fa", lambda v: _number(1e6 * v, ".2f"))
    return [_percent(a, protocol, "Pd"), fa, f"{f['n_hit']}/{f['n_gt']}", str(f["fa_pixels"]), false]


def _percent(a: Assessment, protocol: str, field: str) -> str:
    return _interval(a, protocol, field, lambda v: _number(100 * v, ".2f"))


def _interval(a: Assessment, protocol: str, field: str, show: Callable[[float], str]) -> str:
    """``64.68 [58.10, 70.31]``, or the value alone where there is no interval."""
    value, ends = show(a.figures[protocol][field]), a.intervals.get(protocol, {}).get(field)
    return value if ends is None or not all(map(math.isfinite, ends)) else f"{value} [{show(ends[0])}, {show(ends[1])}]"


def _number(value: Any, form: str) -> str:
    return "nan" if value is None or not math.isfinite(value) else format(value, form)


def _pixels(low: int, high: int | None) -> str:
    return f">= {low}" if high is None else f"{low}-{high}"


def _scr(low: float | None, high: float | None) -> str:
    if low is None:
        return "undefined"
    return f">= {low:g}" if high is None else f"< {high:g}" if low == 0 else f"{low:g}-{high:g}"
