"""The rows that models are trained on, where the device reaches them, and batches of them as network input."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from insphere.data.row_store import StoredRows

Transform = Callable[[Tensor], Tensor]
"""A fitted preprocessing."""

_RESIDENT_BYTES = 2**31
_CHUNK = 4096
_IN_ORDER = 512


def as_network_input(rows: Tensor, transform: Transform) -> Tensor:
    """Return preprocessed float32 rows with channels first (a channels-last view of images, no copy).

    Parameters
    ----------
    rows : Tensor, shape (n, height, width, channels) or (n, features)
        Raw rows; integers become float32, floats keep their precision until they are scaled.
    transform : callable
        The fitted preprocessing.
    """
    x = transform(rows if rows.is_floating_point() else rows.float()).float()
    return x.permute(0, 3, 1, 2) if x.ndim == 4 else x


class Feed:
    """As many rows for each model, and batches of them.

    Images are held in memory as they are (uint8 images stay uint8) and are preprocessed batch by batch. Vectors, which take little
    memory, are preprocessed once. Rows in a file (`StoredRows`) stay there, and are read and preprocessed batch by batch.

    Parameters
    ----------
    parts : sequence of ndarray or StoredRows, each of shape (n, height, width, channels) or (n, features)
        Raw rows, one part for each model, all of one shape.
    transforms : sequence of callable
        The fitted preprocessing of each model; it treats each row alone.
    device : torch.device
        Where batches go; the rows too, unless they take more than 2 GiB.

    Examples
    --------
    >>> feed = Feed([np.arange(6.0).reshape(3, 2)], [lambda rows: rows / 10], torch.device("cpu"))
    >>> feed.batch(torch.tensor([[2, 0]]))
    tensor([[0.4000, 0.5000],
            [0.0000, 0.1000]])
    """

    def __init__(self, parts: Sequence[NDArray[Any]], transforms: Sequence[Transform], device: torch.device) -> None:
        self.n_rows, self.n_models = len(parts[0]), len(parts)
        self._device, self._transforms = device, transforms
        # Preprocessing of one model is a bound method: equal ones belong to one object, and one call serves all.
        self._alike = all(transform == transforms[0] for transform in transforms)
        self._stored: list[Any] = [part for part in parts if isinstance(part, StoredRows)]
        self._raw = parts[0].ndim == 4 or bool(self._stored)
        if self._stored:
            return
        tensors = [torch.from_numpy(np.ascontiguousarray(part)) for part in parts]
        if not self._raw:
            tensors = [_preprocessed(rows, transform) for rows, transform in zip(tensors, transforms, strict=True)]
        rows = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
        self._rows = rows.to(device) if rows.nbytes <= _RESIDENT_BYTES else rows
        self._first_rows = (torch.arange(self.n_models) * self.n_rows).unsqueeze(1).to(self._rows.device)

    def shuffled(self, model: int, generator: torch.Generator) -> Tensor:
        """Return the positions of one model's rows in random order, int64, shape (n_rows,).

        Rows in a file are shuffled within windows of blocks that are drawn at random and fit in memory together: each block is then read
        once in a pass. Where one window has all of them, the order is that of rows in memory.
        """
        if not self._stored:
            return torch.randperm(self.n_rows, generator=generator)
        return windowed_order(self._stored[model].block_of, max(1, self._stored[model].n_cached // 2), generator)

    def batch(self, index: Tensor) -> Tensor:
        """Return a batch of every model as network input.

        Parameters
        ----------
        index : Tensor, int64, shape (n_models, n)
            Positions among each model's own rows.

        Returns
        -------
        Tensor, shape (n_models, n, channels, height, width) or (n_models, n, features)
            Without the first dimension where there is one model.
        """
        rows = self._gathered(index).to(self._device)
        if self.n_models == 1:
            return self._input(0, rows[0])
        if self._alike:
            x = self._input(0, rows.flatten(0, 1))
            return x.reshape(*rows.shape[:2], *x.shape[1:])
        return torch.stack([self._input(model, own) for model, own in enumerate(rows)])

    def first(self, model: int, n: int) -> Tensor:
        """Return the first rows of one model, at most `n`, as network input."""
        return self._input(model, self._range(model, 0, min(n, self.n_rows)))

    def in_order(self, model: int) -> Iterator[Tensor]:
        """Yield all rows of one model in order, in batches."""
        starts = range(0, self.n_rows, _IN_ORDER)
        return (self._input(model, self._range(model, start, min(start + _IN_ORDER, self.n_rows))) for start in starts)

    def _gathered(self, index: Tensor) -> Tensor:
        if not self._stored:
            return self._rows[index.to(self._rows.device) + self._first_rows]
        return torch.stack([torch.from_numpy(rows[own.numpy()]) for rows, own in zip(self._stored, index, strict=True)])

    def _range(self, model: int, start: int, stop: int) -> Tensor:
        if self._stored:
            return torch.from_numpy(self._stored[model][start:stop]).to(self._device)
        before = model * self.n_rows
        return self._rows[before + start : before + stop].to(self._device)

    def _input(self, model: int, rows: Tensor) -> Tensor:
        return as_network_input(rows, self._transforms[model]) if self._raw else rows


def windowed_order(block_of: NDArray[np.int64], n_together: int, generator: torch.Generator) -> Tensor:
    """Return positions in an order in which rows of `n_together` blocks, drawn at random, are shuffled among each other.

    Parameters
    ----------
    block_of : ndarray of int64, shape (n,)
        The block that each row lies in.
    n_together : int
        Blocks of a window; if there are no more, the order is a permutation as `torch.randperm` draws it.
    generator : torch.Generator

    Examples
    --------
    >>> windowed_order(np.array([0, 0, 1, 1, 2, 2]), 1, torch.Generator().manual_seed(0))
    tensor([3, 2, 4, 5, 1, 0])
    """
    blocks, code = np.unique(block_of, return_inverse=True)
    if len(blocks) <= n_together:
        return torch.randperm(len(block_of), generator=generator)
    rank = torch.randperm(len(blocks), generator=generator).numpy()[code]
    by_block = torch.from_numpy(np.argsort(rank, kind="stable"))
    ends = np.searchsorted(np.sort(rank), np.arange(n_together, len(blocks), n_together))
    windows = by_block.tensor_split(torch.from_numpy(ends))
    return torch.cat([window[torch.randperm(len(window), generator=generator)] for window in windows])


def _preprocessed(rows: Tensor, transform: Transform) -> Tensor:
    return torch.cat([as_network_input(chunk, transform) for chunk in torch.split(rows, _CHUNK)])
