"""Reports on detectors with heat-maps: photos as they are, with map and mask over them, and the figures of places."""

import base64
import io
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import insphere
from insphere.detectors.base import AbstractDetector
from insphere.errors import HealthWarning
from insphere.explain.maps import CONTOUR_COLOR, MASK_COLOR
from insphere.report import write_report
from places import Places

MASK = np.zeros((60, 90), np.uint8)
MASK[20:36, 30:50] = 255


def photo(number: int, *, scratched: bool) -> Image.Image:
    pixels = np.random.default_rng(number).integers(90, 130, (60, 90, 3), dtype=np.uint8)
    if scratched:
        pixels[MASK > 0] = (250, 210, 150)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos in MVTec layout; of four scratched ones three have masks."""
    root = tmp_path_factory.mktemp("photos") / "plates"
    for part, kind, count in (("train", "good", 30), ("test", "good", 6), ("test", "scratch", 4)):
        (root / part / kind).mkdir(parents=True)
        for number in range(count):
            photo(number + 100 * len(part), scratched=kind == "scratch").save(root / part / kind / f"{number}.png")
    (root / "ground_truth" / "scratch").mkdir(parents=True)
    for number in range(3):
        Image.fromarray(MASK).save(root / "ground_truth" / "scratch" / f"{number}_mask.png")
    return root


@pytest.fixture(scope="module")
def detector(photos: Path) -> AbstractDetector:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        return Places(random_state=0).fit(photos)


def images_of(html: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:  # type: ignore[type-arg]
    """Return the two pictures of each shown photo, by its name."""
    found = re.findall(
        r'data-name="([^"]*)".*?<img src="data:[^,]*,([^"]*)".*?<img class="heat" src="data:[^,]*,([^"]*)"', html, flags=re.DOTALL
    )
    decoded = {
        name: [np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")) for text in texts] for name, *texts in found
    }
    return {name: (one, other) for name, (one, other) in decoded.items()}


def near(pixels: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:  # type: ignore[type-arg]
    return (np.abs(pixels.astype(int) - color) < 40).all(axis=2)


def test_photos_are_shown_as_they_are_with_map_and_mask(detector: AbstractDetector, photos: Path, tmp_path: Path) -> None:
    assert detector.input_.shape != (60, 90, 3), "the model sees them smaller"
    written = write_report(detector, photos, tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    shown = images_of(html)
    picture, drawn = shown["test/scratch/0.png"]
    assert picture.shape == drawn.shape == (60, 90, 3) and written.n_images >= 10
    assert near(drawn, CONTOUR_COLOR).any() and near(drawn, MASK_COLOR).any()
    # White is drawn where there is a mask only.
    assert not near(shown["test/scratch/3.png"][1], MASK_COLOR).any()
    assert "tiles mapped" in html and "The dashed white line is the mask" in html


def test_figures_of_places(detector: AbstractDetector, photos: Path, tmp_path: Path) -> None:
    written = write_report(detector, photos, tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert 'id="places"' in html and "3 pictures with 3 defective regions, and 6 sound pictures" in html
    assert "left out of the figures of places: 1." in html and "Places found (AUPRO)" in html
    assert "Heat-maps rank a defective pixel above a sound one" in html and written.n_rows == 10


def test_a_mask_of_another_size_is_told_and_not_drawn(detector: AbstractDetector, photos: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(photos, tmp_path / "plates"))
    Image.fromarray(MASK.T).save(root / "ground_truth" / "scratch" / "0_mask.png")
    write_report(detector, root, tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "0_mask.png has 60 × 90 pixels, but its picture has 90 × 60" in html
    assert not near(images_of(html)["test/scratch/0.png"][1], MASK_COLOR).any()


def test_without_masks(detector: AbstractDetector, photos: Path, tmp_path: Path) -> None:
    write_report(detector, photos / "test", tmp_path / "r.html", thumbnail_size=32)
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert 'id="places"' not in html and "dashed white" not in html and "tiles mapped" in html
    assert images_of(html)["scratch/0.png"][1].shape == (21, 32, 3)


def test_heat_maps_can_be_left_out(detector: AbstractDetector, photos: Path, tmp_path: Path) -> None:
    write_report(detector, photos, tmp_path / "r.html", heatmaps=False)
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Heat-maps were not asked for." in html and 'class="heat"' not in html and 'id="places"' in html


def test_arrays_are_shown_too(detector: AbstractDetector, photos: Path, tmp_path: Path) -> None:
    rows = detector.open(photos, split="test").load().X
    write_report(detector, insphere.data.ArraySource(rows), tmp_path / "r.html")
    assert images_of((tmp_path / "r.html").read_text(encoding="utf-8"))["row 0"][1].shape == rows.shape[1:]
