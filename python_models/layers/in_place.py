"""Functions that reuse the memory of a tensor nobody else holds: in inference a large new map costs more than the arithmetic on it."""
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def streams(x: Tensor) -> bool:
    """Whether x may be worked on in place and piece by piece: on the CPU, without gradients, autocast or a compiler."""
    return x.device.type == "cpu" and not (torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"))


def gelu(x: Tensor) -> Tensor:
    """Exact GELU of a tensor nobody else holds: in place where nothing is kept for a gradient."""
    return F.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)


def add(y: Tensor, x: Tensor) -> Tensor:
    """x + y, for a y nobody else holds."""
    return y.add_(x) if streams(y) else x + y


def silu(x: Tensor) -> Tensor:
    """SiLU of a tensor nobody else holds."""
    return F.silu(x, inplace=streams(x))


def relu(x: Tensor) -> Tensor:
    """ReLU of a tensor nobody else holds."""
    return x.relu_() if streams(x) else x.relu()


def multiply(y: Tensor, x: Tensor) -> Tensor:
    """x y, for a y nobody else holds."""
    return y.mul_(x) if streams(y) else y * x
