"""One-class detectors on a CPU, ours and others', on the same rows in one run: what they cost, and what they find.

    OMP_NUM_THREADS=1 INSPHERE_DATA=FOLDER python benchmarks/open_table.py

fits each on the normal training rows of each set, and times that fit, the scoring of all test rows, and that of one row (the median of
twenty calls); counts the bytes of the fitted model (ours as it is saved; others' as pickle has them, which is how they are kept); and has
the AUROC on the test rows. Settings are everybody's defaults: nothing is tuned, and labels decide nothing. Writes
benchmarks/reports/open-table.csv and .md. Others are left out, and that is said, where they are not installed.
"""

import argparse
import csv
import importlib.util
import io
import os
import pickle
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from comparing import processor

import insphere
from insphere.benchmark.run.execution import source_commit
from insphere.data.protocol import one_class_split
from insphere.metrics import auroc
from insphere.output_file import replacing

REPORT = Path(__file__).parent / "reports" / "open-table.csv"
SETS = {
    "digits:3": "digit 3 of scikit-learn's, 8 × 8",
    "mnist:8": "digit 8 of MNIST, 28 × 28",
    "adbench/6_cardio.npz": "cardiotocography, 21 features; half of the normal rows to fit",
    "adbench/30_satellite.npz": "satellite pixels, 36 features; half of the normal rows to fit",
}
SEEDS = (0, 1, 2)
N_TEST = 2000
FIELDS = ("set", "detector", "seed", "fit_seconds", "rows_per_second", "one_row_ms", "megabytes", "auroc")

Made = Callable[[int, int], Any]

OURS: dict[str, Made] = {
    "insphere vae-svdd": lambda seed, d: insphere.DeepSVDDVAE(random_state=seed),
    "insphere deep-svdd": lambda seed, d: insphere.DeepSVDD(random_state=seed),
    "insphere svdd": lambda seed, d: insphere.SVDD(random_state=seed),
    "insphere ocsvm": lambda seed, d: insphere.OCSVM(random_state=seed),
    "insphere iforest": lambda seed, d: insphere.IForest(random_state=seed),
    "insphere kde": lambda seed, d: insphere.KDE(random_state=seed),
    "insphere knn": lambda seed, d: insphere.KNN(random_state=seed),
}


def others() -> dict[str, Made]:
    """Return the others that are installed."""
    from sklearn.ensemble import IsolationForest
    from sklearn.svm import OneClassSVM

    found: dict[str, Made] = {
        "scikit-learn IsolationForest": lambda seed, d: IsolationForest(random_state=seed),
        "scikit-learn OneClassSVM": lambda seed, d: OneClassSVM(),
    }
    if importlib.util.find_spec("pyod") is None:
        print("PyOD is not installed; its rows are left out.")
        return found
    from pyod.models.auto_encoder import AutoEncoder
    from pyod.models.deep_svdd import DeepSVDD
    from pyod.models.ecod import ECOD
    from pyod.models.knn import KNN
    from pyod.models.vae import VAE

    return found | {
        "PyOD AutoEncoder": lambda seed, d: AutoEncoder(random_state=seed, verbose=0, device="cpu"),
        "PyOD VAE": lambda seed, d: VAE(random_state=seed, verbose=0, device="cpu"),
        "PyOD DeepSVDD": lambda seed, d: DeepSVDD(n_features=d, random_state=seed, verbose=0),
        "PyOD ECOD": lambda seed, d: ECOD(),
        "PyOD KNN": lambda seed, d: KNN(),
    }


def main() -> None:
    """Measure, and write table and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name in options.sets:
        train, test, labels = _rows(name)
        for detector, make in (OURS | others()).items():
            for seed in options.seeds:
                rows.append({"set": name, "detector": detector, "seed": seed, **_measured(detector, make, seed, train, test, labels)})
                print(rows[-1], flush=True)
    with replacing(REPORT) as file:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
        file.write(text.getvalue().encode())
    report = "\n".join(_lines(rows))
    with replacing(REPORT.with_suffix(".md")) as file:
        file.write(report.encode())
    print(report)


def _rows(name: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    if name.endswith(".npz"):
        split = one_class_split(Path(os.environ.get("INSPHERE_DATA", ".")) / name, random_state=0)
        train, test = split.train, split.test
    else:
        train, test = insphere.open_source(name, split="train"), insphere.open_source(name, split="test")
    chosen = np.arange(len(test)) if len(test) <= N_TEST else np.sort(np.random.default_rng(0).choice(len(test), N_TEST, replace=False))
    test = test.take(chosen)
    return train.load().X, test.load().X, np.asarray(test.labels)


def _measured(
    name: str, make: Made, seed: int, train: np.ndarray[Any, Any], test: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]
) -> dict[str, Any]:
    own = name.startswith("insphere")
    if not own:  # which take rows of features, standardised or not as each does by itself
        train, test = train.reshape(len(train), -1).astype(np.float64), test.reshape(len(test), -1).astype(np.float64)
    detector = make(seed, int(np.prod(train.shape[1:])))
    started = time.perf_counter()
    detector.fit(train)
    fit_seconds = time.perf_counter() - started
    score = _score_of(name, detector)
    started = time.perf_counter()
    scores = score(test)
    seconds = time.perf_counter() - started
    single = []
    for _ in range(20):
        started = time.perf_counter()
        score(test[:1])
        single.append(time.perf_counter() - started)
    with tempfile.TemporaryDirectory() as folder:
        if own:
            detector.save(Path(folder) / "m.insphere")
            n_bytes = (Path(folder) / "m.insphere").stat().st_size
        else:
            n_bytes = len(pickle.dumps(detector))
    return {
        "fit_seconds": round(fit_seconds, 3),
        "rows_per_second": round(len(test) / seconds, 1),
        "one_row_ms": round(1000 * statistics.median(single), 3),
        "megabytes": round(n_bytes / 1e6, 3),
        "auroc": round(float(auroc(labels, scores).value), 4),
    }


def _score_of(name: str, detector: Any) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    if name.startswith("insphere"):
        return detector.anomaly_score  # type: ignore[no-any-return]
    if name.startswith("PyOD"):
        return detector.decision_function  # type: ignore[no-any-return]
    return lambda X: -np.asarray(detector.score_samples(X))


def _lines(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["# One-class detectors on a CPU", "", "Everybody's defaults, the same rows, one run; medians over the seeds (AUROC: mean,"]
    lines += ["least to most). Higher is better for rows a second and AUROC, lower for the rest.", ""]
    for name in dict.fromkeys(row["set"] for row in rows):
        lines += [f"## {name}: {SETS.get(name, name)}", ""]
        lines += ["| detector | fit, s | rows/s | one row, ms | MB | AUROC, % |", "|---|---|---|---|---|---|"]
        for detector in dict.fromkeys(row["detector"] for row in rows):
            own = [row for row in rows if (row["set"], row["detector"]) == (name, detector)]
            median = {field: statistics.median(row[field] for row in own) for field in FIELDS[3:7]}
            areas = [100 * row["auroc"] for row in own]
            found = f"{statistics.mean(areas):.1f} ({min(areas):.1f} to {max(areas):.1f})"
            cells = (median["fit_seconds"], median["rows_per_second"], median["one_row_ms"], median["megabytes"])
            lines.append(f"| {detector} | {' | '.join(f'{value:.3g}' if value < 1000 else f'{value:,.0f}' for value in cells)} | {found} |")
        lines.append("")
    names = [name for name in ("insphere", "torch", "scikit-learn", "numpy", "pyod") if name != "pyod" or importlib.util.find_spec("pyod")]
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    seeds = sorted({row["seed"] for row in rows})
    made = f"{processor()}, {os.cpu_count()} cores, {os.environ.get('OMP_NUM_THREADS') or 'all'} threads ({platform.system()})"
    lines += [
        f"*Seeds {', '.join(map(str, seeds))}; at most {N_TEST:,} test rows; {made}; commit {(source_commit() or 'unknown')[:12]};"
        f" {versions}, Python {sys.version.split()[0]}. Written by `benchmarks/open_table.py`; do not edit.*",
        "",
    ]
    return lines


if __name__ == "__main__":
    main()
