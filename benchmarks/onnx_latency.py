"""Time to score one image: the exported graph in ONNX Runtime beside the library's own `anomaly_score`.

Both run on one thread of the CPU, on the same rows, in turns, so that what else the machine does strikes both alike; the library's time
includes its checks of the input and its batch of a fixed size. Shown are medians over the turns with their quartiles, and the ratio.

    OMP_NUM_THREADS=1 python benchmarks/onnx_latency.py --turns 30

writes nothing; the table goes to standard output.
"""

import argparse
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

import insphere
from insphere.detectors.catalog import DETECTORS, make
from insphere.errors import HealthWarning
from insphere.export import export_onnx
from insphere.export.onnx_file import session

NEURAL = ("vae-svdd", "vae", "cae", "cae-svdd", "dasvdd", "deep-svdd", "oc-nn", "transform-svdd")


def rows(kind: str, n_rows: int) -> NDArray[Any]:
    """Return made-up rows: smooth grey 64×64 images, or vectors of 20 features."""
    rng = np.random.default_rng(0)
    if kind == "vectors":
        return (rng.normal(size=(n_rows, 5)) @ rng.normal(size=(5, 20)) + 0.1 * rng.normal(size=(n_rows, 20))).astype(np.float32)
    coarse = rng.random((n_rows, 8, 8, 1)).repeat(8, axis=1).repeat(8, axis=2)
    return (200 * coarse + 50 * rng.random((n_rows, 64, 64, 1))).astype(np.uint8)


def fitted(name: str, X: NDArray[Any]) -> Any:
    """Return a detector that has seen the rows briefly: how well it does makes no difference to its time."""
    brief: dict[str, Any] = {"epochs": 2, "device": "cpu"}
    parameters = brief if name in NEURAL else {"encoder": {"name": "cae", **brief}} if name == "hybrid" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        return make(name, parameters | {"random_state": 0}).fit(X)


def timed(first: Callable[[], Any], second: Callable[[], Any], n_turns: int) -> NDArray[np.float64]:
    """Return the milliseconds of both in every turn, shape (n_turns, 2)."""
    found = np.empty((n_turns + 5, 2))
    for turn in found:
        for position, function in enumerate((first, second)):
            start = time.perf_counter()
            function()
            turn[position] = 1000 * (time.perf_counter() - start)
    return found[5:]  # the first turns fill caches


def spread(values: NDArray[np.float64], digits: int) -> str:
    """Return median and quartiles."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--rows", type=int, default=500, help="rows to fit on")
    parser.add_argument("--detectors", nargs="*", default=list(DETECTORS), choices=list(DETECTORS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    packages = {"insphere": insphere, "torch": torch, "onnxruntime": onnxruntime}
    versions = ", ".join([*(f"{name} {package.__version__}" for name, package in packages.items()), f"Python {platform.python_version()}"])
    print(
        f"One row, one thread, {options.turns} turns, {options.rows} rows fitted on; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}."
    )
    print(f"{versions}\n\n| detector | rows | library, ms | ONNX Runtime, ms | library / ONNX |\n|---|---|---|---|---|")
    for kind in ("images 64×64", "vectors of 20"):
        X = rows(kind.partition(" ")[0], options.rows)
        for name in options.detectors:
            detector = fitted(name, X)
            with tempfile.TemporaryDirectory() as folder:
                export_onnx(detector, Path(folder) / "m.onnx")
                graph = session((Path(folder) / "m.onnx").read_bytes())
            one, feed = X[:1], {graph.get_inputs()[0].name: X[:1]}
            own, onnx = timed(partial(detector.anomaly_score, one), partial(graph.run, None, feed), options.turns).T
            print(f"| {name} | {kind} | {spread(own, 2)} | {spread(onnx, 3)} | {spread(own / onnx, 1)} |", flush=True)


if __name__ == "__main__":
    main()
