"""Encoded images in Parquet files, read as they are asked for: the bytes held do not grow with the files."""

import io
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO, Any, Self, final

import numpy as np
from numpy.typing import NDArray

from insphere.data.stores import AbstractStore, OpenRow, check_bytes
from insphere.data.tables import first_line
from insphere.errors import DataError

KEPT_BYTES = 32 * 2**20
"""Encoded bytes that a pass keeps at most, beside the pages of the file that it reads and a few images that threads are about to decode."""

_KEPT_ROWS = 32  # more than the threads that decode can be apart, so that none finds its image gone and the rows are read again
_PIECE_BYTES = 4 * 2**20  # read at once of a row group, which may be as large as the file
_BUFFER_BYTES = 2**20
_CURSORS = 2  # threads at the border of two row groups read both


@dataclass(frozen=True)
class ImageFile:
    """One Parquet file with encoded images.

    Parameters
    ----------
    path : Path
        The file.
    column : str
        The column with the images: binary, or a struct with `bytes`.
    group_rows : tuple of int
        Rows of each of its row groups.
    group_bytes : tuple of int
        Bytes of each row group, uncompressed.

    Examples
    --------
    >>> ImageFile(Path("photos.parquet"), "image.bytes", (1000, 17), (2_300_000, 41_000)).n_rows
    1017
    """

    path: Path
    column: str
    group_rows: tuple[int, ...]
    group_bytes: tuple[int, ...]

    @property
    def n_rows(self) -> int:
        """Rows of the file."""
        return sum(self.group_rows)


@final
class ParquetStore(AbstractStore):
    """Encoded images in Parquet files, of which a pass holds at most `KEPT_BYTES` and the page that it reads.

    How large a page is was decided when the file was written: Arrow ends one after a mebibyte, but looks every 1,024 rows only.
    In the files' order each row group is read once a pass, a piece at a time. Another order is slower where the images asked for
    take more than `KEPT_BYTES`: what has been let go is read again. A row group that is damaged gives an error for each of its rows
    from the damage on.

    Parameters
    ----------
    files : sequence of ImageFile
        The files.
    rows : ndarray of int64, optional
        Which rows of all files, counted through, and in which order. Default: all.

    Examples
    --------
    >>> file = ImageFile(Path("photos.parquet"), "image.bytes", (1000, 17), (2_300_000, 41_000))
    >>> len(ParquetStore([file])), len(ParquetStore([file]).take([1016, 3]))
    (1017, 2)
    """

    def __init__(self, files: Sequence[ImageFile], rows: NDArray[np.int64] | None = None) -> None:
        self._files = tuple(files)
        self._rows = np.arange(sum(file.n_rows for file in files), dtype=np.int64) if rows is None else rows

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._rows)

    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return the store of the images at `positions` only."""
        return type(self)(self._files, self._rows[np.asarray(positions, dtype=np.int64)])

    def followed_by(self, other: Self) -> Self:
        """Return the store of these images and then those of another store."""
        start = sum(file.n_rows for file in self._files)
        return type(self)((*self._files, *other._files), np.concatenate([self._rows, other._rows + start]))

    def place(self, position: int) -> int:
        """Return where an image lies: its row among those of all files."""
        return int(self._rows[position])

    @contextmanager
    def opened(self) -> Iterator[OpenRow]:
        """Give the function that opens one image."""
        reading = _Reading(self._files, self._rows)

        def open_row(position: int) -> IO[bytes]:
            blob = reading.blob(int(self._rows[position]))
            if blob is None:
                raise DataError("has no bytes.")
            check_bytes(len(blob))
            return io.BytesIO(blob)

        try:
            yield open_row
        finally:
            reading.close()


class _Reading:
    """One pass over the images: row groups under way, and images read but not asked for yet."""

    def __init__(self, files: Sequence[ImageFile], rows: NDArray[np.int64]) -> None:
        self._groups = [(file, group) for file in files for group in range(len(file.group_rows))]
        self._ends = np.cumsum([file.group_rows[group] for file, group in self._groups])
        self._wanted = np.zeros(int(self._ends[-1]) if len(self._ends) else 0, dtype=np.bool_)
        self._wanted[rows] = True
        self._cursors: OrderedDict[int, _Cursor] = OrderedDict()
        self._kept = _Kept()
        self._broken: dict[int, tuple[int, str]] = {}
        self._lock = Lock()

    def blob(self, row: int) -> bytes | None:
        """Return the encoded image in a row of all files; None where it has no bytes.

        Raises
        ------
        DataError
            If its row group is damaged before it or in it.
        """
        with self._lock:
            return self._kept.use(row) if row in self._kept else self._read(row)

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            for cursor in self._cursors.values():
                cursor.close()
            self._cursors.clear()

    def _read(self, row: int) -> bytes | None:
        group = int(np.searchsorted(self._ends, row, side="right"))
        from_row, reason = self._broken.get(group, (row + 1, ""))
        if row >= from_row:
            raise DataError(reason)
        try:
            cursor = self._cursor(group, row)
            while True:
                start, images = cursor.read()
                self._keep(start, images)
                if row < cursor.next_row:
                    if row in self._kept:
                        self._kept.use(row)
                    blob: bytes | None = images[row - start].as_py()
                    return blob
        # As in `read_or_refuse`: Arrow raises many kinds of errors on damaged bytes, and they belong to the rows behind the damage.
        except Exception as error:
            failed = self._cursors.pop(group, None)
            file, number = self._groups[group]
            text = f"cannot be read from row group {number} of {file.path.name}: {first_line(error)}."
            self._broken[group] = (row if failed is None else failed.next_row, text)
            if failed is not None:
                failed.close()
            raise DataError(text) from error

    def _cursor(self, group: int, row: int) -> "_Cursor":
        """Return the cursor of a row group that is not behind `row`, and close those that were not used for longest."""
        cursor = self._cursors.pop(group, None)
        if cursor is not None and cursor.next_row > row:
            cursor.close()
            cursor = None
        if cursor is None:
            file, number = self._groups[group]
            cursor = _Cursor(file, number, int(self._ends[group]) - file.group_rows[number])
        self._cursors[group] = cursor
        while len(self._cursors) > _CURSORS:
            self._cursors.popitem(last=False)[1].close()
        return cursor

    def _keep(self, start: int, images: Any) -> None:
        """Keep those images of a piece that this pass asks for."""
        for offset in np.flatnonzero(self._wanted[start : start + len(images)]).tolist():
            if start + offset not in self._kept:
                self._kept.add(start + offset, images[offset].as_py())


class _Cursor:
    """A row group being read from its start, a piece at a time."""

    def __init__(self, file: ImageFile, group: int, start: int) -> None:
        import pyarrow.parquet as pq

        n_rows, n_bytes = file.group_rows[group], file.group_bytes[group]
        # Without a buffer Arrow reads the whole column of a row group at once.
        self._parquet = pq.ParquetFile(file.path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        try:
            if group >= self._parquet.num_row_groups or self._parquet.metadata.row_group(group).num_rows != n_rows:
                raise DataError("the file has changed since it was opened")
            n_piece = max(1, min(n_rows, _PIECE_BYTES * n_rows // max(n_bytes, 1)))
            self._pieces = self._parquet.iter_batches(n_piece, row_groups=[group], columns=[file.column], use_threads=False)
        except BaseException:
            self._parquet.close()
            raise
        self.next_row = start
        self._end = start + n_rows

    def read(self) -> tuple[int, Any]:
        """Return the row of the next image and some images from there, as an Arrow array of binary values."""
        import pyarrow as pa
        import pyarrow.compute as pc

        images = next(self._pieces, None)
        if images is None or self.next_row + len(images) > self._end:
            raise DataError("it does not hold as many rows as it says")
        start, column = self.next_row, images.column(0)
        self.next_row += len(column)
        return start, pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column

    def close(self) -> None:
        """Close the file."""
        self._pieces = iter(())
        self._parquet.close()


class _Kept:
    """Encoded images by row; where they take too many bytes, those that were asked for go first, then those read longest ago."""

    def __init__(self) -> None:
        self._blobs: OrderedDict[int, bytes | None] = OrderedDict()
        self._n_bytes = 0

    def __contains__(self, row: int) -> bool:
        return row in self._blobs

    def add(self, row: int, blob: bytes | None) -> None:
        self._blobs[row] = blob
        self._n_bytes += len(blob or b"")
        while self._n_bytes > KEPT_BYTES and len(self._blobs) > _KEPT_ROWS:
            self._n_bytes -= len(self._blobs.popitem(last=False)[1] or b"")

    def use(self, row: int) -> bytes | None:
        self._blobs.move_to_end(row, last=False)
        return self._blobs[row]
