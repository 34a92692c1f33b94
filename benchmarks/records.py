"""What the benchmarks that measure runs one by one have in common: a CSV of runs that grows, and what the runs were made with."""

import csv
import functools
import io
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch

import insphere
from insphere.benchmark.run.execution import source_commit
from insphere.output_file import replacing


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows that are there already."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write all rows, at least one, at once: a run that is cut off leaves the file as it was. Columns are all that some row has."""
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
    table.writeheader()
    table.writerows(rows)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


@functools.cache
def circumstances() -> dict[str, str]:
    """Return versions, machine and commit; where there is no git checkout, COMMIT in the environment names the latter."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    libraries = (
        f"PyTorch {torch.__version__}, scikit-learn {sklearn.__version__}, NumPy {np.__version__}, Python {platform.python_version()}"
    )
    return {
        "versions": f"insphere {insphere.__version__}, {libraries}",
        "machine": gpu or f"{platform.machine()}, {torch.get_num_threads()} thread",
        "commit": os.environ.get("COMMIT") or source_commit() or "unknown",
    }


def heading(title: str, doc: str | None) -> list[str]:
    """Return the first lines of a page: its title, and what a script's docstring says below its first line."""
    return [f"# {title}", "", *(line.strip() for line in (doc or "").splitlines()[2:] if line.strip()), ""]


def origin(rows: Sequence[Mapping[str, Any]], script: str) -> str:
    """Return the last line of a page: the seeds, versions, machines and commits of its runs, and the script that wrote it."""
    seeds = " ".join(sorted({str(row["seed"]) for row in rows}))
    stated = "; ".join(sorted({f"{row['versions']}; {row['machine']}" for row in rows}))
    commits = ", ".join(sorted({str(row["commit"])[:13] for row in rows}))
    return f"Seeds {seeds}; {stated}; commits {commits}. Written by `benchmarks/{script}`; do not edit."
