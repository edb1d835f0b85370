"""Training of the networks. Nothing here imports PyTorch Lightning before it trains.

config.py and check.py (values), train.py (configuration -> run), seeds.py (one run per seed), loop.py (the step) and recorder.py
(after each epoch) on Lightning, distributed.py, optim.py, schedule.py, data.py, checkpoint.py, failures.py (errors in one line).
The run folder is python_models/runs.py, judging python_models/evaluation, prediction python_models/inference.
"""
