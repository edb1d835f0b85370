"""Where a data set keeps its images, masks and lists. ``kinds.LAYOUTS`` is the table of known layouts."""

from .base import Pair, Part
from .layout import Layout, find_layout

__all__ = ["Layout", "Pair", "Part", "find_layout"]
