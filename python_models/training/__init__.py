"""Training of the networks. Nothing here imports PyTorch Lightning before it trains.

config.py (values), train.py (configuration -> run), loop.py (the Lightning part), optim.py, data.py, checkpoint.py.
The run folder is python_models/runs.py, judging python_models/evaluation, prediction python_models/inference.
"""
