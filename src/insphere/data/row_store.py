"""Rows in a file instead of in memory: what a fit works on where all rows together are larger than memory may be."""

import itertools
import math
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from insphere.data.rows import AbstractSource, Rows
from insphere.errors import DataError

BLOCK_BYTES = 2**20
"""Bytes read at a time: enough for a disk to be as fast as it can."""

CACHED_BYTES = 2**28
"""Bytes of blocks that are kept in memory."""

_BATCH_BYTES = 2**26


class StoredRows:
    """Rows of one shape and type in a file, which behave like an array wherever a part of them is asked for.

    An index, a slice or an array of positions reads these rows into memory; `take` makes a view of some of the rows and reads nothing.
    Blocks of rows that were read last are kept, `CACHED_BYTES` of them.

    Parameters
    ----------
    blocks : Blocks
        The file.
    index : ndarray of int64, shape (n,)
        Which of its rows these are, in this order.

    Examples
    --------
    >>> stored = StoredRows.of([np.zeros((2, 3)), np.ones((1, 3))])
    >>> stored.shape, stored[2], stored.take(np.array([2, 0]))[:].sum(axis=1)
    ((3, 3), array([1., 1., 1.]), array([3., 0.]))
    """

    def __init__(self, blocks: "Blocks", index: NDArray[np.int64]) -> None:
        self._blocks, self.index = blocks, index

    @classmethod
    def of(cls, parts: Iterable[NDArray[Any]]) -> Self:
        """Return rows that come in parts, arrays of one row shape and type, written to a temporary file.

        Raises
        ------
        DataError
            If the file cannot be written.
        """
        blocks = Blocks.written(iter(parts))
        return cls(blocks, np.arange(len(blocks)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the rows together, as of an array."""
        return (len(self.index), *self._blocks.row_shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        return self._blocks.dtype

    @property
    def ndim(self) -> int:
        """How many dimensions the rows together have."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many values there are."""
        return math.prod(self.shape)

    @property
    def block_of(self) -> NDArray[np.int64]:
        """The block of the file that each row lies in."""
        return self.index // self._blocks.block_rows

    @property
    def n_cached(self) -> int:
        """How many blocks are kept in memory."""
        return self._blocks.n_cached

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.index)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return one row (an integer) or some (a slice, or an array of positions or truths), in memory."""
        wanted = self.index[key]
        return self._blocks.read(np.atleast_1d(wanted))[0 if np.ndim(wanted) == 0 else slice(None)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all rows in memory."""
        if copy is False:
            raise ValueError("Rows in a file become an array only by a copy.")
        rows = self[:]
        return rows if dtype is None else rows.astype(dtype, copy=False)

    def take(self, positions: NDArray[Any]) -> Self:
        """Return the rows at `positions` (or those where it is true), without reading them."""
        return type(self)(self._blocks, self.index[positions])


class Blocks:
    """A temporary file of rows, read a block at a time; the file goes when this object does.

    Parameters
    ----------
    file : binary file
        Open for reading; no name leads to it, so that it goes with the process, however that ends.
    row_shape : tuple of int
    dtype : dtype
    n_rows : int
    """

    def __init__(self, file: IO[bytes], row_shape: tuple[int, ...], dtype: np.dtype[Any], n_rows: int) -> None:
        self._file, self.row_shape, self.dtype, self._n_rows = file, row_shape, dtype, n_rows
        self._row_bytes = math.prod(row_shape) * dtype.itemsize
        self.block_rows = max(1, BLOCK_BYTES // self._row_bytes)
        self.n_cached = max(2, CACHED_BYTES // (self.block_rows * self._row_bytes))
        # Each block is read into one of as many places, which are made once: blocks that come and go would leave holes in memory.
        n_places = min(self.n_cached, -(-n_rows // self.block_rows))
        self._places = np.empty((n_places, self.block_rows, *row_shape), dtype)
        self._cached: OrderedDict[int, int] = OrderedDict()  # block -> place, the one that was asked for last at the end
        weakref.finalize(self, file.close)

    @classmethod
    def written(cls, parts: Iterator[NDArray[Any]]) -> Self:
        """Return a file of the rows of all parts.

        Raises
        ------
        DataError
            If it cannot be written.
        """
        first = next(parts)
        n_rows = 0
        with _telling():
            file = tempfile.TemporaryFile()  # noqa: SIM115 (it is closed with the object that keeps it)
        try:
            for part in itertools.chain([first], parts):
                with _telling():
                    file.write(np.ascontiguousarray(part).data)
                n_rows += len(part)
            with _telling():
                file.flush()
        except BaseException:
            with suppress(OSError):  # a full disk refuses what is still buffered once more
                file.close()
            raise
        return cls(file, first.shape[1:], first.dtype, n_rows)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._n_rows

    def read(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows at `index`, in that order."""
        rows = np.empty((len(index), *self.row_shape), dtype=self.dtype)
        numbers, within = np.divmod(index, self.block_rows)
        order = np.argsort(numbers, kind="stable")
        starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
        for places in np.split(order, starts[1:]):
            if len(places):
                rows[places] = self._block(int(numbers[places[0]]))[within[places]]
        return rows

    def _block(self, number: int) -> NDArray[Any]:
        if number in self._cached:
            self._cached.move_to_end(number)
            kept: NDArray[Any] = self._places[self._cached[number]]
            return kept
        place = len(self._cached) if len(self._cached) < len(self._places) else self._cached.popitem(last=False)[1]
        start = number * self.block_rows
        block: NDArray[Any] = self._places[place, : min(self.block_rows, self._n_rows - start)]
        self._file.seek(start * self._row_bytes)
        if self._file.readinto(block.reshape(-1).view(np.uint8).data) != block.nbytes:  # type: ignore[attr-defined]
            raise DataError("The temporary file of the rows has been cut short; fit again.")
        self._cached[number] = place
        return block


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"The rows take more than training.memory_limit, and a temporary file for them cannot be written in {tempfile.gettempdir()}:"
            f" {error.strerror or error}. Set TMPDIR to a folder with more room, or allow more memory (--set training.memory_limit=BYTES)."
        ) from error


def load_within(source: AbstractSource, most_bytes: int | None) -> Rows:
    """Return all rows of a source: in memory, or in a temporary file where they would take more than `most_bytes` there.

    Parameters
    ----------
    source : AbstractSource
        One that lies in memory stays there.
    most_bytes : int, optional
        None for no limit.

    Returns
    -------
    Rows
        ``Rows.X`` is an array, or `StoredRows`, which take its place for what a fit does with it. Rows of features are float64 there.

    Raises
    ------
    DataError
        If the temporary file cannot be written.

    Examples
    --------
    >>> from insphere.data import ArraySource
    >>> load_within(ArraySource(np.zeros((4, 2))), 1).X.shape
    (4, 2)
    """
    dtype = source.dtype if source.is_image else np.dtype(np.float64)
    row_bytes = math.prod(source.row_shape) * dtype.itemsize
    if most_bytes is None or source.in_memory or len(source) * row_bytes <= most_bytes:
        return source.load()
    index: list[NDArray[np.int64]] = []
    errors: dict[int, str] = {}

    def parts() -> Iterator[NDArray[Any]]:
        yield np.empty((0, *source.row_shape), dtype)
        for batch in source.batches(max(1, min(_BATCH_BYTES, most_bytes) // row_bytes)):
            index.append(batch.index)
            errors.update(batch.errors)
            yield batch.X.astype(dtype, copy=False)

    stored = StoredRows.of(parts())
    return Rows(cast("NDArray[Any]", stored), np.concatenate(index), errors)


def take_rows(rows: NDArray[Any], positions: NDArray[Any]) -> NDArray[Any]:
    """Return the rows at `positions` (or those where it is true): of an array a copy, of `StoredRows` more of these.

    Examples
    --------
    >>> take_rows(np.arange(4.0).reshape(4, 1), np.array([3, 0])).tolist()
    [[3.0], [0.0]]
    """
    taken: Any = rows.take(positions) if isinstance(rows, StoredRows) else rows[positions]
    return cast("NDArray[Any]", taken)


def chunks(rows: NDArray[Any], n: int = 4096) -> Iterator[NDArray[Any]]:
    """Yield rows in order, at most `n` at a time.

    Examples
    --------
    >>> [len(part) for part in chunks(np.zeros((5, 1)), 2)]
    [2, 2, 1]
    """
    return (rows[start : start + n] for start in range(0, len(rows), n))
