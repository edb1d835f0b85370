"""What every network of the package shares: input checks, channel adaption, normalisation, and the form of its result."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from python_models.layers.normaliser import Normaliser

_FULL_SCALE = {torch.uint8: 255, torch.uint16: 65535}


class IRSTDNet(nn.Module, ABC):
    """Base of the networks. `net(x)` takes normalised floating x (B, 1 or 3, H, W), any memory layout, and returns {"logits": (B, 1, H, W), ...}.

    One channel is repeated where the network takes three, three are averaged where it takes one. Subclasses set `name`, `presets` and
    `default_preset`, and implement `forward_maps` and `criterion`.

    Attributes: name, preset, options (`build_model(name, preset, backend, **options)` builds the network again), in_channels (1 or 3),
    input_size (the only accepted height and width, None for any), min_size, normaliser.
    """

    name: ClassVar[str]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    default_preset: ClassVar[str]
    stride: ClassVar[int] = 32  # of the deepest level: windows of a large image are laid on this grid
    receptive_radius: int | None = None  # pixels on each side that an output pixel depends on; None: the whole image, or not known
    size_hint: ClassVar[str] = ""  # ends the error for a wrong size: what to do instead

    def __init__(self, options: Mapping[str, Any], in_channels: int = 3, input_size: int | None = None, min_size: int = 1) -> None:
        super().__init__()
        if in_channels not in (1, 3):
            raise ValueError(f"{self.name}: in_channels must be 1 or 3, got {in_channels!r}")
        self.preset: str | None = None
        self.options = dict(options)
        self.in_channels, self.input_size, self.min_size = in_channels, input_size, min_size
        self.normaliser = Normaliser(in_channels)

    @abstractmethod
    def forward_maps(self, x: Tensor) -> dict[str, Tensor]:
        """The network proper: checked x (B, in_channels, H, W) -> {"logits": (B, 1, H, W), ...}."""

    @abstractmethod
    def criterion(self) -> nn.Module:
        """The network's loss, called as `criterion(out, target)`; target is a mask (B, 1, H, W) or (B, H, W), or a dict with "mask"."""

    def set_epoch(self, epoch: int) -> None:
        """Tells the network the epoch that begins; networks without a schedule do nothing."""

    def after_validation(self, figures: Mapping[str, float]) -> None:
        """Tells the network the figures of a judgement on the validation list; networks without a gate on them do nothing."""

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The optimizer's groups, with the base rate `lr`: one of all parameters, unless a network gives parts rates or decays of their own."""
        return [{"params": list(self.parameters()), "lr": lr}]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self._check_input(x)
        return self.forward_maps(_adapt_channels(x, self.in_channels))

    def preprocess(self, image: np.ndarray | Tensor, full_scale: float | None = None) -> Tensor:
        """Turn an image into the network's input: normalised float32 (B, in_channels, H, W) on the network's device.

        image: (H, W), (C, H, W) or (B, C, H, W) with C = 1 or 3. Integers are divided by full_scale (255 for 8 bit, 65535 for 16 bit
        unless given; give 16383 for 14-bit data in 16-bit files); floats are taken as [0, 1] unless full_scale is given.
        Raises TypeError for other types, ValueError for other shapes, a full_scale <= 0, or integers whose full scale is unknown.

        >>> from python_models import build_model
        >>> net = build_model("sgem_unet", "tiny", backend="reference")
        >>> net.preprocess(np.zeros((256, 256), np.uint16)).shape
        torch.Size([1, 1, 256, 256])
        """
        if isinstance(image, np.ndarray):
            if image.dtype.kind not in "iuf":
                raise TypeError(f"preprocess: image must hold integers or floats, got dtype {image.dtype}")
            native = np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("="))
            image = torch.from_numpy(native.astype(np.float32)) if native.dtype.kind == "f" else torch.from_numpy(native)
        if not isinstance(image, Tensor):
            raise TypeError(f"preprocess: image must be a NumPy array or a tensor, got {type(image).__name__}")
        if image.dtype == torch.bool or image.is_complex():
            raise TypeError(f"preprocess: image must hold integers or floats, got {image.dtype}")
        if image.ndim not in (2, 3, 4) or image.numel() == 0 or (image.ndim > 2 and image.shape[-3] not in (1, 3)):
            raise ValueError(f"preprocess: image must be (H, W), (C, H, W) or (B, C, H, W) with C = 1 or 3 and no empty size, got {tuple(image.shape)}")
        if full_scale is None and not image.is_floating_point():
            if image.dtype not in _FULL_SCALE:
                raise ValueError(f"preprocess: full_scale must be given for {image.dtype} images")
            full_scale = _FULL_SCALE[image.dtype]
        if full_scale is not None and not full_scale > 0:
            raise ValueError(f"preprocess: full_scale must be > 0, got {full_scale}")
        image = image.to(self.normaliser.mean.device).float()
        if full_scale is not None:
            image = image / full_scale
        image = image[(None,) * (4 - image.ndim)]
        return self.normaliser(_adapt_channels(image, self.in_channels))

    def _check_input(self, x: Tensor) -> None:
        if not isinstance(x, Tensor):
            raise TypeError(f"{self.name}: x must be a tensor, got {type(x).__name__}")
        if not x.is_floating_point():
            raise TypeError(f"{self.name}: x must be floating point (see preprocess), got {x.dtype}")
        if x.ndim != 4:
            raise ValueError(f"{self.name}: x must be 4-D (B, C, H, W), got shape {tuple(x.shape)}")
        if x.shape[1] not in (1, 3):
            raise ValueError(f"{self.name}: x must have 1 or 3 channels, got shape {tuple(x.shape)}")
        if 0 in x.shape:
            raise ValueError(f"{self.name}: x must not be empty, got shape {tuple(x.shape)}")
        height, width = x.shape[-2:]
        if self.input_size is not None and (height != self.input_size or width != self.input_size):
            raise ValueError(f"{self.name}: x must be {self.input_size}x{self.input_size}, got {height}x{width}{self.size_hint}")
        if height < self.min_size or width < self.min_size:
            raise ValueError(f"{self.name}: x must be at least {self.min_size}x{self.min_size}, got {height}x{width}")


def _adapt_channels(x: Tensor, channels: int) -> Tensor:
    if x.shape[1] == channels:
        return x
    return x.mean(1, keepdim=True) if channels == 1 else x.repeat(1, channels, 1, 1)
