"""Resume state without pickle: tensors in safetensors, everything else in JSON.

A checkpoint folder holds ``state.json`` and the one tensor file that it names. ``state.json`` is replaced last and
atomically, so a process killed at any moment leaves either the old state or the new one, never a mixture.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from python_models.files import atomic_write, read_weights, write_text
from python_models.runs import STATE


def pack(value: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """Split a nested state into JSON values and a flat dict of tensors; :func:`unpack` restores it exactly.

    Understands None, bool, int, float, str, tensors (contiguous or channels last), NumPy arrays and scalars, lists, tuples
    and dicts with any of these as keys; a value of another type raises TypeError naming its place.
    """
    tensors: dict[str, torch.Tensor] = {}

    def keep(place: str, tensor: torch.Tensor) -> str:
        name, number = place, 1
        while name in tensors:  # {"a.b": ...} and {"a": {"b": ...}} have one place
            number += 1
            name = f"{place}#{number}"
        tensors[name] = tensor
        return name

    def visit(v: Any, place: str) -> Any:
        if v is None or isinstance(v, (bool, int, str)):
            return v
        if isinstance(v, float):
            return v if math.isfinite(v) else {"$float": repr(v)}
        if isinstance(v, torch.Tensor):
            last = v.ndim == 4 and not v.is_contiguous() and v.is_contiguous(memory_format=torch.channels_last)
            return {"$channels_last" if last else "$tensor": keep(place, v.detach().to("cpu").clone(memory_format=torch.contiguous_format))}
        if isinstance(v, np.ndarray):
            return {"$array": keep(place, torch.from_numpy(np.ascontiguousarray(v)).clone())}
        if isinstance(v, np.generic):
            return visit(v.item(), place)
        if isinstance(v, tuple):
            return {"$tuple": [visit(x, f"{place}.{i}") for i, x in enumerate(v)]}
        if isinstance(v, list):
            return [visit(x, f"{place}.{i}") for i, x in enumerate(v)]
        if isinstance(v, Mapping):
            if all(isinstance(k, str) and not k.startswith("$") for k in v):
                return {k: visit(x, f"{place}.{k}") for k, x in v.items()}
            return {"$dict": [[visit(k, f"{place}.key{i}"), visit(x, f"{place}.{k}")] for i, (k, x) in enumerate(v.items())]}
        raise TypeError(f"checkpoint: {place} must be a tensor, a number, text or a container of these, got {type(v).__name__}")

    return visit(value, "state"), tensors


def unpack(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The inverse of :func:`pack`."""
    if isinstance(value, list):
        return [unpack(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (tag, inner), = value.items()
        if tag == "$float":
            return float(inner)
        if tag == "$tensor":
            return tensors[inner]
        if tag == "$channels_last":  # the layout decides the order of sums in some kernels
            return tensors[inner].contiguous(memory_format=torch.channels_last)
        if tag == "$array":
            return tensors[inner].numpy()
        if tag == "$tuple":
            return tuple(unpack(v, tensors) for v in inner)
        if tag == "$dict":
            return {unpack(k, tensors): unpack(v, tensors) for k, v in inner}
    return {k: unpack(v, tensors) for k, v in value.items()}


def save_state(folder: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write ``state`` as the checkpoint in ``folder``, replacing an older one only when the new one is complete."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    old = _tensor_file(folder)
    name = "state-a.safetensors" if old != "state-a.safetensors" else "state-b.safetensors"
    tree, tensors = pack(state)
    atomic_write(folder / name, lambda temporary: save_file(tensors, str(temporary)))
    write_text(folder / STATE, json.dumps({"tensors": name, "state": tree}))
    for stale in folder.glob("state-*.safetensors"):
        if stale.name != name:
            stale.unlink(missing_ok=True)


def load_state(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the checkpoint in ``folder``; a missing or damaged one is one clear error."""
    folder = Path(folder)
    name = _tensor_file(folder)
    if name is None:
        raise FileNotFoundError(f"checkpoint: {folder / STATE} does not exist or names no tensor file")
    tree = json.loads((folder / STATE).read_text(encoding="utf-8"))["state"]
    return unpack(tree, read_weights(folder / name))


def rng_state() -> dict[str, Any]:
    """State of every global random generator: Python, NumPy, torch on CPU and on each CUDA device."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def seed_generators(seed: int) -> None:
    """Begin every global random generator anew."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore what :func:`rng_state` returned. CUDA states are restored when the number of devices agrees."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def _tensor_file(folder: Path) -> str | None:
    try:
        name = json.loads((folder / STATE).read_text(encoding="utf-8"))["tensors"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) and Path(name).name == name else None
