"""Images, masks, named splits, normalisation, augmentation and synthetic data."""

from .augment import Augment, CopyPaste, TargetBank
from .dataset import IRSTDDataset, collate, open_dataset
from .errors import DataError, DataWarning
from .images import image_size, page_count, read_image, read_raw
from .layouts import Layout, Pair, Part, find_layout
from .masks import binarise, read_mask
from .normalise import PRESET_NAMES, PRESETS, compute_normalisation, normalisation, normalisation_preset
from .splits import part_names, split_hash
from .synth import SynthConfig, SyntheticDataset, make_scene, write_synthetic

__all__ = [
    "Augment", "CopyPaste", "DataError", "DataWarning", "IRSTDDataset", "Layout", "PRESETS", "PRESET_NAMES", "Pair", "Part",
    "SynthConfig", "SyntheticDataset", "TargetBank", "binarise", "collate", "compute_normalisation", "find_layout", "image_size", "make_scene", "normalisation", "normalisation_preset", "open_dataset", "page_count", "part_names", "read_image", "read_mask", "read_raw",
    "split_hash", "write_synthetic",
]
