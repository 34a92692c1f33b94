"""What a thousand million images would take: rates and sizes measured here, and what they come to.

    OMP_NUM_THREADS=1 python benchmarks/scale.py

measures a listing, the fetching, decoding and scoring of photos in one process, and the writing of parts, a few turns of each, and writes
benchmarks/reports/scale.json and the section "A thousand million images" of docs/scale.md. Everything there is these figures multiplied;
no run of that size was made.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

import insphere
from insphere.benchmark.run.execution import source_commit
from insphere.output_file import make_folder, replacing
from insphere.scoring.parts import PartFolder, digests_of
from insphere.scoring.places import list_images
from insphere.scoring.scorer import Chunk, Scorer, Task

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "benchmarks" / "reports" / "scale.json"
PAGE = ROOT / "docs" / "scale.md"
BEGIN, END = "<!-- scale:begin (written by benchmarks/scale.py; do not edit) -->", "<!-- scale:end -->"
N_IMAGES = 10**9
WATTS = 5.0  # of a core at work, memory and cooling left out: an assumption, not a measurement
HOURS = 24.0


def main() -> None:
    """Measure, and write report and section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--listed", type=int, default=50_000, help="files to list")
    parser.add_argument("--photos", type=int, default=48)
    parser.add_argument("--page", action="store_true", help="write the section from the report that is there")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if not options.page:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # decoding would take others too
        with tempfile.TemporaryDirectory() as folder:
            report = measured(Path(folder), options.turns, options.listed, options.photos)
        with replacing(REPORT) as file:
            file.write((json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    text = PAGE.read_text(encoding="utf-8")
    section = "\n".join([BEGIN, *lines_of(json.loads(REPORT.read_text(encoding="utf-8"))), END])
    head, tail = (text.partition(BEGIN)[0], text.partition(END)[2]) if BEGIN in text else (f"{text.rstrip()}\n\n", "\n")
    with replacing(PAGE) as file:
        file.write(f"{head}{section}{tail}".encode())
    print(section)


def measured(folder: Path, n_turns: int, n_listed: int, n_photos: int) -> dict[str, Any]:
    """Return the figures, each a list over the turns."""
    found: dict[str, list[float]] = {}

    def keep(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    make_folder(folder / "many")
    for number in range(n_listed):
        place = folder / "many" / f"line{number % 100:02}"
        if number < 100:
            place.mkdir()
        (place / f"photo-2026-{number:09}.jpg").touch()
    tracemalloc.start()
    listing = list_images(folder / "many")
    keep("bytes of memory a listed image", tracemalloc.get_traced_memory()[1] / n_listed)
    tracemalloc.stop()
    photos = _photos(folder / "photos", n_photos)
    scorers = {name: _scorer(folder, name, photos) for name in ("knn at 64 × 64", "vae-svdd at 64 × 64")}
    chunk = Chunk(*_chunk(photos))
    rows = next(iter(scorers.values())).score(chunk).drop_columns(["_remarks"])
    many = _many(rows, 10_000)
    for turn in range(n_turns):
        keep("images listed a second", n_listed / _seconds(lambda: list_images(folder / "many")))
        keep("names digested a second", n_listed / _seconds(lambda: digests_of(listing.names, [0] * n_listed, [0] * n_listed)))
        for name, scorer in scorers.items():
            keep(f"photos of 1.4 megapixels a second, {name}", n_photos / _seconds(lambda scorer=scorer: scorer.score(chunk)))  # type: ignore[misc]
        place = make_folder(folder / f"parts{turn}")
        parts = PartFolder(str(place), many.schema, len(many), 1e9)
        keep("rows written a second", len(many) / _seconds(lambda parts=parts: parts.append(many)))  # type: ignore[misc]
        keep("bytes a row of a part", sum(part.stat().st_size for part in place.iterdir()) / len(many))
    machine = f"one core of a machine with {os.cpu_count()} cores ({platform.system()}, {platform.machine()})"
    size = statistics.mean(chunk.n_bytes)
    return {
        "figures": found,
        "bytes a photo": size,
        "machine": machine,
        "commit": source_commit() or "unknown",
        "version": insphere.__version__,
    }


def lines_of(report: dict[str, Any]) -> list[str]:
    """Return the section."""
    figures = report["figures"]
    median = {name: statistics.median(values) for name, values in figures.items()}
    lines = ["## A thousand million images", "", "| measured | median (least to most) |", "|---|---|"]
    lines += [
        f"| {name} | {_number(median[name])} ({_number(min(values))} to {_number(max(values))}) |" for name, values in figures.items()
    ]
    lines += [
        "",
        f"*{len(figures['rows written a second'])} turns on {report['machine']}; photos of {report['bytes a photo'] / 1e6:.2f} MB;"
        f" insphere {report['version']} at commit {report['commit'][:12]}.*",
        "",
    ]
    lines += [f"What 10⁹ such photos come to, by multiplication; nobody ran it, and {WATTS:g} W a core is an assumption:", ""]
    lines += ["| | core hours | cores for 24 hours | MB/s to be fetched | kJ a million |", "|---|---|---|---|---|"]
    for name, rate in median.items():
        if name.startswith("photos"):
            hours, cores = N_IMAGES / rate / 3600, N_IMAGES / rate / 3600 / HOURS
            fetched, energy = cores * rate * report["bytes a photo"] / 1e6, 1e6 / rate * WATTS / 1e3
            cells = (_number(value) for value in (hours, cores, fetched, energy))
            lines.append(f"| {name.partition(', ')[2]} | {' | '.join(cells)} |")
    listed_gib = N_IMAGES * median["bytes of memory a listed image"] / 2**30
    parts_gb = N_IMAGES * median["bytes a row of a part"] / 1e9
    listing_h = N_IMAGES / median["images listed a second"] / 3600
    written = median["rows written a second"]
    most = written / max(value for name, value in median.items() if name.startswith("photos"))
    lines += [
        "",
        f"- **What breaks first is the listing**: {_number(listed_gib)} GiB of the driver's memory and {_number(listing_h)} hours for 10⁹"
        " names in one run. Run one `insphere score` for each prefix (`.../2026-01/**`, into a folder each): ten million images take"
        f" {_number(listed_gib / 100)} GiB and {_number(listing_h * 60 / 100)} minutes.",
        f"- The scores are {_number(parts_gb)} GB, in {N_IMAGES // 10_000:,} parts of 10,000 rows, and more where a part is written"
        " after a minute. A run that goes on reads the names in its parts and digests"
        f" {_number(median['names digested a second'])} of them a second, in 24 bytes of memory each.",
        f"- The driver writes {_number(written)} rows a second, enough for {_number(most)} such cores; runs by prefix have a driver each.",
        "- Where photos are large, most of the time goes into decoding: `jpeg_draft` and smaller files help more than a faster network.",
    ]
    return lines


def _many(rows: pa.Table, n_rows: int) -> pa.Table:
    """Return as many rows, whose names and scores differ as those of other images do: equal ones would be stored once."""
    table = pa.concat_tables([rows] * -(-n_rows // len(rows))).slice(0, n_rows)
    rng = np.random.default_rng(0)
    columns: dict[str, Any] = {
        "path": [f"line{number % 100:02}/photo-2026-{number:09}.jpg" for number in range(n_rows)],
        "n_bytes": rng.integers(100_000, 400_000, n_rows),
        "modified_ns": 1_790_000_000_000_000_000 + rng.integers(0, 10**15, n_rows),
        "anomaly_score": rng.normal(size=n_rows),
        "p_value": rng.integers(1, 1000, n_rows) / 1000,
    }
    for name, values in columns.items():
        table = table.set_column(
            table.schema.get_field_index(name), table.schema.field(name), pa.array(values, table.schema.field(name).type)
        )
    return table


def _photos(folder: Path, n_photos: int) -> list[Path]:
    make_folder(folder)
    coarse = np.random.default_rng(0).integers(0, 255, (n_photos, 40, 50, 3), np.uint8)
    for number, pixels in enumerate(coarse):
        Image.fromarray(pixels).resize((1366, 1024), Image.Resampling.BICUBIC).save(folder / f"{number:03}.jpg", quality=90)
    return sorted(folder.iterdir())


def _chunk(photos: list[Path]) -> tuple[list[str], list[int], list[int]]:
    status = [photo.stat() for photo in photos]
    return [photo.name for photo in photos], [found.st_size for found in status], [found.st_mtime_ns for found in status]


def _scorer(folder: Path, name: str, photos: list[Path]) -> Scorer:
    parameters: dict[str, Any] = {"random_state": 0}
    detector = insphere.KNN(**parameters) if name.startswith("knn") else insphere.DeepSVDDVAE(epochs=1, **parameters)
    path = folder / f"{detector.name}.insphere"
    detector.fit(insphere.open_source(photos[0].parent, image_size=64)).save(path)
    return Scorer(Task((str(path),), str(photos[0].parent)))


def _seconds(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
