"""The page: run folders in, one HTML file out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from python_models.evaluation import seed_runs
from python_models.files import write_text

from . import plots, tables
from .groups import Plot, data_name, make_groups
from .plots import Line
from .read import Run, read_run

HERE = Path(__file__).parent
# Columns of log.csv: title, whether the axis is logarithmic, whether the value is a share.
CURVES = {"loss": ("Training loss", False, False), "lr": ("Learning rate", False, False), "val_IoU": ("Validation IoU", False, True),
          "val_nIoU": ("Validation nIoU", False, True), "val_Pd": ("Validation Pd", False, True), "val_Fa": ("Validation Fa", True, False)}


def write_report(runs: Sequence[Path], out: Path, title: str | None = None, gallery: int = 12) -> int:
    """Write the report of run folders ``runs`` to ``out`` (.html) and return its size in bytes; a folder of seeds stands for its runs.

    ``gallery``: how many misses, and how many false alarms, are shown of each run; 0 for none. Equal folders give equal
    bytes. Raises ValueError for no run, another suffix, a negative gallery, or a damaged file of a run; OSError for a
    folder without a run; ImportError where matplotlib is missing.
    """
    if not runs:
        raise ValueError("report: runs must hold a run folder, got none")
    if out.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"report: out must end in .html, got {out}")
    if gallery < 0:
        raise ValueError(f"report: gallery must be >= 0, got {gallery}")
    folders = [folder for given in runs for folder in seed_runs(given).values() or [given]]
    text = render([read_run(folder, name) for folder, name in zip(folders, _names(folders))], title, gallery)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    return len(text.encode())


def render(runs: Sequence[Run], title: str | None = None, gallery: int = 12) -> str:
    """The page of ``runs`` as text that UTF-8 can hold."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    import irstd_ext

    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    groups = make_groups(runs, gallery)
    timed = [tables.speed_table(runs) if any(r.log for r in runs) else None, tables.inference_table([(g.title, g.series) for g in groups])]
    page = environment.get_template("page.html.j2").render(
        title=title or _title(runs), runs=runs, heads=[_head(run) for run in runs], groups=groups, training=_training(runs), config=tables.config_tables(runs),
        speed=[t for t in timed if t], style=Markup((HERE / "style.css").read_text(encoding="utf-8")), version=irstd_ext.__version__,
    )
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def _names(folders: Sequence[Path]) -> list[str]:
    """Folder names, or the paths as given where names repeat."""
    names = [f.resolve().name for f in folders]
    return [str(f) if names.count(n) > 1 else n for f, n in zip(folders, names)]


def _title(runs: Sequence[Run]) -> str:
    first = runs[0]
    if len(runs) > 1:
        return f"{len(runs)} runs: {', '.join(r.name for r in runs)}"
    return f"{_network(first)} on {data_name(first.config.get('data', {}).get('root'))}"


def _network(run: Run) -> str:
    return f"{run.network} {run.config['model'].get('preset') or ''}".strip()


def _head(run: Run) -> list[tuple[str, str]]:
    """What a run is, as names and values."""
    model, train, data = run.config["model"], run.config.get("train", {}), run.config.get("data", {})
    net = tables.build_empty(run.network, model.get("preset"), model.get("options", {}))
    size = "" if net is None else f", {sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters"
    parts = data["parts"] if isinstance(data.get("parts"), Mapping) else {}
    lists = [f"{name} {p.get('images')} images ({p.get('hash')})" for name, p in parts.items() if isinstance(p, Mapping)]
    judged = [f"{data_name(f.get('data'))} {f.get('split')} {f.get('part')}, {f.get('images')} images ({f.get('split_hash')}), "
              f"size {f.get('eval_size')}, threshold {f.get('threshold')}" for f in (e.facts for e in run.evaluations)]
    known = run.config.get("versions", {})
    used = [e.facts["versions"] for e in run.evaluations if isinstance(e.facts.get("versions"), Mapping)]
    other = {f"{k} {v}" for versions in used for k, v in versions.items() if known.get(k) != v}
    judged_with = f"; judged with {', '.join(sorted(other))}" if other else ""
    epochs = len(run.log.get("epoch", ()))
    ended = f", epoch {run.selected} selected on the validation list" if run.selected is not None else ", not finished" if epochs else ""
    head = {
        "Run": str(run.folder), "Network": _network(run) + size, "Data": f"{data_name(data.get('root'))}, split {data.get('split')}",
        "Training lists": "; ".join(lists), "Judged on": "; ".join(dict.fromkeys(judged)), "Training": f"{epochs or 'no finished'} epoch{'s' if epochs > 1 else ''}{ended}",
        "Seed": str(train.get("seed", "")), "Versions": ", ".join(f"{k} {v}" for k, v in known.items()) + judged_with,
    }
    return [(name, value or "–") for name, value in head.items()]


def _training(runs: Sequence[Run]) -> list[Plot]:
    """Curves over the epochs, each with the selected epoch marked; nothing without a log."""
    found = []
    for column, (name, log, share) in CURVES.items():
        logged = [(i, r) for i, r in enumerate(runs) if {"epoch", column} <= r.log.keys() and np.isfinite(r.log[column]).any()]
        lines = [Line(i, r.log["epoch"], r.log[column], at=r.selected) for i, r in logged]
        if lines:
            found.append(Plot(name, plots.over_epochs(column, name, lines, log, share), "log scale; 0 drawn at 10⁻⁷" if log else ""))
    return found
