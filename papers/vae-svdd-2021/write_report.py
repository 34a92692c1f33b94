"""Write this folder's report again: tables, figures, and the generated blocks of README.md, from the compact results beside it.

    python papers/vae-svdd-2021/write_report.py

reads ``results/results.csv`` and ``results/attacks.csv`` (or .parquet), which ``insphere benchmark`` writes, and ``results/linear.csv``,
which linear.py writes. Galleries need the scores and
images of single test rows as well: ``--runs FOLDER --attacks FOLDER --data-dir FOLDER``; without them the pictures in ``figures/`` stay.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import profiles
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from profiles import METHOD

from insphere.benchmark.attacks.reports import SCHEMA as ATTACK_SCHEMA
from insphere.benchmark.attacks.table import grids_of, make_attack_frames, write_attack_tables
from insphere.benchmark.tables.cells import MEAN, Frame
from insphere.benchmark.tables.comparisons import compare
from insphere.benchmark.tables.expected import Expected, read_expected
from insphere.benchmark.tables.figures import write_figures
from insphere.benchmark.tables.measured import Measured, measured_runs, provenance
from insphere.benchmark.tables.pages import fill_blocks
from insphere.benchmark.tables.rendering import Grid, GridCell, as_markdown, comparison, markdown_of, signed_text, value_text
from insphere.benchmark.tables.tables import make_frames, write_tables

FOLDER = Path(__file__).parent

LITERAL = "deep-svdd-vae-literal"

# What the paper says, as pairs of methods of which the first should be ahead.
AHEAD = ((METHOD, "vae"), ("vae", "cae"), (METHOD, "deep-svdd-cae"), ("deep-svdd-cae", "cae"), (METHOD, "deep-svdd"), (METHOD, "knn"))
# Data sets of the search, where their classes come from, and the method that the others differ from in one thing.
READINGS = (("mnist-readings", "mnist", "readings-epochs-25"), ("cifar10-readings", "cifar10", "readings-cifar10-epochs-5"))
SEARCHED = ("2", "5", "8")
IMAGES = ("mnist", "cifar10", "gtsrb32")
LEVELS = ("critical", "warning")
FASTER = ((METHOD, "deep-svdd"), (METHOD, "oc-nn"))


def main() -> None:
    """Read the arguments and write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=FOLDER / "results", help="folder of the compact results")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where README.md is, and tables/ and figures/ go")
    for name, text in (("runs", "files of single runs"), ("attacks", "what the attacks wrote"), ("data-dir", "named data sets")):
        parser.add_argument(f"--{name}", type=Path, default=None, help=f"folder of the {text}, for galleries")
    options = parser.parse_args()
    expected = read_expected(FOLDER / "expected.toml")
    results = read_results(options.results / "results", EMPTY_RESULTS)
    attacks = read_results(options.results / "attacks", ATTACK_SCHEMA.empty_table())
    # Experiments have their own blocks on the page instead of a table and bars of many columns.
    experiments = pa.array([*(dataset for dataset, _, _ in READINGS), "digits"])
    evaluated = results.filter(pc.invert(pc.is_in(results["dataset"].cast(pa.string()), experiments)))
    write_tables(evaluated, options.out / "tables", expected=expected)
    write_attack_tables(attacks, options.out / "tables", expected=expected)
    places = {"runs_folder": options.runs, "attacks_folder": options.attacks, "data_dir": options.data_dir}
    write_figures(evaluated, options.out / "figures", expected=expected, **places)
    linear = read_results(options.results / "linear", profiles.EMPTY)
    profiles.draw_profiles(linear, measured_runs(results), expected, options.out / "figures")
    generated = blocks(results, attacks, linear, expected, options.out)
    fill(options.out / "README.md", generated)
    if options.out == FOLDER:
        fill(FOLDER.parents[1] / "README.md", {"means": front_page(make_frames(results, expected))})


def front_page(frames: Sequence[Frame]) -> str:
    """Return the means of the tables that have one of the method, for the first page of the project."""
    shown = [frame for frame in frames if frame.dataset in ("mnist", "cifar10") and (MEAN, METHOD) in frame.cells]
    shown = [frame for frame in shown if frame.cells[MEAN, METHOD].mean is not None]
    return markdown_of(means_grid(shown)).partition("\n")[2] if shown else "Not measured yet."


def fill(page: Path, generated: Mapping[str, str]) -> None:
    """Replace the generated blocks of a page."""
    page.write_text(fill_blocks(page.read_text(encoding="utf-8"), generated), encoding="utf-8")


EMPTY_RESULTS = pa.table({name: pa.array([], pa.string()) for name in ("dataset", "normal_class", "method", "seed", "auroc")})


def read_results(path: Path, empty: pa.Table) -> pa.Table:
    """Return the compact table at `path` with .parquet or .csv, `empty` if there is none yet."""
    if path.with_suffix(".parquet").exists():
        return pq.read_table(path.with_suffix(".parquet"))
    if path.with_suffix(".csv").exists():
        # What a failed run says may have several lines.
        return pa_csv.read_csv(path.with_suffix(".csv"), parse_options=pa_csv.ParseOptions(newlines_in_values=True))
    return empty


def blocks(results: pa.Table, attacks: pa.Table, linear: pa.Table, expected: Expected, out: Path) -> dict[str, str]:
    """Return every generated block of the page."""
    runs, frames = measured_runs(results), make_frames(results, expected)
    by_dataset = {frame.dataset: frame for frame in frames}
    labels = {column.method: column.label for frame in frames for column in frame.columns}
    attacked = [markdown_of(grid) for frame in make_attack_frames(attacks, expected) for grid in grids_of(frame)]
    return {
        "in-short": in_short(runs, linear, expected, labels),
        "means": markdown_of(means_grid([by_dataset["mnist"], by_dataset["cifar10"]])),
        "table-3": as_markdown(by_dataset["mnist"]),
        "table-4": as_markdown(by_dataset["cifar10"]),
        "linear": profiles.table_of_scores(linear, expected, out / "figures"),
        "table-5": "\n".join(attacked) or "Not measured yet.",
        "ahead": ahead(runs, labels),
        "faster": faster(runs, labels),
        "collapse": collapse(runs),
        "readings": readings(runs, expected),
        "figures": figures(expected, out / "figures"),
        "provenance": "\n\n".join(provenance(runs)),
    }


def in_short(runs: Sequence[Measured], linear: pa.Table, expected: Expected, labels: dict[str, str]) -> str:
    """Return what became of the paper's main claims, a line each."""
    digits, images = (list(dict.fromkeys(run.normal_class for run in runs if run.dataset == name)) for name in ("mnist", "cifar10"))
    unseen = [name for name in digits if name not in SEARCHED]
    without = f"The same without digits {', '.join(SEARCHED)}, whose test results took part in the search"
    lines = [
        _mean_line("Table 3, declared reading", runs, expected, "mnist", METHOD, digits),
        _mean_line(without, runs, expected, "mnist", METHOD, unseen),
        _mean_line("Table 3, as printed", runs, expected, "mnist", LITERAL, digits),
        _mean_line("Table 4, declared reading", runs, expected, "cifar10", METHOD, images),
        _mean_line("Table 4, as printed", runs, expected, "cifar10", LITERAL, images),
    ]
    mean_image = profiles.profile(linear, "cifar10", "gcn", "image")
    if mean_image:
        lines.append(f"- Table 4, distance to the mean image, nothing learned: {statistics.fmean(mean_image.values()):.1f}.")
    own = [run for run in runs if run.method in (METHOD, LITERAL)]
    bad = sum(run.auroc is None or run.health == "critical" for run in own)
    lines.append(f"- Collapse: {bad} of {len(own)} runs of the method, in both readings.")
    for first, second in AHEAD[:4]:
        for dataset in ("mnist", "cifar10"):
            found = compare(runs, dataset, first, second)
            if found is not None:
                won = f"ahead in {found.n_better} of {found.n_classes} classes, {signed_text(found.difference)} points"
                lines.append(f"- {labels.get(first, first)} against {labels.get(second, second)}, {dataset}: {won}.")
    return "\n".join(lines)


def _mean_line(what: str, runs: Sequence[Measured], expected: Expected, dataset: str, method: str, classes: Sequence[str]) -> str:
    """Return the mean over classes beside the published one, over the seeds that have all of the classes."""
    aurocs = {
        (run.seed, run.normal_class): 100 * run.auroc
        for run in runs
        if (run.dataset, run.method) == (dataset, method) and run.auroc is not None
    }
    seeds = [seed for seed in sorted({seed for seed, _ in aurocs}) if all((seed, name) in aurocs for name in classes)]
    if not seeds or not classes:
        return f"- {what}: not measured."
    means = [statistics.fmean(aurocs[seed, name] for name in classes) for seed in seeds]
    rows = next(table for table in expected.tables if table.dataset == dataset).rows
    published = statistics.fmean(rows[name][METHOD] for name in classes)
    spread = f" ± {statistics.stdev(means):.1f}" if len(means) > 1 else ""
    return f"- {what}: {statistics.fmean(means):.1f}{spread} ({len(seeds)} seed{'s' * (len(seeds) > 1)}); published {published:.1f}."


def means_grid(frames: Sequence[Frame]) -> Grid:
    """Return the means over the classes of several data sets, methods in rows."""
    columns = {column.method: column for frame in frames for column in frame.columns}
    ordered = sorted(columns.values(), key=lambda column: column.control)
    rows = []
    for column in ordered:
        cells = [frame.cells.get((MEAN, column.method)) for frame in frames]
        shown = (
            GridCell("") if cell is None else GridCell(value_text(cell), comparison(cell.expected, cell.difference, cell.verdict))
            for cell in cells
        )
        rows.append((column.heading, tuple(shown)))
    notes = ("AUROC in percent: mean over the classes ± its standard deviation over seeds.", frames[0].notes[1])
    return Grid("Means over the classes", "method", tuple(frame.title for frame in frames), tuple(rows), notes)


def ahead(runs: Sequence[Measured], labels: dict[str, str]) -> str:
    """Return what became of each claim that one method is ahead of another."""
    lines = ["| claim | data set | classes won | mean difference, points (± over classes) | pairs of runs |", "|---|---|---|---|---|"]
    for first, second in AHEAD:
        for dataset in ("mnist", "cifar10"):
            found = compare(runs, dataset, first, second)
            claim = f"{labels.get(first, first)} > {labels.get(second, second)}"
            if found is None:
                lines.append(f"| {claim} | {dataset} | not measured | | |")
            else:
                spread = "" if found.deviation is None else f" ± {found.deviation:.1f}"
                won = f"{found.n_better} of {found.n_classes}"
                lines.append(f"| {claim} | {dataset} | {won} | {signed_text(found.difference)}{spread} | {found.n_pairs} |")
    return "\n".join(lines)


def faster(runs: Sequence[Measured], labels: dict[str, str]) -> str:
    """Return how long one method trains in units of another's time, where both were timed under the same conditions."""
    lines = []
    for first, second in FASTER:
        for dataset in ("mnist", "cifar10"):
            found = compare(runs, dataset, first, second)
            ratio = "not measured under the same conditions" if found is None or found.time_ratio is None else f"× {found.time_ratio:.2g}"
            lines.append(f"- {labels.get(first, first)}, time to fit against {labels.get(second, second)}, {dataset}: {ratio}")
    return "\n".join(lines)


def collapse(runs: Sequence[Measured]) -> str:
    """Return how many runs of the method, and of freed ones, were refused or found critical by the health checks."""
    lines = ["| reading | data set | runs | failed | critical | with a warning | mean AUROC |", "|---|---|---|---|---|---|---|"]
    freed = dict.fromkeys(run.method for run in runs if run.method.startswith("freed"))
    for method, dataset in [*((name, dataset) for name in (LITERAL, METHOD) for dataset in IMAGES), *((name, "digits") for name in freed)]:
        own = [run for run in runs if (run.method, run.dataset) == (method, dataset)]
        label = next((run.label for run in own), method)
        aurocs = [100 * run.auroc for run in own if run.auroc is not None]
        counts = [len(own), sum(run.auroc is None for run in own), *(sum(run.health == level for run in own) for level in LEVELS)]
        mean = f"{statistics.fmean(aurocs):.1f}" if aurocs else ""
        lines.append(f"| {label} | {dataset} | {' | '.join(map(str, counts))} | {mean} |")
    return "\n".join(lines)


def readings(runs: Sequence[Measured], expected: Expected) -> str:
    """Return what each reading of what the paper leaves open moves, in tables of the mean AUROC over the classes that were searched."""
    return "\n".join(line for dataset, source, base in READINGS for line in _readings_on(runs, expected, dataset, source, base))


def _readings_on(runs: Sequence[Measured], expected: Expected, dataset: str, source: str, base: str) -> list[str]:
    own = {(run.dataset, run.method, run.normal_class): run for run in runs if run.seed == 0 and run.auroc is not None}
    classes = list(dict.fromkeys(run.normal_class for run in runs if run.dataset == dataset))
    if not classes:
        return [f"{source}: not measured yet.", ""]

    def mean(place: str, method: str) -> float | None:
        found = [own.get((place, method, normal_class)) for normal_class in classes]
        return None if None in found else statistics.fmean(100 * (run.auroc or 0) for run in found if run is not None)

    reference = mean(dataset, base) if (dataset, base, classes[0]) in own else mean(source, base)
    table = next(table for table in expected.tables if table.dataset == source and not table.attacked)
    printed = statistics.fmean(table.rows[normal_class][METHOD] for normal_class in classes)
    lines = [
        f"**{source}: {', '.join(classes)}; seed 0**", "", "| reading | mean AUROC | moves |", "|---|---|---|",
        f"| *published* | {printed:.1f} | |",
    ]  # fmt: skip
    named = {LITERAL: (source, "*as printed*"), METHOD: (source, "*declared*")}
    named |= {run.method: (dataset, run.label.removeprefix("reading, ")) for run in runs if run.dataset == dataset}
    for method, (place, label) in named.items():
        value = mean(place, method)
        if value is None:
            lines.append(f"| {label} | not measured | |")
            continue
        moves = "" if reference is None or method in (LITERAL, METHOD, base) else signed_text(value - reference)
        lines.append(f"| {label} | {value:.1f} | {moves} |")
    return [*lines, ""]


def figures(expected: Expected, folder: Path) -> str:
    """Return the figures that there are, each with a link to its data, and the names of those that there are not yet."""
    lines = []
    for figure in expected.figures:
        pictures = sorted(folder.glob(f"{figure.name}.png")) or sorted(folder.glob(f"{figure.name}-*.png"))
        lines.append(f"**{figure.title}**" + ("" if pictures else ": not drawn yet."))
        for picture in pictures:
            data = picture.with_suffix(".csv").name
            lines.append(f"![{figure.title}]({folder.name}/{picture.name}) [data]({folder.name}/{data})")
    return "\n\n".join(lines)


if __name__ == "__main__":
    main()
