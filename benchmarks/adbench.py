"""Fusion and Deep SVDD-VAE with their defaults beside 5-nearest-neighbours and Isolation Forest on ADBench's classical tables.

Protocol: half of the normal rows, drawn by the seed, are trained on; the other half and all anomalies are scored. Features are
standardised by the training rows for all. Labels are used for the AUROC alone; but which detectors `Fusion` fuses, and how it weighs them,
was chosen on these very tables.

    INSPHERE_DATA=FOLDER python benchmarks/adbench.py --seeds 3

reads FOLDER/adbench/*.npz and writes benchmarks/reports/adbench.csv and adbench.md.
"""

import argparse
import csv
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata, wilcoxon
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

import insphere
from insphere.data import one_class_split
from insphere.errors import HealthWarning
from insphere.metrics import auroc

REPORTS = Path(__file__).parent / "reports"


def vae_svdd(train: NDArray[Any], test: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """Scores of Deep SVDD-VAE with its defaults."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        return insphere.DeepSVDDVAE(random_state=seed).fit(train).anomaly_score(test)


def fusion(train: NDArray[Any], test: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """Scores of Fusion with its defaults."""
    return insphere.Fusion(random_state=seed).fit(train).anomaly_score(test)


def nearest_neighbours(train: NDArray[Any], test: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """Mean distance to the five nearest training rows."""
    return NearestNeighbors(n_neighbors=5).fit(train).kneighbors(test)[0].mean(axis=1)


def isolation_forest(train: NDArray[Any], test: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """Scores of scikit-learn's Isolation Forest with its defaults."""
    return -IsolationForest(random_state=seed).fit(train).score_samples(test)


METHODS: dict[str, Callable[[NDArray[Any], NDArray[Any], int], NDArray[np.float64]]] = {
    "fusion": fusion,
    "vae-svdd": vae_svdd,
    "5-NN": nearest_neighbours,
    "isolation forest": isolation_forest,
}


def runs(folder: Path, n_seeds: int) -> Iterator[dict[str, Any]]:
    """Yield one record for each table, seed and method."""
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        sys.exit(f"There is no .npz table in {folder}; set INSPHERE_DATA to the folder that holds adbench/.")
    for path in paths:
        for seed in range(n_seeds):
            split = one_class_split(path, random_state=seed)
            train, test = split.train.load().X, split.test.load().X
            scaler = StandardScaler().fit(train)
            for method, score in METHODS.items():
                started = time.perf_counter()
                scores = score(scaler.transform(train), scaler.transform(test), seed)
                seconds = time.perf_counter() - started
                yield {
                    "table": path.stem, "n_train": len(train), "n_features": train.shape[1], "seed": seed, "method": method,
                    "auroc": round(100 * auroc(split.labels, scores).value, 2), "seconds": round(seconds, 2),
                }  # fmt: skip


def table(records: list[dict[str, Any]]) -> str:
    """Return the mean AUROC of each table and method as Markdown, with the standard deviation over seeds."""
    lines = ["| table | training rows × features | " + " | ".join(METHODS) + " |", "|---|---|" + "---|" * len(METHODS)]
    for name in dict.fromkeys(record["table"] for record in records):
        own = [record for record in records if record["table"] == name]
        cells = [_mean_and_spread([record["auroc"] for record in own if record["method"] == method]) for method in METHODS]
        lines.append(f"| {name} | {own[0]['n_train']} × {own[0]['n_features']} | " + " | ".join(cells) + " |")
    # The spread of the last line is that of the mean over tables from seed to seed.
    means = []
    for method in METHODS:
        seeds = sorted({record["seed"] for record in records})
        own = [record for record in records if record["method"] == method]
        means.append(_mean_and_spread([float(np.mean([r["auroc"] for r in own if r["seed"] == seed])) for seed in seeds]))
    lines.append("| **mean** | | " + " | ".join(f"**{mean}**" for mean in means) + " |")
    return "\n".join(lines) + "\n\n" + comparison(records)


def comparison(records: list[dict[str, Any]]) -> str:
    """Return mean ranks, and how surely fusion and neighbours differ over tables and seeds, in a sentence."""
    frame = [[r["auroc"] for r in records if r["method"] == method] for method in METHODS]
    ranks = rankdata(-np.array(frame), axis=0).mean(axis=1)
    ours, theirs = (np.array(frame[list(METHODS).index(name)]) for name in ("fusion", "5-NN"))
    test = wilcoxon(ours, theirs)
    listed = ", ".join(f"{method} {rank:.2f}" for method, rank in zip(METHODS, ranks, strict=True))
    return (
        f"Mean ranks over tables and seeds: {listed}. Fusion is above 5-NN in {(ours > theirs).sum()} and below in {(ours < theirs).sum()}"
        f" of {len(ours)} (Wilcoxon's signed ranks, two-sided: p = {test.pvalue:.2g})."
    )


def _mean_and_spread(values: list[float]) -> str:
    return f"{np.mean(values):.1f} ± {np.std(values):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def _provenance(n_seeds: int, seconds: float) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return (
        f"AUROC in %, mean ± standard deviation over {n_seeds} seeds; {os.cpu_count()} CPU cores ({platform.machine()}); insphere"
        f" {insphere.__version__} at commit {commit or 'unknown'}, PyTorch {torch.__version__}, scikit-learn {sklearn.__version__};"
        f" {seconds / 60:.0f} minutes in all. Written by `benchmarks/adbench.py`; do not edit."
    )


def main() -> None:
    """Run all, print the table and write the reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="splits and trainings of each table")
    arguments = parser.parse_args()
    started = time.perf_counter()
    records = []
    for record in runs(Path(os.environ.get("INSPHERE_DATA", ".")) / "adbench", arguments.seeds):
        print(*record.values(), file=sys.stderr)
        records.append(record)
    text = table(records)
    print(text)
    REPORTS.mkdir(exist_ok=True)
    (REPORTS / "adbench.md").write_text(
        "# ADBench's classical tables, trained on normal rows\n\n"
        + text
        + "\n\n"
        + _provenance(arguments.seeds, time.perf_counter() - started)
        + "\n"
    )
    with (REPORTS / "adbench.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, records[0])
        writer.writeheader()
        writer.writerows(records)


if __name__ == "__main__":
    main()
