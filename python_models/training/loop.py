"""The training step on PyTorch Lightning. Import it lazily: Lightning takes seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor

from python_models.data import DataError

from .checkpoint import load_state, rng_state, save_state, seed_generators, set_rng_state
from .config import TrainConfig
from .data import SharedBatches, Unreadable, item_generator
from .distributed import from_first, gather_rows
from .optim import WeightAverage, build_optimizer, parameter_groups
from .schedule import learning_rate

if TYPE_CHECKING:
    from python_models.layers.network import IRSTDNet


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

    def __init__(self, net: IRSTDNet, config: TrainConfig, batches: SharedBatches) -> None:
        super().__init__()
        self.net, self.config, self.batches = net, config, batches
        self.criterion = net.criterion()
        self.steps_per_epoch, self.total_steps = len(batches), config.epochs * len(batches)
        self.average = WeightAverage(net, config.ema) if config.ema > 0 else None
        self.spent, self._start, self._rng = 0.0, time.monotonic(), None

    @property
    def elapsed(self) -> float:
        """Seconds of training, those of the runs it continues included."""
        return self.spent + time.monotonic() - self._start

    def _epochs_done(self) -> float:
        """Epochs of the schedule that are done, by steps or by the time budget, whichever is further."""
        done, minutes = self.global_step / self.steps_per_epoch, self.config.minutes
        if minutes is None:
            return done
        share = from_first([self.elapsed / (60.0 * minutes)], self.device)[0]  # one clock for all processes
        return max(done, min(share, 1.0) * self.config.epochs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        c = self.config
        groups = parameter_groups(self.net, c.lr, c.decay_norms)
        return build_optimizer(groups, c.optimizer, c.lr, c.weight_decay, c.betas, c.eps, c.momentum, c.nesterov)

    def on_train_start(self) -> None:
        self._start = time.monotonic()
        self._stop_in_time()

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if isinstance(batch, Unreadable):
            raise DataError(batch.reason)
        return batch

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self._rng is not None:
            set_rng_state(self._rng)
            self._rng = None
        if batch_idx == 0:
            if self.global_rank > 0:  # the checkpoint holds the first process's generators; the others begin each epoch anew
                seed_generators(item_generator(self.config.seed, self.current_epoch, -1 - self.global_rank).initial_seed())
            self.net.set_epoch(self.current_epoch)
            self.criterion.set_epoch(self.current_epoch)
        epoch = self._epochs_done()
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = learning_rate(self.config, group["base_lr"], epoch)

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        out, target = self.net(self.net.preprocess(batch["image"])), {"mask": batch["mask"]}
        if self.trainer.world_size > 1:
            out, target = (gather_rows(x, self.batches.parts[batch_idx], self.global_rank) for x in (out, target))
        loss = self.criterion(out, target)
        if not torch.isfinite(loss):
            raise diverged("loss", loss.item(), f"epoch {self.current_epoch}, step {batch_idx}")
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.average is not None:
            self.average.update(self.net)
        self._stop_in_time()

    def _stop_in_time(self) -> None:
        if self.config.minutes is not None and from_first([self.elapsed], self.device)[0] >= 60.0 * self.config.minutes:
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["irstd"] = {
            "epoch": self.current_epoch, "rng": rng_state(), "spent": self.elapsed, "average": None if self.average is None else self.average.state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        own = checkpoint["irstd"]
        self.batches.sampler.set_epoch(own["epoch"] + 1)  # before Lightning does, so that workers do not begin with another epoch's images
        self._rng, self.spent = own["rng"], own["spent"]
        if self.average is not None and own["average"] is not None:
            self.average.restore(own["average"])

    def judged_state(self) -> dict[str, Tensor]:
        """The weights that are judged and saved: the average where there is one."""
        source = self.net.state_dict() if self.average is None else self.average.shadow
        return {k: v.detach().clone() for k, v in source.items()}


def diverged(what: str, value: object, where: str) -> FloatingPointError:
    """The error for a training that has left the numbers."""
    return FloatingPointError(f"train: {what} must be finite, got {value} at {where}")
