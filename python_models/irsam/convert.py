"""Weights of MobileSAM and of the released IRSAM, for this network.

    net = build_model("irsam", "paper")
    report = load_pretrained(net, read_checkpoint("mobile_sam.pt"))
    print(report)                       # 439 tensors loaded, 40 new: image_encoder.wpmd, ...
"""
from __future__ import annotations

import re
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
    `unexpected`, `misshapen` (with both shapes), `mistyped` (integers or complex numbers for a weight), `infinite` (or NaN)."""

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()
    mistyped: tuple[str, ...] = ()
    infinite: tuple[str, ...] = ()

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
        raise FileNotFoundError(f"convert: {path} {'is not a file' if path.exists() else 'does not exist'}")
    if path.stat().st_size == 0:
        raise ValueError(f"convert: {path} is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files that are refused below
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file, or one with more in it than tensors, ends in errors of many kinds
        if type(error).__name__ == "UnpicklingError":  # whose text says how to read the file all the same
            more = re.search(r"GLOBAL (\S+)", str(error))
            why = f"holds more than tensors ({more[1]}); nothing of it was run" if more else "is not a file of tensors as torch.save writes it"
            raise ValueError(f"convert: {path} {why}") from None
        raise ValueError(f"convert: {path} is not a whole file of tensors ({' '.join(str(error).split())[:120] or type(error).__name__})") from None
    if not isinstance(tensors, dict) or not tensors:
        raise ValueError(f"convert: {path} must hold tensors by name and nothing else, got {'none' if tensors == {} else type(tensors).__name__}")
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"convert: {path} must hold tensors by name and nothing else, got {name!r}, a {type(value).__name__}{'; save that part alone' if isinstance(value, dict) else ''}")
    return tensors


def compare(tensors: Mapping[str, Tensor], net: nn.Module) -> Report:
    """Sort the keys of a checkpoint and of a network; nothing is loaded."""
    wanted = net.state_dict()
    absent = [name for name in wanted if name not in tensors]
    misshapen = [name for name in wanted if name in tensors and wanted[name].shape != tensors[name].shape]
    weights = [name for name in wanted if name in tensors and wanted[name].is_floating_point()]
    return Report(
        loaded=tuple(name for name in wanted if name in tensors and name not in set(misshapen)),
        new=tuple(name for name in absent if name.startswith(NEW)),
        missing=tuple(name for name in absent if not name.startswith(NEW)),
        unexpected=tuple(name for name in tensors if name not in wanted),
        misshapen=tuple(f"{name} {tuple(tensors[name].shape)} for {tuple(wanted[name].shape)}" for name in misshapen),
        mistyped=tuple(f"{name} {str(tensors[name].dtype).removeprefix('torch.')}" for name in weights if not tensors[name].is_floating_point()),
        infinite=tuple(name for name in weights if tensors[name].is_floating_point() and not tensors[name].isfinite().all()))


def load_pretrained(net: nn.Module, tensors: Mapping[str, Tensor]) -> Report:
    """Load a checkpoint into an IRSAM and say what was loaded and what stays new.

    Raises ValueError, in one line and before anything is changed, for every key that is missing, unexpected, of another shape, no real
    number or not finite, but for those that are known to be new (`NEW`).

    >>> from python_models import build_model
    >>> net, other = (build_model("irsam", "tiny", "reference") for _ in range(2))
    >>> str(load_pretrained(net, {k: v for k, v in other.state_dict().items() if not k.startswith("image_encoder.wpmd.")}))[-26:]
    '12 new: image_encoder.wpmd'
    """
    report = compare(tensors, net)
    wrong = [f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
             for what, names in (("missing", report.missing), ("unexpected", report.unexpected), ("of another shape", report.misshapen), ("not real numbers", report.mistyped),
                                 ("not finite", report.infinite)) if names]
    if wrong:
        raise ValueError(f"convert: the checkpoint does not fit {getattr(net, 'name', type(net).__name__)}: {'; '.join(wrong)}")
    net.load_state_dict(dict(tensors), strict=False)
    return report
