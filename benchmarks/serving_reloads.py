"""Whether a service goes on while its model files are replaced, broken, deleted and made endless, and keeps to its memory and handles.

Run: python benchmarks/serving_reloads.py [--requests 10000] [--seconds 240] [--report REPORT.md]

Starts `insphere serve` on this machine's loopback with a folder of models. A thread does something to a random file every second; others
send good rows to models that were there at the start. Every answer must be 200, whatever happens to the files.
"""

import argparse
import collections
import http.client
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import IO, cast

import numpy as np

import insphere

NAMES = ("a", "b", "c", "new")
CLIENTS = 4
BODY = json.dumps({"rows": [[0.0, 0.1, -0.2], [5.0, 5.0, 5.0]]})

# A detector of others whose files keep their reader busy for ever, but where they were made.
ENDLESS = """
import os
import time

import insphere


class Endless(insphere.KNN):
    name = "endless"

    def _restore(self, model, arrays):
        if os.environ.get("ENDLESS_HOME") != str(os.getpid()):
            time.sleep(1000)
        super()._restore(model, arrays)
"""


def make_models(folder: Path) -> list[Path]:
    """Write models to deploy: good ones, a cut one, one that is none, an endless one."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(3):
        made.append(folder / f"good-{number}")
        insphere.KNN(random_state=number).fit(rng.normal(size=(200 + 50 * number, 3))).save(made[-1])
    (folder / "cut").write_bytes(made[0].read_bytes()[:-100])
    (folder / "none").write_bytes(b"no model")
    (folder / "endless_detector.py").write_text(ENDLESS)
    sys.path.insert(0, str(folder))
    from endless_detector import Endless  # type: ignore[import-not-found]

    os.environ["ENDLESS_HOME"] = str(os.getpid())
    Endless().fit(rng.normal(size=(100, 3))).save(folder / "endless")
    return [*made, folder / "cut", folder / "none", folder / "endless"]


class Meddler(threading.Thread):
    """Does something to a random model file every second."""

    def __init__(self, served: Path, made: list[Path], seed: int) -> None:
        super().__init__(daemon=True)
        self._served, self._made, self._random = served, made, random.Random(seed)
        self.done: collections.Counter[str] = collections.Counter()
        self.stop = threading.Event()

    def run(self) -> None:
        """Meddle until told to stop."""
        while not self.stop.wait(1.0):
            target = self._served / f"{self._random.choice(NAMES)}.insphere"
            what = self._random.choice(["replaced", "replaced", "replaced in place", "broken", "made endless", "deleted", "cut"])
            source = self._random.choice(self._made[:3])
            if what in ("broken", "made endless"):
                source = self._made[5] if what == "made endless" else self._random.choice(self._made[3:5])
            if what == "deleted":
                target.unlink(missing_ok=True)
            elif what == "cut":
                if not target.exists():
                    continue
                os.truncate(target, target.stat().st_size // 2)
            elif what == "replaced in place":
                shutil.copy(source, target)
            else:
                shutil.copy(source, target.with_suffix(".part"))
                target.with_suffix(".part").replace(target)
            self.done[what] += 1


def held(process: int) -> tuple[float, int, int]:
    """Return megabytes of memory, open files and threads of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    memory, threads = (int(cast(re.Match[str], re.search(rf"{name}:\s+(\d+)", status))[1]) for name in ("VmRSS", "Threads"))
    return memory / 1024, len(os.listdir(f"/proc/{process}/fd")), threads


def main() -> None:
    """Measure, print, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made, served = make_models(Path(folder)), Path(folder, "served")
        served.mkdir()
        for name, source in zip(NAMES[:3], made, strict=False):
            shutil.copy(source, served / f"{name}.insphere")
        environment = {**os.environ, "INSPHERE_DETECTORS": "endless_detector:Endless", "ENDLESS_HOME": "elsewhere"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, *sys.path]))
        command = [sys.executable, "-m", "insphere", "serve", str(served), "--port", "0", "--reload-every", "0.5", "--load-timeout", "5"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        stderr = cast(IO[str], process.stderr)
        port = next(int(found[1]) for line in stderr if (found := re.search(r'127\.0\.0\.1:(\d+)/"', line)))
        events: collections.Counter[str] = collections.Counter()
        threading.Thread(target=lambda: [events.update([json.loads(line)["event"]]) for line in stderr], daemon=True).start()
        try:
            while ask(port, "GET", "/v2/health/ready")[0] != 200:
                time.sleep(0.2)
            found = measure(port, process.pid, Meddler(served, made, given.seed), given.requests, given.seconds)
        finally:
            process.terminate()
            code = process.wait(60)
        found |= {name: events[name] for name in ("model reloaded", "model loaded", "new model file is refused")}
        found["refused changes"] = sum(count for event, count in events.items() if event.startswith("model file changed"))
        found["exit code"] = code
    sys.stdout.write("".join(f"{name:26} {value}\n" for name, value in found.items()))
    if given.report:
        Path(given.report).write_text(as_report(found, given.seed), encoding="utf-8")


def ask(port: int, method: str, path: str, body: str | None = None) -> tuple[int, float]:
    """Return status and milliseconds of a request; 0 where the connection broke."""
    connection, began = http.client.HTTPConnection("127.0.0.1", port, timeout=60), time.perf_counter()
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status, (time.perf_counter() - began) * 1000
    except (OSError, http.client.HTTPException):
        return 0, (time.perf_counter() - began) * 1000
    finally:
        connection.close()


def measure(port: int, process: int, meddler: Meddler, n_requests: int, seconds: float) -> dict[str, object]:
    """Return how requests fared, and what the process held at the start and the end."""
    statuses: collections.Counter[int] = collections.Counter()
    times: list[float] = []
    samples: list[tuple[float, int, int]] = []
    lock, began, numbers = threading.Lock(), time.monotonic(), iter(range(n_requests))

    def client() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            time.sleep(max(0.0, began + seconds * number / n_requests - time.monotonic()))
            status, milliseconds = ask(port, "POST", f"/models/{NAMES[number % 3]}/score", BODY)
            with lock:
                statuses[status] += 1
                times.append(milliseconds)
                # What is only built up at first (caches, threads of the scorers) is not what grows.
                if number == n_requests // 5 or number == n_requests - 1 or number % 500 == 0:
                    samples.append((number, *held(process)))  # type: ignore[arg-type]

    meddler.start()
    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    meddler.stop.set()
    meddler.join()
    settled = [sample[1:] for sample in samples if sample[0] >= n_requests // 5]
    quantile = lambda share: round(float(np.quantile(times, share)), 1)  # noqa: E731
    return {
        "requests": sum(statuses.values()),
        "answers": dict(statuses),
        "seconds": round(time.monotonic() - began),
        "milliseconds p50": quantile(0.5),
        "milliseconds p99": quantile(0.99),
        "done to files": dict(meddler.done),
        "MB, after a fifth": round(settled[0][0]),
        "MB, at the end": round(settled[-1][0]),
        "MB, most": round(max(sample[0] for sample in settled)),
        "open files, after a fifth": settled[0][1],
        "open files, at the end": settled[-1][1],
        "threads, after a fifth": settled[0][2],
        "threads, at the end": settled[-1][2],
    }


def as_report(found: dict[str, object], seed: int) -> str:
    """Return the report."""
    machine = f"{os.cpu_count()} cores ({platform.system()}, {platform.machine()}), load {os.getloadavg()[0]:.1f}"
    lines = ["# A service whose model files are replaced, broken, deleted and made endless", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in found.items()]
    lines += ["", f"Seed {seed}, one run; {CLIENTS} clients. On {machine};"]
    lines += [
        f"insphere {insphere.__version__}, Python {platform.python_version()}. Written by",
        "`benchmarks/serving_reloads.py`; do not edit.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
