"""A million images scored by one command: its memory as it goes, and what random kills leave.

    OMP_NUM_THREADS=1 python benchmarks/million.py --scratch FOLDER            # the million, then the kills
    OMP_NUM_THREADS=1 python benchmarks/million.py --scratch FOLDER --kills 10 --images 0

The million are hard links to two hundred small pictures (the same files listed again), scored by an isolation forest, so that listing,
bookkeeping and writing are what there is to measure. For the kills, the command on 40,000 of them is ended by SIGKILL at a random moment
and started again, until it ends by itself: N times its first process, then, in one more run, N times a process that works for it. In the
end every image has one row, and the scores are those of a run that nobody disturbed. Writes benchmarks/reports/million.json and .md.
"""

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

import insphere
from insphere.benchmark.run.execution import source_commit
from insphere.output_file import make_folder, replacing

REPORT = Path(__file__).parent / "reports" / "million.json"
N_PICTURES, N_FOR_KILLS, SIDE = 200, 40_000, 8
WORKERS = 2


def main() -> None:
    """Run what is asked for and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True, help="folder for a million links; what this wrote there is left")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    scratch = make_folder(options.scratch)
    model = _model(scratch)
    report: dict[str, Any] = json.loads(REPORT.read_text(encoding="utf-8")) if REPORT.exists() else {}
    if options.images:
        report["memory"] = _memory(
            model, _links(scratch, options.images), scratch / f"scores-{options.images}-{os.getpid()}", options.images
        )
    if options.kills:
        report["kills"] = _kills(model, _links(scratch, N_FOR_KILLS), scratch / f"kills-{os.getpid()}", options.kills)
    report["machine"] = f"{os.cpu_count()} cores ({platform.system()}, {platform.machine()})"
    report |= {"commit": source_commit() or "unknown", "version": insphere.__version__}
    _write(report)


def _write(report: dict[str, Any]) -> None:
    with replacing(REPORT) as file:
        file.write((json.dumps(report, indent=1) + "\n").encode())
    lines = ["# A million images, and kills", ""]
    if "memory" in report:
        found = report["memory"]
        lines += [f"`insphere score` of {found['n_images']:,} images, {WORKERS} processes and the one that hands out the work:", ""]
        lines += ["| images written | memory of all processes, MiB | of the first process |", "|---|---|---|"]
        lines += [f"| {row['n_done']:,} | {row['all']:.0f} | {row['first']:.0f} |" for row in found["course"]]
        lines += ["", f"Most at any time: {found['most']:.0f} MiB. {found['seconds']:.0f} s; {found['n_rows']:,} rows, none twice.", ""]
    if "kills" in report:
        found = report["kills"]
        lines += [f"{found['n_first']} kills of the first process and {found['n_workers']} of a worker, at random moments, on"]
        lines += [f"{found['n_images']:,} images: {found['n_rows']:,} rows, {found['n_twice']} twice, {found['n_missing']} missing,"]
        lines += [f"{found['n_different']} scores other than in an undisturbed run.", ""]
    lines += [f"*Proportional set sizes; {report['machine']}; insphere {report['version']} at commit {report['commit'][:12]}.*", ""]
    text = "\n".join(lines)
    with replacing(REPORT.with_suffix(".md")) as file:
        file.write(text.encode())
    print(text)


def _model(scratch: Path) -> Path:
    X = np.random.default_rng(0).integers(0, 255, (N_PICTURES, SIDE, SIDE, 1), np.uint8)
    originals = make_folder(scratch / "originals")
    for number, pixels in enumerate(X):
        Image.fromarray(pixels[:, :, 0]).save(originals / f"{number:03}.png")
    insphere.IForest(random_state=0).fit(originals).save(scratch / "m.insphere")
    return scratch / "m.insphere"


def _links(scratch: Path, n_images: int) -> Path:
    folder = scratch / f"images-{n_images}"
    if not (folder / "complete").exists():
        for number in range(n_images):
            place = folder / f"line{number // 1000:04}"
            if number % 1000 == 0:
                make_folder(place)
            link = place / f"{number:07}.png"
            if not link.exists():
                os.link(scratch / "originals" / f"{number % N_PICTURES:03}.png", link)
        (folder / "complete").touch()
    return folder


def _started(model: Path, images: Path, output: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "insphere", "score", str(model), f"{images}/*/*.png", "-o", f"{output}/", "--workers", str(WORKERS)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _memory(model: Path, images: Path, output: Path, n_images: int) -> dict[str, Any]:
    course: list[dict[str, float]] = []
    most, started = 0.0, time.perf_counter()
    with _started(model, images, output) as process:
        talk = threading.Thread(target=process.stderr.read)  # type: ignore[union-attr]
        talk.start()
        while process.poll() is None:
            sizes = {pid: _mebibytes(pid) for pid in [process.pid, *_below(process.pid)]}
            most = max(most, sum(sizes.values()))
            n_done = sum(pq.ParquetFile(part).metadata.num_rows for part in output.glob("*.parquet")) if output.exists() else 0
            if n_done >= len(course) * n_images / 8:
                course.append({"n_done": n_done, "all": sum(sizes.values()), "first": sizes[process.pid]})
            time.sleep(2)
        talk.join()
    if process.returncode:
        raise RuntimeError(f"the command ended with {process.returncode}")
    paths = pq.read_table(output, columns=["path"])["path"].to_pylist()
    if not len(set(paths)) == len(paths) == n_images:
        raise RuntimeError(f"{len(paths)} rows of {len(set(paths))} images, but {n_images} images")
    return {"n_images": n_images, "course": course, "most": most, "seconds": time.perf_counter() - started, "n_rows": len(paths)}


def _kills(model: Path, images: Path, output: Path, n_kills: int) -> dict[str, Any]:
    draws = random.Random(0)
    whole = output.with_name(f"{output.name}-undisturbed")
    started = time.perf_counter()
    _finish(model, images, whole)
    seconds = time.perf_counter() - started
    for _ in range(n_kills):
        # Anywhere from the first import to the last part.
        process = _started(model, images, output)
        try:
            process.communicate(timeout=draws.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    _finish(model, images, output)
    disturbed = output.with_name(f"{output.name}-workers")
    process, n_workers = _started(model, images, disturbed), 0
    talk = threading.Thread(target=process.stderr.read)  # type: ignore[union-attr]
    talk.start()
    while process.poll() is None and n_workers < n_kills:
        time.sleep(draws.uniform(0.2, 2 * seconds / n_kills))
        workers = [pid for pid in _below(process.pid) if "popen_loky" in _command(pid)]
        if workers:
            os.kill(draws.choice(workers), signal.SIGKILL)
            n_workers += 1
    talk.join()
    if process.wait():
        _finish(model, images, disturbed)
    expected = _scores(whole)
    result: dict[str, Any] = {"n_images": N_FOR_KILLS, "n_first": n_kills, "n_workers": n_workers, "n_rows": 0}
    result |= {"n_twice": 0, "n_missing": 0, "n_different": 0}
    for place in (output, disturbed):
        paths, scores = _scores(place)
        found = dict(zip(paths, scores, strict=True))
        result["n_rows"] += len(paths)
        result["n_twice"] += len(paths) - len(found)
        result["n_missing"] += len(set(expected[0]) - set(paths))
        result["n_different"] += sum(found.get(path) != score for path, score in zip(*expected, strict=True))
    return result


def _finish(model: Path, images: Path, output: Path) -> None:
    process = _started(model, images, output)
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(said)


def _scores(output: Path) -> tuple[list[str], list[float]]:
    table = pq.read_table(output, columns=["path", "anomaly_score"])
    return table["path"].to_pylist(), table["anomaly_score"].to_pylist()


def _below(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(status.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(status.parent.name))
        except OSError:
            continue
    return found + [below for child in found for below in _below(child)]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _mebibytes(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


if __name__ == "__main__":
    main()
