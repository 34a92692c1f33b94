"""How soon a service answers for its health while hostile requests arrive, and whether good requests are still served.

Run: python benchmarks/serving_attacks.py [REPORT.md]

Starts `insphere serve` on this machine's loopback with a model of digits, one of three numbers, and a file of verdicts. Each attack is
sent `ROUNDS` times in turn; meanwhile /v2/health/live and /v2/health/ready are asked as fast as they answer, and good rows are scored.
Milliseconds.
"""

import http.client
import io
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from PIL import Image

import insphere

ROUNDS = 3
LIMIT = b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,3],"data":[' + b",".join([b"0.12345678901234567"] * 249_990) + b"]}]}"
HEAD = b'--x\r\nContent-Disposition: form-data; name="%s"; filename="a.png"\r\n\r\n'
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
JSON = {"Content-Type": "application/json"}


def picture(side: int) -> bytes:
    """Return a small PNG file that unfolds to `side` * `side` pixels."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((side, side), np.uint8)).save(file, "PNG")
    return file.getvalue()


def attacks() -> dict[str, tuple[str, bytes, dict[str, str]]]:
    """Return path, body and headers of each attack."""
    tiny = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    image, rows, tensor = "/models/digits/score", "/models/sensors/score", "/v2/models/sensors/infer"
    flat = b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,3],"data":[' + b",".join([b"1"] * 15_000_000) + b"]}]}"
    heads = b"--x\r\n" + b"a:\r\n" * 2000 + b"\r\n\r\n"
    form = HEAD % b"images" + picture(4899) + b"\r\n"
    verdicts, unknown = "/models/sensors/feedback", [b'{"row_id":"%016x","verdict":"normal"}' % number for number in range(1024)]
    return {
        "tiny form fields, 32 MiB": (image, tiny * (2**25 // len(tiny) - 1) + b"--x--\r\n", FORM),
        "form fields with 2,000 lines in each head, 16 MB": (image, heads * 2000 + b"--x--\r\n", FORM),
        "form of line ends, 30 MB": (image, HEAD % b"images" + b"\r\n-" * 10_000_000 + b"\r\n--x--\r\n", FORM),
        "1.5 million rows as JSON, 15 MB": (rows, b'{"rows":[' + b",".join([b"[1.1,2,3]"] * 1_500_000) + b"]}", JSON),
        "15 million numbers as a tensor, 30 MB": (tensor, flat, JSON),
        "a tensor at the limit, 249,990 numbers": (tensor, LIMIT, JSON),
        "one number of 30 million digits": (rows, b'{"rows":[[0.' + b"1" * 30_000_000 + b",1,1]]}", JSON),
        "4 pictures of 24 megapixels, at the limit": (
            image,
            form * 4 + b"--x--\r\n",
            FORM,
        ),
        "40 pictures of 24 megapixels": (image, form * 40 + b"--x--\r\n", FORM),
        "1,024 verdicts on rows that are not there": (verdicts, b'{"verdicts":[' + b",".join(unknown) + b"]}", JSON),
        "450,000 verdicts, 27 MB": (verdicts, b'{"verdicts":[' + b",".join(unknown * 440) + b"]}", JSON),
        "lists within lists as verdicts, 30 MB": (verdicts, b'{"verdicts":' + b"[" * 15_000_000 + b"]" * 15_000_000 + b"}", JSON),
    }


def send(port: int, path: str, body: bytes | None, headers: dict[str, str]) -> int:
    """Return the status of one request; 0 where the connection broke before an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def measure(port: int, attack: tuple[str, bytes, dict[str, str]]) -> dict[str, Any]:
    """Return how long health took meanwhile, what the attack was answered, and how the good requests fared."""
    statuses: list[int] = []
    good: list[int] = []
    began = time.monotonic()

    def hostile() -> None:
        statuses.extend(send(port, *attack) for _ in range(ROUNDS))

    def friendly() -> None:
        while thread.is_alive():
            good.append(send(port, "/models/sensors/score", b'{"rows":[[0,0,0]]}', JSON))

    thread = threading.Thread(target=hostile)
    others = threading.Thread(target=friendly)
    thread.start()
    others.start()
    times: list[float] = []
    while thread.is_alive() or len(times) < 100:
        for path in ("live", "ready"):
            then = time.perf_counter()
            status = send(port, f"/v2/health/{path}", None, {})
            times.append((time.perf_counter() - then) * 1000 if status == 200 else float("inf"))
    thread.join()
    others.join()
    return {
        "answers": statuses,
        "seconds": round(time.monotonic() - began, 2),
        "health_n": len(times),
        "health_ms_p50": round(float(np.quantile(times, 0.5)), 1),
        "health_ms_p99": round(float(np.quantile(times, 0.99)), 1),
        "health_ms_max": round(max(times), 1),
        "good_answered": f"{good.count(200)} of {len(good)}",
    }


def main(report: str | None) -> None:
    """Measure, print, and write the report."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        insphere.KNN(random_state=0).fit("digits:3").save(Path(folder, "digits.insphere"))
        insphere.KNN(random_state=0).fit(np.random.default_rng(0).normal(size=(120, 3))).save(Path(folder, "sensors.insphere"))
        command = [sys.executable, "-m", "insphere", "serve", folder, "--port", "0", "--feedback", str(Path(folder, "verdicts.sqlite"))]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        stderr = cast(IO[str], process.stderr)
        port = next(int(found[1]) for line in stderr if (found := re.search(r'127\.0\.0\.1:(\d+)/"', line)))
        threading.Thread(target=lambda: [None for _ in stderr], daemon=True).start()
        found = {}
        try:
            while send(port, "/v2/health/ready", None, {}) != 200:  # models of a folder are loaded after it listens
                time.sleep(0.1)
            for name, attack in attacks().items():
                found[name] = measure(port, attack)
                print(name, found[name], flush=True)
        finally:
            process.terminate()
            process.wait(60)
    if report:
        Path(report).write_text(as_table(found), encoding="utf-8")


def as_table(found: dict[str, dict[str, Any]]) -> str:
    """Return the report."""
    lines = ["# Health of the service under hostile requests", ""]
    lines += ["| attack | answered | health, ms: median | p99 | most | good requests answered |", "|---|---|---|---|---|---|"]
    for name, row in found.items():
        times = " | ".join(f"{row[key]:.1f}" for key in ("health_ms_p50", "health_ms_p99", "health_ms_max"))
        lines.append(f"| {name} | {', '.join(map(str, row['answers']))} | {times} | {row['good_answered']} |")
    machine = f"{os.cpu_count()} cores ({platform.system()}, {platform.machine()}), load {os.getloadavg()[0]:.1f}"
    lines += [
        "",
        f"Each attack {ROUNDS} times in turn; at least 100 questions for health meanwhile. On {machine};",
    ]
    lines += [
        f"insphere {insphere.__version__}, Python {platform.python_version()}. Written by\n`benchmarks/serving_attacks.py`; do not edit.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
