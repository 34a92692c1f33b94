"""What users are told of their rows by warnings: what was left out or guessed, and what could not be read."""

import warnings
from collections.abc import Mapping

from insphere.data import AbstractSource
from insphere.errors import SourceNotice


def warn_unreadable(errors: Mapping[int, str], n_rows: int, consequence: str) -> None:
    """Issue one warning, from the caller's caller, where rows could not be read."""
    if errors:
        row, text = next(iter(errors.items()))
        warnings.warn(f"{len(errors)} of {n_rows} rows could not be read and {consequence} (first: row {row}: {text}).", stacklevel=3)


def tell(source: AbstractSource) -> None:
    """Issue a warning for each thing about a source that its user should be told: what was left out, guessed, or changed."""
    for notice in source.notices:
        warnings.warn(f"{source.name}: {notice}", SourceNotice, stacklevel=5)


def named_errors(source: AbstractSource, errors: Mapping[int, str]) -> dict[str, str]:
    """Return the rows that could not be read by name, with the reason, after a warning that counts them."""
    ids = source.ids
    named = {(ids[row] if ids is not None else str(row)): text for row, text in errors.items()}
    if named:
        name, text = next(iter(named.items()))
        warnings.warn(
            f"{len(named)} of {len(source)} training rows were left out because they could not be read (first: {name}: {text}); all are in"
            " `training_errors_`.",
            stacklevel=6,
        )
    return named
