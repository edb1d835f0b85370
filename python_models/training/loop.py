"""The training loop on PyTorch Lightning. Import it lazily: Lightning takes seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor
from tqdm import tqdm

from python_models.evaluation import HEADLINE
from python_models.runs import LAST, append_log, save_weights

from .checkpoint import load_state, rng_state, save_state, set_rng_state
from .config import TrainConfig
from .optim import WeightAverage, build_optimizer, lr_factor

if TYPE_CHECKING:
    from python_models.layers.network import IRSTDNet

Judge = Callable[["IRSTDNet"], Mapping[str, float]]
"""Network in eval mode -> its figures on the validation list; ``IoU`` selects."""


class SafetensorsIO(CheckpointIO):
    """Lightning's checkpoints as a folder of safetensors and JSON, written atomically; nothing is pickled."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save_state(path, checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return load_state(path)

    def remove_checkpoint(self, path: Any) -> None:
        raise OSError(f"checkpoint: {path} is kept; a run folder replaces its own checkpoint")


class Task(pl.LightningModule):
    """One training step of any network of the package, with its learning-rate schedule and weight average."""

    def __init__(self, net: IRSTDNet, config: TrainConfig, steps_per_epoch: int) -> None:
        super().__init__()
        self.net, self.config = net, config
        self.criterion = net.criterion()
        self.total_steps = config.epochs * steps_per_epoch
        self.average = WeightAverage(net, config.ema) if config.ema > 0 else None
        self.spent, self._start, self._rng = 0.0, time.monotonic(), None

    @property
    def elapsed(self) -> float:
        """Seconds of training, those of the runs it continues included."""
        return self.spent + time.monotonic() - self._start

    @property
    def progress(self) -> float:
        """Share of the training that is done, by steps or by the time budget, whichever is further."""
        share = self.global_step / self.total_steps
        return share if self.config.minutes is None else max(share, self.elapsed / (60.0 * self.config.minutes))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        c = self.config
        return build_optimizer(self.net.parameters(), c.optimizer, c.lr, c.weight_decay)

    def on_train_start(self) -> None:
        self._start = time.monotonic()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self._rng is not None:
            set_rng_state(self._rng)
            self._rng = None
        if batch_idx == 0:
            self.net.set_epoch(self.current_epoch)
            self.criterion.set_epoch(self.current_epoch)
        c = self.config
        factor = lr_factor(self.progress, min(c.warmup_epochs / c.epochs, 0.5), c.schedule, c.poly_power)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = c.lr * factor

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        out = self.net(self.net.preprocess(batch["image"]))
        loss = self.criterion(out, {"mask": batch["mask"]})
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"train: loss must be finite, got {loss.item()} at epoch {self.current_epoch}, step {batch_idx}; "
                "the last finished epoch is intact, resume with a lower --lr, with --clip 1 or with --precision fp32"
            )
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.average is not None:
            self.average.update(self.net)
        if self.config.minutes is not None and self.elapsed >= 60.0 * self.config.minutes:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["irstd"] = {
            "rng": rng_state(), "spent": self.elapsed, "average": None if self.average is None else self.average.state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        own = checkpoint["irstd"]
        self._rng, self.spent = own["rng"], own["spent"]
        if self.average is not None and own["average"] is not None:
            self.average.restore(own["average"])

    def judged_state(self) -> dict[str, Tensor]:
        """The weights that are judged and saved: the average where there is one."""
        source = self.net.state_dict() if self.average is None else self.average.shadow
        return {k: v.detach().clone() for k, v in source.items()}


class Recorder(pl.Callback):
    """After each epoch: judge, keep the best weights, add a log row, write the checkpoint. In this order, so that what a
    kill leaves behind is redone identically by the resumed run."""

    def __init__(self, folder: Path, judge: Judge | None, every: int) -> None:
        self.folder, self.judge, self.every = folder, judge, every
        self.best: dict[str, Any] = {"epoch": None, "IoU": -1.0}
        self.latest: dict[str, float] = {}
        self._loss: list[Tensor] = []
        self._began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"best": dict(self.best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = dict(state_dict["best"])

    def on_train_batch_end(self, trainer: pl.Trainer, task: Task, outputs: Any, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        self._loss.append(outputs["loss"].detach())

    def on_train_epoch_end(self, trainer: pl.Trainer, task: Task) -> None:  # type: ignore[override]
        if not self._loss:
            return
        epoch = trainer.current_epoch
        ends = trainer.should_stop or epoch + 1 >= task.config.epochs
        state = task.judged_state()
        figures: Mapping[str, float] = {}
        if self.judge is not None and (ends or (epoch + 1) % self.every == 0):
            figures = self._figures(task, state)
        iou = figures.get("IoU")
        best = self.judge is None or (iou is not None and (iou if math.isfinite(iou) else 0.0) > self.best["IoU"])
        if best:
            self.best = {"epoch": epoch, "IoU": -1.0, **{k: float(figures[k]) for k in HEADLINE if k in figures}}
        save_weights(self.folder, state, best)
        row = {"epoch": epoch, "step": trainer.global_step, "lr": trainer.optimizers[0].param_groups[0]["lr"],
               "loss": torch.stack(self._loss).mean().item(), **{f"val_{k}": figures.get(k) for k in HEADLINE},
               "seconds": round(time.monotonic() - self._began, 2)}
        append_log(self.folder, row)
        self.latest = {"loss": row["loss"], **({} if iou is None else {"val_IoU": iou})}
        if trainer.logger is not None:
            trainer.logger.log_metrics({k: v for k, v in row.items() if v is not None}, step=epoch)
        self._loss, self._began = [], time.monotonic()
        trainer.save_checkpoint(self.folder / LAST)

    def _figures(self, task: Task, state: dict[str, Tensor]) -> Mapping[str, float]:
        assert self.judge is not None
        own = {k: v.detach().clone() for k, v in task.net.state_dict().items()}
        task.net.load_state_dict(state)
        task.net.eval()
        try:
            return self.judge(task.net)
        finally:
            task.net.load_state_dict(own)
            task.net.train()


class Progress(pl.Callback):
    """One bar over the whole training, in steps, or in seconds where a time budget rules."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.bar: tqdm | None = None

    def on_train_start(self, trainer: pl.Trainer, task: Task) -> None:  # type: ignore[override]
        if task.config.minutes is None:
            self.bar = tqdm(total=task.total_steps, initial=trainer.global_step, desc="train", unit="step", dynamic_ncols=True)
        else:
            form = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s{postfix}"
            self.bar = tqdm(total=60.0 * task.config.minutes, desc="train", dynamic_ncols=True, bar_format=form)

    def on_train_batch_end(self, trainer: pl.Trainer, task: Task, outputs: Any, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        assert self.bar is not None
        at = trainer.global_step if task.config.minutes is None else min(task.elapsed, self.bar.total)
        self.bar.set_postfix({"epoch": trainer.current_epoch, "loss": f"{float(outputs['loss']):.3f}",
                              **{k: f"{v:.3f}" for k, v in self.recorder.latest.items() if k != "loss"}}, refresh=False)
        self.bar.update(at - self.bar.n)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
