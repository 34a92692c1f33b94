"""What every source of rows offers: its shape, what is known about each row, and batches in which unreadable rows are named."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from insphere.data.images import ImageSpec
from insphere.data.table_spec import TableSpec
from insphere.errors import DataError, ParameterError
from insphere.validation import check_choice

_SHOWN, _KEPT = 3, 8  # names that a notice shows, and keeps

SPLITS = ("train", "test", "all")


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
class Notice:
    """One thing about a source that its user should be told: what was left out of it, or what a name was taken to mean.

    Parameters
    ----------
    kind : {"left out", "taken as", "changed", "shrunk"}
        Rows or parts of rows that are not read; a guessed meaning; values that are read as something else than what is stored; images that
        are made so small that marks vanish.
    count : int
        How many files, columns or rows it is about.
    text : str
        A sentence in plain words, with what to do where there is something to do.
    examples : tuple of str
        A few names of what it is about.

    Examples
    --------
    >>> Notice("left out", 3, "3 files have suffixes that are not read.", ("notes.txt",)).count
    3
    """

    kind: str
    count: int
    text: str
    examples: tuple[str, ...] = ()

    @classmethod
    def counting(cls, kind: str, text: str, items: Sequence[str], more: str = "") -> Self:
        """Return a notice of some items by name: the text with their number behind a colon, and `more` after it.

        Examples
        --------
        >>> str(Notice.counting("left out", "Hidden files are left out", [".a.png"]))
        'Hidden files are left out: 1. Namely: .a.png.'
        """
        return cls(kind, len(items), f"{text}: {len(items)}{more}.", tuple(items[:_KEPT]))

    def __str__(self) -> str:
        """Return the sentence with a few names after it."""
        if not self.examples:
            return self.text
        shown = self.examples[:_SHOWN]
        return f"{self.text} {'For example' if self.count > len(shown) else 'Namely'}: {', '.join(name or '(no name)' for name in shown)}."


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
    masks : sequence of str or None, optional
        Name of the image that says where the row's anomaly is; None for a row without one.
    categories : sequence of str or None, optional
        Camera, product or shift that each row is from, where these are calibrated one by one; None for a row of which it is not known.

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
    masks: Sequence[str | None] | None = None
    categories: Sequence[str | None] | None = None

    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return the facts of the rows at `positions`."""

        def pick(values: Sequence[str] | None) -> tuple[str, ...] | None:
            return None if values is None else tuple(values[int(position)] for position in positions)

        labels = None if self.labels is None else self.labels[np.asarray(positions, dtype=np.int64)]
        masks = None if self.masks is None else tuple(self.masks[int(position)] for position in positions)
        categories = None if self.categories is None else tuple(self.categories[int(position)] for position in positions)
        return type(self)(pick(self.ids), labels, pick(self.types), pick(self.groups), pick(self.parts), masks, categories)

    def check(self, n_rows: int) -> None:
        """Raise `DataError` if a known field has not exactly `n_rows` entries."""
        for name in ("ids", "labels", "types", "groups", "parts", "masks", "categories"):
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
    table_spec : TableSpec, optional
        What the columns of a table are read as; by default its features are those named.
    doubt : str, optional
        Why a fit must not go on with these rows, with the remedy: a guess that would be badly wrong if it is.
    notices : sequence of Notice
        What its user should be told: everything left out is counted there, every guessed meaning named.

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
        notices: Sequence[Notice] = (),
        table_spec: TableSpec | None = None,
        doubt: str | None = None,
    ) -> None:
        self.name = name
        self.row_shape = row_shape
        self.dtype = dtype
        self.facts = facts
        self.spec = spec
        self.feature_names = feature_names
        self._notices = tuple(notices)
        self.doubt = doubt
        self.table_spec = table_spec or TableSpec(None if feature_names is None else tuple(feature_names))

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows, unreadable ones included."""

    @abstractmethod
    def batches(self, batch_size: int) -> Iterator[Rows]:
        """Yield all rows in order, `batch_size` at a time; each row once, as a value or as an error.

        Raises
        ------
        ParameterError
            If `batch_size` is not a whole number at least 1.
        """

    @abstractmethod
    def take(self, positions: Sequence[int] | NDArray[np.int64]) -> Self:
        """Return a source of the rows at `positions` only, in that order."""

    def part(self, split: str) -> Self:
        """Return a source of the rows that a split has: see `split_positions`.

        Raises
        ------
        DataError
            If the split has no row.
        ParameterError
            If `split` is unknown.
        """
        check_choice("split", split, SPLITS)
        if split == "all":
            return self
        labels = None if self.labels is None else self.labels.tolist()
        positions = split_positions(split, len(self), labels, self.parts, name=self.name, remedy="")
        return self if len(positions) == len(self) else self.take(positions)

    def brought_to(self, spec: ImageSpec) -> Self:
        """Return a source of the same rows as images of another size, number of channels or type.

        Raises
        ------
        ParameterError
            If the rows are not image files: values of an array are never resampled in silence.
        """
        raise ParameterError(f"{self.name} holds no image files, so its rows cannot be brought to another image size.")

    def load(self) -> Rows:
        """Return all rows in memory."""
        return next(self.batches(max(len(self), 1)))

    @property
    def in_memory(self) -> bool:
        """Whether the rows lie in memory as they are, so that nothing is won by keeping them elsewhere."""
        return False

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What its user should be told: everything left out is counted there, every guessed meaning named."""
        return self._notices

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
    def categories(self) -> Sequence[str | None] | None:
        """Camera, product or shift of each row; None if they are not told apart."""
        return self.facts.categories

    @property
    def parts(self) -> Sequence[str] | None:
        """Part ("train" or "test") of each row; None if the source does not keep them apart."""
        return self.facts.parts


def split_positions(
    split: str, n_rows: int, labels: Sequence[int] | None, parts: Sequence[str] | None, *, name: str, remedy: str
) -> list[int]:
    """Return the positions of the rows that a split has.

    "train": the rows of the training part, or all if there are no parts, without those known to be anomalies. "test": the rows of
    the test part, or all.

    Raises
    ------
    DataError
        If the split has no row; the message ends with `remedy`.

    Examples
    --------
    >>> split_positions("train", 3, [0, 1, 0], None, name="table.csv", remedy="")
    [0, 2]
    """
    positions = [row for row in range(n_rows) if split == "all" or parts is None or parts[row] == split]
    if split == "train" and labels is not None:
        positions = [row for row in positions if labels[row] == 0]
    if not positions:
        kind = "no normal rows to train on" if split == "train" else f"no rows in the split {split!r}"
        raise DataError(f"{name} has {kind}{remedy}.")
    return positions
