"""Faults of masks that `insphere check` names, each in a source that has exactly that one."""

import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from insphere.checking import check_source
from insphere.checking.findings import DataFinding
from insphere.data import ArraySource, open_source

MARKED = np.zeros((12, 8), bool)
MARKED[2:5, 2:6] = True


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Ten good tiles, and two cracked ones with their masks."""
    for folder, count in (("good", 10), ("crack", 2)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            pixels = np.random.default_rng([number, count]).integers(0, 256, (12, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    (tmp_path / "ground_truth" / "crack").mkdir(parents=True)
    for number in range(2):
        put(tmp_path, number, MARKED)
    return tmp_path


def put(root: Path, number: int, mask: NDArray[np.bool_]) -> None:
    Image.fromarray(np.uint8(255) * mask).save(root / "ground_truth" / "crack" / f"{number}_mask.png")


def found(root: Path) -> DataFinding:
    return next(finding for finding in check_source(open_source(root)).findings if finding.name == "masks")


def test_good_masks(tiles: Path) -> None:
    assert found(tiles) == DataFinding("masks", "ok", "Masks of the size of their pictures: 2.")


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (MARKED.T, r"cannot be used: 1. The first: The mask .*1_mask.png has 12 × 8 pixels, but its picture has 8 × 12"),
        (np.zeros_like(MARKED), "mark nothing: 1 "),
        (~MARKED, "more than half of their picture: 1 .*white is defective"),
    ],
)
def test_a_faulty_mask_is_named(tiles: Path, mask: NDArray[np.bool_], words: str) -> None:
    put(tiles, 1, mask)
    finding = found(tiles)
    assert (finding.level, finding.n_rows, finding.groups) == ("warning", 1, (("ground_truth/crack/1_mask.png",),))
    assert re.search(words, finding.text)


def test_anomalies_without_a_mask_are_noted(tiles: Path) -> None:
    (tiles / "ground_truth" / "crack" / "0_mask.png").unlink()
    finding = found(tiles)
    assert (finding.level, finding.groups) == ("note", (("crack/0.png",),)) and "Anomalies without one: 1" in finding.text


def test_sources_without_masks_have_no_finding_on_them(tiles: Path) -> None:
    for source in (open_source(tiles / "good"), ArraySource(np.random.default_rng(0).normal(size=(20, 3)))):
        assert "masks" not in [finding.name for finding in check_source(source).findings]
