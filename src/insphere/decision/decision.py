"""The decision, once: what is stored, served, exported and shown of how scores become alarms."""

import dataclasses
import datetime
import functools
import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from insphere.decision.calibration import ConformalCalibration, rows_needed
from insphere.decision.categories import NO_CATEGORY, Categories, CategoryDecision, RowCategories
from insphere.errors import DataError, ModelFileError
from insphere.estimate import Estimate
from insphere.validation import check_choice, check_number

_METHODS = ("split", "cross", "given")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Decision:
    """How a fitted detector decides: calibration scores, the target, and the threshold that follows from both.

    Parameters
    ----------
    calibration : ConformalCalibration
        Scores of independent normal rows that the model was not fitted on: one a unit where rows come in groups or are equal.
    radius : float
        The paper's R*: quantile of the training scores.
    target_fpr : float
        Share of normal rows that may be flagged, in (0, 1): what was asked for.
    by : {"conformal", "radius"}
        What the threshold comes from. "radius", only where the user asks for it, promises nothing.
    method : {"split", "cross", "given"}
        Whether the calibration scores are those of rows held out once, of every row by a model without its fold, or of rows that
        `recalibrated` was given.
    n_rows : int
        Rows that the calibration scores stand for; more than there are scores where several rows are one unit.
    history : tuple of mappings
        One entry a change after the fit: "at" (UTC), "what", "from", "to".
    peaks : ConformalCalibration, optional
        The highest value of the heat-map of each calibration row, where the detector has heat-maps.
    categories : Categories, optional
        Which camera, product or shift each calibration score is of, where each is to have a calibration of its own.

    Raises
    ------
    DataError
        If a conformal decision has no calibration score, or categories are not those of its scores.

    Notes
    -----
    With n calibration scores a rate below 1 / (n + 1) can't be promised. Then the largest of them is the threshold, and the promise is
    1 / (n + 1).

    With categories a row is compared with the calibration scores of its own category alone: if it is normal, and exchangeable with those,
    it gets ``p <= a`` with probability at most `a` in every category, not only on average over them. Source: Vovk, Lindsay, Nouretdinov and
    Gammerman 2003, "Mondrian confidence machine"; Vovk 2005, sec. 4.5 (Mondrian conformal predictors). Deviation: a category with too few
    scores for the target borrows the threshold of all scores together, raised to its highest own score. What it promises by itself is then
    1 / (n + 1); the target holds for it as far as its normal rows score as those of all. p-values are never borrowed.

    Examples
    --------
    >>> decision = Decision(ConformalCalibration(np.arange(1.0, 20.0)), radius=9.0, target_fpr=0.05)
    >>> decision.threshold, decision.promised_fpr
    (19.0, 0.05)
    >>> decision.retargeted(0.01).promised_fpr
    0.05
    """

    calibration: ConformalCalibration
    radius: float
    target_fpr: float
    by: str = "conformal"
    method: str = "split"
    n_rows: int = 0
    history: tuple[Mapping[str, Any], ...] = ()
    peaks: ConformalCalibration | None = None
    categories: Categories | None = None

    def __post_init__(self) -> None:
        check_number("target_fpr", self.target_fpr, above=0, below=1)
        check_choice("decision.by", self.by, ("conformal", "radius"))
        check_choice("decision.method", self.method, _METHODS)
        if self.by == "conformal" and not len(self.calibration):
            raise DataError(
                "No normal row could be held out (all belong to one group), so no rate of false alarms can be promised. Give rows of at"
                " least two groups, or ask for the paper's radius with calibration={'decision': 'radius'}, which promises nothing."
            )
        if self.categories is not None and len(self.categories.codes) != len(self.calibration):
            raise DataError(
                f"There are {len(self.calibration)} calibration scores, but categories for {len(self.categories.codes)}; give one for each."
            )

    def __repr__(self) -> str:
        """Return what decides, without the scores."""
        promised = "nothing" if self.promised_fpr is None else f"{self.promised_fpr:.4g}"
        return f"<Decision by {self.by} ({self.method}): threshold {self.threshold:.6g}, {len(self)} scores, promised rate {promised}>"

    def __len__(self) -> int:
        """Return the number of calibration scores: of independent normal rows."""
        return len(self.calibration)

    @functools.cached_property
    def threshold(self) -> float:
        """The score above which a row is an anomaly."""
        if self.by == "radius":
            return self.radius
        threshold = self.calibration.threshold(self.target_fpr)
        return threshold if math.isfinite(threshold) else float(self.calibration.scores[-1])

    @functools.cached_property
    def map_level(self) -> float:
        """The value of a heat-map that counts as 1: the highest place of a normal picture lies above it at most as often as promised.

        1 where the detector has no heat-maps.
        """
        if self.peaks is None or not len(self.peaks):
            return 1.0
        level = self.peaks.threshold(self.target_fpr)
        return level if math.isfinite(level) else float(self.peaks.scores[-1])

    @property
    def reaches_target(self) -> bool:
        """Whether the calibration scores are enough to promise the target."""
        return len(self.calibration) >= rows_needed(self.target_fpr)

    @property
    def promised_fpr(self) -> float | None:
        """Probability, at most, with which a new normal row is flagged; None where the radius decides."""
        if self.by == "radius":
            return None
        return self.target_fpr if self.reaches_target else 1 / (len(self.calibration) + 1)

    @property
    def expected(self) -> Estimate | None:
        """The false-alarm rate to expect on new normal rows, with its 95 % range; None where the radius decides.

        It is that of `false_alarm` at the promised rate: exact for independent units.
        """
        return None if self.promised_fpr is None else self.false_alarm(self.promised_fpr)

    def false_alarm(self, target_fpr: float) -> Estimate:
        """Return the false-alarm rate to expect with another target: see `ConformalCalibration.false_alarm`.

        Of folds no low end is stated: models of fewer rows tend to give unseen rows higher scores than the model of all rows does, so
        that the rate may be lower.

        Raises
        ------
        ParameterError
            If `target_fpr` is outside (0, 1).
        """
        expected = self.calibration.false_alarm(target_fpr)
        return dataclasses.replace(expected, low=0.0) if self.method == "cross" else expected

    @functools.cached_property
    def of_category(self) -> dict[str, CategoryDecision]:
        """How each category is decided; empty where there are none."""
        if self.categories is None:
            return {}
        parted = zip(self.categories.names, self.categories.parted(self.calibration.scores), strict=True)
        return {name: CategoryDecision.of(own, self.target_fpr, self.threshold) for name, own in parted}

    @property
    def borrowing(self) -> tuple[str, ...]:
        """Names of the categories whose own scores are too few for the target."""
        return tuple(name for name, entry in self.of_category.items() if entry.borrows)

    def p_value(self, scores: NDArray[np.float64], categories: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return the conformal p-value of each score, in (0, 1]: see `ConformalCalibration.p_value`.

        Parameters
        ----------
        scores : ndarray of float64, shape (n,)
        categories : ndarray of int64, shape (n,), optional
            Code of the category of each row; a row without one (-1, or None for all) is compared with the scores of all.
        """
        found = self.calibration.p_value(scores)
        if categories is not None:
            for code, entry in enumerate(self.of_category.values()):
                of_it = categories == code
                found[of_it] = entry.calibration.p_value(scores[of_it])
        return found

    @property
    def n_categories(self) -> int:
        """How many categories there are."""
        return 0 if self.categories is None else len(self.categories.names)

    def thresholds_by_code(self) -> NDArray[np.float64]:
        """Return the threshold of each category in order of its code, and last that of all: where the code -1 leads to."""
        return self.thresholds(self.n_categories + 1, np.append(np.arange(self.n_categories), NO_CATEGORY))

    def thresholds(self, n_rows: int, categories: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """Return the threshold of each of some rows: that of its category, or of all for a row without one."""
        found = np.full(n_rows, self.threshold)
        if categories is not None and self.by == "conformal":
            for code, entry in enumerate(self.of_category.values()):
                found[categories == code] = entry.threshold
        return found

    def is_anomaly(self, scores: NDArray[np.float64], categories: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        """Return whether each score is beyond the threshold of its category, or of all for a row without one."""
        return np.asarray(scores > self.thresholds(len(scores), categories))

    def retargeted(self, target_fpr: float) -> Self:
        """Return the decision with another target, the change noted in its history.

        Raises
        ------
        ParameterError
            If `target_fpr` is outside (0, 1).
        """
        return self._changed("target_fpr", self.target_fpr, float(target_fpr), target_fpr=float(target_fpr))

    def recalibrated(
        self,
        scores: NDArray[np.float64],
        n_rows: int,
        peaks: NDArray[np.float64] | None = None,
        categories: RowCategories | None = None,
    ) -> Self:
        """Return the decision with other calibration scores, those of new normal rows, the change noted in its history.

        With `categories` the scores of the categories that the new rows are of are replaced, or come new; those of others stay.

        Raises
        ------
        DataError
            If the decision has categories and the new scores have none.
        """
        highest = None if peaks is None else ConformalCalibration(peaks)
        if categories is None and self.categories is not None:
            raise DataError(
                f"This model is calibrated by category ({len(self.categories.names)} of them), and the new rows have none; say which they"
                " are of (`categories`, --category, --category-by)."
            )
        kept = np.empty(0)
        known: Categories | None = None
        if categories is not None:
            kept, known = self._joined(scores, categories, replacing=True)
            scores = np.concatenate([kept, scores])
            if len(kept) and highest is not None and self.peaks is not None:
                highest = ConformalCalibration(np.concatenate([self.peaks.scores, highest.scores]))
        calibration = ConformalCalibration(scores)
        changes = {"calibration": calibration, "method": "given", "n_rows": n_rows + len(kept), "peaks": highest, "categories": known}
        return self._changed("calibration scores", len(self.calibration), len(calibration), **changes)

    def extended(self, scores: NDArray[np.float64], categories: RowCategories | None = None) -> Self:
        """Return the decision with the scores of more normal rows beside its own, the change noted in its history.

        The rows must be exchangeable with those that the decision has scores of: drawn without regard to their scores.

        Raises
        ------
        DataError
            If the decision has categories and the new scores have none.
        """
        if categories is None and self.categories is not None:
            categories = RowCategories(self.categories.names, np.full(len(scores), NO_CATEGORY, dtype=np.int64))
        known: Categories | None = None
        if categories is not None:
            _, known = self._joined(scores, categories, replacing=False)
        calibration = ConformalCalibration(np.concatenate([self.calibration.scores, scores]))
        changes = {"calibration": calibration, "method": "given", "n_rows": self.n_rows + len(scores), "categories": known}
        return self._changed("calibration scores", len(self.calibration), len(calibration), **changes)

    def _joined(self, scores: NDArray[np.float64], given: RowCategories, *, replacing: bool) -> tuple[NDArray[np.float64], Categories]:
        """Return the old scores that stay, and the categories of these and the new ones, the old ones first before sorting."""
        old_names = () if self.categories is None else self.categories.names
        old = np.full(len(self.calibration), NO_CATEGORY) if self.categories is None else self.categories.codes
        names = tuple(sorted({*old_names, *given.names}))
        places = {name: place for place, name in enumerate(names)}
        moved_old = np.array([*(places[name] for name in old_names), NO_CATEGORY], dtype=np.int64)[old]
        moved_new = np.array([*(places[name] for name in given.names), NO_CATEGORY], dtype=np.int64)[given.codes]
        # Where rows had no categories before, those that come with some take the place of all.
        stays = ~np.isin(moved_old, moved_new) & (moved_old >= 0) if replacing else np.ones(len(old), dtype=np.bool_)
        kept = self.calibration.scores[stays]
        return kept, Categories.of_scores(names, np.concatenate([moved_old[stays], moved_new]), np.concatenate([kept, scores]))

    def _changed(self, what: str, before: object, after: object, **fields: Any) -> Self:
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        old, new = self.threshold, dataclasses.replace(self, **fields).threshold
        entry = {"at": at, "what": what, "from": before, "to": after, "threshold_from": old, "threshold_to": new}
        return dataclasses.replace(self, **fields, history=(*self.history, entry))

    def to_json(self) -> dict[str, Any]:
        """Return everything but the calibration scores as a JSON-able dict."""
        expected = self.expected
        return {
            "by": self.by,
            "method": self.method,
            "target_fpr": self.target_fpr,
            "promised_fpr": self.promised_fpr,
            "expected": None if expected is None else dataclasses.asdict(expected),
            "threshold": self.threshold,
            "radius": self.radius,
            "n_calibration": len(self.calibration),
            "n_rows": self.n_rows,
            "history": [dict(entry) for entry in self.history],
            "categories": None if self.categories is None else [self._told(name) for name in self.categories.names],
        }

    def _told(self, name: str) -> dict[str, Any]:
        """Return how a category is decided, as a JSON-able dict."""
        entry = self.of_category[name]
        own = entry.calibration
        promised = entry.certain_fpr if entry.borrows else self.target_fpr
        expected = None if entry.borrows else own.false_alarm(self.target_fpr)
        if expected is not None and self.method == "cross":
            expected = dataclasses.replace(expected, low=0.0)
        by_radius = self.by == "radius"
        return {
            "name": name,
            "n_calibration": len(own),
            "borrows": entry.borrows,
            "threshold": self.threshold if by_radius else entry.threshold,
            "promised_fpr": None if by_radius else promised,
            "expected": None if by_radius or expected is None else dataclasses.asdict(expected),
        }

    @classmethod
    def from_json(
        cls,
        record: Mapping[str, Any],
        scores: NDArray[Any],
        peaks: NDArray[Any] | None = None,
        codes: NDArray[np.int64] | None = None,
    ) -> Self:
        """Return the decision that `to_json` described.

        Parameters
        ----------
        record : mapping
        scores : ndarray of float64
            Its calibration scores.
        peaks : ndarray of float64, optional
            Those of its heat-maps.
        codes : ndarray of int64, optional
            The category of each calibration score, where there are categories.
        Files of version 0.1 lack the fields that came later. Of these, one that decided by the radius because its held-out rows were
        too few decides by them now.

        Raises
        ------
        ModelFileError
            If the parts do not fit together.
        KeyError
            If one is missing.
        """
        by = record["by"]
        if "method" not in record and by == "radius" and len(scores) and len(scores) < rows_needed(record["target_fpr"]):
            by = "conformal"
        try:
            decision = cls(
                ConformalCalibration(scores),
                radius=_finite("radius", record["radius"]),
                target_fpr=record["target_fpr"],
                by=by,
                method=record.get("method", "split"),
                n_rows=int(record.get("n_rows", len(scores))),
                history=tuple(dict(entry) for entry in record.get("history", ())),
                peaks=None if peaks is None else ConformalCalibration(peaks),
                categories=_stored_categories(record.get("categories"), codes, scores),
            )
        except DataError as error:
            raise ModelFileError(f"The stored decision does not hold together: {error}") from error
        if "method" in record and _finite("threshold", record["threshold"]) != decision.threshold:
            raise ModelFileError(
                f"The stored threshold {record['threshold']!r} is not the one that follows from the stored calibration scores and target,"
                f" {decision.threshold!r}; save the detector again."
            )
        return decision


def _stored_categories(told: Any, codes: NDArray[np.int64] | None, scores: NDArray[Any]) -> Categories | None:
    if (told is None) != (codes is None):
        raise DataError("names and codes of categories must be there together or not at all")
    if told is None or codes is None:
        return None
    if len(scores) > 1 and (np.diff(scores) < 0).any():
        raise DataError("calibration scores with categories must be sorted")
    return Categories(tuple(entry["name"] for entry in told), codes)


def use_of_rows(data: Mapping[str, Any]) -> str:
    """Return in words what the rows of a fit were used for.

    Parameters
    ----------
    data : mapping
        What a fitted detector remembers of them: numbers of rows to train on and to calibrate on, and of those left out.

    Examples
    --------
    >>> use_of_rows({"n_rows": 50, "n_train": 40, "n_calibration": 10})
    '40 to train, 10 held out'
    >>> use_of_rows({"n_rows": 50, "n_train": 50, "n_calibration": 50})
    '50 to train, each of them left out once to calibrate'
    """
    n_used = data["n_rows"] - data.get("n_unreadable", 0) - data.get("n_labelled", 0)
    if data["n_train"] + data.get("n_trimmed", 0) + data["n_calibration"] > n_used:
        return f"{data['n_train']} to train, each of them left out once to calibrate"
    return f"{data['n_train']} to train, {data['n_calibration']} held out"


def _finite(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ModelFileError(f"The stored {name} must be a finite number, got {value!r}; save the detector again.")
    return float(value)
