"""Targets: noise-free profiles under a pixel-integrated PSF, their masks, and the SCR of a target in an image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .config import SynthConfig
from .draws import log_uniform, uniform

_SUB = 4  # samples per pixel and axis when a polygon is drawn


@dataclass(frozen=True)
class Profile:
    """A target at peak 1. ``top``, ``left``: image coordinates of ``values[0, 0]``; ``box``: (x, y, w, h) of its mask."""

    values: np.ndarray
    top: int
    left: int
    mask: np.ndarray
    box: tuple[int, int, int, int]
    row: float
    col: float
    sigma: tuple[float, float]
    kind: str

    @property
    def area(self) -> int:
        return int(self.mask.sum())

    @property
    def support(self) -> tuple[int, int, int, int]:
        """Rows and columns the profile reaches: top, bottom, left, right (exclusive ends)."""
        return self.top, self.top + self.values.shape[0], self.left, self.left + self.values.shape[1]

    @property
    def reach(self) -> int:
        """Width of the ring around the box in which the background is measured."""
        return max(10, *self.box[2:])

    def window(self, size: int) -> tuple[slice, slice]:
        """Box and ring, cut at the image's edge."""
        x, y, w, h = self.box
        r = self.reach
        return slice(max(0, y - r), min(size, y + h + r)), slice(max(0, x - r), min(size, x + w + r))


def pixel_integral(edges: np.ndarray, sigma: float) -> np.ndarray:
    """Share of a centred Gaussian between neighbouring ``edges``: (erf(b / (sqrt2 s)) - erf(a / (sqrt2 s))) / 2."""
    return np.diff([math.erf(e / (math.sqrt(2) * sigma)) for e in edges]) / 2


def point_profile(row: float, col: float, sigma: tuple[float, float]) -> tuple[np.ndarray, int, int]:
    """Gaussian of ``sigma`` (rows, columns) px at a sub-pixel centre -> (values, top, left)."""
    axes, starts = [], []
    for centre, s in zip((row, col), sigma):
        reach = math.ceil(4 * s) + 1
        start = math.floor(centre + 0.5) - reach
        axes.append(pixel_integral(np.arange(start, start + 2 * reach + 2) - 0.5 - centre, s))
        starts.append(start)
    return np.outer(*axes), *starts


def polygon_profile(row: float, col: float, corners: np.ndarray, psf: float) -> tuple[np.ndarray, int, int]:
    """A convex polygon (corners (K, 2) as row, column offsets, by rising angle) under a Gaussian PSF and the pixel's square."""
    reach = math.ceil(float(np.abs(corners).max()) + 4 * psf) + 1
    top, left = math.floor(row + 0.5) - reach, math.floor(col + 0.5) - reach
    n = 2 * reach + 1
    fine = (np.arange(n * _SUB) + 0.5) / _SUB - 0.5
    rows, cols = fine[:, None] + top - row, fine[None] + left - col
    inside = np.ones((n * _SUB, n * _SUB), bool)
    for (r0, c0), (r1, c1) in zip(corners, np.roll(corners, -1, axis=0)):
        inside &= (r1 - r0) * (cols - c0) - (c1 - c0) * (rows - r0) <= 0
    # Offsets from a sample to a pixel's edges repeat every 1 / _SUB px, so the blur is one table read as a matrix.
    table = np.array([math.erf(k / (2 * _SUB) / (math.sqrt(2) * psf)) for k in range(-2 * _SUB * n - 8, 2 * _SUB * n + 9)]) / 2
    pixel, sample = np.arange(n)[:, None], np.arange(n * _SUB)[None]
    lower = 2 * _SUB * pixel - (2 * sample + 1)  # (pixel - 0.5 - fine) in units of 1 / (2 _SUB)
    zero = 2 * _SUB * n + 8
    blur = table[np.clip(lower + 2 * _SUB, -zero, zero) + zero] - table[np.clip(lower, -zero, zero) + zero]
    return blur @ inside @ blur.T, top, left


def draw_profile(rng: np.random.Generator, size: int, config: SynthConfig) -> Profile | None:
    """A random target, or None where its mask does not lie inside the image or the profile is empty."""
    row, col = size * rng.random() - 0.5, size * rng.random() - 0.5
    if rng.random() < config.extended:
        radius, psf = uniform(rng, config.extended_radius), uniform(rng, config.psf)
        stretch = uniform(rng, config.anisotropy)
        angles = np.sort(rng.random(rng.integers(4, 8))) * 2 * np.pi
        corners = np.stack([radius / stretch * np.sin(angles), radius * np.cos(angles)], axis=1)
        values, top, left = polygon_profile(row, col, corners, psf)
        sigma, kind = (psf, psf), "extended"
    else:
        small = log_uniform(rng, config.sigma)
        large = min(small * uniform(rng, config.anisotropy), max(small, config.sigma[1]))
        sigma = (small, large) if rng.random() < 0.5 else (large, small)
        values, top, left = point_profile(row, col, sigma)
        kind = "point"
    return _finish(values, top, left, sigma, kind, size, config.mask_level, (row, col))


def _finish(values, top, left, sigma, kind, size, mask_level, centre) -> Profile | None:
    if values.max() < 1e-3:
        return None
    if kind == "extended":
        total = values.sum()
        centre = tuple(float((values.sum(axis=1 - a) * np.arange(values.shape[a])).sum() / total) + (top, left)[a] for a in (0, 1))
    values = values / values.max()
    mask = values >= mask_level
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y, w, h = left + int(cols[0]), top + int(rows[0]), int(np.ptp(cols)) + 1, int(np.ptp(rows)) + 1
    if x < 0 or y < 0 or x + w > size or y + h > size:
        return None
    r0, r1, c0, c1 = max(0, -top), min(values.shape[0], size - top), max(0, -left), min(values.shape[1], size - left)
    values, mask = values[r0:r1, c0:c1], mask[r0:r1, c0:c1]
    return Profile(values, top + r0, left + c0, mask, (x, y, w, h), float(centre[0]), float(centre[1]), sigma, kind)


def apart(one: Profile, two: Profile, size: int) -> bool:
    """Whether neither target reaches into the window in which the other's SCR is measured."""
    for a, b in ((one, two), (two, one)):
        rows, cols = a.window(size)
        top, bottom, left, right = b.support
        if rows.start < bottom and top < rows.stop and cols.start < right and left < cols.stop:
            return False
    return True


def local_masks(profile: Profile, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(target, ring) as bool arrays over ``profile.window(size)``; the ring leaves out the box."""
    rows, cols = profile.window(size)
    target = np.zeros((rows.stop - rows.start, cols.stop - cols.start), bool)
    ring = np.ones_like(target)
    x, y, w, h = profile.box
    ring[y - rows.start : y - rows.start + h, x - cols.start : x - cols.start + w] = False
    r, c = np.nonzero(profile.mask)
    target[r + profile.top - rows.start, c + profile.left - cols.start] = True
    return target, ring


def signed_scr(window: np.ndarray, target: np.ndarray, ring: np.ndarray) -> float:
    """(mean of target - mean of ring) / standard deviation of ring."""
    around = window[ring]
    return float((window[target].mean() - around.mean()) / max(around.std(), 1e-9))
