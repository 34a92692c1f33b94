"""The promise of the default: it finds the tiles' defects clearly better than plain reconstruction error does."""

import warnings
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

import insphere
from insphere.errors import HealthWarning
from insphere.explain import explain
from insphere.explain.localisation import pixel_auroc


@pytest.mark.data
@pytest.mark.slow
def test_the_default_beats_plain_reconstruction_error_by_five_points(data_dir: Path) -> None:
    path = data_dir / "magnetic-tiles.zip"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        detector = insphere.DeepSVDDVAE(random_state=0).fit(path)
    test = detector.open(path, split="test")
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
    figures = {}
    for method in ("reconstruction", "auto"):
        heatmaps = explain(detector, test, method=method).heatmaps
        assert heatmaps is not None
        figures[method] = pixel_auroc(masks, heatmaps)
    assert figures["auto"] > figures["reconstruction"] + 0.05
