"""Judging a network, or any other scorer of images, on a data set: the figures alone, as training and the demo want them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from python_models.inference import Scorer, resize

Sample = Mapping[str, Any]
MaskResize = Literal["nearest", "area"]


def evaluate(
    scorer: Scorer,
    dataset: Iterable[Sample],
    protocols: tuple[str, ...] = ("exact",),
    eval_size: int | None = None,
    threshold: float = 0.5,
    keep: Callable[[Sample, Tensor], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Metrics of ``scorer`` over ``dataset`` by protocol name; :func:`.assessment.assess` gives everything else as well.

    Native size unless ``eval_size``, see :func:`at_size`. ``threshold`` is on the sigmoid, strict. ``keep(sample, logits)``
    sees each image's logits. ValueError names the image whose logits are not finite.

    >>> mask = torch.zeros(1, 16, 16); mask[0, 4:6, 4:6] = 1
    >>> evaluate(lambda image: 4 * image[0] - 2, [{"image": mask, "mask": mask, "name": "a"}])["exact"]["IoU"]
    1.0
    """
    from python_models.metrics import IRSTDMetrics

    metrics = {p: IRSTDMetrics(protocol=p, threshold=threshold) for p in protocols}
    for sample in dataset:
        image, mask = at_size(sample, eval_size)
        logits = scorer(image)
        check_finite(logits, sample)
        if keep is not None:
            keep(sample, logits)
        for metric in metrics.values():
            metric.update(logits[None, None], mask[None])
    return {p: dict(m.compute()) for p, m in metrics.items()}


def at_size(sample: Sample, size: int | None = None, mask_resize: MaskResize = "nearest") -> tuple[Tensor, Tensor]:
    """Image and mask (1, H, W) of a sample as they are judged: their own size, or both resized to ``size`` x ``size``.

    The image goes bilinearly (antialiased); the mask by nearest neighbour, or by "area": target wherever a true pixel falls.
    """
    image, mask = sample["image"], sample["mask"]
    if size is None:
        return image, mask
    if mask_resize == "nearest":
        small = F.interpolate(mask[None], size=(size, size), mode="nearest-exact")[0]
    else:
        small = (F.interpolate(mask[None], size=(size, size), mode="area")[0] > 0).to(mask.dtype)
    return resize(image[None].float(), size)[0], small


def check_finite(scores: Tensor | np.ndarray, sample: Sample) -> None:
    """ValueError, one line that names the image, for scores that are not all finite."""
    finite = torch.isfinite(torch.as_tensor(scores))
    if not finite.all():
        image, bad = sample.get("path") or sample.get("name"), int((~finite).sum())
        raise ValueError(f"eval: {image}: scores must be finite, got {bad} of {finite.numel()} that are not")


HEADLINE = ("IoU", "nIoU", "Pd", "Fa")


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Text table of IoU, nIoU, Pd in percent and Fa in 1e-6, one row per name.

    >>> print(table({"tiny": {"IoU": 0.5, "nIoU": 0.25, "Pd": 1.0, "Fa": 2e-6}}))  # doctest: +NORMALIZE_WHITESPACE
           IoU %  nIoU %    Pd %   Fa 1e-6
    tiny   50.00   25.00  100.00      2.00
    """
    width = max(4, *(len(name) for name in rows))
    lines = [f"{'':{width}} {'IoU %':>7} {'nIoU %':>7} {'Pd %':>7} {'Fa 1e-6':>9}"]
    for name, m in rows.items():
        iou, niou, pd, fa = (float("nan") if m.get(k) is None else float(m[k]) for k in HEADLINE)
        lines.append(f"{name:{width}} {100 * iou:7.2f} {100 * niou:7.2f} {100 * pd:7.2f} {1e6 * fa:9.2f}")
    return "\n".join(lines)
