"""Memory of fits on more and more rows: all in memory, and in a temporary file where they take more than `training.memory_limit`.

    OMP_NUM_THREADS=1 python benchmarks/fit_memory.py --scratch FOLDER

fits a small autoencoder for one epoch on rows of 2,000 features in a .npy file, each fit in a process of its own, and writes the most
memory that was resident in it to benchmarks/reports/fit-memory.md.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

import insphere
from insphere.benchmark.run.execution import source_commit
from insphere.output_file import make_folder, replacing

REPORT = Path(__file__).parent / "reports" / "fit-memory.md"
N_FEATURES, N_BLOCK = 2000, 2000
LIMIT = 2**26
FITS = {"in memory": 2**40, f"memory_limit of {LIMIT // 2**20} MiB": LIMIT}


def main() -> None:
    """Measure and write the report; with --fit, be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="*", default=[16_000, 32_000, 64_000])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--fit", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fit:
        print(_fitted(Path(options.fit[0]), int(options.fit[1])))
        return
    lines = ["# Memory of fits", "", f"| rows | file, MB | {' | '.join(f'{name}, MiB' for name in FITS)} |", "|---|---|---|---|"]
    for n_rows in options.rows:
        path = _rows(make_folder(options.scratch), n_rows)
        cells = []
        for limit in FITS.values():
            command = [sys.executable, __file__, "--scratch", str(options.scratch), "--fit", str(path), str(limit)]
            found = [float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(options.turns)]
            cells.append(f"{statistics.median(found):.0f} ({min(found):.0f} to {max(found):.0f})")
        lines.append(f"| {n_rows:,} | {path.stat().st_size / 1e6:.0f} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
        path.unlink()
    commit = (source_commit() or "unknown")[:12]
    lines += [
        "",
        f"Most memory that was resident, median (least to most) of {options.turns} processes; `cae` of one width, one epoch,"
        f" {N_FEATURES:,} features; {os.cpu_count()} cores ({platform.system()}, {platform.machine()}); insphere"
        f" {insphere.__version__} at commit {commit}. Written by `benchmarks/fit_memory.py`; do not edit.",
        "",
    ]
    with replacing(REPORT) as file:
        file.write("\n".join(lines).encode())


def _rows(folder: Path, n_rows: int) -> Path:
    path = folder / f"{n_rows}.npy"
    rng = np.random.default_rng(0)
    X = np.lib.format.open_memmap(path, "w+", np.float64, (n_rows, N_FEATURES))
    for start in range(0, n_rows, N_BLOCK):
        X[start : start + N_BLOCK] = rng.standard_normal((min(N_BLOCK, n_rows - start), N_FEATURES))
    X.flush()
    return path


def _fitted(path: Path, limit: int) -> float:
    warnings.simplefilter("ignore")
    training = {"memory_limit": limit, "precision": "32"}
    insphere.CAE(epochs=1, network={"widths": [16]}, latent_dim=8, training=training, random_state=0).fit(path)
    # Not of getrusage, which counts what the process that started this one had.
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024


if __name__ == "__main__":
    main()
