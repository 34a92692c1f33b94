"""Scores of the local sphere at 128 dimensions and 20,000 references: with `Neighbours`, and with a tree of scikit-learn.

Codes are normal noise, whitened already; one thread, the ways in turn. Both must find the same neighbours: their mean distances may
differ by rounding only.

    OMP_NUM_THREADS=1 python benchmarks/local_sphere.py

writes benchmarks/reports/local-sphere.md.
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
from sklearn.neighbors import KDTree

import insphere
from insphere.benchmark.run.execution import source_commit
from insphere.output_file import replacing
from insphere.scores.sphere import LocalSphere

REPORT = Path(__file__).parent / "reports" / "local-sphere.md"
N_NEIGHBORS = 5

Array = NDArray[np.float64]


def main() -> None:
    """Measure, print the table and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, default=128)
    parser.add_argument("--references", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=200, help="codes to score")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    references, rows = (rng.standard_normal((n, options.dimensions)) for n in (options.references, options.rows))
    sphere = LocalSphere(np.zeros(options.dimensions), np.eye(options.dimensions), references, N_NEIGHBORS)
    tree = KDTree(references)
    ways: dict[str, Callable[[], Array]] = {
        "`Neighbours`": lambda: sphere.distance(rows),
        "`KDTree` of scikit-learn": lambda: np.asarray(tree.query(rows, k=N_NEIGHBORS)[0].mean(axis=1)),
    }
    ours, theirs = (way() for way in ways.values())
    if not np.allclose(ours, theirs, rtol=1e-12, atol=0):
        raise SystemExit("The two ways found other neighbours.")
    times = [[_seconds(way) for way in ways.values()] for _ in range(options.turns)]
    lines = ["# Scores of the local sphere", "", "| way | ms a row | times that of `Neighbours` |", "|---|---|---|"]
    for place, name in enumerate(ways):
        each = [1000 * turn[place] / len(rows) for turn in times]
        lines.append(f"| {name} | {_spread(each)} | {_spread([turn[place] / turn[0] for turn in times])} |")
    origin = (
        f"{len(rows)} rows against {len(references):,} references of {options.dimensions} dimensions (normal noise, seed {options.seed}),"
        f" {N_NEIGHBORS} neighbours; median (least to most) of {options.turns} turns, wall-clock seconds of one thread on a machine with"
        f" {os.cpu_count()} cores ({platform.system()}, {platform.machine()}); insphere {insphere.__version__} at commit"
        f" {source_commit() or 'unknown'}, numpy {np.__version__}, scikit-learn {sklearn.__version__}, Python"
        f" {platform.python_version()}. Written by `benchmarks/local_sphere.py`; do not edit."
    )
    print("\n".join(lines))
    with replacing(REPORT) as file:
        file.write("\n".join([*lines, "", origin, ""]).encode())


def _seconds(way: Callable[[], Array]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
