"""Checks on the real data sets: numbers of rows, pixels as published, zip and unpacked folder alike."""

import hashlib
import zipfile

import numpy as np
import pytest

from insphere.data import load_dataset, one_class_split, open_source

pytestmark = pytest.mark.data


def test_mnist_pixels_are_the_published_ones(real_data):
    test = load_dataset("mnist:8", "test", data_dir=real_data)
    X = test.load().X
    header = bytes([0, 0, 8, 3, 0, 0, 39, 16, 0, 0, 0, 28, 0, 0, 0, 28])
    assert hashlib.md5(header + X.tobytes(), usedforsecurity=False).hexdigest() == "2646ac647ad5339dbf082846283269ea"
    assert int((test.labels == 0).sum()) == 974
    assert len(load_dataset("mnist:8", data_dir=real_data)) == 5851


def test_cifar10(real_data):
    train = load_dataset("cifar10:automobile", data_dir=real_data)
    assert len(train) == 5000 and set(train.types) == {"automobile"} and train.row_shape == (32, 32, 3)
    test = load_dataset("cifar10:automobile", "test", data_dir=real_data)
    assert len(test) == 10_000 and int((test.labels == 0).sum()) == 1000


def test_gtsrb_tracks(real_data):
    train = load_dataset("gtsrb32:stop", data_dir=real_data)
    assert len(train) == 780 and len(set(train.groups)) == 26
    test = load_dataset("gtsrb32:14", "test", data_dir=real_data)
    assert len(test) == 4387 and int((test.labels == 0).sum()) == 270 and test.groups is None


def test_solar_modules(real_data):
    train = open_source(real_data / "solar-modules.zip", split="train")
    test = open_source(real_data / "solar-modules.zip", split="test", spec=train.spec)
    assert (len(train), len(test), train.row_shape) == (8000, 12_000, (40, 24, 1))
    assert int(test.labels.sum()) == 10_000 and len(set(test.types)) == 12
    assert not next(test.batches(2000)).errors


def test_magnetic_tiles_zip_and_folder_are_alike(real_data, tmp_path):
    with zipfile.ZipFile(real_data / "magnetic-tiles.zip") as archive:
        archive.extractall(tmp_path)
    places = (real_data / "magnetic-tiles.zip", tmp_path / "magnetic-tiles", tmp_path)
    for split in ("train", "test"):
        packed, inner, outer = (open_source(place, split=split) for place in places)
        assert packed.ids == inner.ids == outer.ids and packed.types == inner.types and packed.spec == inner.spec
        assert np.array_equal(packed.labels, inner.labels)
        assert np.array_equal(packed.load().X, inner.load().X)
    assert len(packed) == 124 and int(packed.labels.sum()) == 64


def test_every_table_of_adbench(real_data):
    tables = sorted((real_data / "adbench").glob("*.npz"))
    assert len(tables) == 18
    for table in tables:
        split = one_class_split(table)
        assert not split.train.load().errors and not split.test.load().errors
        assert 0 < split.labels.sum() < len(split.labels)
