"""Backgrounds: noise of a power-law spectrum with the histogram of a beta or gamma law, and optional layers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .config import FULL, GREY, SynthConfig
from .draws import log_uniform, uniform

_GRID = 2048


def fractal(rng: np.random.Generator, size: int, beta: float) -> np.ndarray:
    """Periodic noise (size, size) with power spectrum f^-beta, zero mean, unit standard deviation."""
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    noise = np.fft.irfft2(spectrum * _frequency(size)[1] ** (-beta / 4), s=(size, size))
    return noise / noise.std()


@lru_cache(maxsize=8)
def _frequency(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared spatial frequency of an rfft2 of (size, size): with its zero, and with infinity there (removes the mean)."""
    rows, cols = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    true = rows**2 + cols**2
    safe = true.copy()
    safe[0, 0] = np.inf
    return true, safe


def match_histogram(values: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Values in the same order whose distribution has the given quantiles, equally spaced in probability: each quantile
    of ``values`` goes to its counterpart, linearly between them."""
    ordered = np.sort(values, axis=None)
    knots = ordered[np.linspace(0, ordered.size - 1, len(quantiles)).astype(int)]
    return np.interp(values, knots, quantiles)


def restore_spectrum(values: np.ndarray, source: np.ndarray) -> np.ndarray:
    """``values`` with the power of ``source`` at all but the lowest frequencies. Histogram matching bends a steep spectrum
    there; those frequencies carry little of the variance, so the histogram stays."""
    size = len(values)
    spectrum, wanted = np.fft.rfft2(values), np.abs(np.fft.rfft2(source))
    power = np.abs(spectrum)
    fine = (_frequency(size)[0] >= (4 / size) ** 2) & (power > 0)
    spectrum[fine] *= wanted[fine] / power[fine]
    return np.fft.irfft2(spectrum, s=(size, size))


def law_quantiles(rng: np.random.Generator, gamma_law: float) -> np.ndarray:
    """Quantiles of a random beta or gamma law with median 0 and standard deviation 1."""
    x = (np.arange(_GRID) + 0.5) / _GRID
    if rng.random() < gamma_law:
        shape = 3.0 + 9.0 * rng.random()
        x = x * (shape + 6 * shape**0.5)
        density = np.exp((shape - 1) * np.log(x) - x - (shape - 1) * (np.log(shape - 1) - 1))
    else:
        a, b = 2.0 + 3.0 * rng.random(), 2.0 + 3.0 * rng.random()
        density = x ** (a - 1) * (1 - x) ** (b - 1)
    cumulative = np.cumsum(density)
    q = np.interp(np.linspace(0.0005, 0.9995, 513), cumulative / cumulative[-1], x)
    return (q - q[256]) / q.std()


def make_background(rng: np.random.Generator, size: int, config: SynthConfig) -> tuple[np.ndarray, dict]:
    """(scene float64 (size, size) in raw units, what was drawn)."""
    beta = uniform(rng, config.beta)
    quantiles = law_quantiles(rng, config.gamma_law)
    contrast = log_uniform(rng, config.contrast)
    level = uniform(rng, config.level)
    noise = fractal(rng, size, beta)
    scene = level + contrast * restore_spectrum(match_histogram(noise, quantiles), noise)
    meta: dict = {"beta": beta, "level": level, "contrast": contrast, "layers": []}
    for name, layer in LAYERS.items():
        if rng.random() < getattr(config, name):
            scene = layer(rng, scene, contrast)
            meta["layers"].append(name)
    return np.clip(scene * GREY, 0.02 * FULL, 0.6 * FULL), meta  # room below for noise, above for targets


def _ramp(x: np.ndarray) -> np.ndarray:
    return np.clip(x, 0, 1)


def _gradient(rng: np.random.Generator, scene: np.ndarray, contrast: float) -> np.ndarray:
    angle = 2 * np.pi * rng.random()
    rows, cols = (np.arange(n) / n - 0.5 for n in scene.shape)
    return scene + contrast * uniform(rng, (0.5, 2.5)) * (rows[:, None] * np.sin(angle) + cols[None] * np.cos(angle))


def _horizon(rng: np.random.Generator, scene: np.ndarray, contrast: float) -> np.ndarray:
    """Two halves of different level and texture with a slightly tilted line between them."""
    rows, cols = (np.arange(n, dtype=float) for n in scene.shape)
    line = scene.shape[0] * uniform(rng, (0.25, 0.75)) + (cols - cols.mean()) * uniform(rng, (-0.08, 0.08))
    below = _ramp((rows[:, None] - line[None]) / uniform(rng, (1.0, 3.0)) + 0.5)
    shift = contrast * uniform(rng, (1.0, 3.0)) * (1 if rng.random() < 0.5 else -1)
    calm = uniform(rng, (0.3, 1.0))
    middle = np.median(scene)
    return scene * (1 - below) + (middle + shift + calm * (scene - middle)) * below


def _cloud(rng: np.random.Generator, scene: np.ndarray, contrast: float) -> np.ndarray:
    """A thresholded fractal with a blurred edge, brighter than what is behind it."""
    size = scene.shape[0]
    shape = fractal(rng, size, uniform(rng, (2.6, 3.6)))
    cover = (shape > uniform(rng, (-0.2, 1.2))).astype(float)
    sigma = uniform(rng, (1.5, 5.0))
    cover = np.fft.irfft2(np.fft.rfft2(cover) * np.exp(-2 * (np.pi * sigma) ** 2 * _frequency(size)[0]), s=(size, size))
    return scene + contrast * uniform(rng, (1.0, 3.5)) * cover * (1 + 0.15 * shape)


def _buildings(rng: np.random.Generator, scene: np.ndarray, contrast: float) -> np.ndarray:
    """Rectangles standing on the lower edge, some brighter and some darker, edges one pixel soft."""
    size = scene.shape[0]
    at = np.arange(size, dtype=float)
    for _ in range(rng.integers(2, 8)):
        left, width = size * rng.random(), size * uniform(rng, (0.04, 0.2))
        top = size * uniform(rng, (0.45, 0.9))
        across = _ramp(at - left + 0.5) * _ramp(left + width - at + 0.5)
        down = _ramp(at - top + 0.5)
        scene = scene + contrast * uniform(rng, (-2.0, 3.0)) * down[:, None] * across[None]
    return scene


def _glint(rng: np.random.Generator, scene: np.ndarray, contrast: float) -> np.ndarray:
    """Bright specks of 1 to 3 px that are no targets, scattered over one band."""
    size = scene.shape[0]
    scene = scene.copy()
    first, height = size * uniform(rng, (0.3, 0.7)), size * uniform(rng, (0.1, 0.3))
    for _ in range(rng.integers(5, 40)):
        row, col = int(first + height * rng.random()) % size, int(size * rng.random())
        bright = contrast * log_uniform(rng, (1.0, 6.0))
        scene[row, col : col + rng.integers(1, 4)] += bright
    return scene


LAYERS = {"gradient": _gradient, "horizon": _horizon, "cloud": _cloud, "buildings": _buildings, "glint": _glint}
