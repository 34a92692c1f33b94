"""Rows of an array that lie in a .npy file and are read as they are asked for; not mapped.

A file that is cut while it is mapped ends the process with a signal (SIGBUS) at the next look at what is gone, and one that is written
again shows rows of both. Reads notice either.
"""

import math
import os
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from insphere.errors import DataError


class FileRows:
    """What `ArraySource` needs of an array: its shape and type, and rows by number, range or positions.

    Parameters
    ----------
    path : Path
    offset : int
        Bytes before the first value.
    shape : tuple of int
        As it is in the file, in C order.
    dtype : dtype
        As it is in the file.
    """

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._path, self._offset, self._stored_shape, self._stored_dtype = path, offset, shape, dtype
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize
        self._channels_first = False
        self.shape, self.dtype = shape, dtype
        with path.open("rb") as file:
            self._version = _version(file)
            if self._version[1] < offset + shape[0] * self._row_bytes:
                raise DataError(f"{path.name} cannot be read: it is shorter than its head says; copy or save it again.")

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def computed(self, dtype: np.dtype[Any]) -> Self:
        """Return the same rows in another type, grey images with a channel."""
        made = self._copy()
        made.dtype = dtype
        made.shape = (*self.shape, 1) if self.ndim == 3 else self.shape
        return made

    def channels_last(self) -> Self:
        """Return the same images, whose channels are along the second axis in the file, with their channels along the last."""
        made = self._copy()
        made._channels_first = True
        made.shape = (self.shape[0], *self.shape[2:], self.shape[1])
        return made

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        """Return rows: one by its number, a range, or those at positions.

        Raises
        ------
        DataError
            If the file has changed since it was opened, or cannot be read.
        """
        if isinstance(rows, int | np.integer):
            one: NDArray[Any] = self[int(rows) : int(rows) + 1][0]
            return one
        try:
            with self._path.open("rb") as file:
                if isinstance(rows, slice):
                    start, stop, _ = rows.indices(len(self))
                    stored = self._read(file, start, max(stop - start, 0))
                else:
                    stored = np.empty((len(rows), *self._stored_shape[1:]), self._stored_dtype)
                    for place, row in enumerate(rows.tolist()):
                        stored[place] = self._read(file, range(len(self))[row], 1)[0]
                # Asked last: what was read before a change is as old as the change is new.
                if _version(file) != self._version:
                    raise self._changed()
        except OSError as error:
            raise DataError(f"{self._path.name} cannot be read: {error.strerror or error}.") from error
        turned = np.moveaxis(stored, 1, -1) if self._channels_first else stored
        return turned.astype(self.dtype, copy=False).reshape(len(turned), *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all rows."""
        return np.asarray(self[:], dtype)

    def _read(self, file: BinaryIO, start: int, n_rows: int) -> NDArray[Any]:
        file.seek(self._offset + start * self._row_bytes)
        data = bytearray(n_rows * self._row_bytes)
        if file.readinto(data) != len(data):  # type: ignore[attr-defined]
            raise self._changed()
        return np.frombuffer(data, self._stored_dtype).reshape(n_rows, *self._stored_shape[1:])

    def _changed(self) -> DataError:
        return DataError(f"{self._path.name} was changed while it was read; start again once nobody writes to it.")

    def _copy(self) -> Self:
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made


def open_rows(path: Path) -> "FileRows | NDArray[Any]":
    """Return the array of a .npy file: read when asked for, but at once where its rows do not lie one after another.

    Raises
    ------
    DataError
        If the file is shorter than it says.
    OSError, ValueError
        If it cannot be read, or holds objects or no array.
    """
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read_head = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read_head(file)
        offset = file.tell()
    if min(shape, default=0) < 0:
        raise ValueError(f"its head says that its shape is {shape}")
    if dtype.hasobject or is_fortran or len(shape) < 2 or 0 in shape or dtype.kind not in "buif":
        loaded: NDArray[Any] = np.load(path, allow_pickle=False)
        return loaded
    return FileRows(path, offset, shape, dtype)


def _version(file: BinaryIO) -> tuple[int, int, int]:
    """Return what changes when the file is replaced, cut or written to."""
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns
