"""Sensor: noise, fixed pattern and defects to 14 bits, then AGC to 8 bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .config import FULL, GREY, SynthConfig
from .draws import log_uniform, uniform


@dataclass(frozen=True)
class Sensor:
    """One exposure: everything random is fixed, so that the amplitude of a target can be solved for through it.
    Arrays are (size, size) in raw units; ``defect`` is 0 (good), -1 (dead) or 1 (hot)."""

    offset: np.ndarray
    shot: np.ndarray
    defect: np.ndarray
    meta: dict

    def expose(self, scene: np.ndarray, where: tuple[slice, slice] = (slice(None), slice(None))) -> np.ndarray:
        """``scene`` of the whole frame, or of the part ``where``, with noise and pattern; not yet quantised."""
        return scene + self.offset[where] + self.shot[where] * np.sqrt(np.maximum(scene, 0))

    def quantise(self, signal: np.ndarray, good: np.ndarray) -> np.ndarray:
        """uint16 in 0..16383. Defects show only where not ``good``, which marks the surroundings of targets."""
        raw = np.clip(np.floor(signal + 0.5), 0, FULL)
        raw[(self.defect < 0) & ~good] = 0
        raw[(self.defect > 0) & ~good] = FULL
        return raw.astype(np.uint16)


def make_sensor(rng: np.random.Generator, size: int, config: SynthConfig) -> Sensor:
    read = log_uniform(rng, config.read_noise)
    shot = uniform(rng, config.shot_noise)
    column, row = uniform(rng, config.column_pattern), uniform(rng, config.row_pattern)
    defects = uniform(rng, config.defects)
    offset = read * rng.standard_normal((size, size))
    offset += column * rng.standard_normal((1, size)) + row * rng.standard_normal((size, 1))
    noise = rng.standard_normal((size, size)) * (shot * GREY / (FULL / 2) ** 0.5)
    defect = np.zeros((size, size), np.int8)
    count = int(defects * size * size + rng.random())
    at = rng.integers(0, size, (count, 2))
    defect[at[:, 0], at[:, 1]] = np.where(rng.random(count) < 0.5, -1, 1)
    meta = {"read_noise": read, "shot_noise": shot, "column_pattern": column, "row_pattern": row,
            "agc_fill": uniform(rng, config.agc_fill)}
    return Sensor(offset * GREY, noise, defect, meta)


def to_8bit(raw: np.ndarray, config: SynthConfig, fill: float) -> np.ndarray:
    """uint8: the AGC's percentiles to 0 and ``fill`` * 255, linear, clipped; then the optional DCT quantiser."""
    low, high = 0.0, float(FULL)
    if config.agc is not None:
        low, high = np.percentile(raw, config.agc)
        high = low + max(high - low, 1.0) / fill
    grey = (raw - low) * (255 / (high - low))
    if config.jpeg:
        grey = _dct_quantise(grey, config.jpeg)
    return np.clip(np.floor(grey + 0.5), 0, 255).astype(np.uint8)


def _dct_quantise(grey: np.ndarray, step: float) -> np.ndarray:
    """Rounds 8x8 DCT coefficients to multiples of step * (1 + i + j) / 8, as JPEG drops fine detail first."""
    k = np.arange(8)
    basis = np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / 16) * np.where(k[:, None] == 0, 0.125, 0.25) ** 0.5
    table = step * (1 + k[:, None] + k[None]) / 8
    height, width = grey.shape
    padded = np.pad(grey, ((0, -height % 8), (0, -width % 8)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 8, 8, -1, 8).transpose(0, 2, 1, 3)
    coded = np.floor(basis @ blocks @ basis.T / table + 0.5) * table
    out = (basis.T @ coded @ basis).transpose(0, 2, 1, 3).reshape(padded.shape)
    return out[:height, :width]
