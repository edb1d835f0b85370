"""One synthetic image: background, targets whose amplitude is solved through the sensor, raw and 8-bit frames, mask."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from ..images import MAX_PIXELS
from .backgrounds import make_background
from .config import FULL, GREY, SynthConfig
from .draws import BACKGROUND, SENSOR, TARGETS, stream
from .sensor import Sensor, make_sensor, to_8bit
from .targets import Profile, apart, draw_profile, local_masks, signed_scr

_TRIES = 60  # places tried for one target before it is given up (crowded or small images)
_BRIGHT_LIMIT = 0.97 * FULL  # a peak stays below, so that noise does not saturate it


@dataclass(frozen=True)
class Scene:
    """``raw`` uint16 (size, size) 0..16383, ``image`` uint8, ``mask`` bool, ``meta`` (plain numbers, JSON-ready)."""

    raw: np.ndarray
    image: np.ndarray
    mask: np.ndarray
    meta: dict


def make_scene(index: int, size: int = 256, seed: int = 0, config: SynthConfig | None = None) -> Scene:
    """Image ``index`` of the endless sequence that ``seed`` names; it depends on these arguments only."""
    config = config or SynthConfig()
    if size < 32:
        raise DataError(f"make_scene: size must be >= 32, got {size}")
    if size**2 > MAX_PIXELS:
        raise DataError(f"make_scene: size must be <= {math.isqrt(MAX_PIXELS)}, the largest square image that is read, got {size}")
    if seed < 0 or index < 0:
        raise DataError(f"make_scene: seed and index must be >= 0, got {seed} and {index}")
    scene, meta = make_background(stream(seed, index, BACKGROUND), size, config)
    sensor = make_sensor(stream(seed, index, SENSOR), size, config)
    placed = _place_targets(stream(seed, index, TARGETS), scene, sensor, config)
    mask = np.zeros((size, size), bool)
    near = np.zeros((size, size), bool)
    for profile, _, _ in placed:
        top, bottom, left, right = profile.support
        mask[top:bottom, left:right] |= profile.mask
        near[profile.window(size)] = True
    signal = sensor.expose(scene)
    saturated = int((signal > FULL + 0.5).sum())
    raw = sensor.quantise(signal, near)
    image = to_8bit(raw, config, sensor.meta["agc_fill"])
    targets = [_describe(p, a, w, raw, image) for p, a, w in placed]
    meta = {"index": index, "seed": seed, "size": size, "background": meta, "sensor": sensor.meta, "saturated": saturated,
            "targets": sorted(targets, key=lambda t: t.pop("_first"))}
    return Scene(raw, image, mask, meta)


def _place_targets(rng: np.random.Generator, scene: np.ndarray, sensor: Sensor, config: SynthConfig) -> list:
    """[(profile, amplitude, wanted SCR)]; adds the targets to ``scene`` in place."""
    weights = np.cumsum(config.counts) / np.sum(config.counts)
    empty, pick = rng.random() < config.empty, rng.random()
    count = 0 if empty else min(int(np.searchsorted(weights, pick, side="right")), len(weights) - 1) + 1
    placed: list = []
    for _ in range(count):
        sign = -1.0 if rng.random() < config.dark else 1.0
        strength = rng.random()
        for _ in range(_TRIES):
            profile = draw_profile(rng, scene.shape[0], config)
            if profile is None or not all(apart(profile, other, scene.shape[0]) for other, _, _ in placed):
                continue
            solved = _solve_amplitude(profile, scene, sensor, config, sign, strength)
            if solved is not None:
                amplitude, wanted = solved
                top, bottom, left, right = profile.support
                scene[top:bottom, left:right] += amplitude * profile.values
                placed.append((profile, amplitude, wanted))
                break
    return placed


def _solve_amplitude(profile: Profile, scene: np.ndarray, sensor: Sensor, config: SynthConfig, sign: float,
                     strength: float) -> tuple[float, float] | None:
    """(amplitude in raw units, wanted SCR), or None where this place cannot show such a target.

    The wanted SCR is log-uniform, by ``strength`` in [0, 1], between the greatest lower and the smallest upper bound:
    the configured range, the least visible contrast, and the range of the sensor.
    """
    size = scene.shape[0]
    where = profile.window(size)
    target, ring = local_masks(profile, size)
    behind = scene[where]
    shape = np.zeros_like(behind)
    top, bottom, left, right = profile.support
    r0, c0 = where[0].start, where[1].start
    a, b, c, d = max(top, r0), min(bottom, where[0].stop), max(left, c0), min(right, where[1].stop)
    shape[a - r0 : b - r0, c - c0 : d - c0] = profile.values[a - top : b - top, c - left : d - left]
    empty = sensor.expose(behind, where)
    spread = max(float(empty[ring].std()), 0.25)  # raw units; never below the quantiser's own
    room = _BRIGHT_LIMIT - behind[target].max() if sign > 0 else behind[target].min() - 0.01 * FULL
    mean_shape = float(shape[target].mean())
    low = max(config.scr[0], config.min_contrast * GREY / spread)
    high = min(config.scr[1], 0.9 * room * mean_shape / spread)
    if high < low:
        return None
    wanted = low * math.exp(math.log(high / low) * strength)
    rise = mean_shape - float(shape[ring].mean())
    amplitude = 0.0
    for _ in range(12):
        seen = np.floor(sensor.expose(behind + amplitude * shape, where) + 0.5)
        step = (sign * wanted - signed_scr(seen, target, ring)) * max(float(seen[ring].std()), 0.25) / rise
        amplitude += step
        if abs(step) < 1e-3 * abs(amplitude):
            break
    if not 0 < sign * amplitude < room:
        return None
    seen = np.floor(sensor.expose(behind + amplitude * shape, where) + 0.5)
    return (amplitude, wanted) if abs(sign * signed_scr(seen, target, ring) / wanted - 1) < 0.03 else None


def _describe(profile: Profile, amplitude: float, wanted: float, raw: np.ndarray, image: np.ndarray) -> dict:
    size = raw.shape[0]
    where = profile.window(size)
    target, ring = local_masks(profile, size)
    first = int(np.flatnonzero(profile.mask)[0])
    r, c = divmod(first, profile.mask.shape[1])
    return {
        "row": profile.row, "col": profile.col, "box": list(profile.box), "area": profile.area, "kind": profile.kind,
        "sigma": list(profile.sigma), "amplitude": amplitude, "bright": amplitude > 0, "scr_wanted": wanted,
        "scr": abs(signed_scr(raw[where].astype(float), target, ring)),
        "scr_8bit": abs(signed_scr(image[where].astype(float), target, ring)),
        "_first": (profile.top + r) * size + profile.left + c,
    }
