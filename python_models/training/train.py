"""From a configuration to a trained run folder."""

from __future__ import annotations

import dataclasses
import logging
import random
import signal
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from python_models.evaluation import evaluate
from python_models.inference import network_scorer
from python_models.runs import LAST, add_metrics, prepare_folder, read_config, save_run

from .config import FREE_ON_RESUME, TrainConfig, as_json, check, parse_options
from .data import Cached, TrainItems, train_loader

if TYPE_CHECKING:
    from python_models.layers.network import IRSTDNet

Samples = Sequence[Mapping[str, Any]]
_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def require_lightning() -> None:
    """Raise ImportError with the command that installs the extra, where it is missing."""
    try:
        import pytorch_lightning  # noqa: F401
    except ImportError:
        raise ImportError('train: pytorch_lightning is not installed; run: pip install "irstd_ext[train]"') from None


def train(config: TrainConfig, recipe_options: Mapping[str, Any] | None = None, prepared: bool = False) -> dict[str, Any]:
    """Train as ``config`` says and return the summary that also stands in the run's ``metrics.json``.

    Selection looks at the validation list only (a seeded part of the training list where a split has none); the test
    list is never opened. ``recipe_options`` are network options of a recipe; those of ``config.option`` win.
    ``prepared``: the caller has prepared the folder, for a run that does not resume.
    Raises ValueError or OSError in one line for a wrong value, folder, split or file.
    """
    from python_models import build_model
    from python_models.data import compute_normalisation, normalisation_preset, open_dataset

    check(config)
    require_lightning()
    device = _device(config)
    parts = ("trainval", None) if config.final else ("train", "val")
    sets = [None if p is None else open_dataset(config.data, split=config.split, part=p, masks=config.masks) for p in parts]
    train_set, val_set = sets
    for part, ds in zip(parts, sets):
        if ds is not None and len(ds) == 0:
            raise ValueError(f"train: the {part} list of split {config.split} in {config.data} must hold an image, got none")
    _seed(config.seed)
    net = build_model(config.model, config.preset, config.backend, **{**(recipe_options or {}), **parse_options(config.option)})
    config = dataclasses.replace(config, preset=net.preset, split=train_set.split, crop=_crop(config, net))
    data = {"root": str(Path(train_set.root).resolve()), "split": train_set.split,
            "parts": {p: {"images": len(ds), "hash": ds.split_hash} for p, ds in zip(parts, sets) if ds is not None}}
    resumes = not prepared and prepare_folder(config.out, config.resume, config.overwrite)
    if config.resume:
        _check_same(config, net, data)
    if not resumes:
        mean, std = compute_normalisation(train_set) if config.normalisation == "data" else normalisation_preset(config.normalisation)
        net.normaliser.set(mean, std)
        data["normalisation"] = {"mean": _plain(mean), "std": _plain(std), "of": parts[0] if config.normalisation == "data" else config.normalisation}
        save_run(config.out, net, as_json(config), data)
    return fit(net, config, train_set, val_set, resumes, device)


def fit(net: IRSTDNet, config: TrainConfig, train_set: Samples, val_set: Samples | None, resumes: bool = False, device: str = "cpu") -> dict[str, Any]:
    """Train ``net`` on ``train_set`` into the prepared folder ``config.out``; ``train`` does the preparing."""
    require_lightning()
    import pytorch_lightning as pl

    from python_models.data import Augment

    from .loop import Progress, Recorder, SafetensorsIO, Task

    _quiet()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    augment = Augment(size=_crop(config, net), scale=config.scale, flip=config.flip, vertical=config.vertical, transpose=config.transpose,
                      positive=config.positive, blur=config.blur, blur_sigma=config.blur_sigma, pad=config.pad)
    net.to(memory_format=torch.channels_last)  # what convolutions are fastest in, on CPU and GPU
    loader = train_loader(TrainItems(Cached(train_set), augment, config.seed), config.batch_size, config.workers)
    task = Task(net, config, len(loader))
    judged = None if val_set is None else Cached(val_set)
    judge = None if judged is None else lambda n: evaluate(network_scorer(n), judged)["exact"]
    recorder = Recorder(config.out, judge, config.val_every)
    trainer = pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision=_PRECISION[config.precision],
        max_epochs=config.epochs,
        gradient_clip_val=config.clip or None,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        logger=_tensorboard(config.out) if config.tensorboard else False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        deterministic="warn" if device == "cuda" else None,
        use_distributed_sampler=False,
        callbacks=[recorder, *([Progress(recorder)] if config.progress else [])],
        plugins=[SafetensorsIO()],
    )
    try:
        trainer.fit(task, loader, ckpt_path=str(config.out / LAST) if resumes else None)
    except SystemExit:  # Lightning's answer to an interrupt, which it also makes the process ignore from then on
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if trainer.interrupted:
        raise KeyboardInterrupt
    summary = {"epochs": trainer.current_epoch, "steps": trainer.global_step, "seconds": round(task.elapsed, 1),
               "selected": recorder.best if val_set is not None else {"epoch": recorder.best["epoch"], "rule": "last epoch, no validation list"}}
    add_metrics(config.out, "training", summary)
    return summary


def _device(config: TrainConfig) -> str:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("train: device cuda is not available here, use --device cpu")
    device = config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and config.precision == "fp16":
        raise ValueError("train: precision fp16 needs a GPU, use bf16 or fp32 on the CPU")
    return device


def _crop(config: TrainConfig, net: IRSTDNet) -> int:
    if net.input_size is not None and config.crop not in (None, net.input_size):
        raise ValueError(f"train: crop must be {net.input_size}, the fixed input size of {net.name}, got {config.crop}")
    return net.input_size or config.crop or 256


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _check_same(config: TrainConfig, net: IRSTDNet, data: Mapping[str, Any]) -> None:
    """A resumed run must be the run in the folder: the same network, lists and training values."""
    stored = read_config(config.out)
    hashes = {p: v["hash"] for p, v in data["parts"].items()}
    before = {p: v["hash"] for p, v in stored["data"]["parts"].items()}
    if hashes != before:
        raise ValueError(f"resume: the image lists must be those of the run in {config.out} ({before}), got {hashes}")
    now = {k: v for k, v in as_json(config).items() if k not in FREE_ON_RESUME | {"option", "recipe"}}
    for name, value in now.items():
        if stored["train"].get(name) != value:
            raise ValueError(f"resume: {name} must be that of the run in {config.out}, {stored['train'].get(name)!r}, got {value!r}")
    options = {k: list(v) if isinstance(v, tuple) else v for k, v in net.options.items()}
    if stored["model"]["options"] != options:
        raise ValueError(f"resume: network options must be those of the run in {config.out}, {stored['model']['options']}, got {options}")


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _tensorboard(folder: Path) -> Any:
    from pytorch_lightning.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(save_dir=str(folder), name="", version="tensorboard")
    except ModuleNotFoundError:
        raise ImportError('train: tensorboard is not installed; run: pip install "irstd_ext[train]"') from None


def _quiet() -> None:
    """Lightning's banners say nothing about a run; errors and our own bar stay."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
