"""Photos: how well `photo` finds defects and foreign objects, from scratch too, beside its control `patch-knn`, on sets of real pictures.

    INSPHERE_DATA=FOLDER python benchmarks/photos.py --seeds 0 1 2 --scratch SCRATCH

unpacks the sets of FOLDER into SCRATCH and writes benchmarks/reports/photos.csv and photos.md. A seed draws the split of the training
pictures into those to fit on and those to calibrate on. Runs that are in the CSV already are not repeated. What is measured: AUROC over
the test pictures; the share of normal test pictures flagged at 5 % asked, and of anomalies found; where there are masks, pixel AUROC and
AUPRO; seconds of the fit (reading included) and pictures a second of the scoring (reading and heat-maps included), left out where other
work ran beside: speed has a report of its own, photo-speed.md.

The network's features are those of ImageNet, but in the rows "photo, scratch" (`backbone="scratch"`), where nothing is pretrained.
Labels were looked at on tiles, castings and pills when the settings were chosen (stages, size, fusion; from scratch: logarithms, levels
relative to the picture, maxima, second order), on solar modules for the size and the stages of small pictures, and on 400 pictures of
each class of CIFAR-10 for what `look_for="objects"` looks at; on four digits of MNIST when it was decided that small grey pictures get
`photo`, by which no setting changed; on no other set.
"""

import argparse
import os
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from records import circumstances, heading, read, write

from insphere.detectors import catalog
from insphere.localising import localiser_for
from insphere.metrics import auroc

REPORTS = Path(__file__).parent / "reports"
ZIPS = ("magnetic-tiles", "pills", "castings", "solar-modules")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
OBJECTS = (*(f"cifar10:{name}" for name in CLASSES), "gtsrb32:stop", *(f"digits:{number}" for number in range(10)))
DETECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "photo": ("photo", {}),
    "photo, scratch": ("photo", {"backbone": "scratch"}),
    "patch-knn": ("patch-knn", {}),
}
"""Rows of the report: a detector and its parameters, beside defaults."""
FIELDS = (
    "set", "detector", "seed", "n_train", "n_test", "auroc", "false_alarms", "found", "pixel_auroc", "aupro",
    "fit_seconds", "pictures_per_second", "megabytes", "look_for", "versions", "machine", "commit",
)  # fmt: skip


def main() -> None:
    """Run what is missing and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", default=list(ZIPS))
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS))
    parser.add_argument("--scratch", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.scratch.mkdir(parents=True, exist_ok=True)
    path = REPORTS / "photos.csv"
    done = read(path)
    for name, seed, detector in wanted(options.sets, options.seeds, options.detectors):
        if not any((row["set"], row["detector"], int(row["seed"])) == (name, detector, seed) for row in done):
            done.append(measured(name, detector, seed, options.scratch))
            write(path, done)
            (REPORTS / "photos.md").write_text(report(done), encoding="utf-8")
            print(
                ", ".join(f"{key} {value}" for key, value in done[-1].items() if key not in ("versions", "machine", "commit")), flush=True
            )
    (REPORTS / "photos.md").write_text(report(done), encoding="utf-8")


def wanted(sets: list[str], seeds: list[int], detectors: list[str]) -> Iterator[tuple[str, int, str]]:
    """Yield all runs; of the sets of objects, where there are many, those of the control are left out unless it alone is asked for."""
    for name in sets:
        for each in {"cifar10": OBJECTS[:10], "digits": OBJECTS[11:]}.get(name, (name,)):
            for seed in seeds:
                for detector in detectors:
                    yield each, seed, detector


def measured(name: str, kind: str, seed: int, scratch: Path) -> dict[str, Any]:
    """Return the row of one run."""
    source = str(unpacked(name, scratch)) if name in ZIPS else name
    name_of, parameters = DETECTORS[kind]
    detector = catalog.make(name_of, {**parameters, "random_state": seed})
    started = time.perf_counter()
    detector.fit(detector.open_to_fit(source))
    fit_seconds = time.perf_counter() - started
    rows = detector.open(source, split="test")
    places, scores, flagged = localiser_for(rows), np.empty(len(rows)), np.empty(len(rows), dtype=bool)
    started = time.perf_counter()
    for batch in detector.score_batches(rows, maps=True, batch_size=256):
        scores[batch.index], flagged[batch.index] = batch.anomaly_score, batch.is_anomaly
        if places is not None:
            places.add(batch)
    seconds = time.perf_counter() - started
    figures = None if places is None else places.result().figures
    model = scratch / "model.insphere"
    detector.save(model)
    normal = np.asarray(rows.labels) == 0
    settled = getattr(detector, "settled_", None)
    return {
        "set": name,
        "detector": kind,
        "seed": seed,
        "n_train": detector.data_["n_rows"],
        "n_test": len(rows),
        "auroc": round(100 * auroc(~normal, scores).value, 2),
        "false_alarms": round(100 * flagged[normal].mean(), 2),
        "found": round(100 * flagged[~normal].mean(), 2),
        "pixel_auroc": "" if figures is None else round(100 * figures.pixel_auroc.value, 2),
        "aupro": "" if figures is None else round(100 * figures.aupro.value, 2),
        "fit_seconds": round(fit_seconds, 1),
        "pictures_per_second": round(len(rows) / seconds, 1),
        "megabytes": round(model.stat().st_size / 1e6, 1),
        "look_for": "" if settled is None else settled.look_for,
        **circumstances(),
    }


def unpacked(name: str, scratch: Path) -> Path:
    """Return the folder of a set, unpacked when it is first asked for."""
    folder = scratch / name
    if not folder.exists():
        with zipfile.ZipFile(Path(os.environ["INSPHERE_DATA"]) / f"{name}.zip") as archive:
            archive.extractall(scratch)
    return folder


def report(rows: list[dict[str, Any]]) -> str:
    """Return the page."""
    lines = [
        *heading("Photos", __doc__),
        "Mean over seeds, ± their standard deviation where there are several; % but for the last three columns.",
        "",
        "| set | detector | seeds | AUROC | false alarms (5 asked) | found | pixel AUROC | AUPRO | fit, s | pictures/s | MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    keys = list(dict.fromkeys((row["set"], row["detector"]) for row in rows))
    for name, detector in keys:
        own = [row for row in rows if (row["set"], row["detector"]) == (name, detector)]
        seeds = " ".join(str(row["seed"]) for row in own)
        columns = ("auroc", "false_alarms", "found", "pixel_auroc", "aupro", "fit_seconds", "pictures_per_second", "megabytes")
        lines.append(f"| {name} | {detector} | {seeds} | " + " | ".join(spread([row[column] for row in own]) for column in columns) + " |")
    for dataset in ("cifar10", "mnist", "digits"):
        for detector in DETECTORS:
            own = [float(row["auroc"]) for row in rows if row["set"].startswith(dataset) and row["detector"] == detector]
            if own:
                n_classes = len({row["set"] for row in rows if row["set"].startswith(dataset) and row["detector"] == detector})
                lines.append(f"| {dataset}: mean of {n_classes} classes | {detector} | | {np.mean(own):.1f} | | | | | | | |")
    stated = sorted({(row["versions"], row["machine"]) for row in rows})
    commits = sorted({str(row["commit"]) for row in rows})
    lines += ["", *(f"{versions}; {machine}." for versions, machine in stated), f"Commits: {', '.join(commits)}.", ""]
    return "\n".join(lines)


def spread(values: list[Any]) -> str:
    """Return mean and standard deviation, nothing where there is no value."""
    numbers = np.array([float(value) for value in values if value != ""])
    if not len(numbers):
        return "–"
    return f"{numbers.mean():.1f}" + (f" ± {numbers.std(ddof=1):.1f}" if len(numbers) > 1 else "")


if __name__ == "__main__":
    main()
