"""Images, masks, named splits, normalisation, augmentation and synthetic data."""

from .augment import Augment
from .dataset import ImageFolder, IRSTDDataset, collate, open_dataset
from .errors import DataError, DataWarning
from .images import image_size, read_image, read_raw
from .layouts import list_images
from .masks import binarise, read_mask
from .normalise import PRESETS, compute_normalisation, normalisation_preset
from .splits import discover_splits, split_hash
from .synth import SynthConfig, SyntheticDataset, make_scene, write_synthetic

__all__ = [
    "Augment", "DataError", "DataWarning", "IRSTDDataset", "ImageFolder", "PRESETS", "SynthConfig", "SyntheticDataset", "binarise",
    "collate", "compute_normalisation", "discover_splits", "image_size", "list_images", "make_scene", "normalisation_preset",
    "open_dataset", "read_image", "read_mask", "read_raw", "split_hash", "write_synthetic",
]
