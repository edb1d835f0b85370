"""What stops a training, in one line that says what is left of it."""

from __future__ import annotations

import shlex
from pathlib import Path

from python_models.data.errors import DataError
from python_models.runs import CONFIG, LAST, STATE

_LOST = ("connection closed", "connection reset", "connection refused", "socket timeout", "broken pipe", "timed out waiting", "nccl communicator was aborted")


def explained(error: Exception, folder: Path, workers: int = 0) -> Exception:
    """The error to raise instead of ``error``, which ended the training in ``folder``; the same one where it says all.

    workers: processes that load images.
    """
    text = " ".join(str(error).split())
    if workers and _is_of_worker(error, text):
        return ChildProcessError(f"train: a process that loads images was killed, often for want of memory (fewer --workers need less); {_left(folder)}")
    if isinstance(error, RuntimeError) and any(word in text.lower() for word in _LOST):
        return ConnectionError(f"train: another process of this training has stopped, its own line says why; {_left(folder)}")
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return OSError(f"train: {where}{error.strerror or text}; {_left(folder)}")
    if isinstance(error, DataError):
        return DataError(f"{text}; {_left(folder)}")
    if isinstance(error, FloatingPointError):
        kept = "what was finished before is intact; " if _finished(folder) else ""
        return FloatingPointError(f"{text}; {kept}train anew with a lower --lr, with --clip 1 or with --precision fp32")
    return error


def interrupted(out: Path) -> str:
    """What there is to say about a training into ``out``, one run or several, that was interrupted: what is left and how to go on."""
    folders = (out, *out.glob("seed-*"))
    if not any((f / CONFIG).is_file() for f in folders):
        return "interrupted, nothing had begun"
    what = "the last finished epoch is intact" if any(_finished(f) for f in folders) else "no epoch had been finished"
    return f"interrupted, {what}; continue with --resume: irstd train --resume --out {shlex.quote(str(out))}"


def _is_of_worker(error: Exception, text: str) -> bool:
    """Whether a loading process has died: torch says so, unless what it was sending breaks off first."""
    cut = isinstance(error, (ConnectionResetError, ConnectionRefusedError, EOFError)) or (isinstance(error, FileNotFoundError) and error.filename is None)
    return cut or (isinstance(error, RuntimeError) and ("DataLoader worker" in text or "ancdata" in text))


def _left(folder: Path) -> str:
    return "the last finished epoch is intact, continue with --resume" if _finished(folder) else "no epoch had been finished"


def _finished(folder: Path) -> bool:
    """Whether an epoch of the run in ``folder`` has been finished."""
    return (folder / LAST / STATE).is_file()
