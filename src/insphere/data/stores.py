"""Where encoded images lie (files, members of an archive, bytes in memory) and the lazy source that decodes them."""

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, Any, NamedTuple, Self, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from insphere.data.image_notices import told_of, told_of_size
from insphere.data.images import ImageHeader, ImageSpec, decode_telling, probe
from insphere.data.masks import decode_mask, mask_at_size
from insphere.data.rows import AbstractSource, Notice, RowFacts, Rows
from insphere.data.table_spec import TableSpec
from insphere.errors import DataError
from insphere.validation import check_integer

MAX_BYTES = 256 * 2**20
"""Most bytes one encoded image may have; a larger one is an error row."""

# Decoding releases the interpreter's lock only inside Pillow's codecs, so more threads than this gain nothing.
_N_THREADS = min(8, os.cpu_count() or 1)

OpenRow = Callable[[int], IO[bytes]]
MaskOf = Callable[[int], NDArray[np.bool_] | None]
Content = TypeVar("Content")


class AbstractStore(ABC):
    """Encoded images by position."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return the store of the images at `positions` only."""

    @abstractmethod
    def place(self, position: int) -> int:
        """Return where the image at a position lies among the others: a pass in the order of places reads fastest."""

    @abstractmethod
    def opened(self) -> AbstractContextManager[OpenRow]:
        """Return a context in which a function opens the image at a position as a binary file; it may be called from threads."""


@final
class FileStore(AbstractStore):
    """Image files.

    Examples
    --------
    >>> len(FileStore([Path("a.png"), Path("b.png")]))
    2
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.paths)

    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return the store of the files at `positions` only."""
        return type(self)([self.paths[int(position)] for position in positions])

    def place(self, position: int) -> int:
        """Return the position: files lie in the order of the store."""
        return position

    @contextmanager
    def opened(self) -> Iterator[OpenRow]:
        """Give the function that opens one file."""

        def open_row(position: int) -> IO[bytes]:
            path = self.paths[position]
            check_bytes(path.stat().st_size)
            return path.open("rb")

        yield open_row


@final
class BytesStore(AbstractStore):
    """Encoded images in memory; None where an image has no bytes.

    Examples
    --------
    >>> len(BytesStore([b"P5 1 1 255 0", None]))
    2
    """

    def __init__(self, blobs: Sequence[bytes | None]) -> None:
        self._blobs = blobs

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._blobs)

    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return the store of the images at `positions` only."""
        return type(self)([self._blobs[int(position)] for position in positions])

    def place(self, position: int) -> int:
        """Return the position: images in memory have no better order."""
        return position

    @contextmanager
    def opened(self) -> Iterator[OpenRow]:
        """Give the function that opens one image."""

        def open_row(position: int) -> IO[bytes]:
            blob = self._blobs[position]
            if blob is None:
                raise DataError("has no bytes.")
            check_bytes(len(blob))
            return io.BytesIO(blob)

        yield open_row


def check_bytes(n_bytes: int) -> None:
    """Raise `DataError` if an encoded image of `n_bytes` is too large to be read."""
    if n_bytes > MAX_BYTES:
        raise DataError(f"has {n_bytes:,} bytes, more than the limit of {MAX_BYTES:,}; store it smaller.")


class MaskImages(NamedTuple):
    """Encoded masks of a tree, and which of them has which name in `RowFacts.masks`."""

    store: AbstractStore
    place: Mapping[str, int]


class _Pending(NamedTuple):
    start: int
    X: NDArray[Any]
    tasks: list[Future[dict[int, str]]]


@final
class ImageSource(AbstractSource):
    """Encoded images, decoded in batches by a few threads, in order.

    Parameters
    ----------
    name : str
        What the user pointed at.
    store : AbstractStore
        The encoded images.
    facts : RowFacts
        What is known about each.
    spec : ImageSpec
        What each is brought to.
    masks : MaskImages, optional
        The masks that `facts` names.
    natural : (float, float), optional
        Their common or median height and width, where the spec's size was chosen from it: a detector may want another.
    table_spec : TableSpec, optional
        Where the category of an image is found.

    Examples
    --------
    >>> source = ImageSource("two", BytesStore([b"P5 1 1 255 0", b"text"]), RowFacts(), ImageSpec(1, 1, 1))
    >>> rows = source.load()
    >>> rows.X.shape, list(rows.errors)
    ((1, 1, 1, 1), [1])
    """

    def __init__(
        self,
        name: str,
        store: AbstractStore,
        facts: RowFacts,
        spec: ImageSpec,
        *,
        notices: Sequence[Notice] = (),
        doubt: str | None = None,
        masks: MaskImages | None = None,
        natural: tuple[float, float] | None = None,
        table_spec: TableSpec | None = None,
    ) -> None:
        if len(store) == 0:
            raise DataError(f"{name} has no images.")
        facts.check(len(store))
        super().__init__(name, spec.shape, np.dtype(spec.dtype), facts, spec=spec, notices=notices, doubt=doubt, table_spec=table_spec)
        self._store = store
        self._masks = masks
        self._brought_to = spec
        self.natural = natural
        self._remarks: dict[str, dict[int, int]] = {}

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._store)

    def batches(self, batch_size: int) -> Iterator[Rows]:
        """Yield all images in order, `batch_size` at a time; unreadable ones as errors."""
        check_integer("batch_size", batch_size, at_least=1)
        return self._batches(batch_size)

    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return a source of the images at `positions` only, in that order."""
        facts = self.facts.take(positions)
        return self._like(self._store.take(positions), facts, self._brought_to)

    def _like(self, store: AbstractStore, facts: RowFacts, spec: ImageSpec) -> Self:
        told = {"notices": self._notices, "doubt": self.doubt, "table_spec": self.table_spec}
        return type(self)(self.name, store, facts, spec, masks=self._masks, natural=self.natural, **told)  # type: ignore[arg-type]

    @property
    def image_spec(self) -> ImageSpec:
        """What each image is brought to."""
        return self._brought_to

    def brought_to(self, spec: ImageSpec) -> Self:
        """Return a source of the same images, brought to another spec; itself where it is the same."""
        if spec == self._brought_to:
            return self
        return self._like(self._store, self.facts, spec)

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What its user should be told: of the tree at once, of the images when they have been decoded."""
        return (*self._notices, *told_of_size(len(self), self.natural, self._brought_to), *told_of(self._remarks, self.ids))

    @property
    def remarks(self) -> Mapping[str, Mapping[int, int]]:
        """What is to be told of the images that have been decoded: for each kind of remark, the rows and how often; see `told_of`."""
        return self._remarks

    def opened(self) -> AbstractContextManager[OpenRow]:
        """Return a context in which a function opens the encoded image at a position, as a binary file."""
        return self._store.opened()

    @property
    def n_masks(self) -> int:
        """How many of the images have a mask, which says where their anomaly is."""
        return 0 if self._masks is None else sum(name is not None for name in self.facts.masks or ())

    @contextmanager
    def opened_masks(self, *, longest_side: int | None = None) -> Iterator[MaskOf]:
        """Give the function that reads the mask of the image at a position, True where it is defective; None for one without a mask.

        A mask has the upright height and width of its image, or, if `longest_side` (pixels) is given and one of them is longer, both in
        proportion, so that a pixel is marked where any part of it was. Nothing is read before it is asked for. The function raises
        `DataError` if a mask cannot be read, or is not of its image's size.
        """
        if self._masks is None or self.facts.masks is None:
            yield lambda position: None
            return
        names, (store, place) = self.facts.masks, self._masks
        with self._store.opened() as open_row, store.opened() as open_mask:

            def mask_of(position: int) -> NDArray[np.bool_] | None:
                name = names[position]
                if name is None:
                    return None
                mask = _read(f"The mask {name}", open_mask, place[name], lambda file: decode_mask(file.read()))
                height, width, _ = _read(f"The picture of the mask {name}", open_row, position, probe)
                if mask.shape != (height, width):
                    raise DataError(
                        f"The mask {name} has {mask.shape[1]} × {mask.shape[0]} pixels, but its picture has {width} × {height}; store the"
                        " mask at the picture's size."
                    )
                scale = min(1.0, (longest_side or max(mask.shape)) / max(mask.shape))
                return mask_at_size(mask, max(1, round(height * scale)), max(1, round(width * scale)))

            yield mask_of

    def mask(self, position: int) -> NDArray[np.bool_] | None:
        """Return the mask of one image: see `opened_masks`, which is faster for many.

        Raises
        ------
        DataError
            If the mask cannot be read, or is not of its image's size.
        """
        with self.opened_masks() as mask_of:
            return mask_of(position)

    def _batches(self, batch_size: int) -> Iterator[Rows]:
        with self._store.opened() as open_row, ThreadPoolExecutor(_N_THREADS) as pool:
            pending: _Pending | None = None
            for start in range(0, len(self), batch_size):
                # The next batch is being decoded while the consumer works on this one.
                following = self._submit(pool, open_row, start, min(start + batch_size, len(self)))
                if pending is not None:
                    yield _gathered(pending)
                pending = following
            if pending is not None:
                yield _gathered(pending)

    def _submit(self, pool: ThreadPoolExecutor, open_row: OpenRow, start: int, stop: int) -> _Pending:
        X = np.empty((stop - start, *self.row_shape), dtype=self.dtype)
        order = iter(sorted(range(start, stop), key=self._store.place))
        taking = Lock()

        def next_row() -> int | None:
            with taking:
                return next(order, None)

        def decode_rows() -> dict[int, str]:
            errors = {}
            # Threads take one row after the other, so that they read neighbouring ones: a store can then let go what lies behind.
            for position in iter(next_row, None):
                try:
                    with open_row(position) as file:
                        X[position - start], remarks = decode_telling(file.read(), self._brought_to)
                    for kind, amount in remarks.items():
                        self._remarks.setdefault(kind, {})[position] = amount
                # Whatever the bytes do to a reader (missing file, bad checksum, unknown compression), it is this row's error.
                except Exception as error:
                    errors[position] = reason(error)
            return errors

        return _Pending(start, X, [pool.submit(decode_rows) for _ in range(min(_N_THREADS, stop - start))])


def _read(subject: str, open_row: OpenRow, position: int, read: Callable[[IO[bytes]], Content]) -> Content:
    """Return what `read` makes of an encoded image; whatever goes wrong is a `DataError` about the subject."""
    try:
        with open_row(position) as file:
            return read(file)
    except Exception as error:  # as for a row: damaged bytes do anything to a reader
        raise DataError(f"{subject} {reason(error)}") from error


def _gathered(pending: _Pending) -> Rows:
    errors: dict[int, str] = {}
    for task in pending.tasks:
        errors.update(task.result())
    errors = dict(sorted(errors.items()))
    index = np.arange(pending.start, pending.start + len(pending.X), dtype=np.int64)
    if not errors:
        return Rows(pending.X, index, {})
    readable = np.array([position not in errors for position in index.tolist()], dtype=np.bool_)
    return Rows(pending.X[readable], index[readable], errors)


def reason(error: Exception) -> str:
    """Return why an image cannot be read, as one line without a path."""
    if isinstance(error, DataError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}."
    return f"cannot be read: {str(error).rstrip('.') or type(error).__name__}."


def probe_store(store: AbstractStore, name: str) -> list[ImageHeader]:
    """Return the headers of the readable images of a store.

    Raises
    ------
    DataError
        If none can be read; the message has the first reason.
    """
    headers: list[ImageHeader] = []
    first_reason = ""
    with store.opened() as open_row:
        for position in range(len(store)):
            try:
                with open_row(position) as file:
                    headers.append(probe(file))
            except Exception as error:  # as in `ImageSource`: an unreadable image is one error row, here only counted out
                first_reason = first_reason or reason(error)
    if not headers:
        raise DataError(f"{name} has no image that can be read ({len(store)} tried); the first one {first_reason}")
    return headers
