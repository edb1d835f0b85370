"""From a configuration to a trained run folder."""

from __future__ import annotations

import dataclasses
import logging
import signal
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from python_models.evaluation import evaluate
from python_models.inference import Scorer, network_scorer
from python_models.runs import CONFIG, LAST, STATE, add_metrics, load_weights, prepare_folder, save_run

from .check import as_json, check
from .checkpoint import seed_generators
from .config import TrainConfig, parse_options
from .data import Both, Cached, Change, TrainItems, train_loader
from .resume import check_same

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
    if config.seeds:
        raise ValueError(f"train: seeds must be empty for one run (see training.seeds.train_seeds), got {config.seeds}")
    require_lightning()
    _quiet()
    from .distributed import cluster

    _, rank = cluster(config)
    if rank > 0:
        warnings.simplefilter("ignore")  # the first process says it
    options = {**(recipe_options or {}), **parse_options(config.option)}
    if config.resume and (config.out / CONFIG).is_file():
        check_same(config, options)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    parts = ("trainval", None) if config.final else ("train", "val")
    sets = [None if p is None else open_dataset(config.data, split=config.split, part=p, masks=config.masks, mask_mismatch=config.mask_mismatch,
                                                full_scale=config.full_scale) for p in parts]
    train_set, val_set = sets
    for part, ds in zip(parts, sets):
        if ds is not None and len(ds) == 0:
            raise ValueError(f"train: the {part} list of split {config.split} in {config.data} must hold an image, got none")
    config = dataclasses.replace(config, device=_device(config), threads=torch.get_num_threads())
    resumes = config.resume and (config.out / LAST / STATE).is_file()
    seed_generators(config.seed)
    net = build_model(config.model, config.preset, config.backend, **options)
    if config.weights is not None and not resumes:
        load_weights(net, config.weights)
    config = dataclasses.replace(config, preset=net.preset, split=train_set.split, crop=_crop(config, net))
    data = {"root": str(Path(train_set.root).resolve()), "split": train_set.split,
            "parts": {p: {"images": len(ds), "hash": ds.split_hash} for p, ds in zip(parts, sets) if ds is not None}}
    if rank == 0 and not prepared:
        prepare_folder(config.out, config.resume, config.overwrite)
    if config.resume and (config.out / CONFIG).is_file():
        check_same(config, net.options, data)
    if not resumes:
        mean, std = compute_normalisation(train_set) if config.normalisation == "data" else normalisation_preset(config.normalisation)
        net.normaliser.set(mean, std)
        data["normalisation"] = {"mean": _plain(mean), "std": _plain(std), "of": parts[0] if config.normalisation == "data" else config.normalisation}
        if rank == 0:
            save_run(config.out, net, as_json(config), data)
    if rank == 0 and config.progress:
        print(_headline(config, net, data, resumes), flush=True)
    return fit(net, config, train_set, val_set, resumes)


def fit(net: IRSTDNet, config: TrainConfig, train_set: Samples, val_set: Samples | None, resumes: bool = False) -> dict[str, Any]:
    """Train ``net`` on ``train_set`` into the prepared folder ``config.out``; ``train`` does the preparing.

    Samples are dicts with ``image`` and ``mask`` (1, H, W). Frozen parameters stay as they are; see ``parameter_groups``.
    """
    require_lightning()
    import pytorch_lightning as pl

    from .distributed import cluster
    from .failures import explained
    from .loop import SafetensorsIO, Task
    from .recorder import Progress, Recorder, Sigterm

    _quiet()
    environment, rank = cluster(config)
    net.to(memory_format=torch.channels_last)  # what convolutions are fastest in, on CPU and GPU
    world = config.devices * config.nodes
    items = TrainItems(Cached(train_set), _augmentation(config, net, train_set), config.seed)
    loader = train_loader(items, config.batch_size, config.workers, config.drop_last, rank, world)
    if not len(loader):
        raise ValueError(f"train: the training list must hold an image for each of the {world} processes, got {len(train_set)}")
    task = Task(net, config, loader.batch_sampler)
    judged = None if val_set is None else Cached(val_set)
    judge = None if judged is None else lambda n: evaluate(_finite(network_scorer(n)), judged)["exact"]
    recorder = Recorder(config.out, judge, config.val_every, config.early_stop)
    if rank == 0 and world > 1 and config.device == "cpu" and any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in net.modules()):
        warnings.warn("batch normalisation uses the statistics of each process's own images on the CPU; only GPUs share them", stacklevel=2)
    trainer = pl.Trainer(
        accelerator="gpu" if config.device == "cuda" else "cpu",
        devices=config.devices,
        num_nodes=config.nodes,
        strategy=_strategy(config),
        sync_batchnorm=config.device == "cuda" and world > 1,
        precision=_PRECISION[config.precision],
        max_epochs=config.epochs,
        gradient_clip_val=config.clip or None,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        default_root_dir=str(config.out),
        logger=_tensorboard(config.out) if config.tensorboard else False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        deterministic="warn" if config.device == "cuda" else None,
        use_distributed_sampler=False,
        callbacks=[recorder, Sigterm(), *([Progress(recorder)] if config.progress else [])],
        plugins=[SafetensorsIO(), environment],
    )
    try:
        trainer.fit(task, loader, ckpt_path=str(config.out / LAST) if resumes else None)
    except SystemExit:  # Lightning's answer to an interrupt, which it also makes the process ignore from then on
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, signal.default_int_handler)
    except Exception as error:
        if trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(signal.SIGKILL)
        raise explained(error, config.out, config.workers) from error
    if trainer.interrupted:
        raise KeyboardInterrupt
    best = recorder.best if val_set is not None else {**recorder.best, "rule": "last epoch, no validation list"}
    summary = {"epochs": trainer.current_epoch, "steps": trainer.global_step, "seconds": round(task.elapsed, 1), "selected": best}
    if rank == 0:
        add_metrics(config.out, "training", summary)
    return summary


def _headline(config: TrainConfig, net: IRSTDNet, data: Mapping[str, Any], resumes: bool) -> str:
    """What is about to be trained, on what and where to, in one line."""
    name = " ".join(filter(None, (net.name, net.preset)))
    lists = ", ".join(f"{v['images']} {part}" for part, v in data["parts"].items())
    length = f"{config.epochs} epochs" if config.minutes is None else f"{config.minutes:g} minutes, at most {config.epochs} epochs"
    return (f"{'continue' if resumes else 'train'} {name}, {sum(p.numel() for p in net.parameters()):,} parameters, on {Path(data['root']).name} "
            f"{data['split']} ({lists} images), {length}, on {config.device}, into {config.out}")


def _augmentation(config: TrainConfig, net: IRSTDNet, train_set: Samples) -> Change:
    """What is done to a training sample. Pasted targets are those of ``train_set`` alone."""
    from python_models.data import Augment, CopyPaste, TargetBank

    augment = Augment(size=_crop(config, net), resize=config.resize, scale=config.scale, scale_law=config.scale_law, positive=config.positive, flip=config.flip, vertical=config.vertical,
                      transpose=config.transpose, blur=config.blur, blur_sigma=config.blur_sigma, noise=config.noise,
                      noise_sigma=config.noise_sigma, mask_resize=config.mask_resize, pad=config.pad)
    if not config.copy_paste:
        return augment
    return Both(CopyPaste(TargetBank.collect(train_set), config.copy_paste, config.copy_paste_max), augment)


def _finite(scorer: Scorer) -> Scorer:
    """The scorer, refusing what has left the numbers."""
    from .loop import diverged

    def checked(image: Tensor) -> Tensor:
        logits = scorer(image)
        if not logits.isfinite().all():
            raise diverged("the network's output", logits[~logits.isfinite()][0].item(), "the judgement on the validation list")
        return logits

    return checked


def _strategy(config: TrainConfig) -> Any:
    from datetime import timedelta

    from pytorch_lightning.strategies import DDPStrategy

    if config.strategy == "auto" and config.devices * config.nodes == 1:
        return "auto"
    # The others wait while the first process judges: longer than torch's half hour on a large validation list.
    return DDPStrategy(find_unused_parameters=config.strategy == "ddp-unused", timeout=timedelta(hours=3))


def _device(config: TrainConfig) -> Any:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("train: device cuda is not available here, use --device cpu")
    device = config.device if config.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and config.precision == "fp16":
        raise ValueError("train: precision fp16 needs a GPU, use bf16 or fp32 on the CPU")
    if device == "cuda" and config.devices > torch.cuda.device_count():
        raise ValueError(f"train: devices must be at most {torch.cuda.device_count()}, the GPUs of this computer, got {config.devices}")
    return device


def _crop(config: TrainConfig, net: IRSTDNet) -> int:
    if net.input_size is not None and config.crop not in (None, net.input_size):
        raise ValueError(f"train: crop must be {net.input_size}, the fixed input size of {net.name}, got {config.crop}")
    return net.input_size or config.crop or 256


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
