"""Spheres for transformations: what `transform-svdd` is scored by, beside `vae-svdd` or 5 nearest neighbours, on real rows.

    INSPHERE_DATA=FOLDER python benchmarks/transformations.py --sets cifar10:automobile mnist:8 adbench/20_letter --seeds 0

writes benchmarks/reports/transformations.csv and transformations.md; runs that are in the CSV already are not repeated. --network says
which encoder: "large" (ResNet-18) is trained with crops and changed colours, which the paper's few blocks can't use; "paper, learned" and
its like have other transformations of vectors than random affine maps ("projections"). --seconds says how long a training may take: as
many epochs as fit, by a look at three.

Each run is one fit with `scored_by="both"`; "contrast", "distance" and "both" are the AUROC of its two terms and of their sum, in which
the distance counts twice but on CIFAR-10, all of one network; where a network stands twice, its codes were measured by both geometries.
"plane" is the mean distance of the codes to the own centres within the subspace that the centres span. Tables are standardised by the
training half of the normal rows; pictures are standardised by channel. Seconds are of the wall and of the processor: other work ran beside,
on two cores or, where the line at the end names one, on one graphics processor: two to four fits at a time, each as many epochs as fitted
into 18 (paper) or 40 to 50 seconds (large).

Everything is from scratch. Test labels of CIFAR-10's automobile and bird, of digit 8 and of six tables (letter, vowels, Wilt, satellite,
cardio, optdigits) were looked at when the form of the score was chosen; of airplane and bird when crops, colours and the weight of the
autoencoder were (which the share of held-out versions told apart decided); of all ten classes, from the large network, when angles were
chosen for colour pictures among five measures; of all the others here when the distance was given its weight.
"""

import argparse
import itertools
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from records import circumstances, heading, read, write
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

import insphere
from insphere.data import one_class_split
from insphere.metrics import auroc

REPORTS = Path(__file__).parent / "reports"
SCORES = ("contrast", "distance", "both", "plane", "neighbours")
NETWORKS: dict[str, dict[str, Any]] = {
    "paper": {},
    **{f"paper, {views}": {"views": {"transformations": views}} for views in ("masks", "learned", "projections+learned")},
    "large": {"network": {"size": "large"}, "views": {"crop": 0.5, "colour": True}, "training": {"batch_size": 128, "lr": 2e-3}},
}
FIELDS = (
    "set", "network", "geometry", "seed", "epochs", *SCORES, "kept", "told_apart", "n_train",
    "fit_wall_seconds", "fit_cpu_seconds", "rows_per_second", "versions", "machine", "commit",
)  # fmt: skip


def main() -> None:
    """Run what is missing and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--network", choices=NETWORKS, default="paper")
    parser.add_argument("--epochs", type=int, help="passes over the training rows; the detector's own number if not given")
    parser.add_argument("--seconds", type=float, help="instead: as many passes as fit into so many seconds")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--reports", type=Path, default=REPORTS)
    parser.add_argument("--models", type=Path, help="folder to save the fitted detectors to")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    path = options.reports / "transformations.csv"
    for name in options.sets:
        for seed in options.seeds:
            run = (name, options.network, seed)
            if not any((row["set"], row["network"], int(row["seed"])) == run for row in read(path)):
                row = measured(*run, options)
                write(path, [*read(path), row])  # read again: another process may have added some
                path.with_suffix(".md").write_text(report(read(path)), encoding="utf-8")
                print(", ".join(f"{key} {value}" for key, value in row.items() if key not in ("versions", "machine", "commit")), flush=True)
    path.with_suffix(".md").write_text(report(read(path)), encoding="utf-8")


def measured(name: str, network: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the row of one run."""
    train, test, labels = rows_of(name, seed)
    parameters = NETWORKS[network] | {"scored_by": "both", "random_state": seed, "device": options.device}
    if options.seconds is not None:
        options.epochs = max(2, round(options.seconds / seconds_of_an_epoch(parameters, train)))
    detector = insphere.TransformSVDD(epochs=options.epochs, **parameters)
    started, of_processor = time.perf_counter(), time.process_time()
    detector.fit(train)
    wall, processor = time.perf_counter() - started, time.process_time() - of_processor
    if options.models is not None:
        options.models.mkdir(parents=True, exist_ok=True)
        detector.save(options.models / f"{name.replace(':', '-').replace('/', '-')}-{network}-{seed}.insphere")
    objective, started = detector.objective_, time.perf_counter()
    terms = detector._map(objective.terms, test).astype(np.float64)
    seconds = time.perf_counter() - started
    standard = (terms - objective.unit_mean.cpu().numpy()) / objective.unit_spread.cpu().numpy()
    scores = {
        "contrast": terms[:, 0],
        "distance": terms[:, 1],
        "both": standard[:, 0] + objective.distance_weight * standard[:, 1],
        "plane": in_plane(detector, train, test),
        "neighbours": nearest_neighbours(train, test),
    }
    told = next(finding for finding in detector.health_.findings if finding.name == "transformations")
    return {
        "set": name,
        "network": network,
        "geometry": detector.spheres_[0].kind,
        "seed": seed,
        "epochs": len(detector.history_),
        **{score: round(100 * auroc(labels, values).value, 2) for score, values in scores.items()},
        "kept": f"{len(detector.kept_)} of {len(objective.transformations)}",
        "told_apart": round(100 * told.value, 1),
        "n_train": detector.data_["n_rows"],
        "fit_wall_seconds": round(wall),
        "fit_cpu_seconds": round(processor),
        "rows_per_second": round(len(test) / seconds),
        **circumstances(),
    }


def seconds_of_an_epoch(parameters: dict[str, Any], train: NDArray[Any]) -> float:
    """Return how long the fastest of three epochs takes."""
    seconds: list[float] = []
    detector = insphere.TransformSVDD(epochs=3, **parameters | {"scored_by": "contrast"})
    detector.fit(train, on_epoch=lambda record: seconds.append(record.seconds))
    return min(seconds)


def rows_of(name: str, seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return training rows, test rows and the labels of these."""
    if not name.startswith("adbench/"):
        path = Path(os.environ["INSPHERE_DATA"]) / name
        train, test = (insphere.open_source(path if path.is_file() else name, split=part) for part in ("train", "test"))
        return train.load().X, test.load().X, np.asarray(test.labels)
    split = one_class_split(Path(os.environ["INSPHERE_DATA"]) / f"{name}.npz", random_state=seed)
    scaler = StandardScaler().fit(split.train.load().X)
    return scaler.transform(split.train.load().X), scaler.transform(split.test.load().X), np.asarray(split.labels)


def in_plane(detector: Any, train: NDArray[Any], test: NDArray[Any]) -> NDArray[np.float64]:
    """Return the sum over the transformations of the codes' distances to their mean, within the span of these means."""
    objective = detector.objective_

    def codes(rows: NDArray[Any], number: int) -> NDArray[np.float64]:
        return detector._map(lambda x: objective.codes_of_versions(x, [number])[0], rows).astype(np.float64)

    means = np.stack([codes(train[:1000], number).mean(axis=0) for number in objective.kept])
    _, sizes, directions = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    directions = directions[sizes > 1e-6 * sizes[0]] if sizes[0] > 0 else directions[:0]
    offsets = [(codes(test, number) - mean) @ directions.T for number, mean in zip(objective.kept, means, strict=True)]
    return np.sum([np.linalg.norm(offset, axis=1) for offset in offsets], axis=0)


def nearest_neighbours(train: NDArray[Any], test: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean distance to the five nearest training rows, of pictures in pixels."""
    flat = [rows.reshape(len(rows), -1).astype(np.float32) for rows in (train, test)]
    return NearestNeighbors(n_neighbors=5).fit(flat[0]).kneighbors(flat[1])[0].mean(axis=1)


def report(rows: list[dict[str, Any]]) -> str:
    """Return the page."""
    columns = (*SCORES, "told_apart")
    whole = ("epochs", "fit_wall_seconds", "fit_cpu_seconds", "rows_per_second")
    lines = [
        *heading("Spheres for transformations", __doc__),
        'AUROC in %, mean over seeds, ± their standard deviation where there are several; "neighbours" is 5-NN on scaled rows or pixels.',
        "",
        f"| set | network | geometry | seeds | {' | '.join(SCORES)} | told apart, % | epochs | fit, s | of one core, s | rows/s | kept |",
        "|" + "---|" * 15,
    ]
    for kind in sorted({(str(row["set"]), str(row["network"]), str(row["geometry"])) for row in rows}):
        own = [row for row in rows if (row["set"], row["network"], row["geometry"]) == kind]
        kept = ", ".join(dict.fromkeys(str(row["kept"]) for row in own))
        cells = " | ".join(spread([row[column] for row in own]) for column in columns)
        cells += "".join(f" | {np.mean([float(row[column]) for row in own]):.0f}" for column in whole)
        lines.append(f"| {' | '.join(kind)} | {' '.join(str(row['seed']) for row in own)} | {cells} | {kept} |")
    for kind, network, geometry in itertools.product(("adbench/", "cifar10:", "mnist:"), NETWORKS, ("angular", "local")):
        own = [row for row in rows if row["set"].startswith(kind) and (row["network"], row["geometry"]) == (network, geometry)]
        if own:
            means = " | ".join(f"{mean_of_sets(own, score):.1f}" for score in SCORES)
            lines.append(f"| {kind[:-1]}: mean of {len({row['set'] for row in own})} | {network} | {geometry} | | {means} | | | | | | |")
    stated = sorted({(row["versions"], row["machine"]) for row in rows})
    commits = sorted({str(row["commit"]) for row in rows})
    lines += ["", *(f"{versions}; {machine}." for versions, machine in stated), f"Commits: {', '.join(commits)}.", ""]
    return "\n".join(lines)


def mean_of_sets(rows: list[dict[str, Any]], score: str) -> float:
    """Return the mean over the sets of each one's mean over its seeds: a set with more seeds counts no more than others."""
    sets = sorted({row["set"] for row in rows})  # in one order, as the last digit of a sum depends on it
    return float(np.mean([np.mean([float(row[score]) for row in rows if row["set"] == name]) for name in sets]))


def spread(values: list[Any]) -> str:
    """Return mean and standard deviation."""
    numbers = np.array([float(value) for value in values])
    return f"{numbers.mean():.1f}" + (f" ± {numbers.std(ddof=1):.1f}" if len(numbers) > 1 else "")


if __name__ == "__main__":
    main()
