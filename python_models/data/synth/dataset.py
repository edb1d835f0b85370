"""The generator as a torch data set, and as a folder that ``open_dataset`` reads."""

from __future__ import annotations

import json
from dataclasses import asdict
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ..errors import DataError
from ..splits import split_hash
from .config import FULL, SynthConfig
from .scene import Scene, make_scene


class SyntheticDataset(Dataset):
    """``n`` synthetic images, made when asked for.

    ``ds[i]`` -> ``image`` float32 (1, size, size) in [0, 1] (8-bit frame / 255, or raw / 16383 with
    ``SynthConfig(output="raw")``), ``mask`` float32 in {0, 1}, ``name``, ``path`` (""), and ``meta`` (targets with centroid, box,
    area, SCR; what the background and the sensor drew). Item i is image ``start + i`` of the sequence ``seed`` names, so
    sets that share a seed but not a range share no image. ``cache`` keeps made images in memory (2 bytes a pixel and up).
    Batches need :func:`python_models.data.collate`.

    >>> ds = SyntheticDataset(2, size=64, seed=1)
    >>> ds[0]["image"].shape, ds[0]["mask"].unique().tolist()
    (torch.Size([1, 64, 64]), [0.0, 1.0])
    """

    def __init__(self, n: int, size: int = 256, seed: int = 0, config: SynthConfig | None = None, start: int = 0,
                 part: str = "train", cache: bool = False):
        if n < 1 or start < 0:
            raise DataError(f"SyntheticDataset: n must be >= 1 and start >= 0, got {n} and {start}")
        self.size, self.seed, self.start, self.part = size, seed, start, part
        self.config = config or SynthConfig()
        self.root, self.split = Path("synthetic"), "synth"
        self.names = [f"synth-{seed}-{start + i:06d}" for i in range(n)]
        self.split_hash = split_hash(self.names)
        self._cache: dict[int, tuple[np.ndarray, np.ndarray, dict]] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.names)

    def scene(self, index: int) -> Scene:
        """Item ``index`` with raw frame, 8-bit frame and mask as arrays."""
        return make_scene(self.start + range(len(self))[index], self.size, self.seed, self.config)

    def __getitem__(self, index: int) -> dict:
        index = range(len(self))[index]
        made = self._cache.get(index) if self._cache is not None else None
        if made is None:
            scene = self.scene(index)
            made = (scene.raw if self.config.output == "raw" else scene.image, scene.mask, scene.meta)
            if self._cache is not None:
                self._cache[index] = made
        frame, mask, meta = made
        image = frame.astype(np.float32) / np.float32(FULL if frame.dtype == np.uint16 else 255)
        return {"image": torch.from_numpy(image)[None], "mask": torch.from_numpy(mask.astype(np.float32))[None],
                "name": self.names[index], "path": "", "meta": meta}


def write_synthetic(folder: str | PathLike, n: int, size: int = 256, seed: int = 0, config: SynthConfig | None = None,
                    parts: tuple[float, float, float] = (0.7, 0.1, 0.2), raw: bool = True, progress: bool = False) -> Path:
    """Write ``n`` images as a data set and return its folder.

    ``images/000001.png`` (8 bits), ``raw/`` (14 bits in 16-bit PNG, if ``raw``), ``masks/`` (0 and 255), ``meta.json`` (configuration, and
    every target) and the split ``synth/{train,val,test}.txt`` by shares ``parts``, each at least one image. Read it
    with ``open_dataset(folder, "synth", "train")``. Raises :class:`DataError` where ``folder/images`` exists already.
    """
    folder = Path(folder)
    if n < 3 or min(parts) < 0 or sum(parts) <= 0:
        raise DataError(f"write_synthetic: n must be >= 3 and parts three shares, got {n} and {parts}")
    val = max(1, round(n * parts[1] / sum(parts)))
    test = max(1, round(n * parts[2] / sum(parts)))
    train = n - val - test
    if train < 1:
        raise DataError(f"write_synthetic: parts {parts} of {n} images leave none for train")
    if (folder / "images").exists():
        raise DataError(f"{folder / 'images'}: exists already; write_synthetic makes a new folder")
    config = config or SynthConfig()
    frames = ("images", "raw", "masks") if raw else ("images", "masks")
    for name in (*frames, "synth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    names = [f"{i + 1:06d}" for i in range(n)]
    indices = range(n)
    if progress:
        from tqdm import tqdm

        indices = tqdm(indices, desc="synthetic images", unit="img")
    metas = {}
    for i in indices:
        scene = make_scene(i, size, seed, config)
        arrays = {"images": scene.image, "raw": scene.raw, "masks": scene.mask.astype(np.uint8) * 255}
        for frame in frames:
            Image.fromarray(arrays[frame]).save(folder / frame / f"{names[i]}.png", compress_level=1)
        metas[names[i]] = scene.meta
    for part, chosen in (("train", names[:train]), ("val", names[train : train + val]), ("test", names[train + val :])):
        (folder / "synth" / f"{part}.txt").write_text("".join(f"{name}\n" for name in chosen), encoding="utf-8")
    text = json.dumps({"seed": seed, "size": size, "config": asdict(config), "images": metas}, indent=1)
    (folder / "meta.json").write_text(text + "\n", encoding="utf-8")
    return folder
