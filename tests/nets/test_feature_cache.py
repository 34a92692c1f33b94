"""The cache of features: found again, kept apart, bounded, shared by processes, and never a reason to fail."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from insphere.errors import ParameterError
from insphere.nets.efficientnet_lite import Architecture, EfficientNetLite
from insphere.nets.feature_cache import FILE, VARIABLE, FeatureCache, key_of
from insphere.nets.oriented_energies import Energies, OrientedEnergies
from insphere.nets.photo_features import PhotoFeatures

ROWS = np.arange(40, dtype=np.uint8).reshape(10, 4)


def doubled(rows: NDArray[Any]) -> NDArray[np.float32]:
    return 2 * rows.astype(np.float32)


def never(rows: NDArray[Any]) -> NDArray[np.float32]:
    raise AssertionError(f"{len(rows)} rows were computed again")


def test_what_was_computed_is_found_again_whatever_the_order(tmp_path: Path) -> None:
    first = FeatureCache(tmp_path)
    np.testing.assert_array_equal(first.through(b"k", ROWS[:6], doubled), 2 * ROWS[:6])
    assert (first.n_found, first.n_computed) == (0, 6)
    second = FeatureCache(tmp_path)
    found = second.through(b"k", ROWS[5::-1], never)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, 2 * ROWS[5::-1])
    np.testing.assert_array_equal(second.through(b"k", ROWS, doubled), 2 * ROWS)
    assert (second.n_found, second.n_computed) == (6, 4)


def test_rows_of_other_content_type_shape_or_network_are_others(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.through(b"k", ROWS, doubled)
    for how, rows in [(b"other", ROWS), (b"k", ROWS + 100), (b"k", ROWS.astype(np.int8)), (b"k", ROWS.reshape(10, 2, 2))]:
        before = cache.n_computed
        cache.through(how, rows, lambda rows: doubled(rows.reshape(len(rows), -1)))
        assert cache.n_computed == before + 10


def test_floats_come_back_to_the_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(10, 7)).astype(np.float32) * 10.0 ** np.arange(-18, 17, 5)
    values = values.astype(np.float32)
    for compute in (lambda rows: values, never):
        np.testing.assert_array_equal(FeatureCache(tmp_path).through(b"k", ROWS, compute), values)


def test_the_oldest_entries_go_where_there_are_too_many(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, most_bytes=8 * 4 * 100)

    def wide(rows: NDArray[Any]) -> NDArray[np.float32]:
        return np.repeat(rows[:, :1].astype(np.float32), 100, axis=1)

    for row in range(8):
        cache.through(b"k", ROWS[row : row + 1], wide)
    cache.through(b"k", ROWS[:1], never)  # which makes the first one young
    cache.through(b"k", ROWS[8:9], wide)
    with sqlite3.connect(tmp_path / FILE) as file:
        (total,) = file.execute("SELECT SUM(size) FROM features").fetchone()
    file.close()
    assert total <= 8 * 4 * 100
    cache.through(b"k", ROWS[[0, 8]], never)
    with pytest.raises(AssertionError, match="1 rows"):
        cache.through(b"k", ROWS[1:2], never)


@pytest.mark.parametrize("damage", ["entry", "length", "file", "begin", "table"])
def test_what_is_damaged_is_made_again(damage: str, tmp_path: Path) -> None:
    FeatureCache(tmp_path).through(b"k", ROWS, doubled)
    path = tmp_path / FILE
    if damage in ("entry", "length", "table"):
        change = {
            "entry": "UPDATE features SET value = zeroblob(length(value)) WHERE rowid = 3",
            "length": "UPDATE features SET value = x'00' WHERE rowid = 3",
            "table": "DROP TABLE features",
        }[damage]
        with sqlite3.connect(path) as file:
            file.execute(change)
        file.close()
    elif damage == "file":
        path.write_bytes(b"no such thing" * 1000)
    else:
        path.write_bytes(path.read_bytes()[:1500])
    for _ in range(2):  # a damaged file may be noticed only at the end of the first pass
        np.testing.assert_array_equal(FeatureCache(tmp_path).through(b"k", ROWS, doubled), 2 * ROWS)
    np.testing.assert_array_equal(FeatureCache(tmp_path).through(b"k", ROWS, never), 2 * ROWS)


def test_a_place_where_nothing_can_be_written_is_as_no_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = FeatureCache(tmp_path / "file" / "below")
    for _ in range(2):
        np.testing.assert_array_equal(cache.through(b"k", ROWS, doubled), 2 * ROWS)
    assert (cache.n_found, cache.n_computed) == (0, 20)


WORK = """
import sys
import numpy as np
from insphere.nets.feature_cache import FeatureCache
rows = np.arange(1000, dtype=np.int64).reshape(250, 4) + 400 * int(sys.argv[2])
cache = FeatureCache(sys.argv[1])
for start in range(0, 250, 10):
    found = cache.through(b"k", rows[start : start + 10], lambda rows: 2 * rows.astype(np.float32))
    assert (found == 2 * rows[start : start + 10]).all()
assert cache.n_found + cache.n_computed == 250
"""


def test_several_processes_share_it(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", WORK, str(tmp_path), str(number)] for number in range(3)]
    workers = [subprocess.Popen(command) for command in commands]
    assert [worker.wait(timeout=300) for worker in workers] == [0, 0, 0]
    cache = FeatureCache(tmp_path)
    cache.through(b"k", np.arange(1000, dtype=np.int64).reshape(250, 4), never)
    assert cache.n_found == 250


class TestPlace:
    def test_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(VARIABLE, "Off")
        assert FeatureCache.of_user() is None

    def test_a_folder(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv(VARIABLE, str(tmp_path / "new"))
        cache = FeatureCache.of_user()
        assert cache is not None and cache.path == tmp_path / "new" / FILE

    def test_the_users_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(VARIABLE)
        cache = FeatureCache.of_user()
        assert cache is not None and "insphere" in cache.path.parts

    def test_a_file_is_refused(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
        with pytest.raises(ParameterError, match="must be a folder or off"):
            FeatureCache.of_user()


def test_the_key_tells_all_that_features_depend_on_apart() -> None:
    cpu = torch.device("cpu")
    network = OrientedEnergies(Energies())
    kept = np.ones((64, 64), dtype=bool)
    kept[:8] = False
    lite = EfficientNetLite(Architecture(n_stages=5))
    other = EfficientNetLite(Architecture(n_stages=5))
    with torch.no_grad():
        other.stem.bias.add_(1)
    every = [
        PhotoFeatures(network, (64, 64), "texture"),
        PhotoFeatures(network, (64, 80), "texture"),
        PhotoFeatures(network, (64, 64), "texture", kept),
        PhotoFeatures(lite, (64, 64), "fine"),
        PhotoFeatures(other, (64, 64), "fine"),
    ]
    deeper = EfficientNetLite(Architecture(n_stages=5))
    deeper.load_state_dict(lite.state_dict())
    deeper.roles = {**deeper.roles, "places": ("stage 4", "stage 5")}
    every.append(PhotoFeatures(deeper, (64, 64), "fine"))
    keys = [key_of(features, cpu) for features in every]
    assert len(set(keys)) == len(keys) and keys == [key_of(features, cpu) for features in every]
    assert key_of(every[0], torch.device("cuda")) != keys[0]
