"""The command line `irstd`: finds the command, parses its typed options, turns errors into one line.

Exit codes: 0 done, 1 done in part or an unexpected error, 2 a wrong option, file or value, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import os
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COMMANDS = {
    "demo": "make a synthetic set, train a small network on it in two minutes, judge it, show the speed of the native ops",
    "train": "train a network on a data set and write a run folder",
    "convert": "turn published weights into a file that a training begins with",
    "eval": "judge a run on the test list of its data set, or anybody's predictions, under every protocol",
    "predict": "find targets in images, folders, image stacks or frames with a trained run",
    "report": "write one HTML page about a run, or about several side by side",
    "data": "check a data set for faults, or make a synthetic one",
    "bench": "time the native ops against PyTorch on this machine",
    "doctor": "show the environment, which native libraries loaded, and why not",
}
EXAMPLES = """\
examples:
  irstd demo
  irstd train sgem_unet --data DATA/NUAA-SIRST --split idx_427 --preset tiny --out runs/a
  irstd eval runs/a --baseline tophat
  irstd predict runs/a IMAGE_OR_FOLDER
  irstd report runs/a
  irstd data check DATA/NUAA-SIRST
  irstd COMMAND --help

IRSTD_TRACEBACK=1 or --traceback shows where an error came from."""


class UsageError(ValueError):
    """A command line that does not parse."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `irstd` with ``argv`` (default: the process's arguments) and return its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    traceback = os.environ.get("IRSTD_TRACEBACK", "") not in ("", "0") or "--traceback" in args
    args = [a for a in args if a != "--traceback"]
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        return 0 if args else 2
    if args[0] == "--version":
        import irstd_ext

        print(f"irstd_ext {irstd_ext.__version__}")
        return 0
    with warnings.catch_warnings():
        warnings.showwarning = lambda text, *_: print(f"irstd {args[0]}: warning: {' '.join(str(text).split())}", file=sys.stderr)
        return _run(args[0], args[1:], traceback)


def _run(name: str, args: list[str], traceback: bool) -> int:
    try:
        if name not in COMMANDS:
            raise UsageError(f"command must be one of {', '.join(COMMANDS)}, got {name!r}")
        command = importlib.import_module(f"python_models.commands.{name}")
        config = command.parse(args) if hasattr(command, "parse") else parse(command.Config, args, f"irstd {name}")
        return command.run(config)
    except KeyboardInterrupt:
        print(f"irstd {name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if traceback:
            raise
        known = isinstance(error, (ValueError, OSError, ImportError, FloatingPointError))
        print(f"irstd {name}: {message(error, known).removeprefix(f'{name}: ')}", file=sys.stderr)
        return 2 if known else 1


def usage() -> str:
    """Text of `irstd --help`."""
    lines = [f"  {name:8} {text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: irstd COMMAND [OPTIONS]", "", "Infrared small target detection: train, judge and run networks.", "", "commands:", *lines, "", EXAMPLES])


def message(error: Exception, known: bool) -> str:
    """An error as one line, with the hint at the traceback where it was not foreseen."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error)
    line = " ".join(text.split()) or type(error).__name__
    return line if known else f"unexpected {type(error).__name__}: {line[:300]}; IRSTD_TRACEBACK=1 shows where"


def check_run_options(device: str, threads: int | None, threshold: float | None = None) -> str:
    """The device to use; ValueError for what a run on this machine cannot be."""
    import torch

    if threads is not None and threads < 1:
        raise ValueError(f"threads must be >= 1, got {threads}")
    if threshold is not None and not 0 < threshold < 1:
        raise ValueError(f"threshold must lie in (0, 1), got {threshold}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda is not available here, use --device cpu")
    if threads is not None:
        torch.set_num_threads(threads)
    return device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def program() -> str:
    """How the user can call this program: by name where it is found, else by path."""
    return "irstd" if shutil.which("irstd") else str(Path(sys.executable).with_name("irstd"))


def parse(config: type, args: Sequence[str], prog: str, default: Any = None) -> Any:
    """Parse ``args`` into the dataclass ``config``; a wrong option raises UsageError in one line."""
    import tyro

    noise = io.StringIO()
    try:
        with contextlib.redirect_stderr(noise):
            return tyro.cli(config, args=list(args), prog=prog, description=inspect.getdoc(config), **({} if default is None else {"default": default}))
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(f"{condense(noise.getvalue())}; see {prog} --help") from None


def condense(box: str) -> str:
    """The sentences of a framed message as one line, without the frame, its title and the help texts after the first rule."""
    kept: list[str] = []
    for line in box.splitlines():
        text = line.strip().strip("│").strip()
        if text.startswith("╭") or not text:
            continue
        if text.startswith(("─", "╰")):
            break
        kept.append(text)
    return " ".join(kept) or "wrong options"


if __name__ == "__main__":
    sys.exit(main())
