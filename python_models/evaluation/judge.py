"""Judging a network, or any other scorer of images, on a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from python_models.inference import Scorer, resize

def evaluate(
    scorer: Scorer,
    dataset: Iterable[Mapping[str, Any]],
    protocols: tuple[str, ...] = ("exact",),
    eval_size: int | None = None,
    threshold: float = 0.5,
    keep: Callable[[Mapping[str, Any], Tensor], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Metrics of ``scorer`` over ``dataset`` by protocol name.

    Native size unless ``eval_size``: then image (bilinear, antialiased) and mask (nearest neighbour) are resized to that
    square first. ``threshold`` is on the sigmoid, strict. ``keep(sample, logits)`` sees each image's logits.
    """
    from python_models.metrics import IRSTDMetrics

    metrics = {p: IRSTDMetrics(protocol=p, threshold=threshold) for p in protocols}
    for sample in dataset:
        image, mask = sample["image"], sample["mask"]
        if eval_size is not None:
            image = resize(image[None].float(), eval_size)[0]
            mask = F.interpolate(mask[None], size=(eval_size, eval_size), mode="nearest-exact")[0]
        logits = scorer(image)
        if keep is not None:
            keep(sample, logits)
        for metric in metrics.values():
            metric.update(logits[None, None], mask[None])
    return {p: dict(m.compute()) for p, m in metrics.items()}


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
