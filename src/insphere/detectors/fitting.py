"""How a fit goes, whatever the detector: rows read and parted, the model fitted, the decision made, the health examined."""

import dataclasses
import functools
import hashlib
import math
import platform
import tempfile
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data import AbstractSource
from insphere.data.row_store import StoredRows, chunks, load_within, take_rows
from insphere.decision import health
from insphere.decision.calibration import Calibration, fold_rows, rows_needed, split_rows
from insphere.decision.categories import RowCategories
from insphere.decision.decision import Decision
from insphere.decision.health import Finding
from insphere.decision.labels import normal_rows
from insphere.decision.units import by_position, independent_units, row_hashes
from insphere.detectors.inputs import InputContract
from insphere.detectors.telling import named_errors, tell
from insphere.errors import DataError, DataNotice, ParameterError, warn_user

MIN_ROWS = 8
"""Normal rows that `fit` needs at least."""

_MIN_LABELLED = 5  # once labels have taken anomalies out: as many as scikit-learn's checks leave of their smallest data

MAX_SUSPECTS = 1000
"""Training rows that the health report lists at most as suspects, beside those that were trimmed."""

MAX_HASHES = 2**20
"""Hashes of training rows that a model keeps at most (8 MiB), so that rows it has seen are known again."""

CROSS_FROM = 20
"""Independent rows from which calibration by folds keeps its promise (benchmarks/reports/false-alarms.md); fewer are held out."""

CROSS_BELOW = 100
"""Independent rows below which calibration by folds is the default where it is cheap."""

_CROSS_AT_MOST = 1000  # where the target needs more rows than half of them: folds of more rows than that aren't cheap

Fitted = tuple[NDArray[np.float64], list[Finding]]
"""Scores of the training rows, and what is to be said of the fitted model's health."""


@dataclasses.dataclass(frozen=True)
class FitContext:
    """What `fit` was told besides the rows: where to keep a checkpoint, whether to resume it, whom to tell of each epoch or of rows done.

    `units` says of each row to train on which unit it belongs to, `categories` of which camera or product it is, `least_rows` on how few
    of them a model of folds will be fitted: see `Fitting`.
    """

    checkpoint: Path | None = None
    resume: bool = False
    on_epoch: Callable[[Any], None] | None = None
    on_rows: Callable[[int, int], None] | None = None
    units: NDArray[np.int64] | None = None
    least_rows: int | None = None
    categories: RowCategories | None = None


@dataclasses.dataclass
class Fitting:
    """The rows of one fit, and which of them are for what.

    Attributes
    ----------
    rows : ndarray, shape (n, …)
        All readable rows.
    readable : ndarray of int64, shape (n,)
        Their positions in the source.
    train_index, calibration_index : ndarray of int64
        Positions among `rows` of those to train on and of those held out, increasing.
    units : ndarray of int64, shape (n,), optional
        Unit 0.. of each row: rows of a group and equal rows are one unit. None if every row is one.
    folds : ndarray of int64, shape (n,), optional
        Fold of each row where all rows train and each is scored by a model without its fold; None where rows are held out.
    left_out : ndarray of int64
        Positions among `rows` of those that a second fit goes without, the most suspicious first.
    categories : RowCategories, optional
        Camera, product or shift of each row, where each is to have a calibration of its own.

    Examples
    --------
    >>> fitting = Fitting(np.zeros((5, 2)), np.arange(5), np.array([0, 1, 3, 4]), np.array([2]))
    >>> fitting.leave_out(np.array([0.1, 0.9, 0.2, 0.3]), 0.25)
    >>> fitting.train_index, fitting.left_out
    (array([0, 3, 4]), array([1]))
    """

    rows: NDArray[Any]
    readable: NDArray[np.int64]
    train_index: NDArray[np.int64]
    calibration_index: NDArray[np.int64]
    units: NDArray[np.int64] | None = None
    folds: NDArray[np.int64] | None = None
    left_out: NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    categories: RowCategories | None = None

    @property
    def training_units(self) -> NDArray[np.int64] | None:
        """The units of the rows to train on."""
        return None if self.units is None else self.units[self.train_index]

    @property
    def training_rows(self) -> NDArray[Any]:
        """The rows to train on: a copy, or `StoredRows` where all rows are in a file."""
        return take_rows(self.rows, self.train_index)

    @property
    def least_rows(self) -> int | None:
        """The number of rows that the model without the largest fold is fitted on; None where rows are held out."""
        return None if self.folds is None else len(self.train_index) - int(np.bincount(self.folds[self.train_index]).max())

    def context(self, given: FitContext) -> FitContext:
        """Return what the fit of these rows is to know beside what it was given."""
        categories = None if self.categories is None else self.categories.take(self.train_index)
        return dataclasses.replace(given, units=self.training_units, least_rows=self.least_rows, categories=categories)

    def leave_out(self, scores: NDArray[np.float64], share: float) -> None:
        """Take the `share` of the training rows that score highest out of them; one score for each."""
        by_score = self.train_index[np.argsort(-scores, kind="stable")]
        self.left_out, self.train_index = np.split(by_score, [math.ceil(share * len(by_score))])
        self.train_index.sort()


@dataclasses.dataclass(frozen=True)
class ReadRows:
    """What was read of a source to fit on.

    Attributes
    ----------
    rows : ndarray, shape (n, …)
        The readable rows that no label marks as anomalies.
    readable : ndarray of int64, shape (n,)
        Their positions in the source.
    errors : mapping of str to str
        Names of the rows that could not be read, and why.
    hashes : ndarray of uint64, shape (n,)
        See `row_hashes`.
    units : ndarray of int64, shape (n,), optional
        See `independent_units`.
    contract : InputContract
        What the detector will take.
    facts : mapping
        What is to be remembered of the rows: their source, numbers, fingerprint.
    categories : RowCategories, optional
        Of each row.
    """

    rows: NDArray[Any]
    readable: NDArray[np.int64]
    errors: dict[str, str]
    hashes: NDArray[np.uint64]
    units: NDArray[np.int64] | None
    contract: InputContract
    facts: dict[str, Any]
    categories: RowCategories | None = None


def fingerprint(parts: Iterable[NDArray[Any]], dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    """Return the SHA-256 of rows: of their type, the shape of all of them, and their bytes, which may come in parts.

    Examples
    --------
    >>> X = np.arange(6.0).reshape(3, 2)
    >>> fingerprint([X], X.dtype, X.shape) == fingerprint([X[:1], X[1:]], X.dtype, X.shape)
    True
    """
    digest = hashlib.sha256(f"{dtype}{shape}".encode())
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def read_rows(
    source: AbstractSource,
    y: Any = None,
    groups: Iterable[Any] | None = None,
    categories: Iterable[Any] | None = None,
    *,
    imputing: bool = False,
    most_bytes: int | None = None,
) -> ReadRows:
    """Read the rows to fit on.

    Parameters
    ----------
    source : AbstractSource
    y, groups, categories
        See `AbstractDetector.fit`.
    imputing : bool
        Whether missing values will be filled, so that nobody is told that they could be.
    most_bytes : int, optional
        That rows may take in memory; more go into a temporary file, see `load_within`. None for no limit.

    Raises
    ------
    DataError
        See `AbstractDetector.fit`.
    """
    loaded = load_within(source, most_bytes)
    errors = named_errors(source, loaded.errors, imputing=imputing)
    rows, readable = as_rows(loaded.X), loaded.index
    tell(source)
    if isinstance(rows, StoredRows):
        n_bytes = rows.size * rows.dtype.itemsize
        warn_user(
            f"The rows of {source.name} take {n_bytes:,} bytes, more than training.memory_limit ({most_bytes:,}), and are kept in a"
            f" temporary file in {tempfile.gettempdir()} while the fit lasts.",
            DataNotice,
        )
    _check_rows(rows, source.name, at_least=MIN_ROWS)
    normal = normal_rows(y, len(source))
    if normal is not None:
        rows, readable = take_rows(rows, normal[readable]), readable[normal[readable]]
        _check_rows(rows, source.name, at_least=_MIN_LABELLED)
    named = groups_of(source, groups)
    hashes = row_hashes(rows)
    facts = {
        "source": source.name,
        "n_rows": len(source),
        "n_unreadable": len(errors),
        "n_labelled": len(source) - len(errors) - len(rows),
        "n_different": len(np.unique(hashes)),
        "fingerprint": fingerprint(chunks(rows), rows.dtype, rows.shape),
    }
    units = independent_units(hashes, None if named is None else [named[row] for row in readable])
    known = categories_of(source, categories)
    known = None if known is None else known.take(readable)
    return ReadRows(rows, readable, errors, hashes, units, InputContract.of(source), facts, known)


def part_rows(
    read: ReadRows, options: Calibration, target_fpr: float, rng: np.random.Generator, *, cross_below: int, imputing: bool = False
) -> Fitting:
    """Hold rows out from training, or give every row a fold.

    Parameters
    ----------
    read : ReadRows
    options : Calibration
    target_fpr : float
        In (0, 1).
    rng : numpy.random.Generator
    cross_below : int
        Independent rows below which folds are the default; 0 for a detector whose fits take long.
    imputing : bool
        Whether missing values will be filled with what the rows to train on say.

    Raises
    ------
    ParameterError
        If folds are asked for together with missing values to be filled.
    """
    if imputing and options.method == "cross":
        raise ParameterError(
            '`calibration.method="cross"` does not go with `missing="impute"`: what fills the rows of a fold would come from all rows.'
            ' Take calibration.method="split", or fill the missing values first.'
        )
    n_rows, units = len(read.rows), read.units
    n_units = n_rows if units is None else int(units.max()) + 1
    if not imputing and _crosses(options, target_fpr, n_units, cross_below):
        every = np.arange(n_rows)
        folds = fold_rows(n_rows, options.n_folds, units=units, rng=rng)
        return Fitting(read.rows, read.readable, every, every, units, folds, categories=read.categories)
    if options.method == "cross":
        warn_user(
            f'`calibration.method="cross"` takes {CROSS_FROM} independent rows at least, got {n_units}: some were held out instead.',
            DataNotice,
        )
    train_index, calibration_index = _split(n_rows, units, read.categories, options, target_fpr, rng)
    return Fitting(read.rows, read.readable, train_index, calibration_index, units, categories=read.categories)


def _split(
    n_rows: int,
    units: NDArray[np.int64] | None,
    categories: RowCategories | None,
    options: Calibration,
    target_fpr: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold rows out: of each category by itself, so that each gets as many as the target needs, or half of its own."""
    split = functools.partial(split_rows, fraction=options.fraction, max_rows=options.max_rows, target_fpr=target_fpr, rng=rng)
    if categories is None:
        return split(n_rows, units=units)
    unit_of_row = np.arange(n_rows) if units is None else units
    # A unit that has rows of several categories goes with its first one: it trains, or is held out, as a whole.
    _, first, unit = np.unique(unit_of_row, return_index=True, return_inverse=True)
    code_of_row = categories.codes[first][unit]
    held_out = np.zeros(n_rows, dtype=np.bool_)
    for code in np.unique(code_of_row):
        rows = np.flatnonzero(code_of_row == code)
        own = np.unique(unit_of_row[rows], return_inverse=True)[1]
        held_out[rows[split(len(rows), units=own)[1]]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def examine(
    decision: Decision, fitting: Fitting, train_scores: NDArray[np.float64], findings: list[Finding], *, n_equal: int, advice: str
) -> health.HealthReport:
    """Return all findings about a fitted detector: those of its kind, and those that hold for every kind.

    Parameters
    ----------
    n_equal : int
        Rows that equal another one.
    advice : str
        What to do where all scores are equal.
    """
    scores = health.check_scores(np.concatenate([train_scores, decision.calibration.scores]), advice)
    if scores.level == "critical":
        return health.HealthReport((scores, *findings))
    positions, trimmed = fitting.readable[fitting.train_index], fitting.readable[fitting.left_out]
    suspects = health.find_suspects(train_scores)
    optional = (_trimmed_kinds(fitting), health.check_categories(decision))
    return health.HealthReport(
        (
            scores,
            *findings,
            health.check_equal_rows(n_equal, len(fitting.rows)),
            health.check_held_out(train_scores, decision.calibration.scores, decision.radius, decides=decision.by == "radius"),
            health.check_calibration(decision),
            health.check_contamination(len(suspects), len(train_scores), n_trimmed=len(trimmed)),
            *(finding for finding in optional if finding is not None),
        ),
        tuple(int(position) for position in [*trimmed, *positions[suspects[:MAX_SUSPECTS]]]),
    )


def _trimmed_kinds(fitting: Fitting) -> Finding | None:
    if len(fitting.rows.shape) != 2 or not len(fitting.left_out):
        return None
    return health.check_trimmed(chunks(fitting.training_rows), take_rows(fitting.rows, fitting.left_out)[:])


def versions() -> dict[str, str]:
    """Return the versions that a fitted detector names: of this library, what it computes with, and Python."""
    return {name: version(name) for name in ("insphere", "torch", "numpy", "scikit-learn")} | {"python": platform.python_version()}


def as_rows(X: NDArray[Any]) -> NDArray[Any]:
    """Return vectors as float64, so that no score depends on the type they were stored in; images as they are."""
    return X if X.ndim == 4 or X.dtype == np.float64 else X.astype(np.float64)


def _check_rows(rows: NDArray[Any], name: str, *, at_least: int) -> None:
    if len(rows) < at_least:
        raise DataError(
            f"`fit` needs at least {at_least} readable normal rows, got {len(rows)} from {name}."
            " Give more examples; a few hundred make a usable detector."
        )
    if all((part == rows[:1]).all() for part in chunks(rows)):
        raise DataError(
            f"All {len(rows)} training rows of {name} are equal, so there is nothing to learn what normal varies by."
            " Check that the source holds different examples."
        )


def groups_of(source: AbstractSource, groups: Iterable[Any] | None) -> list[Any] | None:
    """Return the group of each row of a source, None where there are none.

    Raises
    ------
    DataError
        If there are not as many as rows.
    """
    named = by_position(source.groups if groups is None else groups, name="groups")
    if named is not None and len(named) != len(source):
        raise DataError(f"`groups` must have one label per row: {len(source)}, got {len(named)}.")
    return named


def categories_of(source: AbstractSource, categories: Iterable[Any] | None) -> RowCategories | None:
    """Return the category of each row of a source, None where there are none.

    Raises
    ------
    DataError
        If there are not as many as rows, or too many different ones.
    """
    return RowCategories.of(source.categories if categories is None else categories, len(source))


def _crosses(options: Calibration, target_fpr: float, n_units: int, cross_below: int) -> bool:
    """Return whether calibration is by folds; among few units the models of folds differ too much from that of all rows."""
    if options.method != "auto" or options.decision == "radius":
        return options.method == "cross" and n_units >= CROSS_FROM
    too_few_by_half = n_units // 2 < rows_needed(target_fpr) and n_units <= _CROSS_AT_MOST
    return cross_below > 0 and n_units >= CROSS_FROM and (n_units < cross_below or too_few_by_half)
