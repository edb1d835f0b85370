"""Seeded synthetic infrared images with small targets: NumPy and torch only, item i a function of (seed, i)."""

from .config import SynthConfig
from .dataset import SyntheticDataset, write_synthetic
from .scene import Scene, make_scene

__all__ = ["Scene", "SynthConfig", "SyntheticDataset", "make_scene", "write_synthetic"]
