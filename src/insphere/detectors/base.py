"""The contract every detector keeps: fit, score, decide, save. The only place where a score's sign turns."""

import dataclasses
import datetime
import hashlib
import math
import os
import platform
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_array, check_is_fitted

from insphere import model_file
from insphere.data import AbstractSource, ArraySource, ImageSpec, open_source
from insphere.data.imputation import MISSING
from insphere.decision import health
from insphere.decision.calibration import Calibration, ConformalCalibration, radius, rows_needed, split_rows
from insphere.decision.scored import ScoredRows
from insphere.detectors.fitting import Fitted, Fitting
from insphere.detectors.inputs import InputContract, is_plain_table, keeping_missing
from insphere.detectors.stored import KIND, parameters_to_json, restore, to_file
from insphere.errors import CollapseError, DataError, TrainingError
from insphere.seeding import generator, resolve_seed
from insphere.validation import as_record, check_choice, check_number

if TYPE_CHECKING:
    from insphere.explain import Explanation

MIN_ROWS = 8
"""Normal rows that `fit` needs at least."""

MAX_SUSPECTS = 1000
"""Training rows that the health report lists at most as suspects, beside those that were trimmed."""

_BATCH_ROWS = 1024

Rows = ArrayLike | AbstractSource | str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class FitContext:
    """What `fit` was told beside the rows: where to keep a checkpoint, whether to resume it, whom to tell of each epoch."""

    checkpoint: Path | None = None
    resume: bool = False
    on_epoch: Callable[[Any], None] | None = None


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class AbstractDetector(OutlierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """A one-class anomaly detector for images and vectors.

    A concrete class sets `name` to its key in the catalog, declares its own parameters as fields, and implements `_fit_model`, `_score`,
    `_state` and `_restore`. Being a dataclass, it gets from all its bases a constructor that only stores, as scikit-learn wants it; the
    parameters of the bases are keywords. (Compared and shown as scikit-learn does: hence ``eq=False, repr=False``.)

    Parameters
    ----------
    target_fpr : float
        Share of normal rows that may be flagged, in (0, 1).
    trim : float
        Share of the training rows, in [0, 0.5), that a second fit leaves out: those with the highest scores after the first one. For
        training rows that are known to hold anomalies; no labels are used. The rows left out come first in ``health_.suspects``. The
        held-out rows stay as they are: with anomalies among them the threshold is higher, so the promised rate of false alarms holds.
    calibration : Calibration or mapping, optional
        How many normal rows are held out, and whether the threshold is conformal or the paper's radius.
    random_state : int, RandomState, Generator or None
        Seed of all chance. The same seed gives the same scores.
    missing : {"refuse", "impute"}
        What becomes of rows of a table with missing values. "refuse": they are errors. "impute": a missing feature is filled with its
        median in the training rows, and one more feature says that it was missing; see `insphere.data.Imputer`.
    """

    name: ClassVar[str]
    target_fpr: float = 0.05
    trim: float = 0.0
    calibration: Calibration | Mapping[str, Any] | None = None
    random_state: Any = None
    missing: str = "refuse"

    # What a concrete detector implements.

    @abstractmethod
    def _fit_model(self, X: NDArray[Any], context: FitContext) -> Fitted:
        """Fit on the proper training rows; return their scores (none its own neighbour) and what is to be said of the model's health."""

    @abstractmethod
    def _score(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return anomaly scores of checked rows, float64, shape (n,), higher = more anomalous."""

    @abstractmethod
    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return (JSON-able header, arrays) from which `_restore` rebuilds the fitted model."""

    @abstractmethod
    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Rebuild the fitted model from what `_state` returned."""

    # Fitting.

    def fit(
        self,
        X: Rows,
        y: object = None,
        *,
        groups: Sequence[Any] | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        on_epoch: Callable[[Any], None] | None = None,
    ) -> Self:
        """Fit on normal rows.

        Parameters
        ----------
        X : array, source or path
            (n, features), (n, height, width) or (n, height, width, channels); or what `insphere.open_source` takes. All rows are taken
            as normal; of a labelled folder, archive or data set only the normal training rows are read.
        y : ignored
            For scikit-learn's sake.
        groups : sequence of length n, optional
            Rows of one group are near-duplicates (frames of one track): they are held out for calibration together or not at all.
        checkpoint : Path, optional
            File that keeps the training's state after every epoch. Ignored by detectors that do not train in epochs.
        resume : bool
            Go on from `checkpoint` where it exists; the result equals that of an unbroken run on the CPU.
        on_epoch : callable, optional
            Called with every `EpochRecord`.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If there are fewer than eight readable rows, or all are equal, or some are of the wrong kind.
        ParameterError
            If a parameter breaks its rule.
        """
        fitting = self._prepare(X, groups)
        context = FitContext(None if checkpoint is None else Path(checkpoint), resume, on_epoch)
        fitted = self._fit_model(fitting.training_rows, context)
        if self._trims(fitted):
            fitting.leave_out(fitted[0], self.trim)
            fitted = self._refit(fitting.training_rows, context)
        self._conclude(fitting, fitted)
        self.health_.warn()
        return self

    # The parts of `fit`. Where several detectors are trained as one, `insphere.detectors.batched` puts them together itself.

    def _prepare(self, X: Rows, groups: Sequence[Any] | None = None) -> Fitting:
        """Check the parameters, read the rows and part them into those to train on and those held out."""
        self._check_parameters()
        rows, source, readable = self._training_rows(X)
        # As a list: a labelled series would be looked up by its labels, and rows go by position.
        groups = source.groups if groups is None else list(groups)
        if groups is not None and len(groups) != len(source):
            raise DataError(f"`groups` must have one label per row: {len(source)}, got {len(groups)}.")
        self.seed_ = resolve_seed(self.random_state)
        train_index, calibration_index = split_rows(
            len(rows),
            fraction=self._calibration.fraction,
            max_rows=self._calibration.max_rows,
            target_fpr=self.target_fpr,
            groups=None if groups is None else [groups[row] for row in readable],
            rng=generator(self.seed_, "calibration split"),
        )
        if self.missing == "impute":
            rows, calibration_index = self._fill_missing(rows, train_index, calibration_index)
        self.data_ = _data_facts(source, rows, len(train_index), len(calibration_index))
        return Fitting(rows, readable, train_index, calibration_index)

    def _trims(self, fitted: Fitted) -> bool:
        """Return whether a second fit without the most suspicious rows is wanted, and makes sense after the first."""
        return bool(self.trim) and not _collapsed(*fitted)

    def _conclude(self, fitting: Fitting, fitted: Fitted) -> None:
        """Decide on the threshold, examine the detector's health, and note what it was made with."""
        train_scores, findings = fitted
        self.data_ |= {"n_train": len(fitting.train_index), "n_trimmed": len(fitting.left_out)}
        held_out = fitting.rows[fitting.calibration_index]
        self._decide(train_scores, self._score(held_out) if len(held_out) else np.empty(0))
        self.health_ = self._examine(train_scores, findings, fitting.readable[fitting.train_index], fitting.readable[fitting.left_out])
        self.versions_ = {name: version(name) for name in ("insphere", "torch", "numpy", "scikit-learn")} | {
            "python": platform.python_version()
        }
        self.created_ = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

    def _refit(self, X: NDArray[Any], context: FitContext) -> Fitted:
        """Fit anew on the rows that are left, with a checkpoint beside that of the first fit, from which a resumed fit finds them."""
        path = context.checkpoint
        second = None if path is None else path.with_name(f"{path.name}.trimmed")
        result = self._fit_model(X, dataclasses.replace(context, checkpoint=second))
        if second is not None:
            second.unlink(missing_ok=True)
        return result

    def _check_parameters(self) -> None:
        """Check the parameters and keep the resolved option records; a subclass calls this first and adds its own."""
        check_number("target_fpr", self.target_fpr, above=0, below=1)
        check_choice("missing", self.missing, MISSING)
        check_number("trim", self.trim, at_least=0, below=0.5)
        self._calibration = as_record("calibration", self.calibration, Calibration)

    def _training_rows(self, X: Rows) -> tuple[NDArray[Any], AbstractSource, NDArray[np.int64]]:
        """Return the readable rows, their source and their positions in it."""
        source = self._as_source(X, fitting=True)
        if self.missing == "impute":
            source = keeping_missing(source)
        loaded = source.load()
        ids = source.ids
        self.training_errors_ = {(ids[row] if ids is not None else str(row)): text for row, text in loaded.errors.items()}
        if self.training_errors_:
            name, text = next(iter(self.training_errors_.items()))
            warnings.warn(
                f"{len(self.training_errors_)} of {len(source)} training rows were left out because they could not be read"
                f" (first: {name}: {text}); all are in `training_errors_`.",
                stacklevel=4,
            )
        rows = as_rows(loaded.X)
        if len(rows) < MIN_ROWS:
            raise DataError(
                f"`fit` needs at least {MIN_ROWS} readable normal rows, got {len(rows)} from {source.name}."
                " Give more examples; a few hundred make a usable detector."
            )
        if (rows == rows[:1]).all():
            raise DataError(
                f"All {len(rows)} training rows of {source.name} are equal, so there is nothing to learn what normal varies by."
                " Check that the source holds different examples."
            )
        self.input_: InputContract = InputContract.of(source)
        return rows, source, loaded.index

    def _fill_missing(
        self, rows: NDArray[Any], train_index: NDArray[np.int64], calibration_index: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Return all rows with missing features filled, and those held out that can be."""
        contract, filled, usable = self.input_.imputing(rows, train_index, calibration_index)
        self.input_ = contract
        return filled, usable

    def _decide(self, train_scores: NDArray[np.float64], calibration_scores: NDArray[np.float64]) -> None:
        finite = np.isfinite(np.concatenate([train_scores, calibration_scores])).all()
        if not finite:
            raise TrainingError(
                "Some training rows have scores that are not finite: the model has diverged. Check the rows for extreme values,"
                " or lower the learning rate."
            )
        self.conformal_ = ConformalCalibration(calibration_scores)
        self.radius_ = radius(train_scores, self._calibration.radius_quantile)
        self.threshold_ = self.conformal_.threshold(self.target_fpr)
        self.decision_ = "conformal"
        if self._calibration.decision == "radius" or math.isinf(self.threshold_):
            self.decision_, self.threshold_ = "radius", self.radius_
        self.offset_ = -self.threshold_

    def _examine(
        self,
        train_scores: NDArray[np.float64],
        findings: list[health.Finding],
        positions: NDArray[np.int64],
        trimmed: NDArray[np.int64],
    ) -> health.HealthReport:
        scores = health.check_scores(train_scores)
        if scores.level == "critical":
            return health.HealthReport((scores, *findings))
        suspects = health.find_suspects(train_scores)
        listed = [*trimmed, *positions[suspects[:MAX_SUSPECTS]]]
        return health.HealthReport(
            (
                scores,
                *findings,
                health.check_held_out(train_scores, self.conformal_.scores, self.radius_),
                health.check_calibration(len(self.conformal_), rows_needed(self.target_fpr), self.decision_),
                health.check_contamination(len(suspects), len(train_scores), n_trimmed=len(trimmed)),
            ),
            tuple(int(position) for position in listed),
        )

    # Scoring: everything below goes through score_batches.

    def open(self, X: Rows, *, split: str = "all", **options: Any) -> AbstractSource:
        """Return `X` as a source whose rows have the shape and type that this fitted detector takes.

        Parameters
        ----------
        X : array, source or path
        split : {"all", "train", "test"}
            Which rows of a source with parts.
        **options
            Further arguments of `insphere.open_source`, such as `label_column`.

        Raises
        ------
        DataError
            If the rows have other features, another image shape or another type than the training rows.
        """
        check_is_fitted(self, "threshold_")
        return self._as_source(X, fitting=False, split=split, **options)

    def score_batches(self, X: Rows, *, batch_size: int = _BATCH_ROWS) -> Iterator[ScoredRows]:
        """Score the rows of `X` in order, `batch_size` at a time, each row exactly once as a score or as an error.

        Raises
        ------
        CollapseError
            If the fitted detector gives every row the same score.
        DataError
            If the rows do not fit the detector.
        """
        source = self.open(X)
        if self.health_.collapsed:
            critical = next(finding for finding in self.health_.findings if finding.level == "critical")
            raise CollapseError(f"This detector cannot score: {critical.text}")
        for rows in source.batches(batch_size):
            scores = self._score(as_rows(rows.X)) if len(rows.X) else np.empty(0)
            yield ScoredRows(rows.index, scores, self.conformal_.p_value(scores), scores > self.threshold_, rows.errors)

    def anomaly_score(self, X: Rows) -> NDArray[np.float64]:
        """Return the anomaly score of each row, float64, shape (n,), higher = more anomalous.

        Rows of a file source that cannot be read get NaN and one warning; arrays with such values are refused.

        Raises
        ------
        CollapseError, DataError
            See `score_batches`.
        """
        source = self.open(X)
        scores = np.full(len(source), np.nan)
        errors: dict[int, str] = {}
        for batch in self.score_batches(source):
            scores[batch.index] = batch.anomaly_score
            errors |= batch.errors
        warn_unreadable(errors, len(source), "score NaN")
        return scores

    def p_value(self, X: Rows) -> NDArray[np.float64]:
        """Return the conformal p-value of each row: the share of normal rows that score at least as high; NaN for unreadable rows.

        Source: split conformal prediction (Vovk 2005). Valid for normal rows exchangeable with the held-out ones.
        """
        scores = self.anomaly_score(X)
        p_values = np.full(len(scores), np.nan)
        p_values[~np.isnan(scores)] = self.conformal_.p_value(scores[~np.isnan(scores)])
        return p_values

    def score_samples(self, X: Rows) -> NDArray[np.float64]:
        """Return ``-anomaly_score(X)``: scikit-learn's convention, higher = more normal."""
        return -self.anomaly_score(X)

    def decision_function(self, X: Rows) -> NDArray[np.float64]:
        """Return ``score_samples(X) - offset_``: negative for anomalies."""
        samples: NDArray[np.float64] = self.score_samples(X) - self.offset_
        return samples

    def predict(self, X: Rows) -> NDArray[np.int64]:
        """Return +1 for normal rows and -1 for anomalies; an unreadable row counts as an anomaly."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def explain(self, X: Rows, **options: Any) -> "Explanation":
        """Say why rows score as they do: `insphere.explain.explain` with this detector, where the options are described.

        Raises
        ------
        ExplainError
            If the method asked for needs what this detector does not have.
        CollapseError, DataError, ParameterError
        """
        # Inside the function, because the room of explanations lies above this one: see tests/test_architecture.py.
        from insphere.explain import explain

        return explain(self, X, **options)

    @property
    def input_shape_(self) -> tuple[int, ...]:
        """Shape of one row as the model gets it: (features,), with one more for each that may be missing, or (height, width, channels)."""
        return self.input_.model_shape

    @property
    def image_spec_(self) -> ImageSpec | None:
        """What image files are brought to; None for vectors."""
        return self.input_.image

    @property
    def from_files_(self) -> bool:
        """Whether the detector was fitted on image files."""
        return self.input_.from_files

    @property
    def feature_names_(self) -> list[str] | None:
        """Names of the features, in the order of the model's input; None where they had none."""
        names = self.input_.model_names
        return None if names is None else list(names)

    @property
    def feature_names_in_(self) -> NDArray[Any]:
        """Names of the features as scikit-learn has them; there where the features had names."""
        names = self.input_.table.feature_names
        if names is None:
            raise AttributeError("The detector was fitted on features without names, so it has no `feature_names_in_`.")
        return np.array(names, dtype=object)

    @property
    def n_features_in_(self) -> int:
        """Number of features; there where rows are vectors."""
        if self.input_.image is not None:
            raise AttributeError("The detector was fitted on images, so it has no `n_features_in_`.")
        return self.input_.shape[0]

    def _as_source(self, X: Rows, *, fitting: bool, split: str = "all", **options: Any) -> AbstractSource:
        if is_plain_table(X):
            # Without names, because arrays go by position: scikit-learn's own check would warn that they have none.
            finite: bool | str = "allow-nan" if self.missing == "impute" else True
            least = MIN_ROWS if fitting else 1
            X = check_array(X, dtype="numeric", ensure_min_samples=least, ensure_all_finite=finite, estimator=self, input_name="X")
            return ArraySource(X) if fitting else self.input_.admit(ArraySource(X, name="X"), estimator=type(self).__name__)
        if fitting:
            return open_source(X, split="train", **options)
        return self.input_.open(X, split=split, **options)

    # Saving.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted detector to one file, all or nothing; `insphere.load` reads it back with exactly equal scores.

        Raises
        ------
        CollapseError
            If the detector refuses to score, so that nothing useless is deployed.
        ModelFileError
            If the file cannot be written.
        """
        check_is_fitted(self, "threshold_")
        if self.health_.collapsed:
            raise CollapseError("A detector that cannot score is not saved; see `health_`.")
        model_file.write(path, KIND, *to_file(self))

    def describe(self) -> dict[str, Any]:
        """Return what is known of the fitted detector as a JSON-able dict: parameters, data, decision, health, history, versions."""
        check_is_fitted(self, "threshold_")
        false_alarm = self.conformal_.false_alarm(self.target_fpr)
        expected = dataclasses.asdict(false_alarm) if self.decision_ == "conformal" else None
        return to_file(self)[0] | {"expected_false_alarm_rate": expected}

    def _parameters_to_json(self) -> dict[str, Any]:
        """Return the parameters as what a model file can hold and the constructor takes."""
        return parameters_to_json(self)

    @classmethod
    def from_file(cls, saved: model_file.ModelFile) -> Self:
        """Return the fitted detector that `save` wrote; `insphere.load` finds the class for it.

        Raises
        ------
        ModelFileError
            If a part is missing or does not fit.
        """
        return restore(cls, saved)


def warn_unreadable(errors: Mapping[int, str], n_rows: int, consequence: str) -> None:
    """Issue one warning, from the caller's caller, where rows could not be read."""
    if errors:
        row, text = next(iter(errors.items()))
        warnings.warn(f"{len(errors)} of {n_rows} rows could not be read and {consequence} (first: row {row}: {text}).", stacklevel=3)


def _collapsed(train_scores: NDArray[np.float64], findings: Sequence[health.Finding]) -> bool:
    return any(finding.level == "critical" for finding in (health.check_scores(train_scores), *findings))


def as_rows(X: NDArray[Any]) -> NDArray[Any]:
    """Return vectors as float64, so that no score depends on the type they were stored in; images as they are."""
    return X if X.ndim == 4 else X.astype(np.float64, copy=False)


def _data_facts(source: AbstractSource, rows: NDArray[Any], n_train: int, n_calibration: int) -> dict[str, Any]:
    fingerprint = hashlib.sha256(f"{rows.dtype}{rows.shape}".encode())
    fingerprint.update(np.ascontiguousarray(rows).data)
    return {
        "source": source.name,
        "n_rows": len(source),
        "n_unreadable": len(source) - len(rows),
        "n_train": n_train,
        "n_calibration": n_calibration,
        "fingerprint": fingerprint.hexdigest(),
    }
