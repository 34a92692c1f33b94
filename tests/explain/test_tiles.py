"""The promise of the default: it finds the tiles' defects clearly better than plain reconstruction error does."""

import statistics
import warnings
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import insphere
from insphere.data import open_source
from insphere.errors import HealthWarning
from insphere.explain import explain
from insphere.localisation_metrics import localisation


@pytest.mark.data
@pytest.mark.slow
def test_the_default_beats_plain_reconstruction_error(data_dir: Path) -> None:
    assert lead(data_dir / "magnetic-tiles.zip", 0, image_size=32) > 0.02


@pytest.mark.data
@pytest.mark.campaign
def test_the_default_beats_plain_reconstruction_error_by_five_points(data_dir: Path) -> None:
    # The promise is of the mean over the seeds of benchmarks/reports/explanations.md. Where a processor rounds otherwise a network takes
    # another path, and the lead of one seed moves by three points.
    leads = [lead(data_dir / "magnetic-tiles.zip", seed) for seed in (0, 1, 2)]
    assert min(leads) > 0
    assert statistics.mean(leads) > 0.05


def lead(path: Path, seed: int, image_size: int | None = None) -> float:
    """Return by how much the pixel AUROC of the default is above that of plain reconstruction error."""
    train = open_source(path, split="train", image_size=image_size) if image_size else path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        detector = insphere.DeepSVDDVAE(random_state=seed).fit(train)
    test = detector.open(path, split="test")
    figures = {}
    for method in ("reconstruction", "auto"):
        heatmaps = explain(detector, test, method=method).heatmaps
        assert heatmaps is not None
        figures[method] = localisation(heatmaps, masks_of(path, test)).pixel_auroc.value
    return figures["auto"] - figures["reconstruction"]


def masks_of(path: Path, test: Any) -> NDArray[np.bool_]:
    """Return the mask of each test image at the size of the model's input; none of a good one."""
    height, width = test.row_shape[:2]
    masks = np.zeros((len(test), height, width), dtype=bool)
    with zipfile.ZipFile(path) as archive:
        members = {PurePosixPath(name).name: name for name in archive.namelist() if "/ground_truth/" in name}
        for row, name in enumerate(test.ids or ()):
            member = members.get(f"{PurePosixPath(name).stem}_mask.png")
            if member is not None:
                with archive.open(member) as file:
                    mask = Image.open(file).convert("L").resize((width, height), Image.Resampling.BOX)
                masks[row] = np.asarray(mask) >= 0.25 * 255
    return masks
