"""Models to serve, a client in process, and the service as a process of its own."""

import io
import json
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

import insphere
from browser import chromium as chromium
from browser import chromium_page as chromium_page
from insphere.data import ArraySource
from insphere.detectors.base import AbstractDetector
from insphere.errors import HealthWarning
from insphere.serving import Settings, make_app

FEATURES = ["heat", "hum", "drift"]


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def digits(count: int) -> list[bytes]:
    """PNG files of digits, of other sizes than the model's, some in colour."""
    random = np.random.default_rng(0)
    sizes = [(8, 8), (20, 17), (8, 8, 3)]
    return [encoded(random.integers(0, 255, sizes[number % 3]).astype(np.uint8)) for number in range(count)]


def fitted(detector: AbstractDetector, X: Any) -> AbstractDetector:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        return detector.fit(X)


@pytest.fixture(scope="session")
def images() -> AbstractDetector:
    return fitted(insphere.DeepSVDDVAE(epochs=2, random_state=0), "digits:3")


@pytest.fixture(scope="session")
def vectors() -> AbstractDetector:
    rows = ArraySource(np.random.default_rng(0).normal(size=(120, 3)), feature_names=FEATURES)
    return fitted(insphere.KNN(random_state=0), rows)


@pytest.fixture(scope="session")
def image_file(images: AbstractDetector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "digits.insphere"
    images.save(path)
    return path


@pytest.fixture(scope="session")
def vector_file(vectors: AbstractDetector, image_file: Path) -> Path:
    path = image_file.with_name("sensors@2.insphere")
    vectors.save(path)
    return path


@pytest.fixture(scope="session")
def client(images: AbstractDetector, vectors: AbstractDetector) -> Iterator[TestClient]:
    """Two models, one of them in two versions, with default limits."""
    models = {"digits@9": images, "digits@10": images, "sensors": vectors}
    with TestClient(make_app(models)) as made:
        yield made


@contextmanager
def serving(models: Any, **settings: Any) -> Iterator[TestClient]:
    # Not tried in a process of their own, which takes seconds; tests of that ask for it.
    with TestClient(make_app(models, Settings(**{"load_seconds": 0, **settings})), raise_server_exceptions=False) as made:
        yield made


@dataclass
class Process:
    """`insphere serve` as it runs: its port, and the lines of its log so far."""

    process: subprocess.Popen[str]
    port: int
    lines: list[dict[str, Any]] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running(*words: object, **environment: str) -> Iterator[Process]:
    """Start the service on a free port, and end it if the test has not."""
    variables = {**os.environ, "PYTHONPATH": str(Path(insphere.__file__).parent.parent), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "insphere", "serve", "--load-timeout", "0", *map(str, words), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables)
    assert process.stderr is not None
    started = Process(process, 0)
    for line in process.stderr:
        started.raw.append(line)
        if found := re.search(r'"url": "http://127.0.0.1:(\d+)/"', line):
            started.port = int(found[1])
            break
    else:
        raise AssertionError("".join(started.raw))
    reader = threading.Thread(target=_read, args=(process.stderr, started), daemon=True)
    reader.start()
    try:
        yield started
    finally:
        process.terminate()
        process.wait(60)
        reader.join(20)
        process.stderr.close()


def _read(stream: Any, started: Process) -> None:
    for line in stream:
        started.raw.append(line)
        started.lines.append(json.loads(line))


@pytest.fixture(scope="session")
def process(image_file: Path, vector_file: Path) -> Iterator[Process]:
    """Both models behind `insphere serve`, with little patience and small bodies."""
    with running(image_file, vector_file, "--read-timeout", "1.5", "--max-body", "1") as started:
        yield started
