"""Missing values of a table: filled with the median of the training rows, and said in a column of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from insphere.errors import DataError

Missing = Literal["refuse", "impute"]
"""What a detector does with missing values: the row is an error, or they are filled."""


@dataclass(frozen=True)
class Imputer:
    """Fills the columns that had missing values in the training rows, and appends an indicator for each of them.

    A value that is missing where none was in the training rows stays missing, and its row is an error: the median would make it look
    normal, and nothing was learned of what its absence means. So does a row without any value.

    Parameters
    ----------
    columns : tuple of int
        Positions of the columns that are filled, increasing.
    medians : tuple of float
        What each is filled with.

    Examples
    --------
    >>> imputer = Imputer.fit(np.array([[1.0, 7.0], [np.nan, 8.0], [3.0, 9.0]]))
    >>> imputer.transform(np.array([[np.nan, 5.0], [4.0, np.nan]]))
    array([[ 2.,  5.,  1.],
           [ 4., nan,  0.]])

    Source: the median and the missing indicator are those of scikit-learn's `SimpleImputer(strategy="median", add_indicator=True)`.
    Deviation: a value missing where none was at the fit is not filled.
    """

    columns: tuple[int, ...] = ()
    medians: tuple[float, ...] = ()

    @classmethod
    def fit(cls, X: NDArray[np.float64], names: Sequence[str] | None = None) -> Self:
        """Return the imputer of training rows, shape (n, features).

        Raises
        ------
        DataError
            If a column has no value at all.
        """
        missing = np.isnan(X)
        columns = np.flatnonzero(missing.any(axis=0)).tolist()
        for column in columns:
            if missing[:, column].all():
                named = repr(names[column]) if names is not None else str(column)
                raise DataError(f"Feature {named} has no value in any training row, so its missing values cannot be filled; leave it out.")
        return cls(tuple(columns), tuple(float(np.nanmedian(X[:, column])) for column in columns))

    def transform(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return rows of shape (n, features + indicators), float64."""
        filled = np.array(X, dtype=np.float64)
        columns = list(self.columns)
        missing = np.isnan(filled[:, columns])
        missing[np.isnan(filled).all(axis=1)] = False
        filled[:, columns] = np.where(missing, self.medians, filled[:, columns])
        return np.concatenate([filled, missing.astype(np.float64)], axis=1)

    def names(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names of what `transform` returns."""
        return (*names, *(f"{names[column]} is missing" for column in self.columns))

    def to_json(self) -> dict[str, list[Any]]:
        """Return the record as what a model file's header holds."""
        return {"columns": list(self.columns), "medians": list(self.medians)}

    @classmethod
    def from_json(cls, header: Mapping[str, Any], n_features: int) -> Self:
        """Return the record that `to_json` wrote.

        Raises
        ------
        ValueError
            If a part has another type or size than it must have.
        """
        columns, medians = header["columns"], [float(median) for median in header["medians"]]
        increasing = all(type(column) is int for column in columns) and sorted(set(columns)) == columns
        if not increasing or not all(0 <= column < n_features for column in columns) or len(columns) != len(medians):
            raise ValueError("the imputer of the input must have increasing columns of the features, and a median for each")
        if not np.isfinite(medians).all():
            raise ValueError("the imputer of the input must have finite medians")
        return cls(tuple(columns), tuple(medians))
