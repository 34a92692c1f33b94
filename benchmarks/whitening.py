"""Where whitening helps: AUROC of detectors with their usual scaling and with ``scaling="whiten"``.

    INSPHERE_DATA=FOLDER python benchmarks/whitening.py --seeds 3

reads FOLDER/adbench/*.npz and writes benchmarks/reports/whitening.md. The protocol on tables is that of
benchmarks/adbench.py: half of the normal rows, drawn by the seed, are trained on, the rest and all anomalies are scored. Labels are used
for the AUROC alone. The tables were named before anything was run, the digits after a look at four sets of pictures under knn, of which
MNIST and CIFAR-10 lost by whitening.
"""

import argparse
import os
import platform
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import insphere
from insphere.data import one_class_split
from insphere.metrics import auroc

REPORTS = Path(__file__).parent / "reports"
TABLES = ("6_cardio", "18_Ionosphere", "20_letter", "40_vowels")
PICTURES = ("digits:3", "digits:8")
DETECTORS = {"vae-svdd": insphere.DeepSVDDVAE, "cae": insphere.CAE, "knn": insphere.KNN}


def sets(folder: Path, seed: int) -> Iterator[tuple[str, Any, Any, NDArray[np.int64]]]:
    """Yield name, training rows, test rows and their labels."""
    for name in (*TABLES, *PICTURES):
        split = one_class_split(name if name in PICTURES else folder / f"{name}.npz", random_state=seed)
        yield name, split.train.load().X, split.test.load().X, split.labels


def main() -> None:
    """Run everything and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found: dict[tuple[str, str, str], list[float]] = {}
    for seed in range(options.seeds):
        for name, train, test, labels in sets(Path(os.environ["INSPHERE_DATA"]) / "adbench", seed):
            for detector, kind in DETECTORS.items():
                for scaling in ("auto", "whiten"):
                    scores = kind(random_state=seed, scaling=scaling).fit(train).anomaly_score(test)
                    found.setdefault((name, detector, scaling), []).append(100 * auroc(labels, scores).value)
                    print(name, detector, scaling, seed, round(found[name, detector, scaling][-1], 1), flush=True)
    (REPORTS / "whitening.md").write_text(report(found, options.seeds), encoding="utf-8")


def report(found: dict[tuple[str, str, str], list[float]], n_seeds: int) -> str:
    """Return the page."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True, cwd=REPORTS).stdout.strip()
    lines = ["# Whitening", "", *(line.strip() for line in (__doc__ or "").splitlines()[2:] if line.strip()), ""]
    lines += [
        f"AUROC in percent, mean ± standard deviation over {n_seeds} seeds: default scaling (tables: standard; pictures: gcn) → whitened.",
        "",
        "| rows | " + " | ".join(DETECTORS) + " |",
        "|---|" + "---|" * len(DETECTORS),
    ]
    for name in (*TABLES, *PICTURES):
        cells = [f"{spread(found[name, detector, 'auto'])} → {spread(found[name, detector, 'whiten'])}" for detector in DETECTORS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    versions = f"insphere {insphere.__version__}, torch {torch.__version__}, numpy {np.__version__}, Python {platform.python_version()}"
    lines += ["", f"{versions}; {platform.machine()}, {torch.get_num_threads()} thread; after commit {commit}.", ""]
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Return mean and standard deviation."""
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


if __name__ == "__main__":
    main()
