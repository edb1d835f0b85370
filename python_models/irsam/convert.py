"""Weights of MobileSAM and of the released IRSAM, for this network.

    net = build_model("irsam", "paper")
    report = load_pretrained(net, read_checkpoint("mobile_sam.pt"))
    print(report)                       # 439 tensors loaded, 40 new: image_encoder.wpmd, ...
"""
from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from python_models.files import read_weights

# What MobileSAM does not have, what the released network does not have, and what neither file holds.
NEW = ("mask_decoder.edge_token.", "mask_decoder.edge_mlp.", "mask_decoder.compress_vit_feat.", "mask_decoder.embedding_encoder.",
       "mask_decoder.embedding_maskfeature.", "prompt_encoder.pe_layer_2.", "image_encoder.wpmd.", "normaliser.")


@dataclass(frozen=True)
class Report:
    """How a checkpoint's keys fit a network: `loaded`; `new`, which the network begins with as it was made; and what is wrong: `missing`,
    `unexpected`, `misshapen` (with both shapes)."""

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = sorted({next(prefix for prefix in NEW if name.startswith(prefix)).rstrip(".") for name in self.new})
        return f"{len(self.loaded)} tensors loaded, {len(self.new)} new{': ' if parts else ''}{', '.join(parts)}"


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The named tensors of a .safetensors file, or of a .pt or .pth file, of which tensors alone are read and nothing is executed.

    Raises FileNotFoundError, or ValueError in one line for another kind of file, a damaged one, and one that holds anything else.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_weights(path)
    if path.suffix not in (".pt", ".pth"):
        raise ValueError(f"convert: {path} must end in .safetensors, .pt or .pth")
    if not path.is_file():
        raise FileNotFoundError(f"convert: {path} does not exist")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that are refused below
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file, or one with more in it than tensors, ends in errors of many kinds
        raise ValueError(f"convert: {path} is not a whole file of tensors ({' '.join(str(error).split())[:120]})") from None
    if not isinstance(tensors, dict) or not tensors or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in tensors.items()):
        raise ValueError(f"convert: {path} must hold tensors by name and nothing else, got {type(tensors).__name__}")
    return tensors


def compare(tensors: Mapping[str, Tensor], net: nn.Module) -> Report:
    """Sort the keys of a checkpoint and of a network; nothing is loaded."""
    wanted = net.state_dict()
    absent = [name for name in wanted if name not in tensors]
    misshapen = [name for name in wanted if name in tensors and wanted[name].shape != tensors[name].shape]
    return Report(
        loaded=tuple(name for name in wanted if name in tensors and name not in set(misshapen)),
        new=tuple(name for name in absent if name.startswith(NEW)),
        missing=tuple(name for name in absent if not name.startswith(NEW)),
        unexpected=tuple(name for name in tensors if name not in wanted),
        misshapen=tuple(f"{name} {tuple(tensors[name].shape)} for {tuple(wanted[name].shape)}" for name in misshapen))


def load_pretrained(net: nn.Module, tensors: Mapping[str, Tensor]) -> Report:
    """Load a checkpoint into an IRSAM and say what was loaded and what stays new.

    Raises ValueError, in one line and before anything is changed, for every key that is missing, unexpected or of another shape, but for
    those that are known to be new (`NEW`).

    >>> from python_models import build_model
    >>> net, other = (build_model("irsam", "tiny", "reference") for _ in range(2))
    >>> str(load_pretrained(net, {k: v for k, v in other.state_dict().items() if not k.startswith("image_encoder.wpmd.")}))[-26:]
    '12 new: image_encoder.wpmd'
    """
    report = compare(tensors, net)
    wrong = [f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
             for what, names in (("missing", report.missing), ("unexpected", report.unexpected), ("of another shape", report.misshapen)) if names]
    if wrong:
        raise ValueError(f"convert: the checkpoint does not fit {getattr(net, 'name', type(net).__name__)}: {'; '.join(wrong)}")
    net.load_state_dict(dict(tensors), strict=False)
    return report
