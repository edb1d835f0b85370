"""Training, evaluation and prediction of the networks. Nothing here imports PyTorch Lightning before it trains.

config.py (values), train.py (configuration -> run), loop.py (the Lightning part), optim.py, data.py, checkpoint.py,
run.py (the run folder), evaluate.py, predict.py.
"""

from .evaluate import evaluate, network_scorer, predict_logits
from .run import load_run

__all__ = ["evaluate", "load_run", "network_scorer", "predict_logits"]
