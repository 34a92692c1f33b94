"""What anomalies among the training rows cost, and what `trim` gives back.

    INSPHERE_DATA=FOLDER python benchmarks/contamination.py --seeds 3

Of each data set half of the anomalies, drawn by the seed, may be mixed into the normal training rows, 0, 1, 5, 10 or 20 % of what is
trained on; the AUROC is that of the other half against the normal test rows, which are the same at every rate. `trim` is 0, the rate
itself, or twice the rate. Labels are used for mixing and for the AUROC. Ten digits of 8 × 8 pixels from scikit-learn, each the normal one
among the others, and tables of FOLDER/adbench/ that have enough anomalies, for `vae-svdd`, on tables `fusion` and `iforest` too. Writes
benchmarks/reports/contamination.csv and contamination.md.
"""

import argparse
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from records import circumstances, write

from insphere.data import one_class_split
from insphere.metrics import auroc

REPORTS = Path(__file__).parent / "reports"
RATES = (0.0, 0.01, 0.05, 0.1, 0.2)
TABLES = ("12_fault", "20_letter", "24_mnist", "2_annthyroid", "30_satellite", "40_vowels", "6_cardio")
DETECTORS = {"digits": ("vae-svdd", "knn"), "tables": ("vae-svdd", "fusion", "iforest")}
TRIMS = (0.0, 1.0, 2.0)  # times the rate


def main() -> None:
    """Run all and write the reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = [row for kind, name in sets() for seed in range(options.seeds) for row in measured(kind, name, seed)]
    write(REPORTS / "contamination.csv", rows)
    (REPORTS / "contamination.md").write_text(report(rows, options.seeds), encoding="utf-8")


def sets() -> list[tuple[str, str]]:
    """Return kind and name of the data sets that are there."""
    folder = Path(os.environ.get("INSPHERE_DATA", ".")) / "adbench"
    tables = [("tables", f"{name}.npz") for name in TABLES if (folder / f"{name}.npz").exists()]
    return [*(("digits", f"digits:{digit}") for digit in range(10)), *tables]


def measured(kind: str, name: str, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each detector, rate and trim on a data set."""
    where = name if kind == "digits" else Path(os.environ["INSPHERE_DATA"]) / "adbench" / name
    split = one_class_split(where, random_state=seed)
    normal, test = split.train.load().X, split.test.load().X
    labels, rng = np.asarray(split.labels), np.random.default_rng(seed)
    anomalies = rng.permutation(np.flatnonzero(labels == 1))
    to_mix, kept = anomalies[: len(anomalies) // 2], np.concatenate([np.flatnonzero(labels == 0), anomalies[len(anomalies) // 2 :]])
    for detector in DETECTORS[kind]:
        for rate in RATES:
            n_mixed = round(rate / (1 - rate) * len(normal))
            if n_mixed > len(to_mix):
                continue
            rows = rng.permutation(np.concatenate([normal, test[to_mix[:n_mixed]]]))
            for times in TRIMS if rate else TRIMS[:1]:
                value = scored(detector, rows, test[kept], labels[kept], trim=times * rate, seed=seed)
                yield {
                    "kind": kind, "set": name, "seed": seed, "detector": detector, "rate": rate, "times": times, "n_rows": len(rows),
                    "auroc": round(value, 2),
                }  # fmt: skip
        print(kind, name, seed, detector, flush=True)


def scored(detector: str, rows: NDArray[Any], test: NDArray[Any], labels: NDArray[Any], *, trim: float, seed: int) -> float:
    """Return the AUROC in percent of a detector that was fitted on these rows."""
    from insphere.detectors.catalog import make

    fitted = make(detector, {"random_state": seed, "trim": trim}).fit(rows)
    return 100 * auroc(labels, fitted.anomaly_score(test)).value


def report(rows: list[dict[str, Any]], n_seeds: int) -> str:
    """Return the page."""
    lines = [
        "| rows | detector | trim | " + " | ".join(f"{100 * rate:.0f} %" for rate in RATES[1:]) + " |",
        "|---|---|---|" + "---|" * (len(RATES) - 1),
    ]
    for kind, detectors in DETECTORS.items():
        for detector in detectors:
            for times in TRIMS:
                cells = [_cell(rows, kind, detector, times, rate) for rate in RATES[1:]]
                words = "none" if not times else "the rate" if times == 1 else "twice the rate"
                lines.append(f"| {kind} | {detector} | {words} | {' | '.join(cells)} |")
    made_with = circumstances()
    parts = [
        "# Anomalies among the training rows",
        *[part.strip() for part in (__doc__ or "").split("\n\n")[1:]],
        "Points of AUROC lost against the fit on clean rows: mean over data sets and seeds (the largest); in how many of them.",
        "\n".join(lines),
        f"{n_seeds} seeds; {made_with['versions']} at commit {made_with['commit']}; {made_with['machine']}.",
        "Written by `benchmarks/contamination.py`; do not edit.",
    ]
    return "\n\n".join(parts) + "\n"


def _cell(rows: list[dict[str, Any]], kind: str, detector: str, times: float, rate: float) -> str:
    own = [row for row in rows if row["detector"] == detector and row["kind"] == kind]
    clean = {(row["set"], row["seed"]): row["auroc"] for row in own if not row["rate"]}
    losses = [clean[row["set"], row["seed"]] - row["auroc"] for row in own if row["rate"] == rate and row["times"] == times]
    return f"{np.mean(losses):.1f} ({max(losses):.1f}); {len(losses)}" if losses else ""


if __name__ == "__main__":
    main()
