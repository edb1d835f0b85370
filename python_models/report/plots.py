"""Curves as inline SVG: drawn by matplotlib, coloured by the page's style sheet, equal bytes for equal values."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup


SERIES = 6  # colours of the style sheet, --s0 to --s5; further series repeat them with another dash
FA_FLOOR = 1e-7  # no false alarm has no place on a log axis: drawn here
_INK, _LINE = "#0000fe", "#0000fd"  # stand for the style sheet's variables until the drawing is done
_COLOURS = {_INK: "var(--muted)", _LINE: "var(--line)", **{f"#00f{i:01d}00": f"var(--s{i})" for i in range(SERIES)}}
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Line:
    """One curve: its place in the order of colours, x and y, and a point (x, y) to mark or the x of a mark on the axis."""

    series: int
    x: np.ndarray
    y: np.ndarray
    point: tuple[float, float] | None = None
    at: float | None = None


def over_epochs(key: str, name: str, lines: Sequence[Line], log: bool = False, share: bool = False) -> Markup:
    """A value over the epochs; ``at`` of a line is its selected epoch. ``share``: y from 0 to 1."""
    with _drawing(key, (3.9, 2.25), f"{name} over the epochs") as (axes, out):
        for line in lines:
            known = np.isfinite(line.y)
            dots = "none" if known.sum() > 40 else "."  # few values are seen as such
            y = np.maximum(line.y[known], FA_FLOOR) if log else line.y[known]
            axes.plot(line.x[known], y, marker=dots, markersize=4, **_style(line))
            if line.at is not None:
                axes.axvline(line.at, color=_colour(line) if len(lines) > 1 else _INK, linewidth=1, linestyle=(0, (2, 2)))
        axes.set(xlabel="epoch")
        if log:
            _log(axes.yaxis, "y", axes)
        if share:
            axes.set_ylim(-0.02, 1.02)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return out[0]


def pd_fa(key: str, lines: Sequence[Line]) -> Markup:
    """Pd over Fa, log Fa; ``point`` of a line is its operating point."""
    with _drawing(key, (5.2, 3.5), "Pd over Fa of every threshold") as (axes, out):
        for line in lines:
            axes.plot(np.maximum(line.x, FA_FLOOR), line.y, drawstyle="steps-post", **_style(line))  # between two thresholds there is no better one
            if line.point:
                ring = {"markersize": 8, "fillstyle": "none", "markeredgewidth": 1.6, "clip_on": False, "zorder": 5}
                axes.plot(max(line.point[0], FA_FLOOR), line.point[1], "o", color=_colour(line), **ring)
        right = max([1e-3, *(line.point[0] * 3 for line in lines if line.point)])
        axes.set(xlabel="Fa, false-alarm pixels per pixel", ylabel="Pd, share of targets found", ylim=(-0.02, 1.02))
        _log(axes.xaxis, "x", axes)
        axes.set_xlim(FA_FLOOR, min(1.0, 10 ** np.ceil(np.log10(right))))
    return out[0]


def roc(key: str, lines: Sequence[Line]) -> Markup:
    """True-positive rate over false-positive rate of the pixels, log x."""
    with _drawing(key, (5.2, 3.5), "ROC of the pixels") as (axes, out):
        for line in lines:
            first = max(int((line.x <= 0).sum()) - 1, 0)  # the best of the points without false positives
            axes.plot(np.maximum(line.x[first:], FA_FLOOR), line.y[first:], **_style(line))
        axes.set(xlabel="false-positive rate of background pixels", ylabel="true-positive rate of target pixels", ylim=(-0.02, 1.02))
        _log(axes.xaxis, "x", axes)
        axes.set_xlim(FA_FLOOR, 1)
    return out[0]


def _colour(line: Line) -> str:
    return f"#00f{line.series % SERIES:01d}00"


def _style(line: Line) -> dict[str, Any]:
    return {"color": _colour(line), "linewidth": 1.5, "linestyle": ("-", "--", ":")[line.series // SERIES % 3]}


def _log(axis: Any, which: str, axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set(**{f"{which}scale": "log"})
    axis.set_major_locator(LogLocator(numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda v, _: "10" + f"{round(np.log10(v))}".translate(_SUPERSCRIPT) if v > 0 else ""))
    axis.set_minor_locator(NullLocator())
    if which == "y":  # whole decades, so that at least two are named
        low, high = axes.dataLim.intervaly
        axes.set_ylim(10 ** np.floor(np.log10(low)), 10 ** max(np.ceil(np.log10(high)), np.floor(np.log10(low)) + 1))


@contextmanager
def _drawing(key: str, size: tuple[float, float], label: str) -> Iterator[tuple[Any, list[Markup]]]:
    """Axes to draw in, and a list that holds the SVG afterwards; ``key`` makes the element ids unique in the page."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('report: matplotlib is not installed; run: pip install "irstd_ext[viz]"') from None
    look: Mapping[str, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": key, "font.size": 8.5, "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": _LINE,
        "xtick.color": _INK, "ytick.color": _INK, "grid.color": _LINE, "axes.grid": True, "grid.linewidth": 0.7,
        "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.facecolor": "none", "figure.facecolor": "none",
        "path.simplify_threshold": 0.25,
    }
    out: list[Markup] = []
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the user's own style must not reach the page
        matplotlib.rcParams.update(look)
        figure = Figure(figsize=size)
        axes = figure.add_axes((0.5 / size[0], 0.45 / size[1], 1 - 0.6 / size[0], 1 - 0.55 / size[1]))  # margins in inches: equal in all drawings
        axes.tick_params(length=0)
        yield axes, out
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    out.append(_inline(buffer.getvalue(), label))


def _inline(svg: str, label: str) -> Markup:
    """The SVG element for an HTML page: no prologue, namespaces, sizes or unused ids; variables for colours; the page's font."""
    used = set(re.findall(r"#(\w+)", "".join(re.findall(r'(?:url\(#\w+\)|href="#\w+")', svg))))
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r' id="(\w+(?:\.\w+)?)"', lambda m: m[0] if m[1] in used else "", svg)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.S)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    box = re.search(r'viewBox="[^"]*"', svg)
    svg = f'<svg {box[0] if box else ""} role="img" aria-label="{label}">' + svg[svg.index(">") + 1:]
    for stand_in, variable in _COLOURS.items():
        svg = svg.replace(stand_in, variable)
    return Markup(re.sub(r"\n\s*", "\n", svg).strip())
