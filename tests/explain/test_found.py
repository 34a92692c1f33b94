"""The picture of what was found."""

import numpy as np
import pytest
from PIL import Image

from insphere.errors import DataError
from insphere.explain.found import FoundPanel, write_found


def panel(height=60, width=80, heat=0.0, **options):
    heatmap = np.zeros((7, 7), dtype=np.float32)
    heatmap[2:5, 2:5] = heat
    picture = np.full((height, width, 3), 90, dtype=np.uint8)
    return FoundPanel(**({"picture": picture, "heatmap": heatmap, "mask": None, "title": "$x_1$", "caption": "found"} | options))


def colours(path):
    with Image.open(path) as image:
        assert image.format == "JPEG"
        return np.asarray(image.convert("RGB")).astype(int)


def test_photos_stand_above_their_maps(tmp_path):
    write_found(tmp_path / "calm.jpg", [panel(), panel()])
    write_found(tmp_path / "hot.jpg", [panel(), panel(heat=3.0)])
    calm, hot = colours(tmp_path / "calm.jpg"), colours(tmp_path / "hot.jpg")
    assert calm.shape == hot.shape and calm.shape[1] > calm.shape[0]
    changed = np.abs(calm - hot).max(axis=2) > 60
    rows, columns = np.nonzero(changed)
    assert rows.min() > calm.shape[0] * 0.45 and columns.min() > calm.shape[1] * 0.5


def test_the_mask_is_drawn_and_the_legend_makes_room(tmp_path):
    mask = np.zeros((60, 80), dtype=bool)
    mask[20:40, 20:60] = True
    write_found(tmp_path / "plain.jpg", [panel()])
    write_found(tmp_path / "masked.jpg", [panel(mask=mask)])
    write_found(tmp_path / "legend.jpg", [panel()], legend="what it means")
    plain, masked = colours(tmp_path / "plain.jpg"), colours(tmp_path / "masked.jpg")
    assert ((masked.min(axis=2) > 200) & (plain.min(axis=2) < 150)).any()
    assert colours(tmp_path / "legend.jpg").shape[0] > plain.shape[0]


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(DataError, match="at least one photo"):
        write_found(tmp_path / "none.jpg", [])
    with pytest.raises(DataError, match="mask"):
        write_found(tmp_path / "none.jpg", [panel(mask=np.zeros((5, 5), dtype=bool))])
    assert not list(tmp_path.iterdir())
