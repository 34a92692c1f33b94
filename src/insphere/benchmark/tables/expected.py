"""What a publication reports: its tables with their values, and what its figures show; read from a TOML file and checked whole."""

import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from insphere.errors import DataError, did_you_mean
from insphere.toml_file import read_toml

FORMAT_VERSION = 1
"""Version of the file format that is read here."""

KINDS = ("gallery", "attack-gallery", "times", "bars", "sweep")
"""Kinds of figures; `insphere.benchmark.tables.figures` draws them."""

_TABLE_KEYS = {"title", "dataset", "n_seeds", "attacked", "methods", "labels", "rows"}
_FIGURE_KEYS = {"title", "kind", "dataset", "normal_classes", "methods", "detector", "parameter", "stated_spread"}
_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclasses.dataclass(frozen=True)
class ExpectedTable:
    """One published table: an AUROC for every normal class and method.

    Attributes
    ----------
    name, title : str
        Its name, which the files written for it bear, and its heading.
    dataset : str
        Data set that it is about.
    methods : tuple of str
        Columns, by the names that results use.
    labels : Mapping[str, str]
        What to call each method.
    rows : Mapping[str, Mapping[str, float]]
        Normal class -> method -> AUROC in percent; no cell is missing.
    n_seeds : int or None
        Seeds that the published values average over, if stated.
    attacked : bool
        Whether the anomalies are attacked images of the normal class, see `insphere.benchmark.attacks.attacking`.

    Examples
    --------
    >>> table = ExpectedTable("t", "T", "digits", ("a",), {"a": "A"}, {"3": {"a": 90.0}, "8": {"a": 80.0}})
    >>> table.value("3", "a"), table.value("3", "b"), table.mean("a")
    (90.0, None, 85.0)
    """

    name: str
    title: str
    dataset: str
    methods: tuple[str, ...]
    labels: Mapping[str, str]
    rows: Mapping[str, Mapping[str, float]]
    n_seeds: int | None = None
    attacked: bool = False

    def value(self, normal_class: str, method: str) -> float | None:
        """Return the published value in percent, None where there is none."""
        return self.rows.get(normal_class, {}).get(method)

    def mean(self, method: str) -> float | None:
        """Return the mean over all classes in percent, None for a method that is not in the table."""
        return math.fsum(row[method] for row in self.rows.values()) / len(self.rows) if method in self.methods else None


@dataclasses.dataclass(frozen=True)
class ExpectedFigure:
    """What one published figure shows, so that the same can be drawn from our results.

    Attributes
    ----------
    name, title : str
        Its name, which the files written for it bear, and its heading.
    kind : str
        One of `KINDS`.
    dataset : str
        Data set that it is about.
    normal_classes, methods : tuple of str
        What is shown; empty for all that there are results of.
    detector, parameter : str or None
        Of a sweep: the detector whose parameter changes, and which.
    stated_spread : (float, float) or None
        Of a sweep: by how many points of AUROC it is said to matter, at least and at most.

    Examples
    --------
    >>> ExpectedFigure("f", "F", "times", "digits").methods
    ()
    """

    name: str
    title: str
    kind: str
    dataset: str
    normal_classes: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    detector: str | None = None
    parameter: str | None = None
    stated_spread: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Expected:
    """All that a publication reports.

    Attributes
    ----------
    source : str
        Where it was published.
    tables : tuple of ExpectedTable
    figures : tuple of ExpectedFigure

    Examples
    --------
    >>> Expected("nowhere").table_of("digits") is None
    True
    """

    source: str
    tables: tuple[ExpectedTable, ...] = ()
    figures: tuple[ExpectedFigure, ...] = ()

    def table_of(self, dataset: str, *, attacked: bool = False) -> ExpectedTable | None:
        """Return the table about a data set, None if there is none."""
        return next((table for table in self.tables if (table.dataset, table.attacked) == (dataset, attacked)), None)


def read_expected(path: str | os.PathLike[str]) -> Expected:
    """Read a file of published values.

    Parameters
    ----------
    path : path-like
        TOML with `format_version` and `source`, a ``[tables.NAME]`` for each table (`title`, `dataset`, `methods`, optionally `labels`,
        `n_seeds`, `attacked`, and below it ``[tables.NAME.rows]`` with a list of percentages for each normal class, in the order of
        `methods`), and a ``[figures.NAME]`` for each figure (the fields of `ExpectedFigure`).

    Raises
    ------
    DataError
        If the file cannot be read, a name is unknown, a row is incomplete, or a value is not a percentage.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> text = '''format_version = 1
    ... source = "An example"
    ... [tables.table-1]
    ... title = "Table 1"
    ... dataset = "digits"
    ... methods = ["knn"]
    ... rows = { 3 = [99.0], 8 = [95.0] }
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "expected.toml").write_text(text)
    ...     expected = read_expected(Path(folder) / "expected.toml")
    >>> expected.table_of("digits").mean("knn")
    97.0
    """
    return _Reader(os.fspath(path)).expected(read_toml(path, "the published values"))


class _Reader:
    """Turns parsed TOML into records; every complaint names the file and the place in it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def expected(self, content: Mapping[str, Any]) -> Expected:
        self._check_keys("the file", content, {"format_version", "source", "tables", "figures"})
        if content.get("format_version") != FORMAT_VERSION:
            raise self._error("`format_version`", f"must be {FORMAT_VERSION}, got {content.get('format_version')!r}; upgrade insphere")
        tables = tuple(self._table(name, entry) for name, entry in self._sections("tables", content))
        about = [(table.dataset, table.attacked) for table in tables]
        if len(set(about)) < len(about):
            raise self._error("`tables`", "must have at most one table for a data set (one more with `attacked`)")
        figures = tuple(self._figure(name, entry) for name, entry in self._sections("figures", content))
        return Expected(self._text("`source`", content.get("source")), tables, figures)

    def _sections(self, key: str, content: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
        sections = content.get(key, {})
        if not isinstance(sections, Mapping) or not all(isinstance(entry, Mapping) for entry in sections.values()):
            raise self._error(f"`{key}`", f"must be sections [{key}.NAME]")
        for name in sections:
            if not _FILE_NAME.fullmatch(name):
                raise self._error(f"[{key}.{name}]", "must be named by lower-case letters, digits, '-', '_', '.', as files bear the name")
        return list(sections.items())

    def _table(self, name: str, entry: Mapping[str, Any]) -> ExpectedTable:
        place = f"[tables.{name}]"
        self._check_keys(place, entry, _TABLE_KEYS)
        methods = self._texts(f"`methods` of {place}", entry.get("methods"))
        labels = self._texts(f"`labels` of {place}", entry.get("labels", list(methods)))
        if len(labels) != len(methods):
            raise self._error(f"`labels` of {place}", f"must have one entry per method: {len(methods)}, got {len(labels)}")
        n_seeds, attacked = entry.get("n_seeds"), entry.get("attacked", False)
        if n_seeds is not None and (isinstance(n_seeds, bool) or not isinstance(n_seeds, int) or n_seeds < 1):
            raise self._error(f"`n_seeds` of {place}", f"must be a whole number of at least 1, got {n_seeds!r}")
        if not isinstance(attacked, bool):
            raise self._error(f"`attacked` of {place}", f"must be true or false, got {attacked!r}")
        rows = entry.get("rows")
        if not isinstance(rows, Mapping) or not rows:
            raise self._error(f"`rows` of {place}", "must have a list of values for at least one normal class")
        return ExpectedTable(
            name=name,
            title=self._text(f"`title` of {place}", entry.get("title")),
            dataset=self._text(f"`dataset` of {place}", entry.get("dataset")),
            methods=methods,
            labels=MappingProxyType(dict(zip(methods, labels, strict=True))),
            rows=MappingProxyType({row: self._row(f"row {row!r} of {place}", values, methods) for row, values in rows.items()}),
            n_seeds=n_seeds,
            attacked=attacked,
        )

    def _row(self, place: str, values: object, methods: Sequence[str]) -> Mapping[str, float]:
        if not isinstance(values, list) or len(values) != len(methods):
            got = f"{len(values)}" if isinstance(values, list) else repr(values)
            raise self._error(place, f"must be a list of one value per method: {len(methods)}, got {got}")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
                raise self._error(place, f"must hold percentages from 0 to 100, got {value!r}")
        return MappingProxyType({method: float(value) for method, value in zip(methods, values, strict=True)})

    def _figure(self, name: str, entry: Mapping[str, Any]) -> ExpectedFigure:
        place = f"[figures.{name}]"
        self._check_keys(place, entry, _FIGURE_KEYS)
        kind = self._text(f"`kind` of {place}", entry.get("kind"))
        if kind not in KINDS:
            raise self._error(f"`kind` of {place}", f"must be one of {', '.join(KINDS)}, got {kind!r}.{did_you_mean(kind, KINDS)}")
        sweep = {key: self._text(f"`{key}` of {place}", entry.get(key)) for key in ("detector", "parameter") if kind == "sweep"}
        return ExpectedFigure(
            name=name,
            title=self._text(f"`title` of {place}", entry.get("title")),
            kind=kind,
            dataset=self._text(f"`dataset` of {place}", entry.get("dataset")),
            normal_classes=self._texts(f"`normal_classes` of {place}", entry.get("normal_classes", []), at_least=0),
            methods=self._texts(f"`methods` of {place}", entry.get("methods", []), at_least=0),
            stated_spread=self._spread(f"`stated_spread` of {place}", entry.get("stated_spread")),
            **sweep,
        )

    def _spread(self, place: str, value: object) -> tuple[float, float] | None:
        if value is None:
            return None
        if isinstance(value, list) and len(value) == 2 and all(isinstance(end, int | float) and not isinstance(end, bool) for end in value):
            low, high = value
            if 0 <= low <= high <= 100:
                return float(low), float(high)
        raise self._error(place, f"must be two numbers of points, the smaller first, got {value!r}")

    def _text(self, place: str, value: object) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self._error(place, f"must be a text, got {value!r}")
        return value

    def _texts(self, place: str, values: object, *, at_least: int = 1) -> tuple[str, ...]:
        if not isinstance(values, list) or len(values) < at_least or not all(isinstance(value, str) and value for value in values):
            raise self._error(place, f"must be a list of texts, got {values!r}")
        if len(set(values)) < len(values):
            raise self._error(place, "must name nothing twice")
        return tuple(values)

    def _check_keys(self, place: str, entry: Mapping[str, Any], known: set[str]) -> None:
        for key in entry:
            if key not in known:
                listed = ", ".join(sorted(known))
                raise self._error(place, f"has no entry {key!r}; it may have {listed}.{did_you_mean(key, known)}")

    def _error(self, place: str, rule: str) -> DataError:
        return DataError(f"{self._path}: {place} {rule}{'' if rule.endswith('?') else '.'}")
