"""Exported graphs of photos: whether OpenVINO answers as ONNX Runtime does, and how fast.

    python benchmarks/photo_graphs.py --seeds 0 1 2

makes the plates of `insphere demo --photos` (800 × 600, four kinds of defect), fits `photo` with its defaults, exports it, and runs the
graph on the test photos, one at a time on one thread. It writes benchmarks/reports/photo-graphs.md. OpenVINO is left out where it is not
installed.
"""

import argparse
import platform
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

import insphere
from insphere.data.plates import write_plates
from insphere.export import export_onnx
from insphere.metrics import auroc

REPORTS = Path(__file__).parent / "reports"
Run = Callable[[NDArray[np.uint8]], tuple[float, bool]]


def by_onnxruntime(path: Path) -> Run:
    """Return the graph in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(row: NDArray[np.uint8]) -> tuple[float, bool]:
        score, flagged = session.run(["anomaly_score", "is_anomaly"], {"images": row})
        return float(score[0]), bool(flagged[0])

    return run


def by_openvino(path: Path) -> Run | None:
    """Return the graph in OpenVINO with single precision throughout, None where that is not installed."""
    try:
        import openvino
    except ImportError:
        return None
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model = openvino.Core().compile_model(openvino.Core().read_model(path), "CPU", hints)
    threshold = insphere.load(path.with_name("m.insphere")).threshold_

    def run(row: NDArray[np.uint8]) -> tuple[float, bool]:
        found = model({"images": row, "threshold": np.array(threshold)})
        return float(found["anomaly_score"][0]), bool(found["is_anomaly"][0])

    return run


def measured(run: Run, X: NDArray[np.uint8], labels: NDArray[np.int64], expected: Any) -> dict[str, float]:
    """Return the figures of one graph."""
    run(X[:1])
    times, answers = [], []
    for row in X:
        started = time.perf_counter()
        answers.append(run(row[None]))
        times.append(time.perf_counter() - started)
    scores, flagged = np.array([score for score, _ in answers]), np.array([label for _, label in answers])
    return {
        "AUROC": 100 * auroc(labels, scores).value,
        "largest difference of scores": float(np.abs(scores - expected.anomaly_score).max()),
        "decisions changed": int((flagged != expected.is_anomaly).sum()),
        "ms a photo, median": 1000 * float(np.median(times)),
    }


def main() -> None:
    """Run everything and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    found: dict[str, list[dict[str, float]]] = {}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            photos = write_plates(folder / "photos", n_train=60, seed=seed)
            detector = insphere.PhotoSpheres(random_state=seed).fit(photos)
            detector.save(folder / "m.insphere")
            test = detector.open(photos, split="test")
            X, labels = test.load().X, np.asarray(test.labels)
            (expected,) = detector.score_batches(X, batch_size=len(X))
            path = folder / "m.onnx"
            export_onnx(detector, path)
            for runtime, run in (("ONNX Runtime", by_onnxruntime(path)), ("OpenVINO", by_openvino(path))):
                if run is not None:
                    figures = measured(run, X, labels, expected) | {"MB": path.stat().st_size / 1e6}
                    found.setdefault(runtime, []).append(figures)
                    print(seed, runtime, {key: round(value, 4) for key, value in figures.items()}, flush=True)
    write(found, len(options.seeds))


def write(found: dict[str, list[dict[str, float]]], n_seeds: int) -> None:
    """Write the report."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True, cwd=REPORTS).stdout.strip()
    columns = list(next(iter(found.values()))[0])
    lines = ["# Exported graphs of photos", "", *(line.strip() for line in (__doc__ or "").splitlines()[2:] if line.strip()), ""]
    lines += [
        f"Mean ± standard deviation over {n_seeds} seeds; 60 test photos each. Differences and changed decisions are against the library.",
        "",
        "| runtime | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name, rows in found.items():
        cells = [[row[column] for row in rows] for column in columns]
        lines.append(f"| {name} | " + " | ".join(f"{np.mean(cell):.3g} ± {np.std(cell):.1g}" for cell in cells) + " |")
    versions = f"insphere {insphere.__version__}, torch {torch.__version__}, onnxruntime {onnxruntime.__version__}"
    try:
        import openvino

        versions += f", OpenVINO {openvino.__version__.partition('-')[0]}"
    except ImportError:
        pass
    lines += ["", f"{versions}, Python {platform.python_version()}; {platform.machine()}, other work beside; after commit {commit}.", ""]
    (REPORTS / "photo-graphs.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
