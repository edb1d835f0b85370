"""`irstd doctor`."""

from __future__ import annotations

import importlib.util
import os
import platform
from dataclasses import dataclass
from importlib import metadata

EXTRAS = {
    "pytorch_lightning": ("train", "training"),
    "torchmetrics": ("train", "metrics inside a Lightning loop"),
    "tensorboard": ("train", "irstd train --tensorboard"),
    "matplotlib": ("viz", "the Pd-Fa plot"),
}


@dataclass(frozen=True)
class Config:
    """Show the environment, which native libraries loaded, and why not. Exit code 1 when the CPU library is missing.

    Examples:
      irstd doctor
    """


def run(config: Config) -> int:
    """Print one line per finding."""
    import torch

    import irstd_ext
    from irstd_ext import _load
    from python_models import list_models, list_presets

    print(f"irstd_ext {irstd_ext.__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} processors, CUDA {torch.version.cuda or 'none'}")
    print(f"devices: {', '.join(['cpu', *(f'cuda:{i} {torch.cuda.get_device_name(i)}' for i in range(torch.cuda.device_count()))])}")
    print("native libraries:")
    rows = _load.report()
    for row in rows:
        print(f"  {row['name']:20} {'loaded' if row['loaded'] else 'not loaded':10} {row['path'] if row['loaded'] else row['reason']}")
    print("optional packages:")
    for name, (extra, use) in EXTRAS.items():
        if importlib.util.find_spec(name) is None:
            print(f'  {name:20} missing    {use}: pip install "irstd_ext[{extra}]"')
        else:
            print(f"  {name:20} {metadata.version(name):10} {use}")
    print("networks:")
    for name in list_models():
        print(f"  {name:20} presets {', '.join(list_presets(name))}")
    return 0 if rows[0]["loaded"] else 1
