"""The run folder: `config.json`, `model.safetensors`, `best.safetensors`, `raw.safetensors`, `last/`, `metrics.json`, `log.csv`.

    net = load_run("runs/a")            # the selected weights, in eval mode
    net = load_run("runs/a", "last")    # the weights of the last epoch, averaged where the run averages
    net = load_run("runs/a", "raw")     # the weights of the last epoch as the optimizer left them
"""

from __future__ import annotations

import csv
import json
import platform
import re
import shutil
from collections.abc import Mapping
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from .files import read_weights, write_json, write_text, write_weights

if TYPE_CHECKING:
    from python_models.layers.network import IRSTDNet

CONFIG, MODEL, BEST, RAW, LAST, METRICS, LOG = (
    "config.json", "model.safetensors", "best.safetensors", "raw.safetensors", "last", "metrics.json", "log.csv")
STATE = "state.json"  # in LAST: the resume state is whole where this file is
FORMAT = 1


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("irstd_ext", "numpy", "pytorch_lightning"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def prepare_folder(folder: Path, resume: bool, overwrite: bool) -> bool:
    """Make ``folder`` ready for a run; True where a finished epoch is there to resume from.

    A folder with content is refused unless it is a run folder and ``resume`` or ``overwrite`` says what to do with it. What a
    run killed before its first file leaves, an empty folder, can be resumed: from the beginning.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"out: {folder} must be a folder, got a file")
    is_run = (folder / CONFIG).is_file()
    empty = not folder.is_dir() or all(_is_leftover(path) for path in folder.iterdir())
    if resume:
        if not is_run and not (empty and folder.is_dir()):
            raise FileNotFoundError(f"resume: {folder} holds no run ({CONFIG} is missing)")
        _remove_leftovers(folder)
        return (folder / LAST / STATE).is_file()
    if not empty and not is_run:
        raise FileExistsError(f"out: {folder} is not empty and holds no run; give another --out")
    if not empty and not overwrite:
        raise FileExistsError(f"out: {folder} holds a run; give another --out, or --overwrite, or continue a training with --resume")
    if not empty:
        _clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    return False


def _is_leftover(path: Path) -> bool:
    """Whether a file is the temporary one of a killed :func:`atomic_write`."""
    return re.fullmatch(r"\..+\.\d+\.tmp", path.name) is not None


def _remove_leftovers(folder: Path) -> None:
    for where in (folder, folder / LAST):
        for path in where.glob(".*.tmp"):
            if _is_leftover(path):
                path.unlink(missing_ok=True)


def _clear(folder: Path) -> None:
    """Remove what a run wrote into ``folder`` and nothing else; the configuration goes last."""
    _remove_leftovers(folder)
    for name in (LAST, "eval", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (BEST, MODEL, RAW, "report.html", METRICS, LOG, CONFIG):
        (folder / name).unlink(missing_ok=True)


def save_run(folder: Path, net: IRSTDNet, train: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Write ``config.json``: how the network is built, the resolved training configuration, the data lists, the versions."""
    model = {"name": net.name, "preset": net.preset, "options": dict(net.options)}
    write_json(folder / CONFIG, {"format": FORMAT, "model": model, "train": dict(train), "data": dict(data), "versions": versions()})


def read_config(folder: str | Path) -> dict[str, Any]:
    """The ``config.json`` of a run folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"run: folder {folder} does not exist")
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"run: {folder} is no run folder ({CONFIG} is missing)")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"run: {path} is not valid JSON ({error})") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT or "model" not in config:
        raise ValueError(f"run: {path} must have format {FORMAT} and a model, got {config.get('format') if isinstance(config, dict) else config!r}")
    return config


def load_run(folder: str | Path, weights: Literal["best", "last", "raw"] = "best", backend: str = "ext", device: str = "cpu") -> IRSTDNet:
    """The trained network of a run folder, in eval mode; ``weights`` picks the selected epoch, the last one, or the last one
    without the averaging (the same where the run averages none).

    Raises FileNotFoundError for a folder without a run or without these weights, ValueError for weights that do not fit.
    """
    from python_models import build_model

    config = read_config(folder)
    model, averages = config["model"], config.get("train", {}).get("ema", 0) > 0
    path = Path(folder) / (BEST if weights == "best" else RAW if weights == "raw" and averages else MODEL)
    if not path.is_file():
        raise FileNotFoundError(f"run: {path} does not exist; the run has not finished an epoch yet")
    net = build_model(model["name"], model["preset"], backend, **model["options"])
    try:
        net.load_state_dict(read_weights(path))
    except RuntimeError as error:
        raise ValueError(f"run: {path} does not fit {model['name']}: {' '.join(str(error).split())[:200]}") from None
    return net.to(device).eval()


def load_weights(net: IRSTDNet, path: Path) -> None:
    """Load a safetensors file that holds exactly the entries of ``net``; raises ValueError or FileNotFoundError in one line where it does not."""
    tensors, wanted = read_weights(path), net.state_dict()
    wrong = [f"{what} {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}" for what, names in (
        ("it lacks", [n for n in wanted if n not in tensors]), ("it has besides", [n for n in tensors if n not in wanted]),
        ("of another shape are", [n for n in wanted if n in tensors and tensors[n].shape != wanted[n].shape])) if names]
    if wrong:
        raise ValueError(f"train: weights {path} do not fit {net.name} {net.preset}: {'; '.join(wrong)}")
    net.load_state_dict(tensors)


def save_weights(folder: Path, tensors: Mapping[str, torch.Tensor], best: bool, raw: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write the weights of an epoch, the same as the selected ones when ``best``, and ``raw``, those before averaging."""
    write_weights(folder / MODEL, tensors)
    if raw is not None:
        write_weights(folder / RAW, raw)
    if best:
        write_weights(folder / BEST, tensors)


def add_metrics(folder: Path, name: str, value: Mapping[str, Any]) -> Path:
    """Put ``value`` under ``name`` into the run's ``metrics.json`` and keep what else is there."""
    path = folder / METRICS
    known: dict[str, Any] = {}
    if path.is_file():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"metrics: {path} is not valid JSON ({error}); move it away to write a new one") from None
    known[name] = dict(value)
    write_json(path, known)
    return path


def append_log(folder: Path, row: Mapping[str, Any]) -> None:
    """Add one epoch to ``log.csv``; rows of this epoch and later ones, left by a killed process, are replaced."""
    path = folder / LOG
    rows: list[dict[str, Any]] = []
    if path.is_file():
        with open(path, newline="", encoding="utf-8") as file:
            rows = [r for r in csv.DictReader(file) if (r.get("epoch") or "").isdigit() and int(r["epoch"]) < row["epoch"]]
    rows.append({k: "" if v is None else v for k, v in row.items()})
    text = StringIO()
    writer = csv.DictWriter(text, fieldnames=list(row), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
