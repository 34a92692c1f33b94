"""Detectors of photos with networks of the user's own: fitted, saved with all they need, loaded where their files are gone, exported."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

import contract
import insphere
from drawn_networks import BASIC, published_residual
from insphere import model_file
from insphere.detectors.stored import KIND
from insphere.errors import ModelFileError, ParameterError
from insphere.export import export_onnx

SHAPE = (64, 64, 3)
SPLIT = {"method": "split"}


def discs(n_rows: int, seed: int = 0, *, marks: bool = False) -> NDArray[np.uint8]:
    """A disc on a ground; with a dark square on it where marks are asked for."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    disc = (y - 32) ** 2 + (x - 32) ** 2 < 20**2
    pictures = 90 + 60 * disc[..., None] + rng.normal(0, 6, size=(n_rows, *SHAPE))
    if marks:
        pictures[:, 28:38, 26:36] -= 70
    return pictures.clip(0, 255).astype(np.uint8)


def resnet(path: Path) -> str:
    save_file(published_residual(BASIC), path)
    return str(path)


def convnext(folder: Path) -> str:
    transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        config = transformers.ConvNextConfig(hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], layer_scale_init_value=1.0)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    return f"hf:{folder}"


@pytest.fixture(params=["file", "hf"])
def backbone(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    (tmp_path / "network").mkdir()
    return resnet(tmp_path / "network" / "w.safetensors") if request.param == "file" else convnext(tmp_path / "network")


@pytest.mark.parametrize("kind", [insphere.PhotoSpheres, insphere.PatchKNN])
def test_a_model_needs_nothing_but_its_file(backbone: Any, kind: type, tmp_path: Path) -> None:
    detector = contract.fit_quietly(kind(backbone=backbone, random_state=0, calibration=SPLIT), discs(40))
    marked = discs(10, 2, marks=True)
    assert np.median(detector.anomaly_score(marked)) > np.quantile(detector.anomaly_score(discs(20, 1)), 0.9)
    scores = detector.anomaly_score(marked)
    detector.save(tmp_path / "m.insphere")
    shutil.rmtree(tmp_path / "network")
    loaded = insphere.load(tmp_path / "m.insphere")
    np.testing.assert_array_equal(loaded.anomaly_score(marked), scores)
    np.testing.assert_array_equal(loaded.anomaly_map(marked), detector.anomaly_map(marked))
    assert len(loaded.network_["sha256"]) == 64
    with pytest.raises(ParameterError, match="`backbone`"):
        loaded.fit(discs(20))


def test_what_to_look_for_is_not_guessed_under_an_unknown_network(backbone: Any) -> None:
    detector = contract.fit_quietly(insphere.PhotoSpheres(backbone=backbone, random_state=0, calibration=SPLIT), discs(30))
    (said,) = (finding for finding in detector.health_.findings if finding.name == "what to look for")
    assert detector.settled_.look_for == "defects" and "is not known" in said.text


def test_the_contract(backbone: Any, tmp_path: Path) -> None:
    detector, X = insphere.PhotoSpheres(backbone=backbone, random_state=0, calibration=SPLIT), discs(40)
    contract.check_round_trip(detector, X, tmp_path)


def test_graphs_are_equal(backbone: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    detector = contract.fit_quietly(insphere.PhotoSpheres(backbone=backbone, random_state=0, calibration=SPLIT), discs(20))
    export_onnx(detector, tmp_path / "m.onnx")  # which compares, or raises


def test_another_network_in_a_file_is_refused(backbone: Any, tmp_path: Path) -> None:
    contract.fit_quietly(insphere.PatchKNN(backbone=backbone, random_state=0, calibration=SPLIT), discs(20)).save(tmp_path / "m.insphere")
    content = model_file.read(tmp_path / "m.insphere", KIND)
    network = content.header["model"]["network"]
    name = next(name for name in content.arrays if name.startswith("network/"))
    for changed, arrays in [
        ({"family": "unknown"}, {}),
        ({"family": "efficientnet-lite", "width": 1.0, "depth": 1.0}, {}),
        ({"family": "residual"}, {}),
        ({"family": 3}, {}),
        (network, {name: content.arrays[name][:-1]}),
    ]:
        header = content.header | {"model": content.header["model"] | {"network": changed}}
        model_file.write(tmp_path / "m.insphere", KIND, header, content.arrays | arrays)
        with pytest.raises(ModelFileError):
            insphere.load(tmp_path / "m.insphere")
