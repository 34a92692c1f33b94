"""Where a loss gets its noise from, whether one model is trained or several as one."""

from collections.abc import Sequence

import torch
from torch import Tensor


class SeparateGenerators:
    """One generator for each of the models that are trained as one: each draws what it would have drawn alone.

    Parameters
    ----------
    generators : sequence of torch.Generator
        One for each model.
    model : Tensor, int64, shape ()
        Which model draws; inside `torch.vmap`, where all draw at once, a different one in each of its slices.
    """

    def __init__(self, generators: Sequence[torch.Generator], model: Tensor) -> None:
        self.generators, self.model = generators, model

    def standard_normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return one model's draws; all models' generators advance."""
        draws = torch.stack([_draw(shape, generator, like) for generator in self.generators])
        # PyTorch has no random numbers that differ from slice to slice by generators of one's own; a choice by index it has.
        return draws[self.model]


NoiseSource = torch.Generator | SeparateGenerators
"""What the training loop hands to an objective; only `standard_normal` needs to know which of the two it is."""


def standard_normal(shape: Sequence[int], source: NoiseSource, *, like: Tensor) -> Tensor:
    """Return draws from N(0, 1), on the device and with the dtype of `like`.

    Examples
    --------
    >>> standard_normal((2, 3), torch.Generator().manual_seed(0), like=torch.zeros(())).shape
    torch.Size([2, 3])
    """
    return source.standard_normal(shape, like) if isinstance(source, SeparateGenerators) else _draw(shape, source, like)


def _draw(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
