"""Statements about two methods, checked against results: which is better, in how many classes, and which is faster."""

import dataclasses
import statistics
from collections.abc import Sequence

from insphere.benchmark.tables.measured import Measured


@dataclasses.dataclass(frozen=True)
class Comparison:
    """How one method does against another on one data set, over the classes and seeds that both have.

    Attributes
    ----------
    dataset, first, second : str
        Data set and methods.
    n_classes, n_better : int
        Classes that both have, and those in which the first has the higher mean AUROC.
    n_pairs : int
        Pairs of runs with the same class and seed.
    difference : float
        Mean over the classes of the first's AUROC minus the second's, in points.
    deviation : float or None
        Standard deviation of that difference over the classes; None for one class.
    time_ratio : float or None
        Median seconds that the first takes to fit, divided by those of the second; None unless both were timed in the same place, with as
        many threads and runs at a time.
    """

    dataset: str
    first: str
    second: str
    n_classes: int
    n_better: int
    n_pairs: int
    difference: float
    deviation: float | None
    time_ratio: float | None


def compare(runs: Sequence[Measured], dataset: str, first: str, second: str) -> Comparison | None:
    """Return how method `first` does against `second`, None where they have no class and seed in common.

    Examples
    --------
    >>> runs = [Measured("d", "3", "a", 0, 0.9), Measured("d", "3", "b", 0, 0.8), Measured("d", "8", "a", 0, 0.7)]
    >>> comparison = compare(runs, "d", "a", "b")
    >>> comparison.n_classes, round(comparison.difference, 6)
    (1, 10.0)
    """
    own = {(run.method, run.normal_class, run.seed): run for run in runs if run.dataset == dataset and run.auroc is not None}
    pairs = [
        (run, own[second, run.normal_class, run.seed])
        for run in own.values()
        if run.method == first and (second, run.normal_class, run.seed) in own
    ]
    if not pairs:
        return None
    by_class: dict[str, list[float]] = {}
    for one, other in pairs:
        by_class.setdefault(one.normal_class, []).append(100 * ((one.auroc or 0.0) - (other.auroc or 0.0)))
    differences = [statistics.fmean(values) for values in by_class.values()]
    return Comparison(
        dataset,
        first,
        second,
        n_classes=len(differences),
        n_better=sum(difference > 0 for difference in differences),
        n_pairs=len(pairs),
        difference=statistics.fmean(differences),
        deviation=statistics.stdev(differences) if len(differences) > 1 else None,
        time_ratio=_time_ratio(pairs),
    )


def _time_ratio(pairs: Sequence[tuple[Measured, Measured]]) -> float | None:
    """Return the ratio of the median times to fit, of the pairs that were timed under the same conditions."""
    timed = [(one.fit_seconds, other.fit_seconds) for one, other in pairs if (one.device, one.timing) == (other.device, other.timing)]
    first = [one for one, other in timed if one is not None and other is not None]
    second = [other for one, other in timed if one is not None and other is not None]
    return statistics.median(first) / statistics.median(second) if first and statistics.median(second) > 0 else None
