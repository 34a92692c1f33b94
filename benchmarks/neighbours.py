"""Distances to the five nearest of many references: with the screen, with all pairs, and with scikit-learn's brute force.

One digit's training images and the first test images of MNIST, one thread, the ways in turn. The screen must equal all pairs bit for bit.
scikit-learn's way is a matrix product alone, whose last digits depend on the rows that are scored together.

    OMP_NUM_THREADS=1 python benchmarks/neighbours.py --data-dir FOLDER

writes benchmarks/reports/neighbours.md.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

import insphere
from insphere.benchmark.run.execution import source_commit
from insphere.data import one_class_split
from insphere.output_file import replacing
from insphere.scores import neighbours

REPORT = Path(__file__).parent / "reports" / "neighbours.md"

Array = NDArray[np.float64]


def main() -> None:
    """Measure, print the table and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=None, help="named data sets")
    parser.add_argument("--rows", type=int, default=500, help="test images to score")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    split = one_class_split("mnist:8", data_dir=options.data_dir)
    train, test = (
        np.concatenate([rows.X for rows in part.batches(1024)]).reshape(len(part), -1) / 255.0 for part in (split.train, split.test)
    )
    rows = test[: options.rows]
    ways = {"screen, then differences": _ours(train, rows, screened=True), "all pairs": _ours(train, rows, screened=False)}
    ways["scikit-learn, brute force"] = _scikit_learn(train, rows)
    found = [way() for way in ways.values()]
    if not np.array_equal(found[0], found[1]):
        raise SystemExit("The screen changed a distance.")
    times = [[_seconds(way) for way in ways.values()] for _ in range(options.turns)]
    lines = ["# Distances to the nearest references", "", "| way | ms an image | times the screen's |", "|---|---|---|"]
    for place, name in enumerate(ways):
        each = [1000 * turn[place] / len(rows) for turn in times]
        lines.append(f"| {name} | {_spread(each)} | {_spread([turn[place] / turn[0] for turn in times])} |")
    origin = (
        f"{len(rows)} test images against {len(train)} images of the digit 8, {train.shape[1]} pixels; mean ± standard deviation over"
        f" {options.turns} turns, wall-clock seconds of one thread on a machine with {os.cpu_count()} cores ({platform.system()},"
        f" {platform.machine()}); insphere {insphere.__version__} at commit {source_commit() or 'unknown'}, numpy {np.__version__},"
        f" scikit-learn {sklearn.__version__}, Python {platform.python_version()}. Written by `benchmarks/neighbours.py`; do not edit."
    )
    print("\n".join(lines))
    with replacing(REPORT) as file:
        file.write("\n".join([*lines, "", origin, ""]).encode())


def _ours(train: Array, rows: Array, *, screened: bool) -> Callable[[], Array]:
    references = neighbours.Neighbours(train)
    if not screened:
        references._screen = None
    return lambda: references.distances(rows, 5)


def _scikit_learn(train: Array, rows: Array) -> Callable[[], Array]:
    references = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(train)
    return lambda: np.asarray(references.kneighbors(rows)[0])


def _seconds(way: Callable[[], Array]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"


if __name__ == "__main__":
    main()
