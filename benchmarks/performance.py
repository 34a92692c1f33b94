"""How fast insphere is, as ratios: each comparison times its ways in turn, in one run on one machine, several turns over.

    OMP_NUM_THREADS=1 python benchmarks/performance.py            # all of them; make bench does it
    OMP_NUM_THREADS=1 python benchmarks/performance.py start      # those named

writes benchmarks/reports/performance/NAME.json for each comparison, and docs/performance.md from all of them. Absolute times are those of
a machine at an hour; the ratios, of which the median and the range are given, are what to look at. Ways that need PyOD or Ray are left
out, and that is said, where they are not installed.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from comparing import Comparison, Way, pictures, process, processor, table, timed, wall
from of_networks import encoders, growth, steps, vectors
from PIL import Image

import insphere
from insphere.data.images import ImageSpec, decode
from insphere.output_file import make_folder, replacing

ROOT = Path(__file__).parent.parent
REPORTS = ROOT / "benchmarks" / "reports" / "performance"
PAGE = ROOT / "docs" / "performance.md"

SLOWER = """
## Where the library is the slower one, and what to do

- **Starting.** Nearly all of it is imports: PyTorch, and scikit-learn's base class, which brings SciPy and pandas. An exported graph needs
  neither (`insphere export`, `pip install 'insphere[runtime]'`); for many images, one command scores them all.
- **One image in process.** A forward pass is some thirty operators of PyTorch, each with some microseconds of its own; ONNX Runtime has
  fused them. Few rows are not filled up to sixteen, but in dense layers. Where one image counts, take the graph.
- **Scoring pictures in bulk.** Of 32 × 32 × 3 most of the time goes into PyTorch's convolutions, as the table says; of small grey ones
  much goes into the calls around them. Take the graph where that matters: `insphere score graph.onnx` reads the same sources.
- **A training step.** Little is left beside the arithmetic: the shortest loop of PyTorch over the same loss takes about as long.
  `torch.compile` would need a compiler on the user's machine, and is not used.

Other reports: [the open table of detectors](../benchmarks/reports/open-table.md), [a million images](../benchmarks/reports/million.md),
[memory of fits](../benchmarks/reports/fit-memory.md), [photos](../benchmarks/reports/photo-speed.md), [batched
training](../benchmarks/reports/batched-training.md), [the service](../benchmarks/reports/serving.md).
"""


def main() -> None:
    """Time what is named, write a report each, and the page from all reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {', '.join(COMPARISONS)}")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--page", action="store_true", help="write the page from the reports that are there, and time nothing")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    make_folder(REPORTS)
    for name in [] if options.page else options.names or COMPARISONS:
        with tempfile.TemporaryDirectory() as folder:
            for number, comparison in enumerate(COMPARISONS[name](Path(folder))):
                report = timed(comparison, options.turns)
                with replacing(REPORTS / f"{name}-{number}.json") as file:
                    file.write((json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
                print("\n".join(table(report)), "\n", flush=True)
    with replacing(PAGE) as file:
        paths = sorted(REPORTS.glob("*.json"), key=_order)
        file.write(page([json.loads(path.read_text(encoding="utf-8")) for path in paths]).encode())


def _order(path: Path) -> tuple[int, int]:
    name, _, number = path.stem.rpartition("-")
    return list(COMPARISONS).index(name), int(number)


def page(reports: list[dict[str, Any]]) -> str:
    """Return the page of all reports."""
    head = [
        "# Performance",
        "",
        "Made by `make bench` from `benchmarks/reports/performance`; do not edit. The ways of a table were timed in turn, in one run.",
    ]
    return "\n".join([*head, *(line for report in reports for line in ["", *table(report)]), SLOWER])


def start(folder: Path) -> Iterator[Comparison]:
    """Time the command line on one image."""
    from insphere.export import export_onnx

    X = pictures(60, 28, 1)
    detector = insphere.DeepSVDDVAE(epochs=1, random_state=0).fit(X)
    detector.save(folder / "m.insphere")
    export_onnx(detector, folder / "m.onnx")
    Image.fromarray(X[0, :, :, 0]).save(folder / "one.png")
    command = ("-m", "insphere", "score")
    rest = (str(folder / "one.png"), "-o", str(folder / "scores.csv"))
    yield Comparison(
        "Starting: one image from the command line",
        "`insphere score` of one image of 28 × 28 pixels by vae-svdd, whole processes.",
        "CPU",
        {
            "insphere score m.insphere": process(*command, str(folder / "m.insphere"), *rest),
            "insphere score m.onnx": process(*command, str(folder / "m.onnx"), *rest),
            "python -c 'import torch'": process("-c", "import torch"),
            "python -c 'import torch, sklearn.base'": process("-c", "import torch, sklearn.base"),
        },
    )


PRECISION = """
import sys, time, warnings
import numpy as np
import insphere
warnings.simplefilter("ignore")
side, channels, precision = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
X = np.random.default_rng(0).integers(0, 255, (416, side, side, channels), np.uint8)
detector = insphere.DeepSVDDVAE(epochs=2, random_state=0, training={"batch_size": 200, "precision": precision}).fit(X)
print(detector.history_[-1].seconds)
"""


def precision(folder: Path) -> Iterator[Comparison]:
    """Time an epoch in float32 and in bfloat16, on this processor and, where it has AMX, as one without."""

    def epoch(side: int, channels: int, name: str, isa: str) -> Way:
        def way() -> float:
            command = [sys.executable, "-c", PRECISION, str(side), str(channels), name]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "ONEDNN_MAX_CPU_ISA": isa})
            return float(done.stdout)

        return way

    kinds = [("DEFAULT", "this processor")]
    if "amx_bf16" in processor():
        kinds.append(("AVX512_CORE_BF16", "without AMX: oneDNN limited to AVX-512 with bfloat16"))
    for isa, kind in kinds:
        for side, channels in ((28, 1), (32, 3)):
            yield Comparison(
                f"Training in bfloat16, {side} × {side} × {channels}: {kind}",
                "The second epoch of vae-svdd, two steps of about 104 rows; each time a new process.",
                "wall-clock",
                {name: epoch(side, channels, name, isa) for name in ("32", "bf16")},
            )


def shallow(folder: Path) -> Iterator[Comparison]:
    """Time fits beside scikit-learn's with the same settings."""
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import NearestNeighbors
    from sklearn.svm import OneClassSVM

    X = np.random.default_rng(0).normal(size=(6000, 20))
    split = {"calibration": {"method": "split"}, "scaling": "none", "random_state": 0}
    trained = X[: insphere.IForest(**split).fit(X).data_["n_train"]]

    def forest() -> None:
        IsolationForest(max_samples=256, random_state=0).fit(trained).score_samples(X)

    def machine(nu: float) -> Callable[[], None]:
        return lambda: OneClassSVM(gamma=0.05, nu=nu).fit(trained).score_samples(X)

    def neighbours() -> None:
        found = NearestNeighbors(n_neighbors=5).fit(trained)
        found.kneighbors(n_neighbors=5)
        found.kneighbors(X[len(trained) :])

    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "iforest": (forest, lambda: insphere.IForest(**split).fit(X)),
        "ocsvm, gamma 0.05, nu 0.1": (machine(0.1), lambda: insphere.OCSVM(gamma=0.05, nu=0.1, **split).fit(X)),
        "svdd, RBF, gamma 0.05, nu 0.1": (machine(0.1), lambda: insphere.SVDD(gamma=0.05, nu=0.1, **split).fit(X)),
        "knn": (neighbours, lambda: insphere.KNN(**split).fit(X)),
    }
    for name, (theirs, ours) in pairs.items():
        yield Comparison(
            f"Fitting {name}",
            "6,000 rows of 20 features (normal noise): fitted to the same rows, and all rows scored, as a fit with a held-out part does.",
            "wall-clock",
            {"scikit-learn": wall(theirs), "insphere": wall(ours)},
        )


def single(folder: Path) -> Iterator[Comparison]:
    """Time one image in process."""
    from insphere.export import export_onnx
    from insphere.runtime import load_graph

    for side, channels in ((28, 1), (32, 3)):
        X = pictures(60, side, channels)
        detector = insphere.DeepSVDDVAE(epochs=1, random_state=0).fit(X)
        export_onnx(detector, folder / "m.onnx")
        graph, one = load_graph(folder / "m.onnx"), X[:1]
        yield Comparison(
            f"One image of {side} × {side} × {channels} in process",
            "vae-svdd, an array at hand.",
            "wall-clock",
            {
                "graph, by ONNX Runtime": wall(lambda graph=graph, one=one: graph.anomaly_score(one), 20),  # type: ignore[misc]
                "detector, by PyTorch": wall(lambda detector=detector, one=one: detector.anomaly_score(one), 20),  # type: ignore[misc]
            },
        )


def draft(folder: Path) -> Iterator[Comparison]:
    """Time the decoding of a large photo."""
    stream = BytesIO()
    coarse = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    Image.fromarray(coarse).resize((4000, 3000), Image.Resampling.BICUBIC).save(stream, "jpeg", quality=90)
    data = stream.getvalue()
    yield Comparison(
        "Decoding a JPEG photo of 12 megapixels to 256 × 256",
        f"{len(data) / 1e6:.1f} MB.",
        "wall-clock",
        {
            "at full size": wall(lambda: decode(data, ImageSpec(256, 256, 3))),
            "jpeg_draft": wall(lambda: decode(data, ImageSpec(256, 256, 3, jpeg_draft=True))),
        },
    )


def neighbours(folder: Path) -> Iterator[Comparison]:
    """Time distances to the nearest references."""
    from sklearn.neighbors import KDTree, NearestNeighbors

    from insphere.scores.neighbours import Neighbours

    for n_dimensions, n_references in ((32, 20_000), (128, 20_000), (784, 6_000)):
        rng = np.random.default_rng(0)
        references, rows = (rng.standard_normal((n, n_dimensions)) for n in (n_references, 200))
        ours, tree = Neighbours(references), KDTree(references)
        brute = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(references)
        yield Comparison(
            f"The five nearest of {n_references:,} references of {n_dimensions} dimensions",
            "200 rows, normal noise; the distances of `Neighbours` do not depend on which rows come together, those of brute force do.",
            "wall-clock",
            {
                "`Neighbours`": wall(lambda ours=ours, rows=rows: ours.distances(rows, 5)),  # type: ignore[misc]
                "scikit-learn, brute force": wall(lambda brute=brute, rows=rows: brute.kneighbors(rows)),  # type: ignore[misc]
                "scikit-learn, tree": wall(lambda tree=tree, rows=rows: tree.query(rows, k=5)),  # type: ignore[misc]
            },
        )


def bulk(folder: Path) -> Iterator[Comparison]:
    """Time scoring in bulk with one worker and with two."""
    from insphere.scoring import BulkOptions, BulkProgress, score_in_bulk

    make_folder(folder / "photos")
    for number, pixels in enumerate(pictures(60, 1200, 3)):
        first = folder / "photos" / f"{number:03}-0.jpg"
        Image.fromarray(pixels).save(first, quality=90)
        for copy in range(1, 16):
            os.link(first, folder / "photos" / f"{number:03}-{copy}.jpg")
    detector = insphere.KNN(random_state=0).fit(pictures(60, 64, 3))
    detector.save(folder / "m.insphere")
    counter = iter(range(10**9))

    def way(engine: str, n_workers: int) -> Way:
        def seconds() -> float:
            found: list[BulkProgress] = []
            output = folder / f"scores{next(counter)}"
            score_in_bulk(folder / "m.insphere", folder / "photos", output, BulkOptions(engine, n_workers), on_progress=found.append)
            return (found[-1].seconds - found[0].seconds) * found[-1].n_done / (found[-1].n_done - found[0].n_done)

        return seconds

    ways = {"one worker": way("local", 1), "two workers": way("local", 2)}
    if importlib.util.find_spec("ray") is None:
        print("Ray is not installed; its row is left out.")
    else:
        ways["Ray, two workers"] = way("ray", 2)
    yield Comparison(
        "Scoring in bulk where decoding rules",
        "960 JPEG photos of 1.4 megapixels by knn at 64 × 64, after the first piece of the listing is done: without the start.",
        "wall-clock",
        ways,
    )


COMPARISONS: dict[str, Callable[[Path], Iterator[Comparison]]] = {
    "start": start,
    "precision": precision,
    "single": single,
    "steps": steps,
    "encoders": encoders,
    "vectors": vectors,
    "growth": growth,
    "shallow": shallow,
    "neighbours": neighbours,
    "draft": draft,
    "bulk": bulk,
}

if __name__ == "__main__":
    main()
