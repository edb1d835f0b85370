"""What happens after each epoch, and the progress bar. Import it lazily: Lightning takes seconds."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from tqdm import tqdm

from python_models.evaluation import HEADLINE
from python_models.runs import LAST, append_log, save_weights

from .distributed import from_first
from .loop import Task, diverged

if TYPE_CHECKING:
    from python_models.layers.network import IRSTDNet

Judge = Callable[["IRSTDNet"], Mapping[str, float]]
"""Network in eval mode -> its figures on the validation list; ``IoU`` selects."""


class Recorder(pl.Callback):
    """After each epoch: judge, keep the best weights, add a log row, write the checkpoint. In this order, so that what a
    kill leaves behind is redone identically by the resumed run.

    The first process judges, with the whole validation list, and writes; the others learn the figures.
    """

    def __init__(self, folder: Path, judge: Judge | None, every: int, patience: int = 0) -> None:
        self.folder, self.judge, self.every, self.patience = folder, judge, every, patience
        self.best: dict[str, Any] = {"epoch": None}
        self.fruitless = 0  # judgements since the best one
        self.latest: dict[str, float] = {}
        self._loss: list[Tensor] = []
        self._began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"best": dict(self.best), "fruitless": self.fruitless}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.fruitless = dict(state_dict["best"]), state_dict["fruitless"]

    def on_train_start(self, trainer: pl.Trainer, task: Task) -> None:  # type: ignore[override]
        self._stop_early(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, task: Task, outputs: Any, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        self._loss.append(outputs["loss"].detach())

    def on_train_epoch_end(self, trainer: pl.Trainer, task: Task) -> None:  # type: ignore[override]
        if not self._loss:
            return
        epoch = trainer.current_epoch
        ends = trainer.should_stop or epoch + 1 >= task.config.epochs
        raw, state = task.net.state_dict(), task.judged_state()
        for name, value in (*raw.items(), *state.items()):
            if value.is_floating_point() and not value.isfinite().all():
                raise diverged(f"weight {name}", value[~value.isfinite()][0].item(), f"the end of epoch {epoch}")
        figures: dict[str, float] = {}
        if self.judge is not None and (ends or (epoch + 1) % self.every == 0):
            figures = self._figures(trainer, task, state)
        best = self._select(epoch, figures)
        if trainer.is_global_zero:
            save_weights(self.folder, state, best, None if task.average is None else raw)
            self._log(trainer, epoch, figures)
        self._loss, self._began = [], time.monotonic()
        trainer.save_checkpoint(self.folder / LAST)
        self._stop_early(trainer)

    def _select(self, epoch: int, figures: Mapping[str, float]) -> bool:
        """Whether this epoch is the best so far; without a validation list the last one is."""
        if self.judge is None:
            self.best = {"epoch": epoch}
            return True
        if not figures:
            return False
        best = self.best["epoch"] is None or _score(figures) > _score(self.best)
        self.fruitless = 0 if best else self.fruitless + 1
        if best:
            self.best = {"epoch": epoch, **figures}
        return best

    def _stop_early(self, trainer: pl.Trainer) -> None:
        if self.patience and self.fruitless >= self.patience:
            trainer.should_stop = True

    def _log(self, trainer: pl.Trainer, epoch: int, figures: Mapping[str, float]) -> None:
        row = {"epoch": epoch, "step": trainer.global_step, "lr": trainer.optimizers[0].param_groups[0]["lr"],
               "loss": torch.stack(self._loss).mean().item(), **{f"val_{k}": figures.get(k) for k in HEADLINE},
               "seconds": round(time.monotonic() - self._began, 2)}
        append_log(self.folder, row)
        self.latest = {"val_IoU": figures["IoU"]} if figures else self.latest
        if trainer.logger is not None:
            trainer.logger.log_metrics({k: v for k, v in row.items() if v is not None}, step=epoch)

    def _figures(self, trainer: pl.Trainer, task: Task, state: dict[str, Tensor]) -> dict[str, float]:
        judged = dict.fromkeys(HEADLINE, math.nan)
        if trainer.is_global_zero:
            judged = {**judged, **{k: float(v) for k, v in self._judged(task, state).items() if k in HEADLINE}}
        figures = dict(zip(HEADLINE, from_first([judged[k] for k in HEADLINE], task.device)))
        for part in (task.net, task.criterion):
            if hasattr(part, "after_validation"):
                part.after_validation(figures)
        return figures

    def _judged(self, task: Task, state: dict[str, Tensor]) -> Mapping[str, float]:
        assert self.judge is not None
        own = {k: v.detach().clone() for k, v in task.net.state_dict().items()}
        task.net.load_state_dict(state)
        task.net.eval()
        try:
            return self.judge(task.net)
        finally:
            task.net.load_state_dict(own)
            task.net.train()


def _score(figures: Mapping[str, float]) -> float:
    """IoU, and 0 where it is undefined."""
    return figures["IoU"] if math.isfinite(figures["IoU"]) else 0.0


class Sigterm(pl.Callback):
    """SIGTERM does what it did before, and ends the processes that this one has started.

    Lightning would end at the next step with the exit code of success.
    """

    def __init__(self) -> None:
        self.before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        if self.before is None or threading.current_thread() is not threading.main_thread():
            return
        launcher = trainer.strategy.launcher

        def end(number: int, frame: Any) -> None:
            if launcher is not None:
                launcher.kill(signal.SIGKILL)
            signal.signal(number, self.before)
            signal.raise_signal(number)

        signal.signal(signal.SIGTERM, end)


class Progress(pl.Callback):
    """One bar over the whole training, in steps, or in seconds where a time budget rules."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.bar: tqdm | None = None

    def on_train_start(self, trainer: pl.Trainer, task: Task) -> None:  # type: ignore[override]
        if not trainer.is_global_zero:
            return
        if task.config.minutes is None:
            self.bar = tqdm(total=task.total_steps, initial=trainer.global_step, desc="train", unit="step", dynamic_ncols=True)
        else:
            form = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s{postfix}"
            self.bar = tqdm(total=60.0 * task.config.minutes, desc="train", dynamic_ncols=True, bar_format=form)

    def on_train_batch_end(self, trainer: pl.Trainer, task: Task, outputs: Any, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        if self.bar is None:
            return
        at = trainer.global_step if task.config.minutes is None else min(task.elapsed, self.bar.total)
        latest = {k: f"{v:.3f}" for k, v in self.recorder.latest.items()}
        self.bar.set_postfix({"epoch": trainer.current_epoch, "loss": f"{float(outputs['loss']):.3f}", **latest}, refresh=False)
        self.bar.update(at - self.bar.n)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()  # what is said next has a line of its own

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
