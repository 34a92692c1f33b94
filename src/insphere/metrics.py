"""How well scores separate anomalies from normal rows, and how well flags do, each number with its 95 % interval.

Everywhere: label 1 is an anomaly, label 0 is normal; a higher score is more anomalous; rates and areas are in [0, 1]. Scores count by
their order only, so infinite scores are legal and NaN is not.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insphere.errors import DataError
from insphere.estimate import Estimate, proportion
from insphere.ranking import false_positive_rate, precision_area, roc_area
from insphere.validation import check_integer, check_number

__all__ = ["Estimate", "Evaluation", "TypeEvaluation", "auroc", "average_precision", "evaluate", "fpr_at_tpr", "proportion"]

FloatArray = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class TypeEvaluation:
    """How well one type of anomaly is told from the normal rows.

    Parameters
    ----------
    n : int
        Rows of this type.
    auroc : Estimate
        Area under the ROC curve of these rows against all normal rows; undefined without normal rows.
    recall : Estimate
        Share of these rows that was flagged.

    Examples
    --------
    >>> TypeEvaluation(4, Estimate(0.9, 0.8, 0.95), Estimate(0.5, 0.15, 0.85)).to_json()["n"]
    4
    """

    n: int
    auroc: Estimate
    recall: Estimate

    def to_json(self) -> dict[str, Any]:
        """Return nested dicts of plain numbers, ready for JSON."""
        return {"n": self.n, "auroc": self.auroc.to_json(), "recall": self.recall.to_json()}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """All that `evaluate` measures on one labelled set of rows.

    Parameters
    ----------
    n_normal, n_anomaly : int
        Rows of each label.
    auroc, average_precision, fpr_at_95_tpr : Estimate
        Quality of the ranking, whatever the threshold. Undefined unless both labels occur.
    precision : Estimate
        Share of the flagged rows that are anomalies. Undefined when nothing was flagged.
    recall : Estimate
        Share of the anomalies that were flagged. Undefined without anomalies.
    false_alarm_rate : Estimate
        Share of the normal rows that were flagged. Undefined without normal rows.
    per_type : Mapping[str, TypeEvaluation]
        The same for each type of anomaly, sorted by name; empty when no types were given.

    Examples
    --------
    >>> result = evaluate([0, 0, 1, 1], [0.1, 0.2, 0.9, 0.15], [False, False, True, False])
    >>> result.auroc.value, result.precision.value, result.recall.value
    (0.75, 1.0, 0.5)
    """

    n_normal: int
    n_anomaly: int
    auroc: Estimate
    average_precision: Estimate
    fpr_at_95_tpr: Estimate
    precision: Estimate
    recall: Estimate
    false_alarm_rate: Estimate
    per_type: Mapping[str, TypeEvaluation]

    def to_json(self) -> dict[str, Any]:
        """Return nested dicts of plain numbers, ready for JSON; every metric is ``{"value", "low", "high"}``."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "per_type"}
        json = {name: entry.to_json() if isinstance(entry, Estimate) else entry for name, entry in fields.items()}
        return {**json, "per_type": {name: entry.to_json() for name, entry in self.per_type.items()}}


def evaluate(
    labels: ArrayLike,
    scores: ArrayLike,
    flagged: ArrayLike,
    types: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> Evaluation:
    """Measure scores and flags against labels.

    A set with one label only is legal: what it does not define (AUROC on normal rows alone, say) is undefined in the result.

    Parameters
    ----------
    labels : array-like of shape (n,)
        1 or True for an anomaly, 0 or False for a normal row.
    scores : array-like of shape (n,)
        Higher is more anomalous.
    flagged : array-like of shape (n,)
        1 or True where the detector called the row an anomaly.
    types : sequence of n strings, optional
        Kind of each row ("crack", "good"); those of normal rows are not used.
    seed : int
        Seed of the bootstrap intervals.

    Raises
    ------
    DataError
        If there is no row, the lengths differ, a label or flag is not 0 or 1, or a score is NaN.

    Examples
    --------
    >>> result = evaluate([0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1], ["good", "good", "crack", "dent"])
    >>> {name: entry.recall.value for name, entry in result.per_type.items()}
    {'crack': 1.0, 'dent': 1.0}
    """
    check_integer("seed", seed, at_least=0)
    is_anomaly, score = _check_rows(labels, scores)
    is_flagged = _check_binary("flagged", flagged)
    _check_length("flagged", is_flagged, len(score))
    normal, anomaly = np.sort(score[~is_anomaly]), np.sort(score[is_anomaly])
    ranked = len(normal) > 0 and len(anomaly) > 0
    n_hits = int((is_flagged & is_anomaly).sum())
    n_flagged = int(is_flagged.sum())
    return Evaluation(
        n_normal=len(normal),
        n_anomaly=len(anomaly),
        auroc=roc_area(normal, anomaly) if ranked else Estimate.undefined(),
        average_precision=precision_area(normal, anomaly, seed) if ranked else Estimate.undefined(),
        fpr_at_95_tpr=false_positive_rate(normal, anomaly, 0.95, seed) if ranked else Estimate.undefined(),
        precision=proportion(n_hits, n_flagged),
        recall=proportion(n_hits, len(anomaly)),
        false_alarm_rate=proportion(n_flagged - n_hits, len(normal)),
        per_type={} if types is None else _evaluate_types(types, is_anomaly, score, is_flagged, normal),
    )


def auroc(labels: ArrayLike, scores: ArrayLike) -> Estimate:
    """Estimate the probability that an anomaly scores higher than a normal row, a tie counting one half.

    The interval is DeLong's, taken on the logit scale so that it stays in [0, 1]. Where that variance says nothing: with one row of
    either label the interval is [0, 1]; when the labels are perfectly separated it would be zero, and the Clopper-Pearson bound for
    the independent pairs of rows stands in; constant scores have an AUROC of 0.5 whatever the rows.

    Parameters
    ----------
    labels : array-like of shape (n,)
        1 or True for an anomaly, 0 or False for a normal row; both must occur.
    scores : array-like of shape (n,)
        Higher is more anomalous.

    Returns
    -------
    Estimate
        In [0, 1].

    Raises
    ------
    DataError
        If only one label occurs, the lengths differ, a label is not 0 or 1, or a score is NaN.

    Notes
    -----
    Source: DeLong, DeLong and Clarke-Pearson 1988, with midranks. Deviation: logit scale; the degenerate cases above.

    Examples
    --------
    >>> auroc([0, 0, 0, 1, 1], [0.1, 0.2, 0.6, 0.5, 0.9]).value
    0.8333333333333334
    """
    return roc_area(*_by_label(labels, scores))


def average_precision(labels: ArrayLike, scores: ArrayLike, *, seed: int = 0) -> Estimate:
    """Estimate the precision averaged over the recall levels of the anomalies (area under the precision-recall curve as steps).

    It depends on the share of anomalies among the rows; a random ranking gets that share. The interval is a percentile bootstrap
    that resamples normal rows and anomalies each on their own, 1,000 times up to 10,000 rows and fewer times beyond.
    It has zero width when the labels are perfectly separated: resampling cannot show what the sample does not hold.

    Parameters
    ----------
    labels : array-like of shape (n,)
        1 or True for an anomaly, 0 or False for a normal row; both must occur.
    scores : array-like of shape (n,)
        Higher is more anomalous.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    Estimate
        In [0, 1].

    Raises
    ------
    DataError
        If only one label occurs, the lengths differ, a label is not 0 or 1, or a score is NaN.

    Examples
    --------
    >>> average_precision([0, 1, 0, 1], [1.0, 2.0, 3.0, 4.0]).value
    0.8333333333333333
    """
    check_integer("seed", seed, at_least=0)
    return precision_area(*_by_label(labels, scores), seed)


def fpr_at_tpr(labels: ArrayLike, scores: ArrayLike, tpr: float = 0.95, *, seed: int = 0) -> Estimate:
    """Estimate the share of normal rows flagged by the highest threshold that still flags the share `tpr` of the anomalies.

    The interval is a percentile bootstrap that resamples normal rows and anomalies each on their own, widened to the Wilson interval
    at the threshold found, so that a rate of 0 in few rows is not called certain.

    Parameters
    ----------
    labels : array-like of shape (n,)
        1 or True for an anomaly, 0 or False for a normal row; both must occur.
    scores : array-like of shape (n,)
        Higher is more anomalous.
    tpr : float
        Share of the anomalies to flag at least, in (0, 1].
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    Estimate
        In [0, 1]; lower is better.

    Raises
    ------
    DataError
        If only one label occurs, the lengths differ, a label is not 0 or 1, or a score is NaN.
    ParameterError
        If `tpr` is outside (0, 1].

    Examples
    --------
    >>> fpr_at_tpr([0, 0, 0, 0, 1, 1], [1.0, 2.0, 3.0, 4.0, 3.5, 5.0]).value
    0.25
    """
    check_number("tpr", tpr, above=0, at_most=1)
    check_integer("seed", seed, at_least=0)
    return false_positive_rate(*_by_label(labels, scores), tpr, seed)


def _check_rows(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], FloatArray]:
    is_anomaly = _check_binary("labels", labels)
    score = _as_array("scores", scores)
    try:
        score = score.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"`scores` must be numbers: {error}.") from error
    _check_length("labels", is_anomaly, len(score))
    if len(score) == 0:
        raise DataError("`scores` must have at least one row, got none.")
    n_missing = int(np.isnan(score).sum())
    if n_missing:
        first = int(np.isnan(score).argmax())
        raise DataError(f"`scores` must not be NaN, got {n_missing} of {len(score)} (first: row {first}); leave out rows without a score.")
    return is_anomaly, score


def _as_array(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:  # lines of different length
        raise DataError(f"`{name}` must be one value per row: {error}.") from error
    if array.ndim != 1:
        raise DataError(f"`{name}` must be one value per row, got an array of shape {array.shape}.")
    if array.size and array.dtype.kind not in "biufO":
        raise DataError(f"`{name}` must be numbers, got {array.dtype} values such as {array[0]!r}; convert them first.")
    return array


def _check_binary(name: str, values: ArrayLike) -> NDArray[np.bool_]:
    array = _as_array(name, values)
    entries = array.tolist()
    row = next((row for row, entry in enumerate(entries) if entry not in (0, 1)), None)
    if row is not None:
        raise DataError(f"`{name}` must be 0 (normal) or 1 (anomaly), got {entries[row]!r} in row {row}.")
    return array.astype(bool)


def _check_length(name: str, values: Sequence[Any] | NDArray[Any], n: int) -> None:
    if len(values) != n:
        raise DataError(f"`{name}` must have one entry per score: {n}, got {len(values)}.")


def _by_label(labels: ArrayLike, scores: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the sorted scores of the normal rows and those of the anomalies; refuse a set without both."""
    is_anomaly, score = _check_rows(labels, scores)
    normal, anomaly = np.sort(score[~is_anomaly]), np.sort(score[is_anomaly])
    if len(normal) == 0 or len(anomaly) == 0:
        raise DataError(f"`labels` must hold both 0 (normal) and 1 (anomaly), got {len(normal)} normal rows and {len(anomaly)} anomalies.")
    return normal, anomaly


def _evaluate_types(
    types: Sequence[str],
    is_anomaly: NDArray[np.bool_],
    score: FloatArray,
    is_flagged: NDArray[np.bool_],
    normal: FloatArray,
) -> dict[str, TypeEvaluation]:
    _check_length("types", types, len(score))
    rows_of: dict[str, list[int]] = {}
    for row in np.flatnonzero(is_anomaly).tolist():
        rows_of.setdefault(str(types[row]), []).append(row)
    found = {}
    for name in sorted(rows_of):
        rows = rows_of[name]
        area = roc_area(normal, np.sort(score[rows])) if len(normal) else Estimate.undefined()
        found[name] = TypeEvaluation(len(rows), area, proportion(int(is_flagged[rows].sum()), len(rows)))
    return found


@dataclasses.dataclass(frozen=True)
class CategoryRates:
    """How the decisions went in one category (camera, product, shift).

    Attributes
    ----------
    name : str or None
        None: rows without a category, which are judged by all together.
    n_normal, n_anomaly : int
    false_alarm_rate, recall : Estimate
        Share of the normal rows, and of the anomalies, that is flagged.
    """

    name: str | None
    n_normal: int
    n_anomaly: int
    false_alarm_rate: Estimate
    recall: Estimate

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON-able dict."""
        rates = {"false_alarm_rate": self.false_alarm_rate.to_json(), "recall": self.recall.to_json()}
        return {"name": self.name, "n_normal": self.n_normal, "n_anomaly": self.n_anomaly, **rates}


def rates_by_category(labels: ArrayLike, flagged: ArrayLike, categories: Sequence[str | None]) -> tuple[CategoryRates, ...]:
    """Return how the decisions went in each category, by name; rows without one come last.

    Parameters
    ----------
    labels : array-like of shape (n,)
        0 normal, 1 anomaly.
    flagged : array-like of bool, shape (n,)
    categories : sequence of n texts or None

    Examples
    --------
    >>> [(entry.name, entry.false_alarm_rate.value) for entry in rates_by_category([0, 0, 0], [True, False, False], ["a", "a", "b"])]
    [('a', 0.5), ('b', 0.0)]
    """
    is_anomaly, is_flagged = np.asarray(labels) == 1, np.asarray(flagged, dtype=np.bool_)
    found = []
    for name in sorted(set(categories), key=lambda name: (name is None, name or "")):
        of_it = np.array([own == name for own in categories])
        normal, anomaly = of_it & ~is_anomaly, of_it & is_anomaly
        rates = [proportion(int((part & is_flagged).sum()), int(part.sum())) for part in (normal, anomaly)]
        found.append(CategoryRates(name, int(normal.sum()), int(anomaly.sum()), *rates))
    return tuple(found)
