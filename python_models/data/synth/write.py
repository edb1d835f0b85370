"""A synthetic set as a folder that ``open_dataset`` reads: made by several processes, written whole or not at all."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from python_models.files import write_json

from ..errors import DataError
from .config import SynthConfig
from .scene import make_scene

_CHUNK = 4  # images handed to a process at a time


def write_synthetic(folder: str | PathLike, n: int, size: int = 256, seed: int = 0, config: SynthConfig | None = None,
                    parts: tuple[float, float, float] = (0.7, 0.1, 0.2), raw: bool = True, progress: bool = False,
                    workers: int = 1) -> Path:
    """Write ``n`` images as a data set and return its folder.

    ``images/000001.png`` (8 bits), ``raw/`` (14 bits in 16-bit PNG, if ``raw``), ``masks/`` (0 and 255), ``meta.json`` and the split
    ``synth/{train,val,test}.txt`` by shares ``parts``, each at least one image. Read it with
    ``open_dataset(folder, "synth", "train")``. ``meta.json`` holds the configuration, every target, and ``content_hash``: the
    SHA-256 of the pixels of image (uint8) and mask (uint8, 0 and 255) of every name in order. Two machines that agree
    in it hold the same pixels; the bytes of a PNG also depend on the compression library that wrote it.

    ``workers`` processes share the work; every file is the same for any number of them. (More than one are started
    afresh, so a script that asks for them needs the usual ``if __name__ == "__main__":``.) The folder appears complete
    or not at all: everything is made in a hidden folder beside it, which an error or an interruption removes.

    Raises :class:`DataError` for wrong arguments, for a ``folder`` that exists and is not empty, and where a process dies.

    >>> import tempfile
    >>> folder = write_synthetic(Path(tempfile.mkdtemp()) / "made", 4, size=64, raw=False)
    >>> sorted(p.name for p in folder.iterdir())
    ['images', 'masks', 'meta.json', 'synth']
    """
    folder, config = Path(folder), config or SynthConfig()
    names = [f"{i + 1:06d}" for i in range(n)]
    lists = _share_out(names, parts)
    if workers < 1:
        raise DataError(f"write_synthetic: workers must be >= 1, got {workers}")
    with _new_folder(folder) as made:
        frames = ("images", "raw", "masks") if raw else ("images", "masks")
        for name in (*frames, "synth"):
            (made / name).mkdir()
        job = _Job(str(made), frames, size, seed, config)
        content, metas = hashlib.sha256(), {}
        with _results(job, n, workers) as results:
            bar = tqdm(results, desc="synthetic images", total=n, unit="image", disable=not progress, dynamic_ncols=True)
            for (meta, pixels), name in zip(bar, names):
                content.update(pixels)
                metas[name] = meta
        write_json(made / "meta.json", {"seed": seed, "size": size, "content_hash": content.hexdigest(), "config": asdict(config), "images": metas})
        for part, chosen in lists.items():
            (made / "synth" / f"{part}.txt").write_text("".join(f"{name}\n" for name in chosen), encoding="utf-8")
    return folder


@dataclass(frozen=True)
class _Job:
    """What every process needs to make any image."""

    folder: str
    frames: tuple[str, ...]
    size: int
    seed: int
    config: SynthConfig

    def __call__(self, index: int) -> tuple[dict, bytes]:
        """Make and write image ``index``; its description, and the pixels that count for the hash."""
        scene = make_scene(index, self.size, self.seed, self.config)
        mask = scene.mask.astype(np.uint8) * 255
        arrays = {"images": scene.image, "raw": scene.raw, "masks": mask}
        for frame in self.frames:
            Image.fromarray(arrays[frame]).save(os.path.join(self.folder, frame, f"{index + 1:06d}.png"), compress_level=1)
        return scene.meta, scene.image.tobytes() + mask.tobytes()


@contextmanager
def _results(job: _Job, n: int, workers: int) -> Iterator[Iterator[tuple[dict, bytes]]]:
    """What ``job`` returns for 0 to n - 1, in order."""
    if workers == 1:
        yield map(job, range(n))
        return
    pool = ProcessPoolExecutor(min(workers, n), multiprocessing.get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))
    try:
        yield pool.map(job, range(n), chunksize=_CHUNK)
    except BrokenProcessPool:
        why = "too little memory, or a script without `if __name__ == '__main__':`"
        raise DataError(f"write_synthetic: a worker process died ({why}); nothing was written") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _share_out(names: list[str], parts: tuple[float, float, float]) -> dict[str, list[str]]:
    """The names of train, val and test, in this order."""
    n = len(names)
    if n < 3 or min(parts) < 0 or not 0 < sum(parts) < float("inf"):
        raise DataError(f"write_synthetic: n must be >= 3 and parts three shares, got {n} and {parts}")
    val = max(1, round(n * parts[1] / sum(parts)))
    test = max(1, round(n * parts[2] / sum(parts)))
    train = n - val - test
    if train < 1:
        raise DataError(f"write_synthetic: parts {parts} of {n} images leave none for train")
    return {"train": names[:train], "val": names[train : train + val], "test": names[train + val :]}


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder beside ``folder`` that becomes it when the block ends well, and is removed when it does not."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: must be a new or an empty folder, this is a file")
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder}: must be a new or an empty folder, this one holds files")
    folder = Path(os.path.abspath(folder))
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    hidden.mkdir(parents=True)
    try:
        yield hidden
        if folder.is_dir():
            folder.rmdir()  # empty: a rename onto a folder is not possible everywhere
        os.rename(hidden, folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
