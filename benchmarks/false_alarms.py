"""Real rates of false alarms next to what was promised, over many random draws of normal rows.

Each cell draws its training rows `--draws` times, fits, and measures the share of fresh normal rows that is flagged. Promised is the
target, or 1 / (n + 1) where n scores of unseen independent rows are too few for it. A cell holds where the mean rate is at most the
promise, but for three standard errors, and where at least 93 % of the stated 95 % intervals hold the real rate, but for two.

Rows are Gaussian in four dimensions: independent, or in groups of five around a common centre (fresh rows are of fresh groups), or each
there twice (n different ones). The isolation forest has 10 trees, as the promise does not depend on their number and time does.

    OMP_NUM_THREADS=1 python benchmarks/false_alarms.py --jobs 2

writes benchmarks/reports/false-alarms.csv, a line a cell, and the .md next to it; cells that are in the .csv are not measured again.
"""

import argparse
import csv
import dataclasses
import io
import itertools
import os
import platform
import statistics
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import joblib
import numpy as np
import sklearn
from numpy.typing import NDArray

import insphere
from insphere.benchmark.run.execution import source_commit
from insphere.decision.decision import Decision
from insphere.detectors import catalog
from insphere.detectors.base import AbstractDetector
from insphere.errors import DataNotice, HealthWarning
from insphere.output_file import replacing
from insphere.seeding import generator

REPORT = Path(__file__).parent / "reports" / "false-alarms.md"

DETECTORS: dict[str, dict[str, object]] = {"knn": {}, "iforest": {"n_estimators": 10}, "ocsvm": {}}
METHODS = ("split", "cross")
SITUATIONS = ("independent rows", "groups of five", "every row twice")
SIZES = (8, 20, 50, 100, 600)
TARGETS = (0.01, 0.05)

N_FRESH = 4000
N_FEATURES = 4
GROUP = 5
LEAST_COVERED = 0.93

Array = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One line of the report: what was fitted, and how often its promise held.

    Attributes
    ----------
    rate, standard_error : float
        Mean share of flagged fresh normal rows over the draws, and its standard error.
    promised : float
        Mean promised rate.
    covered : float
        Share of the draws whose 95 % interval holds the real rate.
    """

    detector: str
    method: str
    situation: str
    n: int
    target: float
    draws: int
    promised: float
    rate: float
    standard_error: float
    covered: float

    @property
    def holds(self) -> bool:
        """Whether the mean rate is at most the promise within sampling error, and the intervals cover often enough."""
        sampling = 2 * (LEAST_COVERED * (1 - LEAST_COVERED) / self.draws) ** 0.5
        return self.rate <= self.promised + 3 * self.standard_error and self.covered >= LEAST_COVERED - sampling


def draw(situation: str, n: int, rng: np.random.Generator) -> tuple[Array, list[int] | None]:
    """Return n training rows, and their groups where they come in groups."""
    if situation == "independent rows":
        return rng.normal(size=(n, N_FEATURES)), None
    if situation == "every row twice":
        return np.repeat(rng.normal(size=(n, N_FEATURES)), 2, axis=0), None
    groups = np.arange(n) // GROUP
    return in_groups(groups, rng), groups.tolist()


def in_groups(groups: NDArray[np.int64], rng: np.random.Generator) -> Array:
    """Return a row for each group number: the centre of its group, and a tenth of the spread of its own."""
    centres = rng.normal(size=(int(groups.max()) + 1, N_FEATURES))
    return np.asarray(centres[groups] + 0.1 * rng.normal(size=(len(groups), N_FEATURES)))


def measure(detector: str, method: str, situation: str, n: int, *, draws: int = 300) -> list[Cell]:
    """Return a cell for each target: `draws` fits on fresh training rows, each measured on fresh normal rows."""
    drawn: dict[float, list[tuple[float, float, bool]]] = {target: [] for target in TARGETS}
    for number in range(draws):
        rng = generator(number, f"false alarms {situation} {n}")
        X, groups = draw(situation, n, rng)
        fresh = in_groups(np.arange(N_FRESH), rng) if groups is not None else rng.normal(size=(N_FRESH, N_FEATURES))
        fitted = None
        for target, found in drawn.items():
            # By folds every row trains, whatever the target; held out are more rows where a target needs them.
            if fitted is None or fitted.decision_.method == "split":
                fitted = fit(detector, method, target, X, groups, seed=number)
                scores = fitted.anomaly_score(fresh)
            found.append(judge(fitted.decision_.retargeted(target), scores))
    return [summary((detector, method, situation, n, target, draws), found) for target, found in drawn.items()]


def fit(detector: str, method: str, target: float, X: Array, groups: list[int] | None, *, seed: int) -> AbstractDetector:
    """Return the fitted detector."""
    made = catalog.make(detector, DETECTORS[detector] | {"random_state": seed, "target_fpr": target, "calibration": {"method": method}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        warnings.simplefilter("ignore", DataNotice)
        return made.fit(X, groups=groups)


def judge(decision: Decision, scores: Array) -> tuple[float, float, bool]:
    """Return the share of the fresh rows that is flagged, the promised one, and whether the stated interval holds it."""
    rate, expected, promised = float(decision.is_anomaly(scores).mean()), decision.expected, decision.promised_fpr
    if expected is None or promised is None:
        raise SystemExit("A conformal decision promises a rate.")
    # The rate is measured on finitely many rows: half of one row on either side is within the measurement.
    margin = 0.5 / len(scores)
    return rate, promised, expected.low - margin <= rate <= expected.high + margin


def summary(of: tuple[str, str, str, int, float, int], found: list[tuple[float, float, bool]]) -> Cell:
    """Return the cell of all draws."""
    rates, promised, covered = zip(*found, strict=True)
    error = statistics.stdev(rates) / len(rates) ** 0.5
    return Cell(*of, statistics.mean(promised), statistics.mean(rates), error, statistics.mean(covered))


def main() -> None:
    """Measure the cells that are missing, and write the report of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--detectors", nargs="+", choices=tuple(DETECTORS), default=tuple(DETECTORS))
    options = parser.parse_args()
    table = REPORT.with_suffix(".csv")
    known = read(table)
    wanted = [key for key in itertools.product(options.detectors, METHODS, SITUATIONS, SIZES) if (*key, TARGETS[0]) not in known]
    wanted.sort(key=lambda key: key[3])
    measured = joblib.Parallel(n_jobs=options.jobs, return_as="generator_unordered")(
        joblib.delayed(measure)(*key, draws=options.draws) for key in wanted
    )
    for cell in itertools.chain.from_iterable(measured):
        known[dataclasses.astuple(cell)[:5]] = cell
        write(table, known)
        print(cell, flush=True)
    with replacing(REPORT) as file:
        file.write("\n".join([*page(list(known.values())), ""]).encode())


def read(path: Path) -> dict[tuple[object, ...], Cell]:
    """Return the cells of an earlier run, by what they are of."""
    if not path.exists():
        return {}
    types = get_type_hints(Cell)
    with path.open(newline="", encoding="utf-8") as file:
        cells = [Cell(**{name: types[name](text) for name, text in row.items()}) for row in csv.DictReader(file)]
    return {dataclasses.astuple(cell)[:5]: cell for cell in cells}


def write(path: Path, cells: dict[tuple[object, ...], Cell]) -> None:
    """Write all cells, complete or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in dataclasses.fields(Cell)])
    writer.writerows(dataclasses.astuple(cells[key]) for key in sorted(cells, key=str))
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def page(cells: list[Cell]) -> Iterator[str]:
    """Yield the lines of the report."""
    held = sum(cell.holds for cell in cells)
    yield from ("# False alarms: promised and real", "", f"{held} of {len(cells)} cells hold.", "")
    yield from (
        "A cell is mean real rate (promised), % of normal rows, and the share of the 95 % intervals that hold the real rate; **bold**",
        f"where it does not hold. Random draws a cell: {_draws(cells)} (`csv` next to this page: all figures with standard errors).",
        f"The isolation forest has {DETECTORS['iforest']['n_estimators']} trees.",
    )
    by_method: dict[tuple[str, str], dict[tuple[str, int], dict[float, Cell]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        by_method[cell.situation, cell.method][cell.detector, cell.n][cell.target] = cell
    for (situation, method), lines in by_method.items():
        yield from ("", f"## {situation.capitalize()}, {method}", "", "| detector | rows | 1 % asked | 5 % asked |", "|---|---|---|---|")
        for (detector, n), of_target in sorted(lines.items()):
            yield f"| {detector} | {n} | " + " | ".join(text_of(of_target[target]) for target in TARGETS) + " |"
    yield from ("", origin())


def _draws(cells: list[Cell]) -> str:
    numbers = {cell.detector: cell.draws for cell in cells}
    return ", ".join(f"{n} for {detector}" for detector, n in numbers.items())


def text_of(cell: Cell) -> str:
    """Return a cell as the report shows it."""
    text = f"{100 * cell.rate:.2f} ± {100 * cell.standard_error:.2f} ({100 * cell.promised:.2f}), {100 * cell.covered:.1f} %"
    return text if cell.holds else f"**{text}**"


def origin() -> str:
    """Return where the figures come from."""
    return (
        f"± is a standard error; {N_FRESH} fresh rows a draw. insphere {insphere.__version__} at commit {source_commit() or 'unknown'},"
        f" numpy {np.__version__}, scikit-learn {sklearn.__version__}, Python {platform.python_version()}, {platform.system()},"
        f" {platform.machine()}, {os.cpu_count()} cores. Written by `benchmarks/false_alarms.py`; do not edit."
    )


if __name__ == "__main__":
    main()
