"""Photos of plates that the program makes itself."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from insphere.data import load_dataset, open_source
from insphere.data.plate_defects import DEFECTS
from insphere.data.plate_scene import SCREW_RADIUS, SCREWS, blank, make_plate
from insphere.data.plates import PLATE_DEFECTS, PLATE_SIZE, PlateName, _encoded, draw_plate, plate_names, write_plates
from insphere.errors import DataError, ParameterError

SMALL = (150, 200)


def encoded(kind):
    (plate,) = _encoded([PlateName("test", kind, 0)], 0, SMALL)
    return plate


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_plates(tmp_path_factory.mktemp("plates") / "new", n_train=3, n_good=2, n_each=2, seed=3, image_size=SMALL)


def test_the_folder_is_read_as_photos_with_defects_and_masks(written):
    test = open_source(written, split="test", image_size=SMALL)
    assert len(open_source(written, split="train")) == 3 and len(test) == 10
    assert sorted(test.types) == sorted(["good"] * 2 + list(PLATE_DEFECTS) * 2)
    assert test.labels.tolist() == [int(kind != "good") for kind in test.types]
    assert [mask is None for mask in test.facts.masks] == [kind == "good" for kind in test.types]
    assert test.load().X.shape == (10, *SMALL, 3) and not test.load().errors
    for name, mask in zip(test.ids, test.facts.masks, strict=True):
        if mask is not None:
            part, kind, stem = name.removesuffix(".jpg").split("/")
            with Image.open(written / mask) as image:
                assert image.size == SMALL[::-1] and image.mode == "L" and set(np.unique(image)) == {0, 255}
                drawn = draw_plate(PlateName(part, kind, int(stem)), seed=3, image_size=SMALL)[1]
                assert np.array_equal(np.asarray(image) > 127, drawn)


def test_the_same_seed_gives_the_same_photos_and_fewer_change_none(written, tmp_path):
    again = write_plates(tmp_path, n_train=2, n_good=1, n_each=1, seed=3, image_size=SMALL)
    other = write_plates(tmp_path / ".." / "other", n_train=1, n_good=0, n_each=0, seed=4, image_size=SMALL)
    paths = [path.relative_to(again) for path in sorted(again.rglob("*.*g"))]
    assert len(paths) == 11
    assert all((again / path).read_bytes() == (written / path).read_bytes() for path in paths)
    assert (other / "train/good/000.jpg").read_bytes() != (again / "train/good/000.jpg").read_bytes()


@pytest.mark.parametrize("kind", PLATE_DEFECTS)
def test_defects_are_small_visible_and_where_the_mask_says(kind):
    for number in range(12):
        photo, mask = draw_plate(PlateName("test", kind, number), seed=1)
        assert photo.shape == (*PLATE_SIZE, 3) and photo.dtype == np.uint8
        assert 0.001 <= mask.mean() <= 0.02
        if kind == "missing":  # what is missing leaves the bare surface, or the mat
            continue
        grey = photo.astype(float).mean(axis=2)
        around = ndimage.binary_dilation(mask, iterations=6) & ~ndimage.binary_dilation(mask, iterations=2)
        # The surface goes on around a defect; inside, its level or its evenness is another.
        level = abs(grey[mask].mean() - grey[around].mean())
        evenness = abs(grey[mask].std() - grey[around].std())
        assert max(level, evenness) > 2, (kind, number)


def test_missing_parts_are_the_ones_masked():
    plain, base = make_plate(np.random.default_rng(5), *SMALL), blank(*SMALL)
    for number, (across, down) in enumerate(SCREWS):
        layers = make_plate(np.random.default_rng(5), *SMALL, missing=(number,))
        changed = np.abs(layers.colour - plain.colour).max(axis=2) > 0.2
        near = np.hypot(base.x - across, base.y - down)
        assert changed[near < SCREW_RADIUS - 6].mean() > 0.5 and not changed[near > SCREW_RADIUS + 4].any()
    kinds = set()
    for seed in range(12):
        layers, mask = DEFECTS["missing"](np.random.default_rng(seed), *SMALL)
        if (layers.cover < base.cover - 0.5).any():
            kinds.add("corner")
            assert not layers.cover[mask].mean() > 0.1
        elif (base.ink[mask] > 0.5).all():
            kinds.add("print")
            assert layers.colour[mask].mean() > layers.colour[(base.ink > 0.9) & ~mask].mean() + 0.2
        else:
            kinds.add("screw")
            assert layers.colour[mask].mean() < 0.3
    assert kinds == {"corner", "print", "screw"}


def test_nothing_but_the_defect_differs_before_the_photo_is_taken():
    for kind in ("stain", "dent", "scratch"):
        plain, (layers, mask) = make_plate(np.random.default_rng(5), *SMALL), DEFECTS[kind](np.random.default_rng(5), *SMALL)
        changed = np.abs(layers.colour - plain.colour).max(axis=2) + np.abs(layers.relief - plain.relief) > 0.03
        assert changed.any() and not (changed & ~ndimage.binary_dilation(mask, iterations=2)).any()


def test_comparing_pixels_does_not_find_the_defects():
    train = np.stack([draw_plate(PlateName("train", "good", n), image_size=SMALL)[0] for n in range(40)]).astype(float)
    test = list(plate_names(0, 16, 4))
    photos = np.stack([draw_plate(name, image_size=SMALL)[0] for name in test]).astype(float)
    defective = [name.kind != "good" for name in test]
    from_mean = ((photos - train.mean(axis=0)) ** 2).mean(axis=(1, 2, 3))
    nearest = [((train - photo) ** 2).mean(axis=(1, 2, 3)).min() for photo in photos]
    assert 0.3 < roc_auc_score(defective, from_mean) < 0.7
    assert 0.3 < roc_auc_score(defective, nearest) < 0.7


def test_other_files_in_the_folder_are_refused(tmp_path):
    (tmp_path / "mine.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="holds other files, such as mine.jpg; give a new or empty folder"):
        write_plates(tmp_path, n_train=1, n_good=0, n_each=0, image_size=SMALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 63}, "`height` must be a whole number at least 64, got 63"),
        ({"n_train": -1}, "`n_train`"),
        ({"n_each": 1000}, "`n_each`"),
        ({"seed": -1}, "random_state"),
    ],
)
def test_numbers_out_of_range(tmp_path, options, message):
    with pytest.raises(ParameterError, match=message):
        write_plates(tmp_path, **options)


def test_the_named_set_has_the_same_photos(tmp_path):
    source = load_dataset("plates:good", image_size=PLATE_SIZE)
    assert len(source) == 100 and set(source.types) == {"good"} and not source.labels.any()
    folder = write_plates(tmp_path, n_train=1, n_good=0, n_each=0)
    assert np.array_equal(source.take([0]).load().X, open_source(folder, image_size=PLATE_SIZE).load().X)
    assert load_dataset("plates:good").row_shape == (48, 64, 3)


def test_the_named_set_has_masks(monkeypatch):
    plates = tuple(encoded(kind) for kind in ("good", "stain"))
    monkeypatch.setattr("insphere.data.datasets.plate_photos", lambda part: plates if part == "test" else plates[:1])
    everything = load_dataset("plates:good", "all")
    assert everything.labels.tolist() == [0, 0, 1] and everything.parts == ("test", "test", "test")
    test = load_dataset("plates:good", "test")
    assert test.ids == ("test/good/000.jpg", "test/stain/000.jpg") and test.n_masks == 1 and test.mask(0) is None
    assert np.array_equal(test.mask(1), draw_plate(PlateName("test", "stain", 0), image_size=SMALL)[1])
