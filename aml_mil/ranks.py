"""Sums over the processes of one run; with a single process every function is the identity.

Shapes: B rows of this process, W processes, D columns.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def num_ranks() -> int:
    """Count the processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return which of the processes this one is, from 0."""
    return dist.get_rank() if num_ranks() > 1 else 0


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.num_rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(num_ranks())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        start = rank() * ctx.num_rows
        own: Tensor = total[start : start + ctx.num_rows]
        return own


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        total: Tensor = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def gather_rows(rows: Tensor) -> Tensor:
    """Put the rows of all processes together, in order of the ranks.

    Gradients flow back to the process that owns a row, summed over all that used it.

    Args:
        rows: [B, …], of the same shape in every process.

    Returns:
        [W * B, …].
    """
    if num_ranks() == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows)
    return gathered


def sum_over_ranks(values: Tensor) -> Tensor:
    """Add up a tensor over all processes; its gradient is added up as well."""
    if num_ranks() == 1:
        return values
    total: Tensor = _SumOverRanks.apply(values)
    return total


def mean_over_ranks(values: Tensor) -> Tensor:
    """Average a tensor over all processes."""
    return sum_over_ranks(values) / num_ranks()


def any_rank(wish: bool, *, device: torch.device) -> bool:  # noqa: FBT001
    """Tell every process whether any of them wishes it, so that all stop at the same step."""
    if num_ranks() == 1:
        return wish
    return bool(sum_over_ranks(torch.tensor(float(wish), device=device)) > 0)
