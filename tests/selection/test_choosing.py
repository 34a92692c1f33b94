"""Which detector a source gets where nobody names one."""

import importlib.util
from typing import Any

import numpy as np
import pytest

import insphere
from insphere.data import open_source
from insphere.errors import SourceNotice, UnknownParameterError
from insphere.nets.backbones import BACKBONES
from insphere.selection import choosing
from insphere.selection.automatic import kind_of

PHOTOS = open_source(np.zeros((10, 80, 70, 1), dtype=np.uint8))
WITH = pytest.mark.parametrize("installed", [True, False])


@pytest.fixture
def packages(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec  # one for all modules: other packages are found as ever
    package = BACKBONES["efficientnet-lite0"].package

    def found(name: str, within: str | None = None) -> Any:
        return real(name, within) if name != package else real("numpy") if installed else None

    monkeypatch.setattr(importlib.util, "find_spec", found)


@WITH
def test_photos_get_the_detector_of_photos_from_scratch_where_no_weights_are_installed(installed: bool, packages: None) -> None:
    choice = choosing.choose(PHOTOS, {"side": 128})
    assert choice.name == "photo" and "70 × 80" in choice.reason and choice.other == "vae-svdd"
    assert choice.parameters == ({"side": 128} if installed else {"side": 128, "backbone": "scratch"})
    assert ("insphere[photos]" in choice.reason) is not installed


@WITH
@pytest.mark.parametrize("backbone", ["scratch", "efficientnet-lite0"])
def test_a_backbone_that_the_user_names_stays(backbone: str, installed: bool, packages: None) -> None:
    choice = choosing.choose(PHOTOS, {"backbone": backbone})
    assert (choice.name, choice.parameters) == ("photo", {"backbone": backbone}) and "insphere[photos]" not in choice.reason


def test_what_the_detector_of_photos_lacks_small_pictures_and_tables() -> None:
    lacking = choosing.choose(PHOTOS, {"alpha": 0.1})
    assert lacking.name == "vae-svdd" and "has no alpha" in lacking.reason and lacking.parameters == {"alpha": 0.1}


@pytest.mark.parametrize("installed", [False])
def test_small_pictures_are_told_by_their_transformations_unless_that_takes_long(
    installed: bool, packages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = open_source(np.zeros((10, 40, 40, 1), dtype=np.uint8))
    choice = choosing.choose(small, {"epochs": 3})
    assert (choice.name, choice.other, choice.parameters) == ("transform-svdd", "vae-svdd", {"epochs": 3})
    assert "small (40 × 40 pixels)" in choice.reason and "slower than vae-svdd" in choice.reason
    assert "To see more in them: pip install 'insphere[photos]'" in choosing.choose(small).reason
    assert "insphere[photos]" not in choice.reason  # photo has no epochs
    for own in ({"geometry": "kernel"}, {"reading": {"n_centers": 3}}, {"final": 1}):  # which vae-svdd has, or refuses
        other = choosing.choose(small, own)
        assert (other.name, other.parameters) == ("vae-svdd", own) and "transform-svdd does not take these parameters" in other.reason
    large = open_source(np.zeros((10, 41, 40, 1), dtype=np.uint8))
    slow = choosing.choose(large)
    assert slow.name == "vae-svdd" and "small (40 × 41 pixels) but have more than 1,600 pixels in all, so" in slow.reason
    # What one detector alone has decides, slow or from scratch as it may be.
    assert choosing.choose(large, {"distance_weight": 3.0}).name == "transform-svdd"
    for own in ({"look_for": "objects"}, {"tiles": (2, 2)}):
        seen = choosing.choose(small, own)
        assert (seen.name, seen.parameters) == ("photo", {**own, "backbone": "scratch"}) and "insphere[photos]" in seen.reason
    monkeypatch.setattr(choosing, "MOST_ROWS", 9)
    many = choosing.choose(small)
    assert many.name == "vae-svdd" and "and more than 9, so" in many.reason


@WITH
@pytest.mark.parametrize("channels", [1, 3])
def test_small_pictures_get_the_detector_of_photos_where_weights_are_installed(channels: int, installed: bool, packages: None) -> None:
    small = open_source(np.zeros((10, 32, 32, channels), dtype=np.uint8))
    choice = choosing.choose(small, {"target_fpr": 0.1})
    assert choice.parameters == {"target_fpr": 0.1} and "small (32 × 32 pixels)" in choice.reason
    assert (choice.name, choice.other) == (("photo", "transform-svdd") if installed else ("transform-svdd", "vae-svdd"))
    assert ("insphere[photos]" in choice.reason) is not installed
    assert choosing.choose(small, {"alpha": 0.1}).name == "transform-svdd"
    larger = choosing.choose(open_source(np.zeros((10, 50, 50, channels), dtype=np.uint8)))
    assert larger.name == ("photo" if installed else "vae-svdd") and ("insphere[photos]" in larger.reason) is not installed
    assert choosing.choose(small, {"backbone": "scratch"}).name == "photo"
    # What photo refuses, and what is too small for a trained network to see anything in.
    for other in (np.zeros((10, 32, 32, 3)), np.zeros((10, 32, 32, 4), dtype=np.uint8), np.zeros((10, 11, 40, channels), dtype=np.uint8)):
        assert choosing.choose(open_source(other)).name == "transform-svdd"
    assert kind_of(small) == ("photos" if installed else "pictures") and kind_of(small, {"alpha": 0.1}) == "pictures"


def test_vectors_get_what_is_best_on_tables_unless_they_are_many_or_long_or_it_lacks_a_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    table = open_source(np.zeros((10, 3)))
    choice = choosing.choose(table, {"trim": 0.1})
    assert choice.name == "fusion" and choice.other == "vae-svdd" and choice.parameters == {"trim": 0.1}
    networks = choosing.choose(table, {"epochs": 3})
    assert (networks.name, networks.parameters) == ("vae-svdd", {"epochs": 3}) and "fusion has no epochs, so" in networks.reason
    assert choosing.choose(open_source(np.zeros((10, 2048)))).name == "fusion"
    long = choosing.choose(open_source(np.zeros((10, 2049))))
    assert long.name == "vae-svdd" and "vectors of more than 2,048 features, so" in long.reason
    many, large = "The rows are more than 9 vectors, so", "The rows are vectors of more than 29 values in all, so"
    for limit, why in (({"MOST_ROWS": 9}, many), ({"MOST_VALUES": 29}, large)):
        with monkeypatch.context() as limited:
            limited.setattr(choosing, *limit.popitem())
            assert choosing.choose(table).name == "vae-svdd" and why in choosing.choose(table).reason


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
def test_one_call_fits_what_suits_and_says_so_where_it_is_not_the_usual_one() -> None:
    rng = np.random.default_rng(0)
    epochs: list[Any] = []
    fitted = insphere.fit(rng.normal(size=(40, 3)), on_epoch=epochs.append, epochs=2, random_state=0, target_fpr=0.1)
    assert isinstance(fitted, insphere.DeepSVDDVAE) and len(epochs) == 2 and fitted.target_fpr == 0.1
    with pytest.warns(SourceNotice, match="The rows are vectors, so the detector fusion is fitted. detector='vae-svdd' fits that one"):
        assert isinstance(insphere.fit(rng.normal(size=(40, 3)), random_state=0), insphere.Fusion)
    photos = rng.integers(0, 200, size=(12, 80, 70, 1)).astype(np.uint8)
    with pytest.warns(SourceNotice, match="so the detector photo is fitted. detector='vae-svdd' fits that one instead."):
        by_size = insphere.fit(photos, backbone="scratch", random_state=0)
    assert isinstance(by_size, insphere.PhotoSpheres)
    assert isinstance(insphere.fit(rng.normal(size=(40, 3)), detector="knn"), insphere.KNN)
    with pytest.raises(UnknownParameterError, match="alpha"):
        insphere.fit(rng.normal(size=(40, 3)), detector="knn", alpha=1)
