"""Which camera, product or shift a row is from, where each has a calibration of its own: names, and the scores of each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from insphere.data.labels import label_text
from insphere.decision.calibration import ConformalCalibration, rows_needed
from insphere.decision.units import by_position
from insphere.errors import DataError, did_you_mean

MAX_CATEGORIES = 4096
"""Categories that a model may have at most: beyond it the names are those of rows, not of cameras."""

NO_CATEGORY = -1
"""Code of a row whose category is not known."""

UNKNOWN = -2
"""Code of a row whose category the model does not have."""

_LISTED = 8
_LONGEST_NAME = 200


@dataclass(frozen=True, eq=False)
class Categories:
    """The categories of a decision: their names, and which one each calibration score is of.

    A category is what a row is known to come from before it is looked at (a camera, a product, a shift). It is not a group: the rows of a
    group depend on each other and count as one, those of a category are as independent as any.

    Parameters
    ----------
    names : tuple of str
        Sorted, each once.
    codes : ndarray of int64, shape (n,)
        For each calibration score, lowest score first, the position of its category in `names`; -1 where it has none.

    Raises
    ------
    DataError
        If a code names no category, or there are more than `MAX_CATEGORIES` of them.

    Examples
    --------
    >>> Categories(("left", "right"), np.array([1, 0, 1])).sizes
    {'left': 1, 'right': 2}
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check that codes and names belong together."""
        check_names(self.names)
        if self.codes.ndim != 1 or ((self.codes < NO_CATEGORY) | (self.codes >= len(self.names))).any():
            raise DataError("`codes` of categories must be one number a calibration score, from -1 to below the number of names.")

    @property
    def sizes(self) -> dict[str, int]:
        """Calibration scores of each category."""
        counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))
        return dict(zip(self.names, counts.tolist(), strict=True))

    @classmethod
    def of_scores(cls, names: Sequence[str], codes: NDArray[np.int64], scores: NDArray[np.float64]) -> Self:
        """Return the categories of scores that are not sorted yet."""
        return cls(tuple(names), np.asarray(codes, dtype=np.int64)[np.argsort(scores, kind="stable")])

    def parted(self, scores: NDArray[np.float64]) -> tuple[ConformalCalibration, ...]:
        """Return the calibration of each category out of the sorted scores of all."""
        return tuple(ConformalCalibration(scores[self.codes == code]) for code in range(len(self.names)))

    def to_json(self) -> list[str]:
        """Return the names, as a model file's header holds them; the codes go into an array."""
        return list(self.names)


@dataclass(frozen=True, eq=False)
class RowCategories:
    """The category of each of some rows.

    Parameters
    ----------
    names : tuple of str
        Sorted, each once.
    codes : ndarray of int64, shape (n,)
        Position in `names`; -1 for a row without one, -2 for one that the model does not have.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int64]

    def take(self, rows: NDArray[Any]) -> "RowCategories":
        """Return those of some rows."""
        return RowCategories(self.names, self.codes[rows])

    @classmethod
    def of(cls, values: Iterable[object] | None, n_rows: int) -> "RowCategories | None":
        """Return the categories that rows are given with, in whatever order; None where none has one.

        Parameters
        ----------
        values : iterable of n_rows texts or numbers, optional
            Taken by position; None and the empty text stand for a row whose category is not known.

        Raises
        ------
        DataError
            If there is not one a row, or there are more than `MAX_CATEGORIES`.

        Examples
        --------
        >>> found = RowCategories.of(["b", None, "a"], 3)
        >>> found.names, found.codes.tolist()
        (('a', 'b'), [1, -1, 0])
        """
        texts = category_texts(values, n_rows)
        if texts is None or not any(text is not None for text in texts):
            return None
        names = tuple(sorted({text for text in texts if text is not None}))
        check_names(names)
        return cls(names, coded(names, texts))


def category_texts(values: Iterable[object] | None, n_rows: int) -> list[str | None] | None:
    """Return categories as texts, None for a row without one: whole numbers without a decimal point, so that 2 and "2" are one.

    Raises
    ------
    DataError
        If there is not one a row.

    Examples
    --------
    >>> category_texts([2.0, "left", None, ""], 4)
    ['2', 'left', None, None]
    """
    listed = by_position(values, name="categories")
    if listed is None:
        return None
    if len(listed) != n_rows:
        raise DataError(f"`categories` must have one entry per row: {n_rows}, got {len(listed)}.")
    return [None if value is None or value != value or value == "" else label_text(value) for value in listed]


def coded(names: Sequence[str], texts: Sequence[str | None]) -> NDArray[np.int64]:
    """Return the position of each text among the names: -1 for None, -2 for a name that is not among them.

    Examples
    --------
    >>> coded(("a", "b"), ["b", None, "c"]).tolist()
    [1, -1, -2]
    """
    places: Mapping[str | None, int] = {None: NO_CATEGORY, **{name: place for place, name in enumerate(names)}}
    return np.array([places.get(text, UNKNOWN) for text in texts], dtype=np.int64)


def unknown_text(name: str | None, names: Sequence[str]) -> str:
    """Return why a row of a category that the model does not have gets no decision, and what to do.

    Examples
    --------
    >>> unknown_text("night", ["cam1", "cam2"])[:85]
    "is of category 'night', for which the model is not calibrated (it has 'cam1', 'cam2')"
    """
    shown = ", ".join(repr(known) for known in names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
    short = str(name)[:_LONGEST_NAME]
    hint = did_you_mean(short, names)
    return (
        f"is of category {short!r}, for which the model is not calibrated (it has {shown}).{hint} Recalibrate it with normal"
        " rows of that category, or give none to have it judged by the calibration of all"
    )


def pooled_text(n_pooled: int, n_rows: int) -> str:
    """Return what to tell of rows that a model with categories had to judge without knowing theirs.

    Examples
    --------
    >>> print(pooled_text(2, 9)[:44])
    2 of 9 rows have no category and were judged
    """
    return (
        f"{n_pooled} of {n_rows} rows have no category and were judged by the calibration of all categories together, which promises its"
        " rate on average over them and not for each; say which they are of (`categories`, --category, --category-by)."
    )


def check_names(names: Sequence[str]) -> None:
    """Check the names of categories.

    Raises
    ------
    DataError
        If there are too many, one is there twice or too long, or they are not sorted.
    """
    if len(names) > MAX_CATEGORIES:
        raise DataError(
            f"There are {len(names)} categories, more than {MAX_CATEGORIES}: a category is a camera, a product or a shift, with many rows"
            " each. Rows that depend on each other are groups (`groups`)."
        )
    if list(names) != sorted(set(names)):
        raise DataError("The names of categories must be sorted, each once.")
    if any(len(name) > _LONGEST_NAME for name in names):
        raise DataError(f"The name of a category must have at most {_LONGEST_NAME} characters.")


@dataclass(frozen=True)
class CategoryDecision:
    """How one category is decided.

    Attributes
    ----------
    calibration : ConformalCalibration
        Its own scores.
    threshold : float
    borrows : bool
        Whether its own scores are too few for the target: then the threshold of all is used, or its highest own score where that is higher.
    """

    calibration: ConformalCalibration
    threshold: float
    borrows: bool

    @classmethod
    def of(cls, own: ConformalCalibration, target_fpr: float, pooled_threshold: float) -> "CategoryDecision":
        """Return the decision of a category with these scores."""
        if len(own) >= rows_needed(target_fpr):
            return cls(own, own.threshold(target_fpr), borrows=False)
        highest = float(own.scores[-1]) if len(own) else -np.inf
        return cls(own, max(highest, pooled_threshold), borrows=True)

    @property
    def certain_fpr(self) -> float:
        """What holds for a category that borrows whatever its scores are: a row above all n own scores has probability 1 / (n + 1)."""
        return 1 / (len(self.calibration) + 1)
