"""A network's logits of images at their own size: whole, or in tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from .tiling import Span, spans

if TYPE_CHECKING:
    from python_models.layers.network import IRSTDNet

Scorer = Callable[[Tensor], Tensor]
"""Image (1, H, W) in [0, 1] -> logits (H, W): above 0 is target."""

GLOBAL_HALO = 64  # context for a network without a receptive radius, whose tiles can only come near the whole image


class Predictor:
    """A network with the way it is run: ``predictor([image, ...])`` gives the logits (H, W) of each image (1, H, W) in [0, 1].

    Logits are float32 on the CPU at the image's own size. A network of fixed input size sees the image resized
    (bilinear, antialiased) and its logits go back bilinearly; with ``tile`` it sees it in pieces of native resolution.

    ``tile``: side of the cores the image is cut into. ``halo``: context the network sees around each core; default: the
    network's ``receptive_radius`` attribute, with which the result is that of the whole image up to the rounding of
    other convolution kernels, else 64. ``overlap``: pixels that neighbouring cores share, blended with sin^2 weights;
    default 0, and a quarter of the tile for a network without a receptive radius, which looks at everything it is shown:
    ``note`` then says in one line that the result is another one. For a fixed input size, tile + 2 halo must be that size,
    windows are moved inside the image, and a smaller image is extended by repeating its border.

    ``batch``: images or windows of one size that a GPU sees at once. On the CPU the network sees one at a time, which
    is also faster there, so no bit depends on it. ``precision``: "fp32", or "bf16" for automatic mixed precision.

    Raises ValueError, one line, for options that do not fit, and when called with a network in training mode.

    >>> from python_models import build_model
    >>> net = build_model("sgem_unet", "tiny", backend="reference", input_size=64).eval()
    >>> whole, tiled = Predictor(net), Predictor(net, tile=64)
    >>> [tuple(p([torch.rand(1, 100, 150)])[0].shape) for p in (whole, tiled)]
    [(100, 150), (100, 150)]
    """

    def __init__(self, net: IRSTDNet, tile: int | None = None, halo: int | None = None, overlap: int | None = None, batch: int = 1,
                 precision: Literal["fp32", "bf16"] = "fp32") -> None:
        if batch < 1:
            raise ValueError(f"predict: batch must be >= 1, got {batch}")
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"predict: precision must be fp32 or bf16, got {precision!r}")
        if tile is None and (halo is not None or overlap is not None):
            raise ValueError(f"predict: {'halo' if halo is not None else 'overlap'} needs a tile, got none")
        self.net, self.batch, self.precision = net, batch, precision
        self.note: str | None = None
        self.tiles = None if tile is None else self._plan(tile, halo, overlap)

    def _plan(self, tile: int, halo: int | None, overlap: int | None) -> tuple[int, int, int]:
        """(tile, halo, overlap), and the note."""
        net, size = self.net, self.net.input_size
        radius: int | None = net.receptive_radius
        if tile < 1:
            raise ValueError(f"predict: tile must be >= 1, got {tile}")
        if halo is None:
            halo = max(0, size - tile) // 2 if size else GLOBAL_HALO if radius is None else radius
        if halo < 0:
            raise ValueError(f"predict: halo must be >= 0, got {halo}")
        if size and tile + 2 * halo != size:
            fits = f"--tile {size - 2 * halo}" if size > 2 * halo else f"--tile {size} without a halo"
            raise ValueError(f"predict: tile + 2 halo must be {size}, the input size of {net.name}, got tile {tile} and halo {halo}; give {fits}")
        if overlap is None:
            overlap = tile // 4 if radius is None else 0
        if not 0 <= overlap <= tile // 2:
            raise ValueError(f"predict: overlap must be in 0..{tile // 2}, half the tile, got {overlap}")
        if radius is None:
            self.note = f"{net.name} looks at all it is shown at once, so tiles give another result than the whole image"
        elif halo < radius:
            self.note = f"halo {halo} is below the receptive radius {radius} of {net.name}, so tiles give another result than the whole image"
        return tile, halo, overlap

    @torch.inference_mode()
    def __call__(self, images: Sequence[Tensor]) -> list[Tensor]:
        if self.net.training:
            raise ValueError("predict: the network must be in eval mode (net.eval()), it is in training mode")
        device = self.net.normaliser.mean.device.type
        at_once = self.batch if _batches(device) else 1
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
            if self.tiles is None:
                return self._whole(images, at_once)
            return [self._tiled(image.float(), at_once, *self.tiles) for image in images]

    def _whole(self, images: Sequence[Tensor], at_once: int) -> list[Tensor]:
        found: list[Tensor] = [torch.empty(0)] * len(images)
        by_size: dict[tuple[int, ...], list[int]] = {}
        for i, image in enumerate(images):
            by_size.setdefault(tuple(image.shape), []).append(i)
        size = self.net.input_size
        for (*_, height, width), members in by_size.items():
            for chunk in _chunks(members, at_once):
                x = torch.stack([images[i] for i in chunk]).float()
                logits = self._forward(resize(x, size) if size else x)
                if logits.shape[-2:] != (height, width):
                    logits = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
                for i, one in zip(chunk, logits[:, 0].cpu()):
                    found[i] = one
        return found

    def _tiled(self, image: Tensor, at_once: int, tile: int, halo: int, overlap: int) -> Tensor:
        height, width = image.shape[-2:]
        size, stride = self.net.input_size, self.net.stride
        rows, columns = (spans(n, tile, halo, overlap, stride, self.net.min_size, size) for n in (height, width))
        if size:
            image = F.pad(image[None], (0, max(0, size - width), 0, max(0, size - height)), mode="replicate")[0]
        out = torch.zeros(height, width)
        for row in rows:
            for chunk in _chunks(columns, at_once, lambda c: c.stop - c.start):
                x = torch.stack([image[:, row.start : row.stop, c.start : c.stop] for c in chunk])
                for column, logits in zip(chunk, self._forward(x)[:, 0].cpu()):
                    _add_core(out, logits, row, column)
        return out

    def _forward(self, x: Tensor) -> Tensor:
        return self.net(self.net.preprocess(x))["logits"].float()


def _batches(device: str) -> bool:
    """Whether a batch goes through the network as one: on the CPU that is slower, and its other kernels round otherwise."""
    return device != "cpu"


def _chunks(items: Sequence[Any], size: int, key: Callable[[Any], Any] = lambda _: None) -> list[list[Any]]:
    """Runs of at most ``size`` neighbours with one key."""
    found: list[list[Any]] = []
    for item in items:
        if found and len(found[-1]) < size and key(found[-1][0]) == key(item):
            found[-1].append(item)
        else:
            found.append([item])
    return found


def _add_core(out: Tensor, logits: Tensor, row: Span, column: Span) -> None:
    core = logits[row.low - row.start : row.high - row.start, column.low - column.start : column.high - column.start]
    out[row.low : row.high, column.low : column.high] += core * (row.weight[:, None] * column.weight)


def predict_logits(net: IRSTDNet, image: Tensor, tile: int | None = None, halo: int | None = None, overlap: int | None = None) -> Tensor:
    """Logits (H, W), float32 on the CPU, of one image (1, H, W) in [0, 1] at its own size; options as :class:`Predictor`.

    >>> from python_models import build_model
    >>> net = build_model("sgem_unet", "tiny", backend="reference", attention="linear").eval()
    >>> predict_logits(net, torch.rand(1, 50, 71)).shape
    torch.Size([50, 71])
    """
    return Predictor(net, tile, halo, overlap)([image])[0]


def predict_batch(net: IRSTDNet, images: Sequence[Tensor], batch: int = 8, **options: Any) -> list[Tensor]:
    """Logits (H, W) of each of ``images`` (1, H, W), whose sizes may differ; options as :class:`Predictor`.

    >>> from python_models import build_model
    >>> net = build_model("sgem_unet", "tiny", backend="reference", attention="linear").eval()
    >>> [tuple(x.shape) for x in predict_batch(net, [torch.rand(1, 32, 32), torch.rand(1, 20, 41)])]
    [(32, 32), (20, 41)]
    """
    return Predictor(net, batch=batch, **options)(images)


def resize(image: Tensor, size: int) -> Tensor:
    """(B, 1, H, W) -> (B, 1, size, size), bilinear with antialiasing; untouched where it has that size."""
    if tuple(image.shape[-2:]) == (size, size):
        return image
    return F.interpolate(image, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


def network_scorer(net: IRSTDNet, **options: Any) -> Scorer:
    """The network as a scorer; it must be in eval mode when called. Options as :class:`Predictor`."""
    predictor = Predictor(net, **options)
    return lambda image: predictor([image])[0]
