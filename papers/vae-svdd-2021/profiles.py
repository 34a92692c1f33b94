"""Blocks and figures of the report about scores without learning, which linear.py measures, beside the published columns."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
import pyarrow as pa
from matplotlib.figure import Figure

from insphere.benchmark.tables.drawing import COLORS, LOOK, MARKERS, save, write_csv
from insphere.benchmark.tables.expected import Expected
from insphere.benchmark.tables.measured import Measured, distinct

# The method of the paper, by its name in the plan.
METHOD = "deep-svdd-vae"

# What linear.py measures, and the published columns that it is set beside.
SCORES = {
    "image": "distance to the mean image",
    "code": "distance of a linear VAE's code to its centre",
    "reconstruction": "reconstruction error of principal components",
}
SCALINGS = {"unit": "pixels as they are", "gcn": "contrast normalised"}
BESIDE = ("deep-svdd", METHOD)
# Of these the profile over the classes is drawn.
DRAWN = {"mnist": ("gcn", "reconstruction"), "cifar10": ("gcn", "image")}
EMPTY = pa.table({name: pa.array([], pa.string()) for name in ("dataset", "normal_class", "scaling", "score", "auroc")})


def profile(linear: pa.Table, dataset: str, scaling: str, score: str) -> dict[str, float]:
    """Return normal class -> AUROC in percent of a score without learning, empty where it was not measured."""
    key = (dataset, scaling, score)
    rows = [row for row in linear.to_pylist() if (row["dataset"], row["scaling"], row["score"]) == key]
    return {str(row["normal_class"]): 100 * row["auroc"] for row in rows}


def table_of_scores(linear: pa.Table, expected: Expected, folder: Path) -> str:
    """Return the mean AUROC of scores without learning, and how like their profile over the classes is to the published ones."""
    if not linear:
        return "Not measured yet."
    lines = []
    for table in expected.tables:
        if table.attacked or table.dataset not in linear["dataset"].to_pylist():
            continue
        headings = [f"against {table.labels[method]}: correlation | mean distance" for method in BESIDE]
        lines += [f"**{table.dataset}**", "", f"| | mean AUROC | {' | '.join(headings)} |", "|---" * (2 + 2 * len(BESIDE)) + "|"]
        for method in BESIDE:
            published = statistics.fmean(row[method] for row in table.rows.values())
            lines.append(f"| *published, {table.labels[method]}* | {published:.1f}" + " |" * (2 * len(BESIDE) + 1))
        for scaling, treatment in SCALINGS.items():
            for score, label in SCORES.items():
                found = profile(linear, table.dataset, scaling, score)
                cells = [f"{statistics.fmean(found.values()):.1f}"]
                for method in BESIDE:
                    published = [table.rows[name][method] for name in found]
                    distance = statistics.fmean(abs(one - other) for one, other in zip(found.values(), published, strict=True))
                    cells += [f"{statistics.correlation(found.values(), published):.2f}", f"{distance:.1f}"]
                lines.append(f"| {label}, {treatment} | {' | '.join(cells)} |")
        lines.append("")
    names = [f"profile-{dataset}" for dataset in DRAWN if (folder / f"profile-{dataset}.png").exists()]
    lines += [
        line for name in names for line in (f"![AUROC class by class]({folder.name}/{name}.png) [data]({folder.name}/{name}.csv)", "")
    ]
    places = ("Commit", "commit"), ("Versions", "versions"), ("Machine", "machine")
    origin = " ".join(f"{name}: {distinct(linear[column].to_pylist()) or 'unknown'}." for name, column in places)
    return "\n".join([*lines, f"All training images of each class, no random choice. {origin}"])


def draw_profiles(linear: pa.Table, runs: Sequence[Measured], expected: Expected, folder: Path) -> None:
    """Draw a score without learning beside the published columns and ours, class by class, as profile-<dataset>.png with its CSV."""
    for dataset, (scaling, score) in DRAWN.items():
        table = next(table for table in expected.tables if table.dataset == dataset)
        found = profile(linear, dataset, scaling, score)
        if not found:
            continue
        classes = sorted(found, key=found.__getitem__)
        columns = {f"{SCORES[score]}, {SCALINGS[scaling]}; no network": [found[name] for name in classes]}
        columns |= {f"{table.labels[method]}, published": [table.rows[name][method] for name in classes] for method in BESIDE}
        ours = {
            name: [100 * run.auroc for run in runs if (run.dataset, run.method, run.normal_class) == (dataset, METHOD, name) and run.auroc]
            for name in classes
        }
        if all(ours.values()):
            columns[f"{table.labels[METHOD]}, ours"] = [statistics.fmean(ours[name]) for name in classes]
        with matplotlib.style.context(LOOK):
            picture = Figure(figsize=(7.5, 4.2), layout="constrained")
            axes = picture.add_subplot()
            for number, (label, values) in enumerate(columns.items()):
                axes.plot(classes, values, "-" if number == 0 else "--", marker=MARKERS[number], color=COLORS[number], label=label)
            axes.set_ylabel("AUROC, %")
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
            axes.tick_params(axis="x", labelsize=8)
            save(picture, folder, f"profile-{dataset}")
        records = [(name, *(round(values[place], 2) for values in columns.values())) for place, name in enumerate(classes)]
        write_csv(folder / f"profile-{dataset}.csv", ["normal_class", *columns], records)
