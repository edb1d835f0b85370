"""Commands in processes of their own: as a user starts them, or forked from a server that has imported everything, which
takes no time; either way a real process to kill, to interrupt, or to be one of several."""
import ctypes
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["python_models.cli", "python_models.commands.train", "python_models.training.train", "python_models.training.seeds",
                               "python_models.training.recorder", "python_models.metrics", "training.processes"])


class Forked:
    """A process that runs ``irstd`` with ``args``; what it prints is in ``log``."""

    def __init__(self, args, log, env=None, prepare=None):
        self.log = Path(log)
        self._process = _FORKS.Process(target=_irstd, args=([str(a) for a in args], str(log), dict(env or {}), prepare))
        self._process.start()
        self.pid = self._process.pid

    def running(self):
        return self._process.is_alive()

    def wait(self, timeout=120):
        """The exit code, negative for a signal."""
        self._process.join(timeout)
        assert not self.running(), f"still running after {timeout} s: {self.log.read_text()}"
        return self._process.exitcode

    def text(self):
        return self.log.read_text()


class Started(Forked):
    """The same as a user starts it: a new interpreter."""

    def __init__(self, args, log, env=None, command=("-m", "python_models.cli")):
        self.log = Path(log)
        with open(log, "wb") as file:
            self._child = subprocess.Popen([sys.executable, *command, *map(str, args)], stdout=file, stderr=file, start_new_session=True,
                                           env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})})
        self.pid = self._child.pid

    def running(self):
        return self._child.poll() is None

    def wait(self, timeout=120):
        return self._child.wait(timeout)


def together(args, folder, world=2, slurm=False, wait=True, **options):
    """``args`` in ``world`` processes, as torchrun or, one on each of so many nodes, as SLURM starts them: their exit codes and texts,
    or the processes with ``wait=False``."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(s.getsockname()[1])}
    started = []
    for rank in range(world):
        if slurm:
            env = {"SLURM_NTASKS": world, "SLURM_NTASKS_PER_NODE": 1, "SLURM_NNODES": world, "SLURM_PROCID": rank, "SLURM_LOCALID": 0, "SLURM_NODEID": rank,
                   "SLURM_JOB_ID": 7, "SLURM_JOB_NAME": "train"}
        else:
            env = {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0}
        started.append(Forked(args, folder / f"rank-{rank}.log", {**where, **{k: str(v) for k, v in env.items()}}, **options))
    return ([p.wait() for p in started], [p.text() for p in started]) if wait else started


def wait_for(condition, timeout=120):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)


def _irstd(args, log, env, prepare):
    """Body of a forked process; ``prepare`` is called first."""
    os.setsid()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: what a failed test leaves ends with the tests
    multiprocessing.set_start_method("fork", force=True)  # as in a process that a user starts
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a shell script
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.update(env)
    import torch

    from python_models import cli

    torch.set_num_threads(1)
    if prepare is not None:
        prepare()
    sys.exit(cli.main(args))
