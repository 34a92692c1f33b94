"""Galleries of single runs: what a detector found most normal, what it took for something else, what it found most anomalous."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from insphere.benchmark.attacks.draws import draws
from insphere.benchmark.attacks.reports import read_attack_report, read_attack_reports
from insphere.benchmark.attacks.settings import AttackSettings
from insphere.benchmark.tables.drawing import CannotDrawError, Material, runs_of, write_csv
from insphere.benchmark.tables.expected import ExpectedFigure
from insphere.benchmark.tables.measured import Measured
from insphere.data import AbstractSource
from insphere.data.datasets import DATASETS, load_dataset
from insphere.errors import DataError, DatasetNotFoundError
from insphere.gallery import write_strips

N_COLUMNS = 10
"""Images in a strip at most."""

CSV_COLUMNS = ("strip", "rank", "row", "type", "label", "anomaly_score", "is_anomaly")
"""Columns of the data beside a gallery: one line an image."""


def draw_gallery(figure: ExpectedFigure, material: Material, folder: Path) -> list[Path]:
    """Draw one gallery for every normal class and method, of the run with the first seed, and return the files."""
    if material.runs_folder is None:
        raise CannotDrawError("galleries need the scores of single images, and no folder of runs was given")
    if figure.dataset not in DATASETS:
        raise CannotDrawError(f"galleries need the images of a named data set, and {figure.dataset} is none")
    first: dict[tuple[str, str], Measured] = {}
    for run in sorted(runs_of(figure, material), key=lambda run: run.seed):
        if run.auroc is not None:
            first.setdefault((run.normal_class, run.method), run)
    if not first:
        raise CannotDrawError(f"there is no result on {figure.dataset} {', '.join(figure.normal_classes)}".rstrip())
    paths = []
    for (normal_class, method), run in first.items():
        name = f"{figure.name}-{normal_class}" if len(figure.methods) == 1 else f"{figure.name}-{normal_class}-{method}"
        title = f"{figure.title} ({run.label or method}, normal class {normal_class}, seed {run.seed})"
        paths += _draw_run(run, material, folder / name, title)
    return paths


def _draw_run(run: Measured, material: Material, target: Path, title: str) -> list[Path]:
    scores = read_scores((material.runs_folder or Path()) / f"{run.run}.scores.parquet")
    try:
        source = load_dataset(f"{run.dataset}:{run.normal_class}", "test", data_dir=material.data_dir)
    except DatasetNotFoundError as error:
        raise CannotDrawError(f"the images are not at hand: {error}") from error
    if len(source) != len(scores) or source.labels is None or source.types is None:
        raise CannotDrawError(f"{run.run} has scores of {len(scores)} images, but {source.name} has {len(source)}")
    known = pa.table({"anomaly_score": scores["anomaly_score"], "is_anomaly": scores["is_anomaly"], "label": source.labels})
    return _write(known.append_column("type", pa.array(source.types)), source, target, title)


def _write(scores: pa.Table, images: AbstractSource | NDArray[np.uint8], target: Path, title: str) -> list[Path]:
    """Write picture and data of scored images; of a source, only those that are shown are decoded."""
    score, label = (np.array(scores[name].to_pylist()) for name in ("anomaly_score", "label"))
    flagged, types = np.array(scores["is_anomaly"].to_pylist(), dtype=np.bool_), scores["type"].to_pylist()
    strips = choose_strips(score, label, flagged)
    rows = np.unique(np.concatenate(list(strips.values())))
    places = {name: np.searchsorted(rows, chosen) for name, chosen in strips.items()}
    pixels = images[rows] if isinstance(images, np.ndarray) else images.take(rows).load().X
    picture = target.with_name(f"{target.name}.png")
    write_strips(picture, pixels, score[rows], places, types=[types[row] for row in rows], labels=label[rows], title=title)
    records = [
        [name, rank, int(row), types[row], int(label[row]), score[row], str(bool(flagged[row])).lower()]
        for name, chosen in strips.items()
        for rank, row in enumerate(chosen, start=1)
    ]
    return [picture, write_csv(target.with_name(f"{target.name}.csv"), CSV_COLUMNS, records)]


def choose_strips(
    scores: NDArray[np.float64], labels: NDArray[np.int64], flagged: NDArray[np.bool_], n_columns: int = N_COLUMNS
) -> dict[str, NDArray[np.int64]]:
    """Return title and row numbers of each strip, the most telling image first; a strip without images is left out.

    Examples
    --------
    >>> scores, labels, flagged = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 1, 1, 0]), np.array([False, False, True, True])
    >>> {name: rows.tolist() for name, rows in choose_strips(scores, labels, flagged, 2).items()}
    {'most normal': [0, 1], 'anomalies taken for normal': [1], 'normal images flagged': [3], 'most anomalous': [3, 2]}
    """
    up = np.argsort(scores, kind="stable")
    down = up[::-1]
    strips = {
        "most normal": up,
        "anomalies taken for normal": up[(labels[up] == 1) & ~flagged[up]],
        "normal images flagged": down[(labels[down] == 0) & flagged[down]],
        "most anomalous": down,
    }
    return {name: rows[:n_columns] for name, rows in strips.items() if len(rows)}


def read_scores(path: Path) -> pa.Table:
    """Return the scores of a run's test images, row by row.

    Raises
    ------
    CannotDrawError
        If the file is missing, unreadable, or has images without a score.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise CannotDrawError(f"the scores of single images cannot be read: {error}") from error
    missing = {"anomaly_score", "is_anomaly"} - set(table.column_names)
    if missing or table["anomaly_score"].null_count:
        raise CannotDrawError(f"{path.name} lacks {', '.join(sorted(missing)) or 'the scores of some images'}")
    return table


def draw_attack_gallery(figure: ExpectedFigure, material: Material, folder: Path) -> list[Path]:
    """Draw the first of the drawn test sets of clean and attacked images, of the middle strength, as each method ranks it."""
    if material.attacks_folder is None:
        raise CannotDrawError("galleries of attacked images need what the attacks wrote, and no folder of attacks was given")
    first: dict[tuple[str, str], tuple[int, Path]] = {}
    for path, report in _attack_reports(material.attacks_folder):
        run = report["run"]
        shown = (
            not figure.methods or run["method"] in figure.methods,
            not figure.normal_classes or run["normal_class"] in figure.normal_classes,
        )
        if report["status"] == "ok" and run["dataset"] == figure.dataset and all(shown):
            key = run["normal_class"], run["method"]
            first[key] = min(first.get(key, (run["seed"], path)), (run["seed"], path))
    if not first:
        raise CannotDrawError(f"there is no attack on {figure.dataset} {', '.join(figure.normal_classes)}".rstrip())
    paths = []
    for (normal_class, method), (_, path) in first.items():
        name = f"{figure.name}-{normal_class}" if len(figure.methods) == 1 else f"{figure.name}-{normal_class}-{method}"
        paths += _draw_attack(path, folder / name, figure.title)
    return paths


def _attack_reports(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    try:
        return list(zip(sorted(folder.glob("*.json")), read_attack_reports(folder), strict=True))
    except DataError as error:
        raise CannotDrawError(str(error)) from error


def _draw_attack(path: Path, target: Path, title: str) -> list[Path]:
    report = read_attack_report(path)
    images_path = path.with_name(Path(report["images"]).name)
    settings = AttackSettings(**report["settings"])
    scores = read_scores(path.with_suffix(".scores.parquet"))
    try:
        with np.load(images_path, allow_pickle=False) as stored:
            clean, attacked = stored["clean"], stored["attacked"]
    except (OSError, KeyError, ValueError) as error:
        raise CannotDrawError(f"the attacked images cannot be read: {error}") from error
    levels = sorted(settings.epsilons)
    level = levels[(len(levels) - 1) // 2]
    chosen = draws(settings, attacked.shape[1], level)[0]
    number = settings.epsilons.index(level)
    rows = np.concatenate([np.arange(len(clean)), len(clean) + number * attacked.shape[1] + chosen])
    if len(scores) != len(clean) + attacked.shape[0] * attacked.shape[1]:
        raise CannotDrawError(f"{path.name} has scores of {len(scores)} images, which are not those in {images_path.name}")
    part = scores.take(rows)
    run = report["run"]
    heading = f"{title} ({run['label'] or run['method']}, epsilon {level}/255, seed {run['seed']})"
    return _write(part, np.concatenate([clean, attacked[number][chosen]]), target, heading)
