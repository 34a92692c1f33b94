"""Columns of words as features: an indicator, 0 or 1, for each value that the fit saw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from insphere.data.labels import label_text


@dataclass(frozen=True)
class OneHot:
    """A column of words, and the values that it had at the fit.

    Parameters
    ----------
    column : str
    values : tuple of str
        In order, each once. Numbers are texts too: ``3`` and ``3.0`` are "3".

    Examples
    --------
    >>> OneHot("colour", ("blue", "red")).names
    ('colour=blue', 'colour=red')
    """

    column: str
    values: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features that stand for the column: one indicator a value."""
        return tuple(f"{self.column}={value}" for value in self.values)

    def indicators(self, value: object) -> tuple[float, ...]:
        """Return the features of one cell: a 1 for its value, only zeros for a value that the fit did not see, NaN where it is missing.

        Examples
        --------
        >>> colour = OneHot("colour", ("blue", "red"))
        >>> colour.indicators("red"), colour.indicators("green")
        ((0.0, 1.0), (0.0, 0.0))
        """
        text = cell_text(value)
        return tuple(np.nan if text is None else float(text == known) for known in self.values)


def cell_text(value: object) -> str | None:
    """Return a cell's value as it is compared: without spaces around it, whole numbers without a point; None where it is missing.

    Only an empty cell is missing: of words, "?" and "none" are values like others.
    """
    if value is None or value != value:
        return None
    return label_text(value).strip() or None


def expanded(names: Sequence[str], one_hot: Sequence[OneHot]) -> tuple[str, ...]:
    """Return names of columns with those of the indicators in place of columns of words.

    Examples
    --------
    >>> expanded(["rpm", "colour"], [OneHot("colour", ("blue", "red"))])
    ('rpm', 'colour=blue', 'colour=red')
    """
    by_column = {entry.column: entry.names for entry in one_hot}
    return tuple(name for column in names for name in by_column.get(column, (column,)))


def row_with_indicators(row: Mapping[str, Any], one_hot: Sequence[OneHot]) -> dict[str, Any]:
    """Return a row by names with indicators in place of its words; columns that it lacks are left out.

    Examples
    --------
    >>> row_with_indicators({"rpm": 3, "colour": "red"}, [OneHot("colour", ("blue", "red"))])
    {'rpm': 3, 'colour=blue': 0.0, 'colour=red': 1.0}
    """
    changed = dict(row)
    for entry in one_hot:
        if entry.column in changed:
            changed |= dict(zip(entry.names, entry.indicators(changed.pop(entry.column)), strict=True))
    return changed
