"""How much of in-process scoring is left when the same images come over HTTP, one a request, from many clients at once.

    python benchmarks/serving.py MODEL IMAGES --clients 50 --seconds 120

Starts `insphere serve` as its own process, has the clients send the images of a folder over and over, and compares with `insphere`'s own
batch scoring of that folder, measured before and after. Server and clients share the machine. Writes benchmarks/reports/serving.md.
"""

import argparse
import asyncio
import json
import os
import platform
import re
import resource
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

REPORT = Path(__file__).parent / "reports" / "serving.md"
IN_PROCESS = """
import sys, time, insphere
detector = insphere.load(sys.argv[1])
detector.anomaly_score(sys.argv[2])
rates = []
for _ in range(int(sys.argv[3])):
    began = time.perf_counter()
    n_rows = len(detector.anomaly_score(sys.argv[2]))
    rates.append(n_rows / (time.perf_counter() - began))
began = time.process_time()
n_rows = len(detector.anomaly_score(sys.argv[2]))
print(*rates, (time.process_time() - began) / n_rows)
"""


def in_process_rates(model: Path, images: Path, n_rounds: int) -> tuple[list[float], float]:
    """Return images a second of `anomaly_score` on the folder, files read and decoded, for each round; and CPU seconds an image."""
    done = subprocess.run([sys.executable, "-c", IN_PROCESS, model, images, str(n_rounds)], capture_output=True, text=True, check=True)
    *rates, cpu = map(float, done.stdout.split())
    return rates, cpu


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that a process has used so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start_server(model: Path) -> tuple[subprocess.Popen[str], int]:
    """Return the running service and its port, ready."""
    command = [sys.executable, "-m", "insphere", "serve", f"model={model}", "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in server.stderr or ():
        if found := re.search(r'"url": "http://127.0.0.1:(\d+)/"', line):
            # Read on, or the pipe would fill up and the service wait.
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return server, int(found[1])
    raise SystemExit("insphere serve did not start")


class Tally:
    """What the clients saw."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.failures: list[str] = []
        self.per_second: dict[int, int] = {}

    def add(self, seconds: float, now: float) -> None:
        self.seconds.append(seconds)
        self.per_second[int(now)] = self.per_second.get(int(now), 0) + 1


async def client(port: int, requests: list[bytes], first: int, end: float, tally: Tally, expected: list[float | None]) -> None:
    """Send one request after the other on one connection until `end`, and check every answer against the library's score."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = first
    while time.monotonic() < end:
        position = number % len(requests)
        began = time.perf_counter()
        writer.write(requests[position])
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        body = await reader.readexactly(length)
        tally.add(time.perf_counter() - began, time.monotonic())
        if not head.startswith(b"HTTP/1.1 200 "):
            tally.failures.append(head.split(b"\r\n")[0].decode() + " " + body[:200].decode())
        elif json.loads(body)["results"][0]["anomaly_score"] != expected[position]:
            tally.failures.append(f"image {position}: another score than the library's")
        number += 1
    writer.close()


def as_request(path: Path) -> bytes:
    """Return the bytes of a form upload of one image."""
    part = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = part + path.read_bytes() + b"\r\n--x--\r\n"
    head = f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def load(port: int, requests: list[bytes], n_clients: int, seconds: float, expected: list[float | None]) -> Tally:
    """Have all clients send requests for some seconds, and return what they saw."""
    tally = Tally()
    end = time.monotonic() + seconds
    step = max(1, len(requests) // n_clients)
    await asyncio.gather(*(client(port, requests, number * step, end, tally, expected) for number in range(n_clients)))
    return tally


def main() -> None:
    """Measure, print, write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path, help="folder of images")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--rounds", type=int, default=3, help="of in-process scoring, before and after")
    parser.add_argument("--no-report", action="store_true")
    options = parser.parse_args()
    import insphere

    detector = insphere.load(options.model)
    source = detector.open(str(options.images))
    paths = [options.images / name for name in source.ids or ()]
    expected = [float(score) for score in detector.anomaly_score(source)]
    requests = [as_request(path) for path in paths]
    before, cpu_in_process = in_process_rates(options.model, options.images, options.rounds)
    server, port = start_server(options.model)
    try:
        asyncio.run(load(port, requests, options.clients, 3.0, expected))  # warm
        used = cpu_seconds(server.pid), sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        tally = asyncio.run(load(port, requests, options.clients, options.seconds, expected))
        used = cpu_seconds(server.pid) - used[0], sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - used[1]
    finally:
        server.terminate()
        server.wait(30)
    after, _ = in_process_rates(options.model, options.images, options.rounds)
    cpu = (cpu_in_process, *(seconds / max(1, len(tally.seconds)) for seconds in used))
    report(options, detector, paths, tally, np.array(before + after), cpu)


def report(options: argparse.Namespace, detector: Any, paths: list[Path], tally: Tally, baseline: Any, cpu: tuple[float, ...]) -> None:
    """Print the figures, and write them unless asked not to."""
    whole = sorted(tally.per_second)[1:-1]  # the first and the last second are not whole
    served = np.array([tally.per_second[second] for second in whole], dtype=float)
    rate = len(tally.seconds) / options.seconds
    p50, p99 = np.percentile(tally.seconds, [50, 99]) * 1000
    ratio = rate / baseline.mean()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    n_bytes = np.mean([path.stat().st_size for path in paths])
    lines = [
        "# Serving against in-process batch scoring",
        "",
        f"{options.clients} clients, one image a request, {options.seconds:g} seconds;"
        f" {len(paths)} images of {n_bytes / 1024:.0f} KiB on average, `{detector.name}` at {'×'.join(map(str, detector.input_shape_))}.",
        "",
        "| | |",
        "|---|---|",
        f"| requests answered | {len(tally.seconds)} |",
        f"| errors, or scores other than the library's | {len(tally.failures)} |",
        f"| latency p50 | {p50:.0f} ms |",
        f"| latency p99 | {p99:.0f} ms |",
        f"| served | {rate:.0f} images/s (per second: {served.mean():.0f} ± {served.std():.0f}) |",
        f"| in process (`anomaly_score` of the folder) | {baseline.mean():.0f} ± {baseline.std():.0f} images/s, {len(baseline)} rounds |",
        f"| ratio | {100 * ratio:.0f} % (against the fastest round {100 * rate / baseline.max():.0f} %) |",
        f"| CPU an image: in process, service, clients | {', '.join(f'{1000 * seconds:.2f} ms' for seconds in cpu)} |",
        "",
        f"{os.cpu_count()} CPU cores ({platform.machine()}) shared by server, clients and whatever else ran (load average"
        f" {os.getloadavg()[1]:.1f} over five minutes), OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')};"
        f" insphere {version('insphere')} at commit {commit}, PyTorch {version('torch')}, FastAPI {version('fastapi')},"
        f" uvicorn {version('uvicorn')}, Python {platform.python_version()}. Written by `benchmarks/serving.py`; do not edit.",
    ]
    print("\n".join(lines))
    print(*tally.failures[:5], sep="\n")
    if not options.no_report:
        REPORT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
