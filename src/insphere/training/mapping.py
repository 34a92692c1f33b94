"""The only loop over batches to score."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from insphere.nets.layers import SCORING_ROWS
from insphere.training.device import single_precision, threads_for
from insphere.training.feed import as_network_input

_MANY_ROWS = 256  # vectors, of which few are so little work that what surrounds it takes longer; a multiple of SCORING_ROWS
_ACCELERATOR_ROWS = 512  # a batch has on a device that computes rows side by side


def map_batches(
    function: Callable[[Tensor], Tensor],
    rows: NDArray[Any],
    transform: Callable[[Tensor], Tensor],
    *,
    device: torch.device,
    each_alone: bool = False,
) -> NDArray[np.float32]:
    """Apply `function` to preprocessed rows in batches of a fixed size and return its results as one float32 array.

    Parameters
    ----------
    function : callable
        From network input (`SCORING_ROWS` of them, …) to a tensor with as many rows; called without gradients.
    rows : ndarray, shape (n, height, width, channels) or (n, features)
        Raw rows. A row's result is that which it has in a batch of `SCORING_ROWS`; a last one with fewer is filled up with copies of its
        last row, whose results are dropped. Where the model computes fewer rows, or many vectors at a time, to the same bits, it does so.
    each_alone : bool
        On the CPU each row is a batch, on a thread of its own: for large pictures, of which one fills the processor's caches.
    """
    if each_alone and device.type == "cpu":
        return _map_alone(function, rows, transform)
    # In one array from the first batch on: small ones, kept between large ones that come and go, would leave holes in memory.
    results: NDArray[np.float32] | None = None
    n_rows = SCORING_ROWS if device.type == "cpu" else _ACCELERATOR_ROWS

    def computed(chunk: NDArray[Any]) -> Tensor:
        return function(as_network_input(torch.from_numpy(np.ascontiguousarray(chunk)).to(device), transform))

    with torch.inference_mode(), single_precision(), threads_for(rows[0].size):
        many = rows.ndim == 2 and n_rows < _MANY_ROWS <= len(rows) and _same_bits(function, computed, rows[:_MANY_ROWS])
        start = 0
        while start < len(rows):
            chunk = rows[start : start + (_MANY_ROWS if many and len(rows) - start >= _MANY_ROWS else n_rows)]
            n_real = len(chunk)
            if n_real < n_rows and not (device.type == "cpu" and _same_bits(function, computed, chunk)):
                chunk = np.concatenate([chunk, np.repeat(chunk[-1:], n_rows - n_real, axis=0)])
            found = computed(chunk)[:n_real].float().cpu().numpy()
            if results is None:
                results = np.empty((len(rows), *found.shape[1:]), np.float32)
            results[start : start + n_real] = found
            start += n_real
    return np.empty(0, np.float32) if results is None else results


_found: WeakKeyDictionary[Any, dict[tuple[object, ...], bool]] = WeakKeyDictionary()


def _same_bits(function: Callable[[Tensor], Tensor], computed: Callable[[NDArray[Any]], Tensor], rows: NDArray[Any]) -> bool:
    """Return whether a model gives so many rows at a time the bits that they have in batches of `SCORING_ROWS`.

    It is tried once a model, on rows much like these. What decides is which kernels the processor's libraries take, and these look at
    shapes, not at values; a sum in another order shows in some of sixteen rows, if not in each. Rows far from these could hide it: what
    is clipped is equal.
    """
    model, n_rows = getattr(function, "__self__", None), len(rows)
    if not isinstance(model, nn.Module) or model.training:  # in training, a row's result depends on its batch
        return False
    found = _found.setdefault(model, {})
    key = (getattr(function, "__name__", ""), rows.shape, rows.dtype.str, torch.get_num_threads())
    if key not in found:
        n_tried = max(n_rows, SCORING_ROWS)
        shares = np.random.default_rng(0).uniform(0.9, 1.0, (n_tried, *rows.shape[1:]))
        alike = (np.resize(rows, shares.shape) * shares).astype(rows.dtype)
        if (alike == alike[:1]).all():  # of zeros nothing can be seen
            return False
        expected, got = (
            torch.cat([computed(alike[start : start + n]) for start in range(0, n_tried - n + 1, n)]) for n in (SCORING_ROWS, n_rows)
        )
        found[key] = torch.equal(got, expected[: len(got)])
    return found[key]


def _map_alone(function: Callable[[Tensor], Tensor], rows: NDArray[Any], transform: Callable[[Tensor], Tensor]) -> NDArray[np.float32]:
    """Apply `function` to one row at a time, on as many threads as PyTorch has; the bits don't depend on their number."""
    n_threads = torch.get_num_threads()

    def apply(row: NDArray[Any]) -> NDArray[np.float32]:
        with torch.inference_mode():
            x = as_network_input(torch.from_numpy(np.ascontiguousarray(row[np.newaxis])), transform)
            return function(x)[0].float().numpy()

    try:
        with single_precision(), ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return np.stack(list(pool.map(apply, rows)))
    finally:
        torch.set_num_threads(n_threads)
