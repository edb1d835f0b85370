"""Seeded synthetic infrared images with small targets: NumPy and torch only, item i a function of (seed, i)."""

from .config import SynthConfig
from .dataset import SyntheticDataset
from .scene import Scene, make_scene
from .write import write_synthetic

__all__ = ["Scene", "SynthConfig", "SyntheticDataset", "make_scene", "write_synthetic"]
