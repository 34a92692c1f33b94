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

    Raises
    ------
    DataError
        If a conformal decision has no calibration score.

    Notes
    -----
    With n calibration scores a rate below 1 / (n + 1) can't be promised. Then the largest of them is the threshold, and the promise is
    1 / (n + 1).

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

    def __post_init__(self) -> None:
        check_number("target_fpr", self.target_fpr, above=0, below=1)
        check_choice("decision.by", self.by, ("conformal", "radius"))
        check_choice("decision.method", self.method, _METHODS)
        if self.by == "conformal" and not len(self.calibration):
            raise DataError(
                "No normal row could be held out (all belong to one group), so no rate of false alarms can be promised. Give rows of at"
                " least two groups, or ask for the paper's radius with calibration={'decision': 'radius'}, which promises nothing."
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

    def p_value(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the conformal p-value of each score, in (0, 1]: see `ConformalCalibration.p_value`."""
        return self.calibration.p_value(scores)

    def is_anomaly(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return whether each score is beyond the threshold."""
        return np.asarray(scores > self.threshold)

    def retargeted(self, target_fpr: float) -> Self:
        """Return the decision with another target, the change noted in its history.

        Raises
        ------
        ParameterError
            If `target_fpr` is outside (0, 1).
        """
        return self._changed("target_fpr", self.target_fpr, float(target_fpr), target_fpr=float(target_fpr))

    def recalibrated(self, scores: NDArray[np.float64], n_rows: int, peaks: NDArray[np.float64] | None = None) -> Self:
        """Return the decision with other calibration scores, those of new normal rows, the change noted in its history."""
        calibration = ConformalCalibration(scores)
        highest = None if peaks is None else ConformalCalibration(peaks)
        changes = {"calibration": calibration, "method": "given", "n_rows": n_rows, "peaks": highest}
        return self._changed("calibration scores", len(self.calibration), len(calibration), **changes)

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
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any], scores: NDArray[Any], peaks: NDArray[Any] | None = None) -> Self:
        """Return the decision that `to_json` described; `scores` are its calibration scores, `peaks` those of its heat-maps.

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
            )
        except DataError as error:
            raise ModelFileError(f"The stored decision does not hold together: {error}") from error
        if "method" in record and _finite("threshold", record["threshold"]) != decision.threshold:
            raise ModelFileError(
                f"The stored threshold {record['threshold']!r} is not the one that follows from the stored calibration scores and target,"
                f" {decision.threshold!r}; save the detector again."
            )
        return decision


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
