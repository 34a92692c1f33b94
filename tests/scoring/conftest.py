"""A model and images for scoring in bulk."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import insphere
from contract import fit_quietly, pictures


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bulk") / "near.insphere"
    fit_quietly(insphere.KNN(random_state=0), pictures(80)).save(path)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty readable images in three folders, an image cut off, a text, a link that leads nowhere, a mask, and a note."""
    folder = tmp_path_factory.mktemp("photos")
    for number, pixels in enumerate(pictures(60, seed=7)):
        place = folder / f"line{number % 3}"
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels[:, :, 0]).save(place / f"{number:03}.png")
    (folder / "line0" / "cut.png").write_bytes((folder / "line0" / "000.png").read_bytes()[:60])
    (folder / "line1" / "text.jpg").write_text("hello")
    (folder / "line2" / "gone.png").symlink_to(folder / "nowhere.png")
    (folder / "ground_truth").mkdir()
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(folder / "ground_truth" / "000_mask.png")
    (folder / "notes.txt").write_text("hello")
    return folder


N_READABLE, N_BROKEN = 60, 3
