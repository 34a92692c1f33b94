"""What every source of rows offers: its shape, what is known about each row, and batches in which unreadable rows are named."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from insphere.data.images import ImageSpec
from insphere.errors import DataError


@dataclass(frozen=True)
class Rows:
    """Some rows of a source: the readable ones as an array, the others as a text that says why.

    Parameters
    ----------
    X : ndarray of shape (m, height, width, channels) or (m, features)
        The readable rows.
    index : ndarray of shape (m,), int64
        Their positions in the source, increasing.
    errors : mapping of int to str
        Position of each unreadable row to the reason.

    Examples
    --------
    >>> Rows(np.zeros((2, 3)), np.array([0, 2]), {1: "feature 0 is nan"}).errors[1]
    'feature 0 is nan'
    """

    X: NDArray[Any]
    index: NDArray[np.int64]
    errors: Mapping[int, str]


@dataclass(frozen=True)
class RowFacts:
    """What is known about each row of a source; every field is None (unknown) or has one entry per row.

    Parameters
    ----------
    ids : sequence of str, optional
        Stable names; None means that the row number is the name.
    labels : ndarray of int64, optional
        0 normal, 1 anomaly.
    types : sequence of str, optional
        Class or defect type.
    groups : sequence of str, optional
        Rows of one group are near-duplicates and belong on one side of a split.
    parts : sequence of str, optional
        "train" or "test" where the source keeps them apart.

    Examples
    --------
    >>> RowFacts(types=("good", "crack", "good")).take([1]).types
    ('crack',)
    """

    ids: Sequence[str] | None = None
    labels: NDArray[np.int64] | None = None
    types: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    parts: Sequence[str] | None = None

    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return the facts of the rows at `positions`."""

        def pick(values: Sequence[str] | None) -> tuple[str, ...] | None:
            return None if values is None else tuple(values[int(position)] for position in positions)

        labels = None if self.labels is None else self.labels[np.asarray(positions, dtype=np.int64)]
        return type(self)(pick(self.ids), labels, pick(self.types), pick(self.groups), pick(self.parts))

    def check(self, n_rows: int) -> None:
        """Raise `DataError` if a known field has not exactly `n_rows` entries."""
        for name in ("ids", "labels", "types", "groups", "parts"):
            values = getattr(self, name)
            if values is not None and len(values) != n_rows:
                raise DataError(f"`{name}` must have one entry per row: {n_rows} rows, but {len(values)} entries.")


class AbstractSource(ABC):
    """Rows to fit on or to score, read in order, in batches, as often as needed.

    Parameters
    ----------
    name : str
        What the user pointed at, for messages and reports.
    row_shape : tuple of int
        (height, width, channels) or (features,).
    dtype : dtype
        Type of the rows; "uint8" or a floating type.
    facts : RowFacts
        What is known about each row; its fields are attributes of the source.
    spec : ImageSpec, optional
        What image files are brought to; None for arrays and tables.
    feature_names : sequence of str, optional
        Names of the columns of a table.

    Examples
    --------
    >>> from insphere.data import ArraySource
    >>> source: AbstractSource = ArraySource(np.zeros((10, 3)))
    >>> [len(rows.X) for rows in source.batches(4)]
    [4, 4, 2]
    """

    def __init__(
        self,
        name: str,
        row_shape: tuple[int, ...],
        dtype: np.dtype[Any],
        facts: RowFacts,
        *,
        spec: ImageSpec | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self.row_shape = row_shape
        self.dtype = dtype
        self.facts = facts
        self.spec = spec
        self.feature_names = feature_names

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows, unreadable ones included."""

    @abstractmethod
    def batches(self, batch_size: int) -> Iterator[Rows]:
        """Yield all rows in order, `batch_size` at a time; each row once, as a value or as an error.

        Raises
        ------
        ParameterError
            If `batch_size` is no whole number of at least 1.
        """

    @abstractmethod
    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return a source of the rows at `positions` only, in that order."""

    def load(self) -> Rows:
        """Return all rows in memory."""
        return next(self.batches(max(len(self), 1)))

    @property
    def is_image(self) -> bool:
        """Whether the rows are images."""
        return len(self.row_shape) == 3

    @property
    def ids(self) -> Sequence[str] | None:
        """Stable name of each row (relative path inside a folder or zip); None: the row number is the name."""
        return self.facts.ids

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """0 normal, 1 anomaly; None if unknown."""
        return self.facts.labels

    @property
    def types(self) -> Sequence[str] | None:
        """Class or defect type of each row ("good", "crack"); None if unknown."""
        return self.facts.types

    @property
    def groups(self) -> Sequence[str] | None:
        """Group of near-duplicates that each row belongs to; None if there are none."""
        return self.facts.groups

    @property
    def parts(self) -> Sequence[str] | None:
        """Part ("train" or "test") of each row; None if the source does not keep them apart."""
        return self.facts.parts
