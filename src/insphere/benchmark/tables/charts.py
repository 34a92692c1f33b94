"""Charts of results: times of methods, AUROC side by side, AUROC over a parameter."""

import json
import logging
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from insphere.benchmark.tables.drawing import (
    COLORS,
    MARKERS,
    CannotDrawError,
    Material,
    label_of,
    look,
    make_logarithmic,
    moments,
    name_places,
    new_picture,
    percentages,
    runs_of,
    save,
    write_csv,
)
from insphere.benchmark.tables.expected import ExpectedFigure
from insphere.benchmark.tables.measured import Measured

_log = logging.getLogger(__name__)


# Times.


def draw_times(figure: ExpectedFigure, material: Material, folder: Path) -> list[Path]:
    """Draw the median seconds that each method takes to fit and to score, on the machine where most methods were timed."""
    timed = [run for run in runs_of(figure, material) if run.fit_seconds is not None and run.score_seconds is not None]
    if not timed:
        raise CannotDrawError(f"no run on {figure.dataset} has its times")
    settings = dict.fromkeys(run.timing for run in timed)
    setting = max(settings, key=lambda timing: len({run.method for run in timed if run.timing == timing}))
    chosen = [run for run in timed if run.timing == setting]
    left_out = {run.label or run.method for run in timed} - {run.label or run.method for run in chosen}
    if left_out:
        _log.warning("Figure %s leaves out %s, timed on another machine only.", figure.name, ", ".join(sorted(left_out)))
    groups: dict[tuple[str, str], list[Measured]] = {}
    for run in chosen:
        groups.setdefault((run.method, run.device), []).append(run)
    times = {key: [(run.fit_seconds or 0.0, run.score_seconds or 0.0) for run in runs] for key, runs in groups.items()}
    order = sorted(groups, key=lambda key: statistics.median(fit for fit, _ in times[key]))
    records = [
        [
            key[0], label_of(groups[key]), setting[0], key[1], *setting[1:], len(times[key]),
            *(round(function(part), 4) for part in zip(*times[key], strict=True) for function in (statistics.median, min, max)),
        ]
        for key in order
    ]  # fmt: skip
    picture, axes = new_picture(figure, chosen, width=max(6.0, 1.6 + 0.85 * len(order)))
    for number, (name, first) in enumerate((("fit", -6), ("score", -3))):
        middle, low, high = (np.array([max(float(record[first + offset]), 1e-4) for record in records]) for offset in range(3))
        places = np.arange(len(order)) + 0.4 * number - 0.2
        axes.bar(places, middle, 0.4, yerr=(middle - low, high - middle), label=name, capsize=2, **look(number))
    make_logarithmic(axes.yaxis)
    axes.set_ylabel("seconds, median of runs (bars: least and most)")
    name_places(axes, [record[1] + (f" ({record[3]})" if record[3] not in ("", "cpu") else "") for record in records])
    axes.legend()
    header = ["method", "label", "machine", "device", "n_threads", "concurrency", "together", "n_runs"]
    header += [f"{part}_seconds_{what}" for part in ("fit", "score") for what in ("median", "least", "most")]
    return [save(picture, folder, figure.name), write_csv(folder / f"{figure.name}.csv", header, records)]


# Bars.


def draw_bars(figure: ExpectedFigure, material: Material, folder: Path) -> list[Path]:
    """Draw the AUROC of methods side by side for every normal class, with the standard deviation over seeds."""
    runs = [run for run in runs_of(figure, material) if run.auroc is not None]
    methods = list(figure.methods or dict.fromkeys(run.method for run in runs))
    absent = [method for method in methods if not any(run.method == method for run in runs)]
    if absent or not methods:
        raise CannotDrawError(f"there is no result of {', '.join(absent) or 'any method'} on {figure.dataset}")
    runs = [run for run in runs if run.method in methods]
    classes = list(figure.normal_classes or dict.fromkeys(run.normal_class for run in runs))
    picture, axes = new_picture(figure, runs, width=max(6.0, 1.2 + 0.22 * len(classes) * (len(methods) + 1)))
    records, width = [], 0.8 / len(methods)
    for number, method in enumerate(methods):
        own = [run for run in runs if run.method == method]
        values = [percentages(run for run in own if run.normal_class == name) for name in classes]
        records += [[name, method, label_of(own), len(value), *moments(value)] for name, value in zip(classes, values, strict=True)]
        means, deviations = zip(*(moments(value) for value in values), strict=True)
        places = np.arange(len(classes)) + (number - (len(methods) - 1) / 2) * width
        spread = [0.0 if one is None else one for one in deviations]
        heights = [math.nan if one is None else one for one in means]
        axes.bar(places, heights, width, yerr=spread, label=label_of(own), capsize=2, **look(number))
    lowest = min(float(record[4]) - float(record[5] or 0) for record in records if record[4] is not None)
    axes.set_ylim(max(0.0, 10 * math.floor(lowest / 10 - 0.5)), 101)
    axes.set_ylabel("AUROC in percent ± deviation over seeds")
    axes.set_xlabel("normal class")
    name_places(axes, classes)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=min(4, len(methods)))
    header = ["normal_class", "method", "label", "n_seeds", "auroc_mean", "auroc_deviation"]
    return [save(picture, folder, figure.name), write_csv(folder / f"{figure.name}.csv", header, records)]


# Sweeps.


def draw_sweep(figure: ExpectedFigure, material: Material, folder: Path) -> list[Path]:
    """Draw the AUROC over one parameter, all others fixed, one line for every normal class."""
    family = _sweep_family(figure, material)
    by_value = {value: [run for run in family if run.parameters[figure.parameter or ""] == value] for value in _values(figure, family)}
    classes = list(figure.normal_classes or dict.fromkeys(run.normal_class for run in family))
    picture, axes = new_picture(figure, family, width=7.0)
    records: list[list[Any]] = []
    for number, name in enumerate(classes):
        values = {value: percentages(run for run in runs if run.normal_class == name) for value, runs in by_value.items()}
        lines: list[list[Any]] = [[name, value, len(percent), *moments(percent)] for value, percent in values.items() if percent]
        records += lines
        if lines:
            means = [line[3] for line in lines]
            spread = [line[4] or 0.0 for line in lines]
            label = f"{name} (range {max(means) - min(means):.1f} points)"
            style: dict[str, Any] = {"color": COLORS[number % 8], "marker": MARKERS[number % 8], "capsize": 2}
            axes.errorbar([line[1] for line in lines], means, yerr=spread, label=label, **style)
    if min(by_value) > 0:
        make_logarithmic(axes.xaxis)
    axes.set_xlabel(figure.parameter)
    axes.set_ylabel("AUROC in percent ± deviation over seeds")
    stated = figure.stated_spread
    title = None if stated is None else f"normal class (published: {stated[0]:g} to {stated[1]:g} points)"
    axes.legend(title=title)
    header = ["normal_class", figure.parameter or "", "n_seeds", "auroc_mean", "auroc_deviation"]
    return [save(picture, folder, figure.name), write_csv(folder / f"{figure.name}.csv", header, records)]


def _sweep_family(figure: ExpectedFigure, material: Material) -> list[Measured]:
    """Return the runs that differ in the parameter alone: of several such families the one with the most values of it."""
    families: dict[str, list[Measured]] = {}
    for run in runs_of(figure, material):
        if (
            run.auroc is not None
            and run.detector == figure.detector
            and isinstance(run.parameters.get(figure.parameter or ""), int | float)
        ):
            others = {name: value for name, value in run.parameters.items() if name != figure.parameter}
            families.setdefault(json.dumps(others, sort_keys=True), []).append(run)
    if not families:
        raise CannotDrawError(f"no run of {figure.detector} on {figure.dataset} states its {figure.parameter}")
    largest = max(families.values(), key=lambda runs: len(_values(figure, runs)))
    if len(_values(figure, largest)) < 2:
        raise CannotDrawError(f"no two runs of {figure.detector} on {figure.dataset} differ in {figure.parameter} alone")
    return largest


def _values(figure: ExpectedFigure, runs: Iterable[Measured]) -> list[float]:
    return sorted({run.parameters[figure.parameter or ""] for run in runs})
