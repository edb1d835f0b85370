"""What can go wrong in the second epoch of a training; each is called in the process that will suffer it."""
import multiprocessing
import os
import resource
import signal
from functools import wraps

from python_models.training.data import Cached
from python_models.training.loop import Task
from python_models.training.recorder import Recorder


def _before_step(action, epoch=1, batch=1):
    step = Task.training_step

    @wraps(step)
    def training_step(self, images, batch_idx):
        if (self.current_epoch, batch_idx) == (epoch, batch):
            action(self)
        return step(self, images, batch_idx)

    Task.training_step = training_step


def worker_killed():
    _before_step(lambda _: os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL))


def process_killed():
    """The second of two training processes."""
    _before_step(lambda task: task.global_rank == 1 and os.kill(os.getpid(), signal.SIGKILL))


def weights_do_not_fit():
    """No file may grow beyond 20 KB: the weights, written first, have 50."""
    _before_step(lambda _: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))


def checkpoint_does_not_fit():
    """The weights fit into 100 KB, the resume state does not."""
    _before_step(lambda _: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)))


def image_breaks():
    """The first training image becomes a text file after the first epoch, and nothing is kept in memory."""
    Cached.__init__.__defaults__ = (0,)
    end = Recorder.on_train_epoch_end

    def on_train_epoch_end(self, trainer, task):
        end(self, trainer, task)
        dataset = trainer.train_dataloader.dataset.dataset.dataset
        if trainer.current_epoch == 0 and (os.environ.get("RANK", "1") == "1"):
            dataset.pairs[0].image.write_text("no image")

    Recorder.on_train_epoch_end = on_train_epoch_end


def statistics_stay():
    """Batch normalisation with the statistics it begins with: then images of a batch know nothing of each other."""
    from torch.nn.modules.batchnorm import _BatchNorm

    begin = _BatchNorm.__init__

    def __init__(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        self.training = False

    _BatchNorm.__init__, _BatchNorm.train = __init__, lambda self, mode=True: self


def only_the_first_writes():
    """A process of another rank fails when it writes."""
    statistics_stay()
    if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) != "0":
        from python_models import files

        def refused(*_):
            raise AssertionError("a second process writes")

        files.os.replace = refused


def losses_apart():
    """Each process takes the loss of its own images alone."""
    statistics_stay()
    from python_models.training import loop

    loop.gather_rows = lambda value, *_: value
