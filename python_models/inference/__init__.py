"""Running trained networks on images."""

from .logits import Scorer, network_scorer, predict_logits, resize
from .predict import Report, find_targets, predict_files

__all__ = ["Report", "Scorer", "find_targets", "network_scorer", "predict_files", "predict_logits", "resize"]
