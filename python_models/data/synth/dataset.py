"""The generator as a torch data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
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
