"""Peak memory of a fit and of scoring on Parquet files of images, as the files grow.

Photos of noise (JPEG, 256 x 256 pixels), brought to 8 x 8; each figure is that of a process of its own, libraries and all. A fit holds
the rows at the model's size, 64 bytes each; the model that scores is the same for all files. Linux only.

    python benchmarks/image_parquet.py

writes benchmarks/reports/image-parquet.md.
"""

import argparse
import io
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import insphere
from insphere.benchmark.run.execution import source_commit
from insphere.data import ImageSpec, open_source
from insphere.output_file import replacing

REPORT = Path(__file__).parent / "reports" / "image-parquet.md"
SPEC = ImageSpec(8, 8, 1)
_ROWS_A_GROUP = 500


def main() -> None:
    """Measure, print the table and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 4000, 16000], help="images of each file")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--output", type=Path, default=REPORT)
    parser.add_argument("--measure", nargs=3, metavar=("WHAT", "FILE", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(_peak(*options.measure))
        return
    lines = ["# Memory of image Parquet", "", "| images | file, MB | fit, MB | scoring, MB |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        file, model = Path(folder) / "photos.parquet", Path(folder) / "model.insphere"
        noise = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 1), dtype=np.uint8)
        insphere.KNN(random_state=0).fit(noise).save(model)
        for n_images in options.images:
            _write(file, n_images)
            peaks = [[_in_a_process(what, file, model) for what in ("fit", "score")] for _ in range(options.turns)]
            columns = [_spread([turn[place] for turn in peaks]) for place in range(2)]
            lines.append(f"| {n_images:,} | {file.stat().st_size / 1e6:.0f} | {columns[0]} | {columns[1]} |")
            print(lines[-1], flush=True)
    origin = (
        f"Median (least to most) of {options.turns} processes, most memory that was resident; row groups of {_ROWS_A_GROUP} images,"
        f" KNN, on a machine with {os.cpu_count()} cores ({platform.system()}, {platform.machine()}); insphere {insphere.__version__} at"
        f" commit {source_commit() or 'unknown'}, pyarrow {pa.__version__}, Python {platform.python_version()}."
        " Written by `benchmarks/image_parquet.py`; do not edit."
    )
    with replacing(options.output) as output:
        output.write("\n".join([*lines, "", origin, ""]).encode())


def _write(path: Path, n_images: int) -> None:
    rng = np.random.default_rng(0)
    schema = pa.schema({"image": pa.struct({"bytes": pa.binary(), "path": pa.string()})})
    with pq.ParquetWriter(path, schema, compression="none") as writer:
        for start in range(0, n_images, _ROWS_A_GROUP):
            rows = range(start, min(start + _ROWS_A_GROUP, n_images))
            images = [{"bytes": _photo(rng), "path": f"{row}.jpg"} for row in rows]
            writer.write_table(pa.table({"image": images}, schema=schema))


def _photo(rng: np.random.Generator) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (256, 256), dtype=np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _in_a_process(what: str, file: Path, model: Path) -> float:
    command = [sys.executable, __file__, "--measure", what, str(file), str(model)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _peak(what: str, file: str, model: str) -> float:
    """Fit or score in this process; return the most megabytes it had in memory."""
    warnings.simplefilter("ignore")
    source = open_source(file, spec=SPEC)
    if what == "fit":
        insphere.KNN(random_state=0).fit(source)
    else:
        for _ in insphere.load(model).score_batches(source):
            pass
    # Not what `resource.getrusage` says, which begins with the memory of the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


if __name__ == "__main__":
    main()
