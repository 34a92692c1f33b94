"""Columns of a table by name: matched with those a model was fitted with, and told where they are left aside."""

from collections.abc import Sequence

from insphere.data.rows import Notice
from insphere.errors import DataError, did_you_mean

_SHOWN = 10


def match_columns(name: str, present: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Return where each of the `wanted` columns is among those `present`.

    Raises
    ------
    DataError
        If a column is missing, or there more than once; a missing one is named with the present one that is most like it.

    Examples
    --------
    >>> match_columns("may.csv", ["rpm", "volt", "temp"], ["volt", "rpm"])
    [1, 0]
    """
    places: dict[str, int] = {}
    repeated = set()
    for position, column in enumerate(present):
        if column in places:
            repeated.add(column)
        places.setdefault(column, position)
    missing = [column for column in wanted if column not in places]
    if missing:
        hint = did_you_mean(missing[0], [column for column in places if column not in set(wanted)])
        raise DataError(
            f"{name} has no column {listed(missing)}, which the detector was fitted with; its columns are {listed(present)}.{hint}"
        )
    for column in wanted:
        if column in repeated:
            raise DataError(
                f"{name} has several columns named {column!r}; rename those that are not the one which the detector was fitted with."
            )
    return [places[column] for column in wanted]


def listed(names: Sequence[str]) -> str:
    """Return names as they are shown in a message: in quotes, the first few.

    Examples
    --------
    >>> listed(["volt", "rpm"])
    "'volt', 'rpm'"
    """
    return ", ".join(repr(name) for name in names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def told_aside(name: str, present: Sequence[str], used: Sequence[str]) -> list[Notice]:
    """Return what is to be told of columns that are not used: nothing, or one notice that counts and names them.

    Examples
    --------
    >>> [notice.text for notice in told_aside("may.csv", ["volt", "rpm"], ["rpm"])]
    ["may.csv has a column that the detector was not fitted with; it is left aside: 'volt'."]
    """
    known = set(used)
    extra = [column for column in present if column not in known]
    if not extra:
        return []
    what = (
        "a column that the detector was not fitted with; it is"
        if len(extra) == 1
        else (f"{len(extra)} columns that the detector was not fitted with; they are")
    )
    return [Notice("left out", len(extra), f"{name} has {what} left aside: {listed(extra)}.", tuple(extra[:_SHOWN]))]
