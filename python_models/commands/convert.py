"""`irstd convert`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Config:
    """Turn published weights into a weights file that a training begins with.

    Reads .safetensors, and .pt or .pth files as tensors alone. Every key must fit the network, in name and shape; parts that the
    checkpoint is known not to have are made anew from the seed. The file is for this preset and these options only.

    Examples:
      irstd convert mobile_sam.pt mobile_sam.safetensors --to irsam
      irstd convert mobile_sam.pt plain.safetensors --to irsam --option wpmd_blocks=0
      irstd convert released.pt public.safetensors --to irsam --preset public
    """

    source: Annotated[Positional[Path], arg(metavar="FILE")]
    """checkpoint to read"""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """weights file to write, ending in .safetensors"""
    to: Literal["irsam"]
    """network"""
    preset: str | None = None
    """size and design of the network (default: the network's own)"""
    option: tuple[str, ...] = ()
    """constructor options of the network as NAME=VALUE"""
    seed: int = 0
    """seed of the parts that are made anew"""
    overwrite: bool = False
    """replace OUT where it exists"""


def run(config: Config) -> int:
    """Convert, then say what was loaded and what is new."""
    import torch

    from python_models import build_model
    from python_models.files import write_weights
    from python_models.irsam.convert import load_pretrained, read_checkpoint
    from python_models.training.config import parse_options

    if config.out.suffix != ".safetensors":
        raise ValueError(f"out must end in .safetensors, got {config.out}")
    if config.out.exists() and not config.overwrite:
        raise FileExistsError(f"out: {config.out} exists; give another, or --overwrite")
    if config.out.resolve() == config.source.resolve():
        raise ValueError(f"out must be another file than the checkpoint, got {config.out}")
    tensors = read_checkpoint(config.source)
    torch.manual_seed(config.seed)
    net = build_model(config.to, config.preset, "reference", **parse_options(config.option))
    report = load_pretrained(net, tensors)
    write_weights(config.out, net.state_dict())
    print(f"{config.source}: {report}")
    words = [*(["--preset", config.preset] if config.preset else []), *(["--option", *config.option] if config.option else [])]
    print(f"written to {config.out}; next: irstd train {' '.join([config.to, '--weights', str(config.out), *words, '--data ...'])}")
    return 0
