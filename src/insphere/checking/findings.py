"""What a check of data found, in words that say what to do."""

import dataclasses
from collections.abc import Sequence
from typing import Any

LEVELS = ("ok", "note", "warning", "error")
"""Levels of a finding: nothing found; worth knowing; likely to hurt; to be mended before anything is fitted or measured."""

MAX_LISTED = 1000
"""Names of rows, or groups of them, that a finding lists at most."""


@dataclasses.dataclass(frozen=True)
class DataFinding:
    """One check and its outcome.

    Attributes
    ----------
    name : str
        What was checked.
    level : {"ok", "note", "warning", "error"}
    text : str
        The outcome in a sentence or two, with what to do where there is something to do.
    n_rows : int
        Rows (of "constant columns" and "duplicate columns": columns) concerned.
    groups : tuple of tuple of str
        Their names, at most `MAX_LISTED` groups: duplicates stand together, others alone.

    Examples
    --------
    >>> DataFinding("unreadable", "error", "1 of 9 rows cannot be read.", 1, (("a.png",),)).groups
    (('a.png',),)
    """

    name: str
    level: str
    text: str
    n_rows: int = 0
    groups: tuple[tuple[str, ...], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        return dataclasses.asdict(self) | {"groups": [list(group) for group in self.groups]}


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """All findings about one source, or two.

    Attributes
    ----------
    source : str
        Name of the source; of both, where a second one was checked against it.
    n_rows : int
        Rows of both, unreadable ones included.
    findings : tuple of DataFinding

    Examples
    --------
    >>> CheckReport("tiles", 2, (DataFinding("enough rows", "note", "2 rows."),)).level
    'note'
    """

    source: str
    n_rows: int
    findings: tuple[DataFinding, ...]

    @property
    def level(self) -> str:
        """The worst level of all findings."""
        return max((finding.level for finding in self.findings), key=LEVELS.index, default="ok")

    def at_least(self, level: str) -> list[DataFinding]:
        """Return the findings of this level or a worse one."""
        return [finding for finding in self.findings if LEVELS.index(finding.level) >= LEVELS.index(level)]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        findings = [finding.to_json() for finding in self.findings]
        return {"source": self.source, "n_rows": self.n_rows, "level": self.level, "findings": findings}


def listed(groups: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Return groups of names as a finding keeps them."""
    return tuple(tuple(group) for group in groups[:MAX_LISTED])


def first_names(names: Sequence[str], *, most: int = 3) -> str:
    """Return some names for a sentence.

    Examples
    --------
    >>> first_names(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
