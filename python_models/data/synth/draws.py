"""Random numbers of the generator: one PCG64 stream per (seed, image, stage), so that item i depends on nothing else."""

from __future__ import annotations

import math

import numpy as np

BACKGROUND, TARGETS, SENSOR = 0, 1, 2


def stream(seed: int, index: int, stage: int) -> np.random.Generator:
    """A generator for one stage of one image."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, stage])))


def uniform(rng: np.random.Generator, low_high: tuple[float, float]) -> float:
    low, high = low_high
    return low + (high - low) * rng.random()


def log_uniform(rng: np.random.Generator, low_high: tuple[float, float]) -> float:
    low, high = low_high
    return low * math.exp(math.log(high / low) * rng.random())
