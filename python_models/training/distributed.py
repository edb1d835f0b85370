"""Several training processes: how they were started, and a loss over their common batch.

Each process runs the network on its part of a batch; the results are gathered, so that the loss, and with it every gradient,
is that of the whole batch also where a loss is no mean over images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from pytorch_lightning.plugins.environments import ClusterEnvironment

    from .config import TrainConfig


def cluster(config: TrainConfig) -> tuple[ClusterEnvironment, int]:
    """What started this process, and the process's rank.

    torchrun and SLURM (srun) start the processes themselves; otherwise the first process of each node starts the others.
    Raises ValueError where they started another number of processes than ``devices`` times ``nodes``.
    """
    from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

    environment: ClusterEnvironment
    if TorchElasticEnvironment.detect():
        environment, starter = TorchElasticEnvironment(), "torchrun"
    elif SLURMEnvironment.detect():
        try:  # without the requeueing, which writes checkpoints of its own
            environment, starter = SLURMEnvironment(auto_requeue=False), "SLURM (the variable SLURM_NTASKS)"
        except RuntimeError as error:
            raise ValueError(f"train: {' '.join(str(error).split())}") from None
    else:
        environment = LightningEnvironment()
        return environment, environment.node_rank() * config.devices + environment.local_rank()
    world = environment.world_size()
    if world != config.devices * config.nodes:
        raise ValueError(f"train: devices x nodes must be {world}, the processes that {starter} has started, got {config.devices} x {config.nodes}")
    return environment, environment.global_rank()


def gather_rows(value: Any, parts: Sequence[int], rank: int) -> Any:
    """``value`` with every tensor (rows, ..., of two or more dimensions) replaced by those of all processes, in their order.

    parts: rows of each process; tensors with another number of rows than this process's are no batch and stay. Containers
    are followed. The gradient of a row is that of its own process times their number, since DDP takes the mean over them.
    """
    if isinstance(value, Tensor):
        return _Rows.apply(value, parts, rank) if value.ndim > 1 and len(value) == parts[rank] else value
    if isinstance(value, Mapping):
        return {k: gather_rows(v, parts, rank) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(gather_rows(v, parts, rank) for v in value)
    return value


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, parts: Sequence[int], rank: int) -> Tensor:
        ctx.first, ctx.rows, ctx.world = sum(parts[:rank]), parts[rank], len(parts)
        padded = torch.cat([x, x.new_zeros(max(parts) - len(x), *x.shape[1:])]).contiguous()
        every = [torch.empty_like(padded) for _ in parts]
        dist.all_gather(every, padded)
        return torch.cat([part[:rows] for part, rows in zip(every, parts)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0].narrow(0, ctx.first, ctx.rows) * ctx.world, None, None


def from_first(values: Sequence[float], device: torch.device) -> list[float]:
    """The first process's ``values`` on every process."""
    if not (dist.is_available() and dist.is_initialized()):
        return list(values)
    shared = torch.tensor(values, dtype=torch.float64, device=device)
    dist.broadcast(shared, src=0)
    return shared.tolist()
