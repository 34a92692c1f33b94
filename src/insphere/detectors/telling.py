"""What users are told of their rows by warnings: what was left out or guessed, and what could not be read."""

from collections.abc import Mapping

from insphere.data import AbstractSource
from insphere.errors import SourceNotice, warn_user


def warn_unreadable(errors: Mapping[int, str], n_rows: int, consequence: str) -> None:
    """Issue one warning where rows could not be read."""
    if errors:
        row, text = next(iter(errors.items()))
        warn_user(f"{len(errors)} of {n_rows} rows could not be read and {consequence} (first: row {row}: {text}).")


def tell(source: AbstractSource) -> None:
    """Issue a warning for each thing about a source that its user should be told: what was left out, guessed, or changed."""
    for notice in source.notices:
        warn_user(f"{source.name}: {notice}", SourceNotice)


def named_errors(source: AbstractSource, errors: Mapping[int, str], *, imputing: bool) -> dict[str, str]:
    """Return the rows that could not be read by name, with the reason, after a warning that counts them and names the remedy."""
    ids = source.ids
    named = {(ids[row] if ids is not None else str(row)): text for row, text in errors.items()}
    if named:
        name, text = next(iter(named.items()))
        lack_values = not imputing and any(reason.endswith(" is nan") for reason in named.values())
        remedy = " missing='impute' (--set missing=impute) fills missing values in." if lack_values else ""
        warn_user(
            f"{len(named)} of {len(source)} training rows were left out because they could not be read (first: {name}: {text}); all are in"
            f" `training_errors_`.{remedy}",
        )
    return named
