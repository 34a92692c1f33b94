"""Speed and memory of photos: `photo` beside its control `patch-knn`, on large JPEG photos that the program makes itself.

    python benchmarks/photo_speed.py --runs 5

makes 200 photos of 800 × 600 pixels to fit on and 100 to score, and writes benchmarks/reports/photo-speed.md. Each run is a process of
its own, the detectors in turn: seconds of the fit, reading and decoding included; photos a second of the scoring, decoding and heat-maps
included; megabytes of the model file; most memory held. Run it on a machine that does nothing else.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

REPORT = Path(__file__).parent / "reports" / "photo-speed.md"
DETECTORS = ("photo", "patch-knn")
FIGURES = {"fit": "fit, s", "rate": "photos/s", "megabytes": "model, MB", "memory": "most memory, MB"}


def measure(detector: str, folder: Path) -> dict[str, float]:
    """Return the figures of one run; called in a process of its own."""
    from insphere.detectors import catalog

    warnings.simplefilter("ignore")
    made = catalog.make(detector, {"random_state": 0})
    started = time.perf_counter()
    made.fit(made.open_to_fit(str(folder)))
    fit = time.perf_counter() - started
    rows = made.open(str(folder), split="test")
    started = time.perf_counter()
    n_scored = sum(len(batch.index) for batch in made.score_batches(rows, maps=True, batch_size=64))
    rate = n_scored / (time.perf_counter() - started)
    made.save(folder / "model.insphere")
    megabytes = (folder / "model.insphere").stat().st_size / 1e6
    (folder / "model.insphere").unlink()
    return {"fit": fit, "rate": rate, "megabytes": megabytes, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    """Run the processes and write the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS))
    parser.add_argument("--one", nargs=2, metavar=("DETECTOR", "FOLDER"), help="measure once and print JSON; used by the script itself")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], Path(options.one[1]))))
        return
    with tempfile.TemporaryDirectory() as place:
        from insphere.data.plates import write_plates

        write_plates(place, seed=0, n_train=200, n_good=60, n_each=10)
        found: dict[str, list[dict[str, float]]] = {detector: [] for detector in options.detectors}
        for number in range(options.runs):
            for detector in options.detectors:
                command = [sys.executable, __file__, "--one", detector, place]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[detector].append(json.loads(done.stdout.splitlines()[-1]))
                print(number, detector, found[detector][-1], flush=True)
    REPORT.write_text(report(found), encoding="utf-8")


def report(found: dict[str, list[dict[str, float]]]) -> str:
    """Return the page."""
    import torch

    import insphere

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True, cwd=REPORT.parent)
    rows = [
        f"| {detector} | " + " | ".join(spread([run[name] for run in runs]) for name in FIGURES) + " |" for detector, runs in found.items()
    ]
    pairs = list(zip(found.get("photo", []), found.get("patch-knn", []), strict=False))
    ratios = [slow["fit"] / quick["fit"] for quick, slow in pairs]
    rates = [quick["rate"] / slow["rate"] for quick, slow in pairs]
    told = "The control was not run."
    if pairs:
        told = f"Run by run, patch-knn takes {spread(ratios)} times as long to fit, and photo scores {spread(rates)} times as fast."
    lines = [
        "# Speed and memory of photos",
        "",
        *(line.strip() for line in (__doc__ or "").splitlines()[2:] if line.strip()),
        "",
        "Median, and least to most, of the runs.",
        "",
        f"| detector | {' | '.join(FIGURES.values())} |",
        "|---|---|---|---|---|",
        *rows,
        "",
        told,
        "",
        f"{max(map(len, found.values()))} runs; insphere {insphere.__version__} at commit {commit.stdout.strip()},"
        f" torch {torch.__version__}, Python"
        f" {platform.python_version()}; {platform.machine()}, {torch.get_num_threads()} threads.",
        "",
    ]
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Return median, least and most."""
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


if __name__ == "__main__":
    main()
