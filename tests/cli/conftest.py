"""A small folder of images, a model fitted on it, and a way to run a command line."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from insphere.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command line left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        """The JSON object on standard output; fails if there is anything else."""
        return json.loads(self.out)


Run = Callable[..., Outcome]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("INSPHERE_DATA", raising=False)
    monkeypatch.delenv("INSPHERE_DEBUG", raising=False)

    def run_words(*words: object) -> Outcome:
        capfd.readouterr()
        code = main([str(word) for word in words])
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run_words


def draw(kind: str, number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a 12x10 grey image: a gradient with noise ("good"), or one with a bright block ("scratch") or only noise ("noise")."""
    random = np.random.default_rng([number, len(kind)])
    image = np.add.outer(np.arange(12) * 8.0, np.arange(10) * 6.0) + random.normal(0, 6, (12, 10))
    if kind == "scratch":
        image[4:7, 2:8] = 255
    if kind == "noise":
        image = random.uniform(0, 255, (12, 10))
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in MVTec layout: 60 good images to train, 20 good, 8 scratched and 8 noisy ones to test."""
    root = tmp_path_factory.mktemp("data") / "tiles"
    for part, kind, count in (("train", "good", 60), ("test", "good", 20), ("test", "scratch", 8), ("test", "noise", 8)):
        folder = root / part / kind
        folder.mkdir(parents=True)
        for number in range(count):
            Image.fromarray(draw(kind, number + (1000 if part == "test" else 0))).save(folder / f"{number:03}.png")
    return root


@pytest.fixture
def large_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty photos of 320x240 pixels."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 255, (24, 32)).astype(np.uint8)
        Image.fromarray(pixels).resize((320, 240)).save(folder / f"{number:03}.png")
    return folder


@pytest.fixture(scope="session")
def model(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model fitted on the tiles through the command line."""
    path = tmp_path_factory.mktemp("model") / "tiles.insphere"
    assert main(["fit", str(tiles), "-o", str(path), "--detector", "vae-svdd", "--epochs", "8"]) == 0
    return path
