"""The folder of an evaluation: checked before the work, complete or not there at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESULT = "result.json"
FILES = (RESULT, "images.csv", "targets.jsonl", "curve.csv", "roc.csv", "pd_fa.png", "roc.png")
IDENTITY = ("data", "split", "split_hash", "part", "eval_size", "mask_resize", "threshold", "masks", "mask_mismatch", "full_scale", "empty",
            "fixed_pixels", "maxnorm", "protocols", "weights", "predictions", "input", "suffix", "resize_predictions")


def slug(*words: object) -> str:
    """A folder name made of ``words``; None and empty ones are left out.

    >>> slug("NUAA-SIRST", "idx 427/a", None, "test", 0.5)
    'NUAA-SIRST-idx_427_a-test-0.5'
    """
    return "-".join(re.sub(r"[^\w.-]+", "_", str(w)) for w in words if w not in (None, ""))


def check_folder(folder: Path, facts: Mapping[str, Any], overwrite: bool) -> None:
    """Raise OSError in one line unless ``folder`` is free, or holds an earlier result of the same evaluation.

    Another evaluation is given up for ``overwrite`` only; a folder with other files never.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise NotADirectoryError(f"out: {folder} must be a folder, got a file")
    other = sorted(p.name for p in folder.iterdir() if p.name not in FILES)
    if other:
        raise FileExistsError(f"out: {folder} holds files of something else ({other[0]}); give another --out")
    if overwrite or not any(folder.iterdir()):
        return
    try:
        known = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        changed = [k for k in IDENTITY if known.get(k) != facts.get(k)]
    except (OSError, ValueError, AttributeError):
        changed = [RESULT]
    if changed:
        raise FileExistsError(f"out: {folder} holds another evaluation ({', '.join(changed)} differ); give another --out, or --overwrite")


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of ``folder`` when the block ends, and vanishes when it fails.

    It is made at once, so that a place which cannot be written to is an OSError before any work.
    """
    folder = Path(os.path.realpath(folder))  # what a link leads to is replaced, not the link
    made = [p for p in (folder.parent, *folder.parent.parents) if not p.exists()]
    new, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    try:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            new.mkdir()
        except OSError as error:  # the temporary name is none that anybody gave
            where = folder.parent if error.filename in (None, str(new)) else error.filename
            raise type(error)(f"out: {folder} cannot be made ({where}: {error.strerror})") from None
        yield new
        if folder.exists():
            os.rename(folder, old)
        os.rename(new, folder)
        made = []
    finally:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        for path in (new, old):
            shutil.rmtree(path, ignore_errors=True)
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
