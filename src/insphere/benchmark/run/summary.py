"""The few lines that the command line shows of a benchmark."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from insphere.benchmark.run.results import Report


@dataclasses.dataclass(frozen=True)
class Summary:
    """One method on one data set.

    Attributes
    ----------
    dataset, method : str
    n_runs, n_failed : int
    auroc : float, optional
        Mean over classes and seeds, in [0, 1]; None if no run succeeded.
    auroc_spread : float, optional
        Standard deviation over the seeds of their means over classes; None unless there are two seeds with the same classes.
    fit_seconds, score_seconds : float, optional
        Medians over runs.
    """

    dataset: str
    method: str
    n_runs: int
    n_failed: int
    auroc: float | None
    auroc_spread: float | None
    fit_seconds: float | None
    score_seconds: float | None


def summarise(reports: Sequence[Report]) -> list[Summary]:
    """Return one summary for each data set and method, in the order in which they occur."""
    groups: dict[tuple[str, str], list[Report]] = {}
    for report in reports:
        groups.setdefault((report.run.dataset, report.run.method), []).append(report)
    return [_summarise(*names, group) for names, group in groups.items()]


def _summarise(dataset: str, method: str, reports: Sequence[Report]) -> Summary:
    good = [report for report in reports if report.status == "ok" and report.metrics["auroc"]["value"] is not None]
    by_seed: dict[int, dict[str, float]] = {}
    for report in good:
        by_seed.setdefault(report.run.seed, {})[report.run.normal_class] = report.metrics["auroc"]["value"]
    means = [float(np.mean(list(classes.values()))) for classes in by_seed.values()]
    # With other classes in each seed the means would differ by the classes, which is not what the spread is for.
    comparable = len(means) > 1 and len({frozenset(classes) for classes in by_seed.values()}) == 1
    return Summary(
        dataset,
        method,
        n_runs=len(reports),
        n_failed=len(reports) - len(good),
        auroc=float(np.mean([report.metrics["auroc"]["value"] for report in good])) if good else None,
        auroc_spread=float(np.std(means, ddof=1)) if comparable else None,
        fit_seconds=float(np.median([report.seconds["fit"] for report in good])) if good else None,
        score_seconds=float(np.median([report.seconds["score"] for report in good])) if good else None,
    )
