"""Deep SVDD-VAE fitted over several seeds: as one batched model against one by one, on the same device.

Each repetition fits the same seeds both ways, one after the other and in turn; the figure is the ratio of their times. On the CPU times
are CPU seconds of the process, so that other programs on the machine matter little; on a GPU they are wall-clock seconds. Rows are
loaded, detectors fitted, calibrated and examined, as in any fit: not the training alone.

    INSPHERE_DATA=FOLDER python benchmarks/batched_training.py --repeats 3
    python benchmarks/batched_training.py --device cuda --models 10 100 --only mnist digits

writes benchmarks/reports/batched-training.csv and .md (with --device cuda: batched-training-cuda). mnist needs FOLDER; the others do not.
"""

import argparse
import csv
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import insphere
from insphere.errors import HealthWarning
from insphere.metrics import auroc

REPORTS = Path(__file__).parent / "reports"

# Name -> what it is, epochs, parameters, numbers of models. For mnist the paper's network and precision. The images lie on either side of
# the size up to which `fit_many` trains as one on the CPU.
PAPER = {"network": {"widths": [8, 4]}, "training": {"batch_size": 200, "precision": "32"}}
CASES: dict[str, tuple[str, int, dict[str, Any], tuple[int, ...]]] = {
    "mnist": ("digit 8 of MNIST, 28 × 28, the paper's network", 1, PAPER, (3,)),
    "digits": ("digit 3 of scikit-learn's digits, 8 × 8", 40, {}, (2, 10)),
    "table": ("300 rows of 10 features", 40, {}, (2, 10)),
    "images-12": ("800 images of 12 × 12", 3, {}, (8,)),
    "images-16": ("800 images of 16 × 16", 3, {}, (8,)),
}


def rows(case: str) -> tuple[Any, Any]:
    """Training rows, and (rows, labels) to compare scores on."""
    random = np.random.default_rng(0)
    if case == "table":
        normal = random.normal(size=(600, 4)) @ random.normal(size=(4, 10)) + 0.1 * random.normal(size=(600, 10))
        anomalies = random.normal(size=(300, 10)) * normal.std(axis=0)
        return normal[:300], (np.concatenate([normal[300:], anomalies]), np.repeat([0, 1], 300))
    if case.startswith("images"):
        side = int(case.partition("-")[2])
        images = random.integers(0, 40, size=(1200, side, side, 1))
        for image, column in zip(images, random.integers(0, side, 1200), strict=True):
            image[:, column] += 120  # an upright bar is normal, one that lies is not
        images[1000:] = images[1000:].swapaxes(1, 2)
        return images[:800].astype(np.uint8), (images[800:].astype(np.uint8), np.repeat([0, 1], 200))
    name = {"mnist": "mnist:8", "digits": "digits:3"}[case]
    test = insphere.open_source(name, split="test")
    return insphere.open_source(name, split="train").load().X, (test.load().X, test.labels)


def detectors(case: str, n_models: int, device: str, repeat: int, epochs: int | None) -> list[Any]:
    """Unfitted detectors that differ in their seeds."""
    _, default_epochs, parameters, _ = CASES[case]
    first = 1000 * repeat
    return [
        insphere.DeepSVDDVAE(epochs=epochs or default_epochs, device=device, random_state=first + seed, **parameters)
        for seed in range(n_models)
    ]


def clock(device: str) -> float:
    """Seconds: of CPU time for the CPU, else of the wall clock once the device has caught up."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def runs(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one record for each case, number of models and repetition; the first repetition warms up and is not counted."""
    for case in arguments.only:
        X, (test, labels) = rows(case)
        for n_models in arguments.models or CASES[case][3]:
            for repeat in range(-1 if arguments.device != "cpu" else 0, arguments.repeats):
                alone, as_one = (detectors(case, n_models, arguments.device, repeat + 1, arguments.epochs) for _ in range(2))
                started = clock(arguments.device)
                for detector in alone:
                    detector.fit(X)
                middle = clock(arguments.device)
                insphere.fit_many(as_one, X, together="always")
                ended = clock(arguments.device)
                if repeat < 0:
                    continue
                scores = [(one.anomaly_score(test), other.anomaly_score(test)) for one, other in zip(alone, as_one, strict=True)]
                areas = [[100 * auroc(labels, own).value for own in pair] for pair in scores]
                correlations = [float(np.corrcoef(*pair)[0, 1]) for pair in scores]
                yield {
                    "case": case, "models": n_models, "epochs": len(as_one[0].history_), "rows": len(X), "repeat": repeat,
                    "seconds one by one": round(middle - started, 3), "seconds as one": round(ended - middle, 3),
                    "speed-up": round((middle - started) / (ended - middle), 3),
                    "auroc one by one": round(float(np.mean([pair[0] for pair in areas])), 3),
                    "auroc as one": round(float(np.mean([pair[1] for pair in areas])), 3),
                    "largest auroc difference": round(max(abs(one - other) for one, other in areas), 4),
                    "least score correlation": round(min(correlations), 6),
                }  # fmt: skip


def table(records: list[dict[str, Any]]) -> str:
    """Return means and spreads over repetitions as Markdown."""
    lines = [
        "| case | models | epochs | one by one, s a model | as one, s a model | speed-up | AUROC one by one / as one, % | largest"
        " difference of one model's AUROC | least correlation of its scores |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((record["case"], record["models"]) for record in records):
        own = [record for record in records if (record["case"], record["models"]) == key]
        cells = [f"{_spread([record[f'seconds {way}'] / key[1] for record in own], 3)}" for way in ("one by one", "as one")]
        areas = " / ".join(f"{statistics.mean(record[f'auroc {way}'] for record in own):.2f}" for way in ("one by one", "as one"))
        lines.append(
            f"| {CASES[key[0]][0]} | {key[1]} | {own[0]['epochs']} | {cells[0]} | {cells[1]} |"
            f" **{_spread([record['speed-up'] for record in own], 2)}** | {areas} |"
            f" {max(record['largest auroc difference'] for record in own):.2f} |"
            f" {min(record['least score correlation'] for record in own):.4f} |"
        )
    return "\n".join(lines)


def _spread(values: list[float], digits: int) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def _provenance(arguments: argparse.Namespace, seconds: float) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    on_gpu = arguments.device != "cpu"
    device = torch.cuda.get_device_name() if on_gpu else f"one thread of {_processor()}"
    what = "wall-clock seconds" if on_gpu else "CPU seconds"
    return (
        f"Mean ± standard deviation over {arguments.repeats} repetitions with seeds of their own; {what} of whole fits on {device}"
        f" ({os.cpu_count()} CPU cores, other programs running); insphere {insphere.__version__} at commit {commit or 'unknown'},"
        f" PyTorch {torch.__version__}, Python {platform.python_version()}; {seconds / 60:.0f} minutes in all."
        " Written by `benchmarks/batched_training.py`; do not edit."
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    )
    return names[0] if names else platform.machine()


def main() -> None:
    """Run all, print the table and write the reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--models", type=int, nargs="+", help="detectors trained as one, and one by one, instead of each case's own")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each, with other seeds")
    parser.add_argument("--only", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--epochs", type=int, help="instead of each case's own")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", HealthWarning)
    torch.set_num_threads(1)
    started = time.perf_counter()
    records = []
    for record in runs(arguments):
        print(*record.values(), file=sys.stderr, flush=True)
        records.append(record)
    text = table(records)
    print(text)
    path = REPORTS / ("batched-training" if arguments.device == "cpu" else f"batched-training-{arguments.device}")
    provenance = _provenance(arguments, time.perf_counter() - started)
    path.with_suffix(".md").write_text(f"# Seeds trained as one batched model\n\n{text}\n\n{provenance}\n")
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, records[0])
        writer.writeheader()
        writer.writerows(records)


if __name__ == "__main__":
    main()
