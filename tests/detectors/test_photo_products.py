"""Photos of several products in one model: spheres each of their own, chosen by how well the categories are told apart."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import contract
import insphere
from insphere.detectors import photo_base
from insphere.detectors.photo import PhotoSpheres
from insphere.errors import ParameterError
from insphere.export.scorers import scorer
from insphere.metrics import auroc
from insphere.scores.pictures import PictureVectors

N_EACH = 60


def made(**parameters: Any) -> PhotoSpheres:
    return PhotoSpheres(**{"random_state": 0, "backbone": "scratch", "side": 64, **parameters})


def pictures_of(product: str, n: int, seed: int, *, marks: bool = False) -> NDArray[np.uint8]:
    """Rings or gratings under varying light; with a small dark mark where marks are asked for."""
    rng = np.random.default_rng([seed, len(product)])
    y, x = np.mgrid[:64, :64]
    shape = 60 * (np.abs(np.hypot(y - 32, x - 32) - 20) < 6) if product == "rings" else 25 * np.sin(x / 3) * np.sin(y / 4)
    pictures = 110 + shape + rng.normal(0, 4, size=(n, 64, 64)) + rng.normal(0, 6, size=(n, 1, 1))
    if marks:
        for picture in pictures:
            row, column = rng.integers(8, 50, size=2)
            picture[row : row + 4, column : column + 6] -= 45
    return pictures.clip(0, 255).astype(np.uint8)[..., None]


def both(n: int, seed: int, *, marks: bool = False) -> NDArray[np.uint8]:
    return np.concatenate([pictures_of(product, n, seed, marks=marks) for product in ("rings", "gratings")])


NAMES = ["rings"] * N_EACH + ["gratings"] * N_EACH


@pytest.fixture(scope="module")
def fitted() -> PhotoSpheres:
    detector = made()
    contract.fit_quietly(detector, both(N_EACH, 0), categories=NAMES)
    return detector


def said(detector: PhotoSpheres) -> str:
    (finding,) = (finding for finding in detector.health_.findings if finding.name == "products")
    return finding.text


def test_each_product_has_its_own_and_marks_are_found(fitted: PhotoSpheres) -> None:
    assert len(fitted.spheres_) == 2 and "Each of 2 categories has spheres of its own: 100% of the normal" in said(fitted)
    X = np.concatenate([both(20, 1), both(20, 2, marks=True)])
    assert auroc([0] * 40 + [1] * 40, fitted.anomaly_score(X)).value > 0.95


def test_the_score_is_that_by_the_nearest_and_needs_no_category(fitted: PhotoSpheres) -> None:
    rings = pictures_of("rings", 10, 3)
    alone = [one_sphere(fitted, number)._score_maps(rings) for number in (0, 1)]
    assert fitted.decision_.categories is not None and fitted.decision_.categories.names == ("gratings", "rings")
    assert (alone[1][0] < alone[0][0]).all()
    scores, maps = fitted._score_maps(rings)
    np.testing.assert_array_equal(scores, alone[1][0])
    np.testing.assert_array_equal(maps, alone[1][1])


def one_sphere(detector: PhotoSpheres, number: int) -> PhotoSpheres:
    alone = copy.copy(detector)
    alone.spheres_ = (detector.spheres_[number],)
    return alone


def test_new_pictures_are_flagged_as_often_as_promised(fitted: PhotoSpheres) -> None:
    names = ["rings"] * 200 + ["gratings"] * 200
    flagged = np.concatenate([batch.is_anomaly for batch in fitted.score_batches(both(200, 5), categories=names)])
    assert flagged[:200].mean() < 0.13 and flagged[200:].mean() < 0.13  # 5 % asked, of sixty pictures each


def test_files_and_graphs_have_all_of_them(fitted: PhotoSpheres, tmp_path: Path) -> None:
    X = np.concatenate([both(4, 6), both(4, 7, marks=True)])
    scores, maps = fitted._score_maps(X)
    fitted.save(tmp_path / "m.insphere")
    loaded = insphere.load(tmp_path / "m.insphere")
    np.testing.assert_array_equal(loaded.anomaly_score(X), scores)
    of_graph, map_of_graph = scorer(fitted).with_map(torch.from_numpy(X))
    np.testing.assert_allclose(of_graph.numpy(), scores, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(map_of_graph.numpy() * fitted.decision_.map_level, maps, rtol=1e-2, atol=1e-2)


def test_cameras_that_see_one_product_keep_it_in_common() -> None:
    X = pictures_of("rings", 120, 0)
    detector = made(calibration={"method": "split"})
    contract.fit_quietly(detector, X, categories=["left", "right"] * 60)
    assert len(detector.spheres_) == 1 and "in common, as they look alike: only" in said(detector)


def test_few_pictures_are_reasons_for_common_ones_and_said() -> None:
    X = np.concatenate([pictures_of("rings", 60, 0), pictures_of("gratings", 12, 0)])
    names = ["rings"] * 60 + ["gratings"] * 12
    detector = made(calibration={"method": "split"})
    contract.fit_quietly(detector, X, categories=names)
    text = said(detector)
    assert len(detector.spheres_) == 1 and "fewer than 40 independent pictures to train on are of gratings (" in text
    nameless = made(calibration={"method": "split"})
    contract.fit_quietly(nameless, both(N_EACH, 0), categories=NAMES[:-30] + [None] * 30)
    assert "pictures without a category: " in said(nameless)
    with pytest.raises(ParameterError, match="spheres='own' is not possible: fewer than 8 independent pictures to train on are of c"):
        made(spheres="own").fit(X, categories=["a"] * 34 + ["b"] * 34 + ["c"] * 4)
    with pytest.raises(ParameterError, match=r"needs the categories of the pictures.*--category-by folder"):
        made(spheres="own").fit(X)


def test_pictures_of_one_film_are_one_picture() -> None:
    detector = made(calibration={"method": "split"})
    X, names = both(N_EACH, 0), ["rings"] * N_EACH + ["gratings"] * N_EACH
    contract.fit_quietly(detector, X, categories=names, groups=["one film"] * N_EACH + list(range(N_EACH)))
    assert len(detector.spheres_) == 1 and "of rings (" in said(detector)


def test_where_memory_holds_few_maps_spheres_are_common(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_base, "_MAP_BYTES", 14 * 117_760)  # fourteen maps
    detector = made(calibration={"method": "split"}, spheres="own")
    contract.fit_quietly(detector, both(20, 0), categories=["rings"] * 20 + ["gratings"] * 20)
    assert len(detector.spheres_) == 1 and "memory holds the maps of too few" in said(detector)


def test_common_ones_can_be_asked_for() -> None:
    detector = made(spheres="common", calibration={"method": "split"})
    contract.fit_quietly(detector, both(40, 0), categories=["rings"] * 40 + ["gratings"] * 40)
    assert len(detector.spheres_) == 1 and not [finding for finding in detector.health_.findings if finding.name == "products"]


def test_vectors_of_some_pictures() -> None:
    vectors = PictureVectors(np.arange(3.0)[:, None, None, None], np.arange(5.0)[:, None], np.array([0, 2, 4]))
    own = vectors.of(np.array([False, True, True, False, True]))
    assert own.places[:, 0, 0, 0].tolist() == [1, 2] and own.whole[:, 0].tolist() == [1, 2, 4] and own.mapped.tolist() == [1, 2]
    assert vectors.of(np.ones(5, bool)) is vectors
