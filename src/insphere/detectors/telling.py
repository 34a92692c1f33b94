"""What users are told of their rows by warnings: what was left out or guessed, and what could not be read."""

from collections.abc import Iterable, Mapping

from insphere.data import AbstractSource
from insphere.errors import SourceNotice, warn_user


def warn_unreadable(errors: Mapping[int, str], n_rows: int, consequence: str) -> None:
    """Issue one warning where rows could not be read."""
    if errors:
        row, text = next(iter(errors.items()))
        warn_user(
            f"{len(errors)} of {n_rows} rows could not be read and {consequence} (first: row {row}: {text}).{_remedy(errors.values())}"
        )


def _remedy(errors: Iterable[str]) -> str:
    """Return what to do about rows with missing values, where some are among the errors."""
    return " missing='impute' (--set missing=impute) fills missing values in." if any(text.endswith(" is nan") for text in errors) else ""


def tell(source: AbstractSource) -> None:
    """Issue a warning for each thing about a source that its user should be told: what was left out, guessed, or changed."""
    for notice in source.notices:
        warn_user(f"{source.name}: {notice}", SourceNotice)


def named_errors(source: AbstractSource, errors: Mapping[int, str]) -> dict[str, str]:
    """Return the rows that could not be read by name, with the reason, after a warning that counts them."""
    ids = source.ids
    named = {(ids[row] if ids is not None else str(row)): text for row, text in errors.items()}
    if named:
        name, text = next(iter(named.items()))
        warn_user(
            f"{len(named)} of {len(source)} training rows were left out because they could not be read (first: {name}: {text}); all are in"
            f" `training_errors_`.{_remedy(named.values())}",
        )
    return named
