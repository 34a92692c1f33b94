"""One training by several processes, as ``torchrun`` starts them: each takes its share of every batch, and all have the same model."""

import atexit
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from insphere.errors import ParameterError
from insphere.nets.shared_batches import SharesBatches
from insphere.training.noise import NoiseSource, SharedGenerator
from insphere.worker_processes import place_in_group


@dataclasses.dataclass(frozen=True)
class Processes:
    """The processes that train one model together.

    Attributes
    ----------
    n : int
        How many; 1 where this one is alone.
    rank : int
        Which this one is, 0..n−1.
    n_local : int
        How many are on this machine.
    local_rank : int
        Which this one is among those, and so its graphics processor.

    Examples
    --------
    >>> Processes.here()
    Processes(n=1, rank=0, n_local=1, local_rank=0)
    """

    n: int = 1
    rank: int = 0
    n_local: int = 1
    local_rank: int = 0

    @classmethod
    def here(cls) -> Self:
        """Return those that ``torchrun`` started together with this one."""
        return cls(*place_in_group())

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.n > 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def join(self, launch: Callable[[], object]) -> None:
        """Join the others by a function of PyTorch's or another library's, and leave them when the program ends."""
        before = torch.distributed.is_initialized()
        launch()
        if not before:
            # The threads of a group that is never left now and then abort the process at its end.
            atexit.register(torch.distributed.destroy_process_group)

    def agree(self, fingerprint: str) -> None:
        """Raise if the others train on other rows or with other parameters than this one.

        Raises
        ------
        ParameterError
        """
        if not self.several:
            return
        found: list[Any] = [None] * self.n
        torch.distributed.all_gather_object(found, fingerprint)
        if len(set(found)) > 1:
            raise ParameterError(
                "The processes that train together were given different rows, parameters or seeds; give all of them the same rows and"
                " `random_state`."
            )

    def share(self, index: Tensor) -> Tensor:
        """Return this process's part of the positions of a batch, of shape (1, n)."""
        return index.tensor_split(self.n, dim=1)[self.rank] if self.several else index

    def weight(self, index: Tensor) -> float:
        """Return what this process's mean over its part of a batch counts in the mean of all processes' means."""
        return self.share(index).shape[1] * self.n / index.shape[1] if self.several else 1.0

    def noise(self, generator: torch.Generator, index: Tensor) -> NoiseSource:
        """Return where the noise of this process's part of a batch comes from: what one process would have drawn for these rows."""
        if not self.several:
            return generator
        sizes = [len(part) for part in index[0].tensor_split(self.n)]
        return SharedGenerator(generator, sum(sizes[: self.rank]), sizes[self.rank], index.shape[1], self.rank)

    def mean(self, totals: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the means over the processes of numbers that each has."""
        if not self.several:
            return dict(totals)
        summed = torch.stack([total.reshape(()) for total in totals.values()])
        torch.distributed.all_reduce(summed)
        return dict(zip(totals, summed / self.n, strict=True))

    def share_batches(self, module: nn.Module, *, together: bool) -> None:
        """Let all parts of a module take their means over the batches of all processes, or no longer."""
        for part in module.modules():
            if isinstance(part, SharesBatches):
                part.together = together and self.several
