"""The numeric cases beside the tests."""
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parents[1] / "vectors"


def load_vectors(op: str, name: str) -> dict[str, torch.Tensor]:
    """Every array of tests/vectors/<op>/<name>.npz, in float64."""
    with np.load(FOLDER / op / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(np.asarray(value, dtype=np.float64)) for key, value in file.items()}
