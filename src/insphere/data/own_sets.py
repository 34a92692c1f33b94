"""Data sets that others add: ``module:function``, or the name of an installed package's entry point in the group ``insphere.data``."""

from typing import Any

import numpy as np

from insphere.errors import DataError, ParameterError
from insphere.extensions import imported, installed, is_module

GROUP = "insphere.data"


def target_of(text: str) -> str | None:
    """Return the ``module:function`` that a text names, None where it names none; nothing of the function's module is run.

    Examples
    --------
    >>> target_of("mnst:8") is None, target_of("math:sqrt")
    (True, 'math:sqrt')
    """
    if text in (offered := installed(GROUP)):
        return offered[text]
    module, colon, name = text.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        return None
    return text if is_module(module) else None


def own_set(target: str) -> Any:
    """Return what the function called ``module:function`` gives: anything that `open_source` takes.

    Raises
    ------
    DataError
        If it cannot be imported, or fails.
    """
    try:
        found = imported(target)
    except ParameterError as error:
        raise DataError(str(error)) from error
    if not callable(found):
        return found
    try:
        rows = found()
    except Exception as error:  # whatever code of others raises
        raise DataError(f"the data set {target} fails: {type(error).__name__}: {error}") from error
    if isinstance(rows, tuple) and len(rows) == 2 and np.ndim(rows[1]) == 1 and np.ndim(rows[0]) > 1:
        raise DataError(
            f"the data set {target} gives a pair, as of rows and labels; return insphere.data.ArraySource(X, labels=y) with labels 0"
            " (normal) and 1 (anomaly), or the rows alone."
        )
    return rows
