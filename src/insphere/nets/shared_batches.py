"""Means over a batch of which several processes have a part each."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class SharesBatches(nn.Module):
    """A module that takes means over the rows of a batch.

    Attributes
    ----------
    together : bool
        Whether the batch is shared out among the processes of PyTorch's process group: means are then over the rows of all. All of them
        come by at the same time, or the first one waits for ever.

    Examples
    --------
    >>> SharesBatches().batch_mean(torch.tensor([[1.0, 2.0], [3.0, 6.0]]), [0])
    (tensor([2., 4.]), 2.0)
    """

    together = False

    def batch_mean(self, x: Tensor, axes: Sequence[int]) -> tuple[Tensor, float]:
        """Return the mean over the axes, and over how many values it is."""
        mean = x.mean(tuple(axes))
        count = x.numel() / max(1, mean.numel())
        if not self.together:
            return mean, count
        counted = x.new_tensor(count, dtype=torch.float64)
        torch.distributed.all_reduce(counted)
        total: Tensor = _SumOfAll.apply(mean * count)  # type: ignore[no-untyped-call]
        return total / float(counted), float(counted)

    def batch_rows(self, x: Tensor) -> Tensor:
        """Return values of rows, one after the other, of all processes; without gradients."""
        if not self.together:
            return x
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, x.detach().cpu())
        return torch.cat(parts).to(x.device)


class _SumOfAll(torch.autograd.Function):
    """The sum of a tensor over all processes; as every process's loss depends on it, its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        torch.distributed.all_reduce(total)
        return total
