"""Running trained networks on images."""

from .logits import Predictor, Scorer, network_scorer, predict_batch, predict_logits, resize
from .outputs import find_targets, quantise_scores
from .predict import Result, predict_files
from .sources import Frame, find_frames, read_frame

__all__ = ["Frame", "Predictor", "Result", "Scorer", "find_frames", "find_targets", "network_scorer", "predict_batch", "predict_files",
           "predict_logits", "quantise_scores", "read_frame", "resize"]
