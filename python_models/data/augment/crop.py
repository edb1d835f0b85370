"""Augmentation of image and mask together: scale, pad, crop, blur, noise, flips, transpose."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..errors import DataError

MASK_RESIZE = ("keep", "nearest")
PAD = ("reflect", "zeros")
SCALE_LAW = ("log", "uniform")


@dataclass(frozen=True)
class Draw:
    """One set of random choices: a square window of the source (top-left may lie outside) and what is done to it."""

    top: int
    left: int
    window: int
    flip_rows: bool
    flip_cols: bool
    transpose: bool
    blur_sigma: float
    noise_sigma: float = 0.0
    noise_seed: int = 0


@dataclass(frozen=True)
class Augment:
    """``augment(sample, generator)`` -> sample with ``image`` and ``mask`` of (1, size, size); other entries pass through.

    ``resize``: the whole image first becomes a square of this side, whatever its shape, as in papers that train on resized images;
    None leaves it as it is. ``scale``: magnification in this range, log-uniform or, by ``scale_law``, uniform; a window of size / scale source pixels is cut and resized to
    ``size`` (image bilinear, with antialiasing when shrinking). Where the window is larger than the image, ``pad`` says how
    image and mask go on: "reflect" on both sides, or "zeros" at the bottom and right. ``positive``: probability that the
    window is made to contain a random target pixel (images without targets: a random window). ``blur``: probability of a
    Gaussian blur of the image, sigma uniform in ``blur_sigma`` px. ``noise``: probability of Gaussian noise, independent
    in every pixel, after the blur, sigma uniform in ``noise_sigma`` on the [0, 1] scale; what passes 0 or 1 stays there,
    as in a sensor (near the ends the noise is therefore one-sided). ``flip`` (left to right), ``vertical`` (with ``flip``:
    also upside down) and ``transpose``: each with probability 1/2.

    ``mask_resize``: "nearest", or "keep" (default): nearest, and when shrinking, a target of which no pixel was sampled gets
    the output pixel it covers most, so that targets of 3 to 7 px do not vanish (they can only merge with a neighbour
    within one output pixel).

    Everything random comes from ``generator``, so one seed gives one result. Mask values stay in {0, 1}.

    >>> sample = {"image": torch.rand(1, 100, 120), "mask": torch.zeros(1, 100, 120)}
    >>> Augment(size=64)(sample, torch.Generator().manual_seed(0))["image"].shape
    torch.Size([1, 64, 64])
    """

    size: int = 256
    scale: tuple[float, float] = (0.5, 2.0)
    flip: bool = True
    vertical: bool = True
    transpose: bool = True
    positive: float = 0.5
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.3, 1.0)
    noise: float = 0.0
    noise_sigma: tuple[float, float] = (0.002, 0.02)
    mask_resize: str = "keep"
    pad: str = "reflect"
    resize: int | None = None
    scale_law: str = "log"

    def __post_init__(self) -> None:
        for name in ("size", "resize"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise DataError(f"Augment: {name} must be >= 1, got {getattr(self, name)}")
        for name in ("scale", "blur_sigma", "noise_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                raise DataError(f"Augment: {name} must be a range (low, high) with 0 < low <= high, got {getattr(self, name)}")
        for name in ("positive", "blur", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"Augment: {name} must be a probability, got {getattr(self, name)}")
        if self.mask_resize not in MASK_RESIZE:
            raise DataError(f"Augment: mask_resize must be one of {', '.join(MASK_RESIZE)}, got {self.mask_resize!r}")
        if self.pad not in PAD:
            raise DataError(f"Augment: pad must be one of {', '.join(PAD)}, got {self.pad!r}")
        if self.scale_law not in SCALE_LAW:
            raise DataError(f"Augment: scale_law must be one of {', '.join(SCALE_LAW)}, got {self.scale_law!r}")

    def __call__(self, sample: dict, generator: torch.Generator) -> dict:
        if self.resize is not None:
            image, mask = self._resize(sample["image"], sample["mask"], self.resize)
            sample = {**sample, "image": image, "mask": mask}
        return self.apply(sample, self.draw(sample["mask"], generator))

    def draw(self, mask: torch.Tensor, generator: torch.Generator) -> Draw:
        """The random choices for one sample; always the same count of random numbers, whatever the options."""
        u = torch.rand(13, generator=generator, dtype=torch.float64).tolist()
        low, high = self.scale
        scale = low * (high / low) ** u[0] if self.scale_law == "log" else low + (high - low) * u[0]
        window = max(1, round(self.size / scale))
        height, width = mask.shape[-2:]
        target = None
        if u[1] < self.positive:
            pixels = mask[0].nonzero()
            if len(pixels):
                target = pixels[int(u[2] * len(pixels))].tolist()
        top = _place(height, window, u[3], None if target is None else target[0])
        left = _place(width, window, u[4], None if target is None else target[1])
        if self.pad == "zeros":
            top, left = max(top, 0), max(left, 0)
        blur, noise = (low + (high - low) * v for (low, high), v in ((self.blur_sigma, u[9]), (self.noise_sigma, u[11])))
        return Draw(top, left, window, self.flip and self.vertical and u[5] < 0.5, self.flip and u[6] < 0.5, self.transpose and u[7] < 0.5,
                    blur if u[8] < self.blur else 0.0, noise if u[10] < self.noise else 0.0, int(u[12] * 2**53))

    def apply(self, sample: dict, draw: Draw) -> dict:
        """The sample after the given choices."""
        image, mask = (_window(sample[key], draw, self.pad) for key in ("image", "mask"))
        image, mask = self._resize(image, mask, self.size)
        if draw.blur_sigma:
            image = _blur(image, draw.blur_sigma)
        if draw.noise_sigma:
            own = torch.Generator().manual_seed(draw.noise_seed)  # the caller's generator gives as many numbers for any size
            image = (image + draw.noise_sigma * torch.randn(image.shape, generator=own)).clamp_(0, 1)
        dims = [d for d, wanted in ((1, draw.flip_rows), (2, draw.flip_cols)) if wanted]
        image, mask = image.flip(dims), mask.flip(dims)
        if draw.transpose:
            image, mask = image.transpose(1, 2), mask.transpose(1, 2)
        return {**sample, "image": image.contiguous(), "mask": mask.contiguous()}

    def _resize(self, image: torch.Tensor, mask: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        size = (side, side)
        if image.shape[-2:] == size:
            return image, mask
        shrink = max(image.shape[-2:]) > side
        image = F.interpolate(image[None], size, mode="bilinear", align_corners=False, antialias=shrink)[0]
        small = F.interpolate(mask[None], size, mode="nearest-exact")[0]
        if shrink and self.mask_resize == "keep":
            small = _keep_targets(mask, small)
        return image.clamp_(0, 1), small


def _place(length: int, window: int, u: float, target: int | None) -> int:
    """First coordinate of a window: uniform among those that hold ``target`` and stay inside, or cover, the image."""
    low, high = min(0, length - window), max(0, length - window)
    if target is not None:
        low, high = max(low, target - window + 1), min(high, target)
    return low + min(int(u * (high - low + 1)), high - low)


def _window(x: torch.Tensor, draw: Draw, pad: str) -> torch.Tensor:
    """(1, H, W) -> (1, window, window), continued outside by reflection about the edge pixels, or by zeros."""
    for dim, start in ((1, draw.top), (2, draw.left)):
        length = x.shape[dim]
        if start >= 0 and start + draw.window <= length:
            x = x.narrow(dim, start, draw.window)
        elif pad == "zeros":
            missing = draw.window - length
            x = F.pad(x, (0, missing) if dim == 2 else (0, 0, 0, missing))
        else:
            period = max(1, 2 * (length - 1))
            at = torch.arange(start, start + draw.window).remainder(period)
            x = x.index_select(dim, torch.minimum(at, period - at) if length > 1 else at)
    return x


def _keep_targets(mask: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
    """Adds to ``small`` the strongest cell of every target that nearest sampling lost. No labelling needed: such a cell is
    covered, has the greatest coverage of its 3x3 neighbourhood, and no sampled foreground in it."""
    cover = F.interpolate(mask[None], small.shape[-2:], mode="area")[0]
    peak = (cover > 0) & (cover == F.max_pool2d(cover, 3, 1, 1))
    return torch.where(peak & (F.max_pool2d(small, 3, 1, 1) == 0), torch.ones_like(small), small)


def _blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    radius = max(1, math.ceil(3 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    image = F.conv2d(F.pad(image[None], (radius, radius, 0, 0), mode="replicate"), kernel)
    image = F.conv2d(F.pad(image, (0, 0, radius, radius), mode="replicate"), kernel.transpose(2, 3))
    return image[0].clamp_(0, 1)
