"""Label columns to 0 (normal) and 1 (anomaly), with an error that lists the values where their meaning is not clear."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.folder_names import names_normal
from insphere.errors import DataError, did_you_mean

_LISTED = 10


def binary_labels(
    values: Any, *, subject: str, normal_label: object = None, strict: bool = True, column: str | None = None
) -> NDArray[np.int64]:
    """Return labels as int64: 0 normal, 1 anomaly.

    Parameters
    ----------
    values : array-like of shape (n,)
        Numbers or truth values 0 and 1; with `normal_label`, anything.
    subject : str
        What the values are called in messages.
    normal_label : object, optional
        The value that marks a normal row, compared as text (so 8, 8.0 and "8" are one); every other value is an anomaly.
    strict : bool
        Whether some row must have `normal_label`. What a model only remembers need not occur: rows may all be anomalies, and labels 0 and 1
        mean normal and anomaly where it remembers a word.
    column : str, optional
        Name of the column. Without `normal_label`, 0 and 1 under a name such as ok or is_normal are refused: 0 would be read as normal.

    Raises
    ------
    DataError
        If a value is missing, the meaning of a value is not clear or no row has `normal_label`.

    Examples
    --------
    >>> binary_labels(["good", "crack", "good"], subject="column 'state'", normal_label="good")
    array([0, 1, 0])
    """
    # A series with labels of its own is read in its order, never looked up by label.
    values = values if isinstance(values, np.ndarray) else np.asarray(list(values))
    if values.ndim != 1:
        raise DataError(f"{subject} must have one value per row, but has shape {values.shape}.")
    texts = label_texts(values, subject=subject)
    found = sorted(set(texts))
    listed = ", ".join(repr(text) for text in found[:_LISTED]) + (", ..." if len(found) > _LISTED else "")
    if normal_label is not None:
        normal = _text_among(normal_label, found)
        if normal not in found and strict:
            raise DataError(
                f"{subject} has no value {normal!r}, which `normal_label` asks for; it has {listed}.{did_you_mean(normal, found)}"
            )
        if normal in found or normal in ("0", "1") or not set(found) <= {"0", "1"}:
            return np.array([text != normal for text in texts], dtype=np.int64)
    if values.dtype.kind in "biuf" and set(found) <= {"0", "1"}:
        if column is not None and names_normal(column):
            one = "true" if values.dtype.kind == "b" else "1"
            raise DataError(
                f"{subject} is called as if {one} meant a normal row, and without more would be read the other way round (0 normal, 1"
                f" anomaly). Say which value is normal: `normal_label={'True' if one == 'true' else one}` (`--normal-label {one}`), or 0."
            )
        return np.array(values, dtype=np.int64)
    kind = "text" if values.dtype.kind in "OUST" else "numbers other than 0 (normal) and 1 (anomaly)"
    raise DataError(f"{subject} has {kind}: {listed}. Say which value is normal with `normal_label` (`--normal-label`).")


def _text_among(label: object, found: Sequence[str]) -> str:
    """Return a label as the text that it has among labels; the words true and false are also the truth values' names."""
    text = label_text(label)
    truth = {"true": "1", "false": "0"}.get(text.lower())
    return truth if truth is not None and text not in found and set(found) <= {"0", "1"} else text


def label_texts(values: NDArray[Any], *, subject: str) -> list[str]:
    """Return each value as text; whole numbers without a decimal point.

    Raises
    ------
    DataError
        If a value is missing (None or NaN).

    Examples
    --------
    >>> label_texts(np.array([1.0, 2.5]), subject="y")
    ['1', '2.5']
    """
    texts: list[str] = []
    for row, value in enumerate(values.tolist()):
        if value is None or value != value:
            raise DataError(f"{subject} has no value in row {row}; give every row a label or remove the row.")
        texts.append(label_text(value))
    return texts


def class_texts(values: NDArray[Any], names: Sequence[str] | None, *, subject: str) -> list[str]:
    """Return each class as text: its name if `names` has one for the number, else the number.

    Examples
    --------
    >>> class_texts(np.array([1, 0]), ["cat", "dog"], subject="label")
    ['dog', 'cat']
    """
    texts = label_texts(values, subject=subject)
    if names is None or values.dtype.kind not in "iu":
        return texts
    return [names[value] if 0 <= value < len(names) else text for value, text in zip(values.tolist(), texts, strict=True)]


def label_text(value: object) -> str:
    """Return one label as text: truth values and whole numbers without a decimal point.

    Examples
    --------
    >>> label_text(8.0), label_text(True), label_text("good")
    ('8', '1', 'good')
    """
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)
