"""What a configuration may say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from .config import TrainConfig
from .optim import BETAS


def check(config: TrainConfig) -> None:
    """Raise ValueError naming the first field out of its range."""
    c, world = config, config.devices * config.nodes
    rules: list[tuple[str, bool, str]] = [
        ("epochs", c.epochs >= 1, "be >= 1"),
        ("minutes", c.minutes is None or c.minutes > 0, "be > 0"),
        ("early_stop", c.early_stop >= 0, "be >= 0"),
        ("early_stop", not (c.early_stop and c.final), "be 0 with final, which has no validation list"),
        ("batch_size", c.batch_size >= 1, "be >= 1"),
        ("lr", c.lr > 0, "be > 0"),
        ("betas", c.betas is None or all(0 <= b < 1 for b in c.betas), "lie in [0, 1)"),
        ("betas", c.betas is None or len(c.betas) == len(BETAS.get(c.optimizer, ())), f"be {len(BETAS.get(c.optimizer, ()))} numbers for {c.optimizer}"),
        ("eps", c.eps > 0, "be > 0"),
        ("momentum", 0 <= c.momentum < 1, "lie in [0, 1)"),
        ("weight_decay", c.weight_decay >= 0, "be >= 0"),
        ("lr_min", 0 <= c.lr_min <= c.lr, "lie in [0, lr]"),
        ("cosine_period", c.cosine_period is None or c.cosine_period > 0, "be > 0"),
        ("poly_power", c.poly_power > 0, "be > 0"),
        ("milestones", all(m > 0 for m in c.milestones) and list(c.milestones) == sorted(set(c.milestones)), "be rising epochs > 0"),
        ("milestones", bool(c.milestones) == (c.schedule == "step"), "be given with the schedule step, and only then"),
        ("gamma", 0 < c.gamma <= 1, "lie in (0, 1]"),
        ("warmup_epochs", c.warmup_epochs >= 0, "be >= 0"),
        ("warmup_start", 0 <= c.warmup_start <= 1, "lie in [0, 1]"),
        ("warmup_start", c.warmup_start > 0 or c.warmup != "exponential", "be > 0 for an exponential warm-up"),
        ("clip", c.clip >= 0, "be >= 0"),
        ("ema", 0 <= c.ema < 1, "lie in [0, 1)"),
        ("crop", c.crop is None or c.crop >= 16, "be >= 16"),
        ("resize", c.resize is None or c.resize >= 16, "be >= 16"),
        *((name, 0 < getattr(c, name)[0] <= getattr(c, name)[1], "be 0 < low <= high") for name in ("scale", "blur_sigma", "noise_sigma")),
        *((name, 0 <= getattr(c, name) <= 1, "lie in [0, 1]") for name in ("positive", "blur", "noise", "copy_paste")),
        ("copy_paste_max", c.copy_paste_max >= 1, "be >= 1"),
        ("full_scale", c.full_scale is None or c.full_scale > 0, "be > 0"),
        ("val_every", c.val_every >= 1, "be >= 1"),
        ("seed", c.seed >= 0, "be >= 0"),
        ("seeds", all(s >= 0 for s in c.seeds) and len(set(c.seeds)) == len(c.seeds), "be different numbers >= 0"),
        ("devices", c.devices >= 1, "be >= 1"),
        ("nodes", c.nodes >= 1, "be >= 1"),
        ("batch_size", world < 1 or c.batch_size % world == 0, f"be a multiple of the {world} processes that share a batch"),
        ("threads", c.threads is None or c.threads >= 1, "be >= 1"),
        ("workers", c.workers >= 0, "be >= 0"),
    ]
    for name, holds, rule in rules:
        if not holds:
            raise ValueError(f"train: {name} must {rule}, got {getattr(config, name)}")
    if config.resume and config.overwrite:
        raise ValueError("train: resume and overwrite exclude each other, got both")


def as_json(config: TrainConfig) -> dict[str, Any]:
    """The configuration as JSON values, paths as text and tuples as lists."""
    return {
        k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v
        for k, v in dataclasses.asdict(config).items()
    }
