"""`irstd demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from python_models.cli import check_run_options, program

if TYPE_CHECKING:
    from torch import Tensor

SIZE, IMAGES, SHOWN, BUDGET = 96, 700, 12, 1e-4


@dataclass(frozen=True)
class Config:
    """The whole path on synthetic images, without any download.

    Makes a set, trains a small SGEM U-Net, judges it and a top-hat filter on held-out images, draws predictions and the
    Pd-Fa curves, and times the native ops against PyTorch.

    Examples:
      irstd demo
      irstd demo --out runs/longer --epochs 90
    """

    out: Path | None = None
    """folder to write (default: runs/demo, or runs/demo-2 and so on where that exists)"""
    epochs: int = 30
    """passes over the training images, about two minutes on 2 cores; the result is the same on a slower machine"""
    minutes: float | None = None
    """train for this long instead"""
    seed: int = 0
    """seed of the images and of the training"""
    threads: int | None = None
    """CPU threads (default: PyTorch's choice)"""
    overwrite: bool = False
    """replace the demo in the folder"""
    bench: bool = True
    """time the native ops at the end"""


def run(config: Config) -> int:
    """Make, train, judge, draw, time."""
    from python_models.baselines import TopHat
    from python_models.commands.eval import describe
    from python_models.data import open_dataset
    from python_models.training.config import TrainConfig
    from python_models.evaluation import evaluate, table
    from python_models.inference import network_scorer
    from python_models.training.memory import keep_freed_memory
    from python_models.runs import add_metrics, load_run, prepare_folder
    from python_models.training.train import require_lightning, train
    from python_models.viz import plot_curves

    require_lightning()
    if config.epochs < 1 or (config.minutes is not None and not config.minutes > 0):
        raise ValueError(f"epochs must be >= 1 and minutes > 0, got {config.epochs} and {config.minutes}")
    check_run_options("cpu", config.threads)
    out = config.out or _free_folder(Path("runs/demo"))
    prepare_folder(out, resume=False, overwrite=config.overwrite)
    data = _synthetic(out / "data", config.seed)
    length = f"{config.epochs} epochs, about {config.epochs / 15:.1g} min on 2 cores," if config.minutes is None else f"{config.minutes:g} min"
    print(f"1/4 train sgem_unet for {length} on synthetic images of {SIZE}x{SIZE}", flush=True)
    keep_freed_memory()
    train(TrainConfig(
        model="sgem_unet", data=data, split="synth", out=out, preset="tiny", option=(f"input_size={SIZE}",), epochs=config.epochs if config.minutes is None else 1000,
        minutes=config.minutes, warmup_epochs=0.6 if config.minutes is None else 20, lr=3e-3, scale=(0.8, 1.5), positive=0.9, val_every=5, seed=config.seed, device="cpu", threads=config.threads,
    ), prepared=True)
    print("2/4 judge on the held-out test list", flush=True)
    held_out = open_dataset(data, split="synth", part="test")
    scorers: dict[str, Any] = {"sgem_unet": network_scorer(load_run(out)), "top-hat": TopHat.fit(open_dataset(data, split="synth", part="train"))}
    logits: dict[str, list[Tensor]] = {name: [] for name in scorers}
    figures = {name: evaluate(scorer, held_out, keep=lambda _, x, n=name: logits[n].append(x))["exact"] for name, scorer in scorers.items()}
    add_metrics(out, "demo", {"split": "synth", "part": "test", "split_hash": held_out.split_hash, "images": len(held_out), "protocol": "exact",
                              "eval_size": "native", "threshold": 0.5, "figures": figures, "tophat": vars(scorers["top-hat"])})
    print(f"{len(held_out)} images, protocol exact, native size\n{table(figures)}")
    print(f"top-hat: {describe(scorers['top-hat'])}, fitted on the training list")
    curves = _curves(held_out, logits)
    found = ", ".join(f"{name} {100 * curve.pd_at_fa(BUDGET):.1f} %" for name, curve in curves.items())
    print(f"Pd at no more than {1e6 * BUDGET:g} false-alarm pixels in a million: {found}")
    print("3/4 draw", flush=True)
    _draw_sheet(held_out, logits["sgem_unet"], out / "predictions.png")
    try:
        plot_curves(curves, out / "pd_fa.png", {name: (f["Fa"], f["Pd"]) for name, f in figures.items()})
    except ImportError as error:
        print(f"no Pd-Fa plot: {error}")
    if config.bench:
        print("4/4 time the native ops against PyTorch on this machine", flush=True)
        _bench()
    print(f"written to {out}: predictions.png, pd_fa.png, metrics.json, best.safetensors, log.csv")
    print(f"next: {program()} predict {out} {data / 'images'}")
    return 0


def _free_folder(folder: Path) -> Path:
    """The folder itself, or the first numbered one that does not exist."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def _synthetic(folder: Path, seed: int) -> Path:
    """The demo's images; one of an earlier demo in the same folder is used again when it is complete and has the seed."""
    import json
    import shutil

    from python_models.data import write_synthetic

    try:
        known = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if (known["seed"], known["size"], len(known["images"])) == (seed, SIZE, IMAGES):
            return folder
    except (OSError, ValueError, KeyError):
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"demo: {folder} must be empty or hold synthetic images of an earlier demo, got other files") from None
    shutil.rmtree(folder, ignore_errors=True)
    return write_synthetic(folder, IMAGES, size=SIZE, seed=seed, raw=False, progress=True)


def _draw_sheet(dataset: Any, logits: list[Tensor], path: Path) -> None:
    from irstd_ext import targets
    from python_models.files import save_png
    from python_models.inference import find_targets
    from python_models.viz import contact_sheet, overlay

    tiles = []
    for i in range(min(SHOWN, len(dataset))):
        sample, (_, found) = dataset[i], find_targets(logits[i])
        true = [r.box for r in targets.regions(sample["mask"][0].bool())]
        picture = overlay(sample["image"][0].numpy(), [tuple(t["box"]) for t in found], true, scale=2)
        tiles.append((picture, f"{sample['name']}: {len(true)} true (green), {len(found)} found (red)"))
    save_png(path, contact_sheet(tiles))


def _curves(dataset: Any, logits: dict[str, list[Tensor]]) -> dict[str, Any]:
    from irstd_ext import targets
    from python_models.viz import quantise

    masks = [dataset[i]["mask"][0].bool().numpy() for i in range(len(dataset))]
    # Each scorer gets its steps where its scores decide.
    spans = {"sgem_unet": (-16.0, 16.0), "top-hat": (-8.0, 16.0)}
    return {name: targets.curve([quantise(x.numpy(), *spans[name]) for x in maps], masks) for name, maps in logits.items()}


def _bench() -> None:
    from irstd_ext import bench
    from python_models.commands.bench import bench_table

    print(bench_table(bench.quick()))
