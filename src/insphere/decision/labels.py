"""Labels given to `fit`: rows marked as anomalies are left out of training, and that is said."""

from collections.abc import Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.folder_names import NORMAL_FOLDERS, word
from insphere.decision.units import by_position
from insphere.errors import DataError, DataNotice, warn_user


def normal_rows(y: Any, n_rows: int) -> NDArray[np.bool_] | None:
    """Return which rows to fit on by the labels `y`, None if they mark no anomaly.

    Parameters
    ----------
    y : array-like of shape (n_rows,), or None
        0 normal and 1 anomaly, as everywhere in this library; or +1 normal and −1 anomaly, as scikit-learn's detectors predict. Other
        numbers are targets of some other task, which pipelines hand on: they are ignored, with a `DataNotice`.
    n_rows : int

    Raises
    ------
    DataError
        If there is not one value per row, or the values are texts or lists.

    Examples
    --------
    >>> normal_rows([0, 0, 0], 3) is None, normal_rows(None, 3) is None
    (True, True)
    """
    values = by_position(y, name="y")
    if values is None:
        return None
    if len(values) != n_rows:
        raise DataError(f"`y` must have one label per row: {n_rows}, got {len(values)}.")
    found = _kinds(values)
    if any(isinstance(value, str) for value in found):
        texts = sorted(map(str, found))
        shown = ", ".join(map(repr, texts[:5]))
        normal = next((text for text in texts if word(text) in NORMAL_FOLDERS), texts[0])
        raise DataError(
            f"`y` must be 0 (normal) and 1 (anomaly), got the texts {shown}; give `y != {normal!r}` if {normal!r} is the label of the"
            " normal ones."
        )
    anomaly = _read(values, found)
    if anomaly is None:
        warn_user(
            "`y` has values other than 0 (normal) and 1 (anomaly), or +1 (normal) and -1 (anomaly), and is ignored: all rows are taken as"
            " normal.",
            DataNotice,
        )
        return None
    if found == {1}:
        warn_user("`y` is 1 for every row, which is taken as normal (+1).", DataNotice)
    if not anomaly.any():
        return None
    warn_user(
        f"{int(anomaly.sum())} of {n_rows} rows are marked as anomalies by `y` and were left out: a fit is on normal rows alone.",
        DataNotice,
    )
    return np.asarray(~anomaly)


def anomalies(y: Any, n_rows: int) -> NDArray[np.bool_]:
    """Return which rows the labels mark as anomalies, for those who need labels.

    Raises
    ------
    DataError
        If there is not one label per row, or they are neither 0 and 1 nor +1 and −1.

    Examples
    --------
    >>> anomalies([0, 1], 2).tolist(), anomalies([1, -1], 2).tolist()
    ([False, True], [False, True])
    """
    values = by_position(y, name="y")
    if values is None or len(values) != n_rows:
        raise DataError(f"`y` must have one label per row: {n_rows}, got {0 if values is None else len(values)}.")
    found = _kinds(values)
    anomaly = _read(values, found)
    if anomaly is None:
        shown = ", ".join(repr(value) for value in sorted(found, key=str)[:5])
        raise DataError(f"`y` must be 0 (normal) and 1 (anomaly), or +1 (normal) and -1 (anomaly), got {shown}.")
    return anomaly


def _kinds(values: Sequence[Any]) -> set[Any]:
    try:
        return {value.item() if isinstance(value, np.generic) else value for value in values}
    except TypeError as error:
        raise DataError(f"`y` must have one label per row, 0 (normal) or 1 (anomaly): {error}.") from error


def _read(values: Sequence[Any], found: Set[Any]) -> NDArray[np.bool_] | None:
    if found <= {0, 1} and found != {1}:
        return np.array([value == 1 for value in values])
    return np.array([value == -1 for value in values]) if found <= {-1, 1} else None
