"""``insphere evaluate`` against masks, and ``insphere score --maps``."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cli.conftest import Run
from insphere.cli import main
from places import CLASS

MASK = np.zeros((12, 10), np.uint8)
MASK[4:7, 2:8] = 255  # where conftest draws a scratch


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPHERE_DETECTORS", CLASS)


@pytest.fixture(scope="module")
def places_model(tiles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("places") / "places.insphere"
    assert main(["fit", str(tiles), "-o", str(path), "--detector", CLASS]) == 0
    return path


@pytest.fixture
def masked(tiles: Path, tmp_path: Path) -> Path:
    """The tiles with a mask of every scratch; the noisy ones have none."""
    root = Path(shutil.copytree(tiles, tmp_path / "masked"))
    (root / "ground_truth" / "scratch").mkdir(parents=True)
    for number in range(8):
        Image.fromarray(MASK).save(root / "ground_truth" / "scratch" / f"{number:03}_mask.png")
    return root


class TestEvaluate:
    def test_gives_the_figures_of_places(self, run: Run, places_model: Path, masked: Path) -> None:
        outcome = run("evaluate", places_model, masked, "--json")
        assert outcome.code == 0
        found = outcome.result["localisation"]
        assert (found["n_sound"], found["n_defective"], found["n_regions"]) == (20, 8, 8)
        assert (found["n_without_mask"], found["n_mask_errors"]) == (8, 0)
        for figures in (found, found["per_type"]["scratch"]):
            for name in ("pixel_auroc", "aupro"):
                assert 0.8 < figures[name]["low"] <= figures[name]["value"] <= figures[name]["high"] <= 1
        assert "left out of the figures of places: 8." in outcome.err

    def test_shows_them_to_people(self, run: Run, places_model: Path, masked: Path) -> None:
        (masked / "ground_truth" / "noise").mkdir()
        Image.fromarray(np.full((12, 10), 255, np.uint8)).save(masked / "ground_truth" / "noise" / "000.png")
        value = run("evaluate", places_model, masked, "--json").result["localisation"]["aupro"]["value"]
        out = run("evaluate", places_model, masked).out
        assert "Places: 9 regions in 9 pictures" in out and f"{100 * value:.1f} (" in out and "Places of each type" in out

    def test_masks_that_cannot_be_used_are_told(self, run: Run, places_model: Path, masked: Path) -> None:
        Image.fromarray(MASK.T).save(masked / "ground_truth" / "scratch" / "003_mask.png")
        outcome = run("evaluate", places_model, masked, "--json")
        assert outcome.code == 0 and outcome.result["localisation"]["n_mask_errors"] == 1
        assert outcome.result["localisation"]["n_defective"] == 7 and "003_mask.png has 12 × 10 pixels" in outcome.err

    def test_without_masks_has_none(self, run: Run, places_model: Path, tiles: Path) -> None:
        outcome = run("evaluate", places_model, tiles, "--json")
        assert outcome.result["localisation"] is None and "mask" not in outcome.err

    def test_without_maps_says_so(self, run: Run, model: Path, masked: Path) -> None:
        outcome = run("evaluate", model, masked, "--json")
        assert outcome.result["localisation"] is None and "vae-svdd gives no heat-maps" in outcome.err


class TestScoreMaps:
    def test_writes_each_map_and_overlay(self, run: Run, places_model: Path, masked: Path, tmp_path: Path) -> None:
        outcome = run("score", places_model, masked, "-o", tmp_path / "s.csv", "--split", "test", "--maps", tmp_path / "maps", "--json")
        assert outcome.code == 0
        assert outcome.result["maps"] | {"n_cut_off": 0} == {
            "folder": str(tmp_path / "maps"),
            "n_maps": 36,
            "n_overlays": 36,
            "n_cut_off": 0,
        }
        stated: dict[str, Any] = json.loads((tmp_path / "maps" / "maps.json").read_text())
        rows = {row["id"]: row for row in stated["rows"]}
        with Image.open(tmp_path / "maps" / rows["test/scratch/000.png"]["map"]) as image:
            heatmap = np.asarray(image) / 65535 * stated["full_scale"]
        assert heatmap.shape == (12, 10) and heatmap[MASK > 0].mean() > 2 * heatmap[MASK == 0].mean()
        assert len(list((tmp_path / "maps").iterdir())) == 73

    def test_overlays_have_the_photos_size(self, run: Run, places_model: Path, tmp_path: Path) -> None:
        Image.new("RGB", (300, 200), "red").save(tmp_path / "photo.jpg")
        (tmp_path / "text.jpg").write_text("hello")
        outcome = run("score", places_model, tmp_path, "-o", tmp_path / "s.csv", "--maps", tmp_path / "maps")
        said = " ".join(outcome.out.split())  # where lines break depends on the length of the path
        assert outcome.code == 0 and "1 in" in said and "1 of them over their pictures" in said
        with Image.open(tmp_path / "maps" / "0-photo-overlay.png") as image:
            assert image.size == (300, 200)

    def test_needs_a_detector_with_maps(self, run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
        outcome = run("score", model, tiles, "-o", tmp_path / "s.csv", "--maps", tmp_path / "maps")
        assert outcome.code == 2 and "needs a detector with heat-maps, but vae-svdd gives one score a row" in outcome.err
        assert not list(tmp_path.iterdir())

    def test_none_are_written_unasked(self, run: Run, places_model: Path, tiles: Path, tmp_path: Path) -> None:
        assert run("score", places_model, tiles, "-o", tmp_path / "s.csv", "--json").result["maps"] is None
