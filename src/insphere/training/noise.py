"""Where a loss gets its noise from, whether one model is trained, several as one, or one by several processes."""

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

    def standard_normal(self, shape: Sequence[int], like: Tensor, rows_along: int) -> Tensor:
        """Return one model's draws; all models' generators advance."""
        draws = torch.stack([_draw(shape, generator, like) for generator in self.generators])
        # PyTorch has no random numbers that differ from slice to slice by generators of one's own; a choice by index it has.
        return draws[self.model]


class SharedGenerator:
    """One generator for several processes that train one model: each draws for the rows of its part of a batch what one process would.

    Draws that are not one a row of the part, along the axis that is said, are this process's own.

    Parameters
    ----------
    generator : torch.Generator
        In the same state in all processes.
    start, n_rows : int
        Where this process's part of the batch begins, and how many rows it has.
    n_batch : int
        Rows of the whole batch.
    rank : int
        Number of the process.
    """

    def __init__(self, generator: torch.Generator, start: int, n_rows: int, n_batch: int, rank: int) -> None:
        self.generator, self.start, self.n_rows, self.n_batch, self.rank = generator, start, n_rows, n_batch, rank

    def standard_normal(self, shape: Sequence[int], like: Tensor, rows_along: int) -> Tensor:
        """Return this process's draws; the generators of all processes advance alike."""
        if shape[rows_along] == self.n_rows:
            whole = [*shape[:rows_along], self.n_batch, *shape[rows_along + 1 :]]
            return _draw(whole, self.generator, like).narrow(rows_along, self.start, self.n_rows)
        seed = int(torch.randint(2**62, (), generator=self.generator, device=self.generator.device))
        return _draw(shape, torch.Generator(device=like.device).manual_seed(seed + self.rank), like)


NoiseSource = torch.Generator | SeparateGenerators | SharedGenerator
"""What the training loop hands to an objective; only `standard_normal` needs to know which of them it is."""


def standard_normal(shape: Sequence[int], source: NoiseSource, *, like: Tensor, rows_along: int = 0) -> Tensor:
    """Return draws from N(0, 1), on the device and with the dtype of `like`; along the axis `rows_along` they are one a row of the batch.

    Examples
    --------
    >>> standard_normal((2, 3), torch.Generator().manual_seed(0), like=torch.zeros(())).shape
    torch.Size([2, 3])
    """
    return _draw(shape, source, like) if isinstance(source, torch.Generator) else source.standard_normal(shape, like, rows_along)


def _draw(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)
