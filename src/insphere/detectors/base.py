"""The contract every detector keeps: fit, score, decide, save."""

import dataclasses
import datetime
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_array, check_is_fitted

from insphere import model_file
from insphere.data import AbstractSource, ArraySource, ImageSource, open_source
from insphere.data.image_sizes import small_size
from insphere.data.imputation import Missing
from insphere.decision import health
from insphere.decision.calibration import Calibration
from insphere.decision.units import row_hashes
from insphere.decision.verdicts import VerdictJournal
from insphere.detectors.fitting import (
    MAX_HASHES,
    MIN_ROWS,
    FitContext,
    Fitted,
    Fitting,
    examine,
    part_rows,
    read_rows,
    versions,
)
from insphere.detectors.inputs import is_plain_table, keeping_missing
from insphere.detectors.parameters import ParameterisedEstimator
from insphere.detectors.scoring import Rows, RowScoring
from insphere.detectors.stored import KIND, parameters_to_json, restore, to_file
from insphere.detectors.unseen import decide, new_scores, unseen_scores
from insphere.detectors.verdict_taking import VerdictTaking
from insphere.errors import CollapseError, DataError, ParameterError
from insphere.fields import Checked, OpenShare, check_fields
from insphere.seeding import check_random_state, generator, resolve_seed
from insphere.validation import Within, check_number

if TYPE_CHECKING:
    from insphere.explain import Explanation


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class AbstractDetector(RowScoring, VerdictTaking, ParameterisedEstimator, OutlierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """A one-class anomaly detector for images and vectors.

    A concrete class sets `name` to its key in the catalog, declares its own parameters as fields, and implements `_fit_model`, `_score`,
    `_state` and `_restore`. `scores_distances` says that its scores are distances, at least 0. Being a dataclass, it gets from all its
    bases a constructor that only stores, as scikit-learn wants it; the parameters of the bases are keywords. (Compared and shown as
    scikit-learn does: hence ``eq=False, repr=False``.)

    Parameters
    ----------
    target_fpr : float
        Share of normal rows that may be flagged, in (0, 1).
    trim : float
        Share of the training rows, in [0, 0.5), that are left out as the most suspicious ones: of pictures those with the highest scores
        after a first fit, which a second one goes without; of vectors those that are far from most others by `suspicion`, before the only
        fit. For training rows that are known to hold anomalies; no labels are used. The rows left out come first in
        ``health_.suspects``. The held-out rows stay as they are: with anomalies among them the threshold is higher, so the
        promised rate of false alarms holds.
    calibration : Calibration or mapping, optional
        How scores of unseen normal rows are got, and whether the threshold is conformal or the paper's radius.
    random_state : int, RandomState, Generator or None
        Seed of all chance. The same seed gives the same scores.
    missing : {"refuse", "impute"}
        What becomes of rows of a table with missing values. "refuse": they are errors. "impute": a missing feature is filled with its
        median in the training rows, and one more feature says that it was missing; see `insphere.data.Imputer`.
    """

    name: ClassVar[str]
    cross_below: ClassVar[int] = 0
    scores_distances: ClassVar[bool] = False
    takes_vectors: ClassVar[bool] = True
    target_fpr: OpenShare = 0.05
    trim: Annotated[float, Within(at_least=0, below=0.5)] = 0.0
    calibration: Calibration | Mapping[str, Any] | None = None
    random_state: Annotated[Any, Checked(check_random_state, "int, RandomState, Generator or None")] = None
    missing: Missing = "refuse"

    # What a concrete detector implements.

    @abstractmethod
    def _fit_model(self, X: NDArray[Any], context: FitContext) -> Fitted:
        """Fit on the proper training rows; return their scores (none its own neighbour) and what is to be said of the model's health."""

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
        y: Any = None,
        *,
        groups: Sequence[Any] | None = None,
        categories: Sequence[Any] | None = None,
        checkpoint: Path | None = None,
        resume: bool = False,
        on_epoch: Callable[[Any], None] | None = None,
        on_rows: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Fit on normal rows.

        Parameters
        ----------
        X : array, source or path
            (n, features), (n, height, width) or (n, height, width, channels); or what `insphere.open_source` takes. All rows are taken
            as normal; of a labelled folder, archive or data set only the normal training rows are read.
        y : array-like of length n, optional
            Labels: 0 normal, 1 anomaly (or +1 normal, −1 anomaly). Rows marked as anomalies are left out, and counted in a `DataNotice`.
            Values of another kind are ignored, and that is said.
        groups : sequence of length n, optional
            Rows of one group are near-duplicates (frames of one track): they are held out for calibration together or not at all, and count
            as one. Labels go by position. Equal rows are one group by themselves.
        categories : sequence of length n, optional
            Camera, product or shift that each row is from. Each gets a calibration of its own: the target then holds for every one of
            them, not only on average (see `Decision`). The model itself is one for all. None for a row of which it is not known.
        checkpoint : Path, optional
            File that keeps the training's state after every epoch. Ignored by detectors that do not train in epochs.
        resume : bool
            Go on from `checkpoint` where it exists; the result equals that of an unbroken run on the CPU.
        on_epoch : callable, optional
            Called with every `EpochRecord`.
        on_rows : callable, optional
            Called with the numbers of rows done and of all, by detectors that look at each row once.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If there are fewer than eight readable rows, or fewer than five that `y` does not mark, or all are equal, or some are of the
            wrong kind.
        ParameterError
            If a parameter breaks its rule.
        """
        fitting = self._prepare(X, y, groups, categories)
        context = FitContext(None if checkpoint is None else Path(checkpoint), resume, on_epoch, on_rows)
        fitted = self._fit_model(fitting.training_rows, fitting.context(context))
        if self._trims(fitted):
            fitting.leave_out(fitted[0], self.trim)
            fitted = self._refit(fitting.training_rows, fitting.context(context))
        self._conclude(fitting, fitted)
        self.health_.warn()
        return self

    # The parts of `fit`. Where several detectors are trained as one, `insphere.detectors.batched` puts them together itself.

    def _prepare(self, X: Rows, y: Any = None, groups: Sequence[Any] | None = None, categories: Sequence[Any] | None = None) -> Fitting:
        """Check the parameters, read the rows and part them into those to train on and those to calibrate on."""
        self._check_parameters()
        source = self._as_source(X, fitting=True)
        imputing = self.missing == "impute"
        source = keeping_missing(source) if imputing else source
        read = read_rows(source, y, groups, categories, imputing=imputing, most_bytes=None if imputing else self._memory_limit())
        self.input_, self.training_errors_ = read.contract, read.errors
        self.seed_ = resolve_seed(self.random_state)
        rng, wanted = generator(self.seed_, "calibration split"), (self._calibration, self.target_fpr)
        fitting = part_rows(read, *wanted, rng, cross_below=self._folds_below(), imputing=imputing)
        if imputing:
            train_index, held_out = fitting.train_index, fitting.calibration_index
            self.input_, fitting.rows, fitting.calibration_index = self.input_.imputing(fitting.rows, train_index, held_out)
        self.row_hashes_ = np.unique(row_hashes(fitting.rows) if imputing else read.hashes)[:MAX_HASHES]
        if self.trim and self._judges_by_rows:
            from insphere.detectors.suspicion import suspicion  # here, as only these fits need it, and it brings much along

            fitting.leave_out(suspicion(fitting.training_rows, generator(self.seed_, "suspicion")), self.trim)
        self.data_ = read.facts | {"n_train": len(fitting.train_index), "n_calibration": len(fitting.calibration_index)}
        return fitting

    @property
    def _judges_by_rows(self) -> bool:
        """Whether `trim` leaves rows out before the fit, by their features: pictures have none, and are judged by a first fit."""
        return len(self.input_shape_) == 1

    def _trims(self, fitted: Fitted) -> bool:
        """Return whether a second fit without the most suspicious rows is wanted, and makes sense after the first."""
        train_scores, findings = fitted
        checked = (health.check_scores(train_scores), *findings)
        return bool(self.trim) and not self._judges_by_rows and not any(finding.level == "critical" for finding in checked)

    def _refit(self, X: NDArray[Any], context: FitContext) -> Fitted:
        """Fit again on the rows that are left, with a checkpoint next to that of the first fit, from which a resumed fit finds them."""
        path = context.checkpoint
        second = None if path is None else path.with_name(f"{path.name}.trimmed")
        result = self._fit_model(X, dataclasses.replace(context, checkpoint=second))
        if second is not None:
            second.unlink(missing_ok=True)
        return result

    def _conclude(self, fitting: Fitting, fitted: Fitted) -> None:
        """Make the decision, examine the detector's health, and note what it was made with."""
        train_scores, findings = fitted
        # For who wants scores of the rows that were learned, none its own neighbour; they are not stored with the model.
        self.training_index_, self.training_scores_ = fitting.readable[fitting.train_index], np.asarray(train_scores)
        self.data_ |= {"n_train": len(fitting.train_index), "n_trimmed": len(fitting.left_out)}
        unseen = unseen_scores(self, fitting, generator(self.seed_, "calibration units"))
        self.decision_ = decide(fitting, train_scores, unseen, self._calibration, self.target_fpr)
        n_equal = len(fitting.rows) - self.data_["n_different"]
        self.health_ = examine(self.decision_, fitting, train_scores, findings, n_equal=n_equal, advice=self._collapse_advice())
        self.verdicts_ = VerdictJournal()
        self.versions_ = versions()
        self.created_ = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

    def _check_parameters(self) -> None:
        """Check the parameters by their declared fields and keep the resolved option records; a subclass adds what no field says alone."""
        check_fields(self)
        for name in self._record_defaults():
            self._record(name)
        self._calibration = self._record("calibration")

    def _record_defaults(self) -> dict[str, Any]:
        return {"calibration": Calibration()}

    def _memory_limit(self) -> int | None:
        """Return how many bytes rows may take in memory, of detectors that look at a few rows at a time; None where all must be there."""
        return None

    def _folds_below(self) -> int:
        """Return the number of independent rows below which calibration by folds is the default."""
        return self.cross_below

    def _settled(self) -> Mapping[str, Any]:
        """Return the parameters with the values that the last fit chose for them, which fits of fewer rows are to keep."""
        return {}

    def _collapse_advice(self) -> str:
        """Say what to do where all rows have the same score."""
        return (
            "The sphere has collapsed to a point: raise alpha, keep bias and a reconstruction term, lower the learning rate, or check that"
            " the training rows differ."
        )

    def recalibrate(
        self,
        X: Rows | None = None,
        *,
        target_fpr: float | None = None,
        groups: Sequence[Any] | None = None,
        categories: Sequence[Any] | None = None,
        **options: Any,
    ) -> Self:
        """Change the decision of a fitted detector, not its scores; the change is noted in ``decision_.history``.

        Parameters
        ----------
        X : array, source or path, optional
            Rows that the model was not fitted on: the scores of the normal ones replace those that the threshold was calibrated on.
        target_fpr : float, optional
            Share of normal rows that may be flagged from now on, in (0, 1).
        groups : sequence of length n, optional
            Rows of one group are near-duplicates and count as one, as equal rows do.
        categories : sequence of length n, optional
            Camera, product or shift of each row. The scores of those that occur are replaced, or come new; those of others stay.
        **options
            Further arguments of `insphere.open_source` for `X`.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            If neither is given, or a value breaks its rule.
        DataError
            If rows do not fit the detector, none is readable, some were trained on, or a label is likely that is not read.
        """
        check_is_fitted(self, "decision_")
        if X is None and target_fpr is None:
            raise ParameterError("`recalibrate` needs new normal rows (`X`), another `target_fpr`, or both.")
        if X is not None:
            rng = generator(self.seed_, "recalibration units")
            source = self.open(X, split="train", **options)
            if source.doubt is not None:
                raise DataError(source.doubt)
            new, n_rows = new_scores(self, source, groups, categories, self.row_hashes_, rng)
            self.decision_ = self.decision_.recalibrated(new.scores, n_rows, new.peaks, new.categories)
        if target_fpr is not None:
            self.decision_ = self.decision_.retargeted(check_number("target_fpr", target_fpr, above=0, below=1))
            self.target_fpr = self.decision_.target_fpr
        self.health_ = self.health_.replaced(health.check_calibration(self.decision_), health.check_categories(self.decision_))
        return self

    # What may be scored, and why it scores so; the scoring itself is in `scoring.py`.

    def wanted_size(self, height: float, width: float) -> tuple[int, int]:
        """Return the height and width in pixels that image files are brought to where the user asks for none.

        Parameters
        ----------
        height, width : float
            Common or median size of the files.
        """
        return small_size(height, width)

    def open_to_fit(self, X: Rows, **options: Any) -> AbstractSource:
        """Return the rows that `fit` would read of `X`, image files brought to the size that this detector wants.

        Parameters
        ----------
        X : array, source or path
        **options
            Further arguments of `insphere.open_source`, such as `image_size`, which wins.
        """
        source = open_source(X, split="train", sized=None if isinstance(X, AbstractSource) else self.wanted_size, **options)
        if isinstance(source, ImageSource) and source.natural is not None:
            height, width = self.wanted_size(*source.natural)
            return source.brought_to(dataclasses.replace(source.image_spec, height=height, width=width))
        return source

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
        check_is_fitted(self, "decision_")
        return self._as_source(X, fitting=False, split=split, **options)

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

    def _as_source(self, X: Rows, *, fitting: bool, split: str = "all", **options: Any) -> AbstractSource:
        if is_plain_table(X):
            # Without names, because arrays go by position: scikit-learn's own check would warn that they have none.
            finite: bool | str = "allow-nan" if self.missing == "impute" else True
            least = MIN_ROWS if fitting else 1
            X = check_array(X, dtype="numeric", ensure_min_samples=least, ensure_all_finite=finite, estimator=self, input_name="X")
            return ArraySource(X) if fitting else self.input_.admit(ArraySource(X, name="X"), estimator=type(self).__name__)
        if fitting:
            return self.open_to_fit(X, **options)
        return self.input_.open(X, split=split, **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted detector to one file, all or nothing; `insphere.load` reads it back with exactly equal scores.

        Raises
        ------
        CollapseError
            If the detector refuses to score, so that nothing useless is deployed.
        ModelFileError
            If the file cannot be written.
        """
        check_is_fitted(self, "decision_")
        if self.health_.collapsed:
            raise CollapseError("A detector that cannot score is not saved; see `health_`.")
        model_file.write(path, KIND, *to_file(self))

    def describe(self) -> dict[str, Any]:
        """Return what is known of the fitted detector as a JSON-able dict: parameters, data, decision, health, history, versions."""
        check_is_fitted(self, "decision_")
        return to_file(self)[0]

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
