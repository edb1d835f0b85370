"""A run folder as training and evaluation leave it, made in a moment: made-up figures, real images."""
import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

PROTOCOLS = ("exact", "legacy", "overlap", "shooting")


def write_csv(path: Path, columns: tuple, rows) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def make_images(folder: Path, count: int = 4, size: tuple = (64, 80)) -> list[Path]:
    """Noise with a bright spot at row 20, column 30 and another at row 50, column 60."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, paths = np.random.default_rng(0), []
    for i in range(count):
        image = rng.integers(40, 90, size, dtype=np.uint8)
        image[20:23, 30:33] = image[50:52, 60:64] = 240
        Image.fromarray(image).save(folder / f"{i}.png")
        paths.append(folder / f"{i}.png")
    return paths


def figures(rng: np.random.Generator, protocol: str) -> dict:
    n_gt, n_hit = 150, int(rng.integers(100, 150))
    return {"protocol": protocol, "threshold": 0.5, "IoU": 0.61234567890123, "nIoU": 0.59876543210987, "F1": 0.7595870206489675, "precision": 0.75,
            "recall": 0.7694, "n_gt": n_gt, "n_hit": n_hit, "Pd": n_hit / n_gt, "Fa": float(rng.uniform(1e-6, 1e-4)), "n_empty_images": 0,
            "Fa_objects_per_image": float(rng.uniform(0, 1))}


def scores(seed: int) -> dict:
    rng = np.random.default_rng(seed)
    by = {p: figures(rng, p) for p in PROTOCOLS}
    intervals = {p: {k: [0.9 * f[k], 1.1 * f[k]] for k in ("IoU", "nIoU", "F1", "Pd", "Fa")} for p, f in by.items()}
    ends = [(1, 9), (10, 81), (82, None)]
    size = [{"low": low, "high": high, "n_gt": 10 * i, "n_hit": 9 * i, "Pd": 0.9 if i else None} for i, (low, high) in enumerate(ends)]
    return {"figures": by, "intervals": intervals, "by_size": size, "by_scr": size[1:], "auc": 0.987654321,
            "pd_at_fa": {"1e-06": 0.5, "1e-05": float(rng.uniform(0.6, 0.8)), "0.001": 0.98}, "sweep": {}}


def make_evaluation(folder: Path, images: list[Path], scorers: tuple = ("sgem_unet", "top-hat"), split: str = "synth", seed: int = 1) -> Path:
    """An evaluation folder: a hit and a false alarm in the even images, two misses in the odd ones."""
    folder.mkdir(parents=True)
    result = {"format": 1, "data": "DATA/Small", "split": split, "part": "test", "split_hash": "0123456789abcdef", "images": len(images), "eval_size": "native",
              "threshold": 0.5, "masks": "binarise", "gt_rule": "half", "empty": "zero", "fixed_pixels": None, "maxnorm": False, "weights": "best",
              "versions": {"torch": "2.13.0"}, "bootstrap": {"samples": 1000, "seed": 0, "level": 0.95}, "seconds_per_image": 0.0321, "device": "cpu",
              "threads": 1,
              "scorers": {name: scores(seed + i) for i, name in enumerate(scorers)}}
    (folder / "result.json").write_text(json.dumps(result))
    t = np.linspace(8, -8, 60)
    curve = [(name, v, 1 / (1 + np.exp(v / 2 + i)), np.exp(-v - 9)) for i, name in enumerate(scorers) for v in t]
    write_csv(folder / "curve.csv", ("scorer", "threshold", "Pd", "Fa"), curve)
    write_csv(folder / "roc.csv", ("scorer", "threshold", "TPR", "FPR"), [(name, k / 10, 1 - k / 10, (1 - k / 10) ** 8) for name in scorers for k in range(11)])
    lines = []
    for i, path in enumerate(images):
        common = {"scorer": scorers[0], "image": path.stem, "path": str(path)}
        first = {**common, "row": 21.0, "col": 31.0, "box": [30, 20, 3, 3], "area": 9, "scr": 4.5, "score": 0.93}
        second = {**common, "row": 50.5, "col": 61.5, "box": [60, 50, 4, 2], "area": 8, "score": 0.4 + i / 100}
        kinds = ("hit", "false_alarm") if i % 2 == 0 else ("miss", "miss")
        lines += [json.dumps({**t, "kind": kind}) for t, kind in zip((first, second), kinds)]
    (folder / "targets.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def make_run(folder: Path, epochs: int = 12, judged: bool = True, seed: int = 0, lr: float = 0.003) -> Path:
    """A run folder with its images beside it; ``judged``: with an evaluation."""
    folder.mkdir(parents=True)
    options = {"attention": "linear", "input_size": None, "widths": [4, 4, 8, 8, 8]}
    where = {"root": "DATA/Small", "split": "synth"}
    train = {"model": "sgem_unet", "data": where["root"], "split": "synth", "out": "runs/a", "epochs": epochs, "batch_size": 4,
             "lr": lr, "seed": seed, "clip": 0.0}
    parts = {"train": {"images": 12, "hash": "aaaaaaaaaaaaaaaa"}, "val": {"images": 4, "hash": "bbbbbbbbbbbbbbbb"}}
    config = {"format": 1, "model": {"name": "sgem_unet", "preset": "tiny", "options": options}, "train": train, "data": {**where, "parts": parts},
              "versions": {"python": "3.11.7", "torch": "2.13.0"}}
    (folder / "config.json").write_text(json.dumps(config))
    if epochs:
        rows = []
        for e in range(epochs):
            validation = (0.05 * e, 0.04 * e, 0.07 * e, 1e-4 / (e + 1)) if e % 2 else ("",) * 4
            rows.append((e, 3 * (e + 1), 0.003 * (1 - e / epochs), 1 / (e + 1), *validation, 2.5))
        write_csv(folder / "log.csv", ("epoch", "step", "lr", "loss", "val_IoU", "val_nIoU", "val_Pd", "val_Fa", "seconds"), rows)
        training = {"epochs": epochs, "steps": 3 * epochs, "seconds": 2.5 * epochs, "selected": {"epoch": epochs - 3, "IoU": 0.45}}
        (folder / "metrics.json").write_text(json.dumps({"training": training}))
    if judged:
        make_evaluation(folder / "eval" / "Small-synth-test", make_images(folder.parent / f"{folder.name}-images"), seed=10 * seed + 1)
    return folder
