"""Ways to do one thing, timed in turn in one run: what the benchmarks of speed have in common."""

import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import insphere
from insphere.benchmark.run.execution import source_commit

Way = Callable[[], float]


@dataclass(frozen=True)
class Comparison:
    """Ways to do one thing, each of which does it once and returns the seconds that it took; the others are compared with the first.

    Attributes
    ----------
    title : str
    about : str
        What is done, with sizes.
    unit : str
        Of the seconds: "wall-clock" or "CPU".
    ways : dict of str to callable
    profiled : callable, optional
        What the first way spends its time on is measured in one call of it, by operators of PyTorch.
    """

    title: str
    about: str
    unit: str
    ways: dict[str, Way]
    profiled: Callable[[], Any] | None = None


def timed(comparison: Comparison, n_turns: int) -> dict[str, Any]:
    """Return the report of a comparison: the seconds of each way in each turn, and what they were measured on."""
    for way in comparison.ways.values():  # what is done but once (imports, caches, threads that start) is no one's time
        way()
    turns = [{name: way() for name, way in comparison.ways.items()} for _ in range(n_turns)]
    return {
        "title": comparison.title,
        "about": comparison.about,
        "unit": comparison.unit,
        "profile": {} if comparison.profiled is None else shares(comparison.profiled),
        "seconds": {name: [turn[name] for turn in turns] for name in comparison.ways},
        "machine": f"{processor()}, {os.cpu_count()} cores, {os.environ.get('OMP_NUM_THREADS') or 'all'} threads ({platform.system()})",
        "commit": source_commit() or "unknown",
        "versions": {name: version(name) for name in ("torch", "numpy", "scikit-learn", "onnxruntime", "pillow")}
        | {"python": platform.python_version(), "insphere": insphere.__version__},
    }


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a report."""
    ways = report["seconds"]
    first = next(iter(ways.values()))
    lines = [f"## {report['title']}", "", report["about"], "", f"| way | {report['unit']} ms | times the first |", "|---|---|---|"]
    for name, seconds in ways.items():
        ratios = [mine / reference for mine, reference in zip(seconds, first, strict=True)]
        lines.append(f"| {name} | {spread([1000 * value for value in seconds])} | {spread(ratios)} |")
    if report.get("profile"):
        listed = ", ".join(f"{name} {100 * share:.0f} %" for name, share in report["profile"].items())
        lines += ["", f"Where the time of the first way goes: {listed}."]
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    lines += ["", f"*Median (least to most) of {len(first)} turns; {report['machine']}; commit {report['commit'][:12]}; {versions}.*"]
    return lines


def shares(action: Callable[[], Any]) -> dict[str, float]:
    """Return the operators of PyTorch that take most of the time of an action, and the share of each."""
    from torch.profiler import ProfilerActivity, profile

    action()
    started = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        action()
    seconds = time.perf_counter() - started
    found = sorted(profiler.key_averages(), key=lambda row: -row.self_cpu_time_total)[:5]
    return {row.key.removeprefix("aten::"): row.self_cpu_time_total / 1e6 / seconds for row in found}


def spread(values: list[float]) -> str:
    """Return median, least and most with three digits."""
    median, least, most = (
        f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" for value in (statistics.median(values), min(values), max(values))
    )
    return f"{median} ({least} to {most})"


def processor() -> str:
    """Return the processor's name, and which instructions for bfloat16 it has."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    name = next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), platform.machine())
    found = [word for word in ("avx512_bf16", "amx_bf16") if word in text]
    return f"{name} with {' and '.join(found) or 'no bfloat16'}"


def wall(action: Callable[[], Any], times: int = 1) -> Way:
    """Return a way that measures wall-clock seconds of one call, as the mean of some."""

    def way() -> float:
        started = time.perf_counter()
        for _ in range(times):
            action()
        return (time.perf_counter() - started) / times

    return way


def process(*command: str, **environment: str) -> Way:
    """Return a way that measures the CPU seconds of a whole process."""

    def way() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], check=True, capture_output=True, env={**os.environ, **environment})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return way


def pictures(n: int, side: int, channels: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return smooth random pictures."""
    coarse = np.random.default_rng(0).integers(0, 255, (n, 6, 6, channels), np.uint8)
    images = [Image.fromarray(one[:, :, 0] if channels == 1 else one).resize((side, side), Image.Resampling.BICUBIC) for one in coarse]
    return np.stack([np.asarray(image).reshape(side, side, channels) for image in images])
