"""The rows that models are trained on, where the device reaches them, and batches of them as network input."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Transform = Callable[[Tensor], Tensor]
"""A fitted preprocessing."""

_RESIDENT_BYTES = 2**31
_CHUNK = 4096


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
    memory, are preprocessed once.

    Parameters
    ----------
    parts : sequence of ndarray, each of shape (n, height, width, channels) or (n, features)
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
        self._device, self._transforms, self._raw = device, transforms, parts[0].ndim == 4
        # Preprocessing of one model is a bound method: equal ones belong to one object, and one call serves all.
        self._alike = all(transform == transforms[0] for transform in transforms)
        tensors = [torch.from_numpy(np.ascontiguousarray(part)) for part in parts]
        if not self._raw:
            tensors = [_preprocessed(rows, transform) for rows, transform in zip(tensors, transforms, strict=True)]
        rows = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
        self._rows = rows.to(device) if rows.nbytes <= _RESIDENT_BYTES else rows
        self._first_rows = (torch.arange(self.n_models) * self.n_rows).unsqueeze(1).to(self._rows.device)

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
        rows = self._rows[index.to(self._rows.device) + self._first_rows].to(self._device)
        if self.n_models == 1:
            return self._input(0, rows[0])
        if self._alike:
            x = self._input(0, rows.flatten(0, 1))
            return x.reshape(*rows.shape[:2], *x.shape[1:])
        return torch.stack([self._input(model, own) for model, own in enumerate(rows)])

    def first(self, model: int, n: int) -> Tensor:
        """Return the first rows of one model, at most `n`, as network input."""
        start = model * self.n_rows
        return self._input(model, self._rows[start : start + min(n, self.n_rows)].to(self._device))

    def in_order(self, model: int) -> Iterator[Tensor]:
        """Yield all rows of one model in order, in batches."""
        rows = self._rows[model * self.n_rows : (model + 1) * self.n_rows]
        return (self._input(model, chunk.to(self._device)) for chunk in torch.split(rows, 512))

    def _input(self, model: int, rows: Tensor) -> Tensor:
        return as_network_input(rows, self._transforms[model]) if self._raw else rows


def _preprocessed(rows: Tensor, transform: Transform) -> Tensor:
    return torch.cat([as_network_input(chunk, transform) for chunk in torch.split(rows, _CHUNK)])
