"""Rows in a file instead of in memory: the same rows, the same fits, bounded memory, and what happens on a full disk."""

import functools
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from insphere import DeepSVDDVAE, open_source
from insphere.data import row_store
from insphere.data.row_store import StoredRows, chunks, load_within, take_rows
from insphere.errors import DataError, DataNotice

TINY = {"epochs": 2, "random_state": 0}


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of few rows, of which few are kept."""
    monkeypatch.setattr(row_store, "BLOCK_BYTES", 100)
    monkeypatch.setattr(row_store, "CACHED_BYTES", 300)


@given(keys=st.lists(st.integers(-23, 22), max_size=40), step=st.sampled_from([-3, -1, 1, 2, 7]), start=st.integers(-25, 25))
def test_it_reads_what_an_array_would_give(keys, step, start):
    X = np.arange(23 * 5, dtype=np.int64).reshape(23, 5)
    stored = StoredRows.of(chunks(X, 4))
    index = np.array(keys, dtype=np.int64)
    assert np.array_equal(stored[index], X[index])
    assert np.array_equal(stored[start::step], X[start::step])
    assert np.array_equal(stored.take(index)[:], X[index])
    assert np.array_equal(stored.take(index)[::2], X[index][::2])
    truths = np.arange(23) % 3 == 0
    assert np.array_equal(take_rows(take_rows(stored, truths), np.array([1, 0])), X[truths][[1, 0]])
    assert np.array_equal(stored[4], X[4])
    assert stored[4].shape == (5,)
    assert (stored.shape, stored.ndim, stored.size, stored.dtype, len(stored)) == (X.shape, 2, X.size, X.dtype, 23)
    assert np.array_equal(np.asarray(stored, np.float32), X.astype(np.float32))


@pytest.mark.usefixtures("small_blocks")
def test_few_blocks_are_kept():
    stored = StoredRows.of([np.zeros((1000, 5))])
    assert len(stored[::3]) == 334
    assert len(stored._blocks._cached) == stored.n_cached == 3
    assert stored.block_of.tolist() == (np.arange(1000) // 2).tolist()


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stored = StoredRows.of([np.zeros((10, 2))])
    assert stored[:].sum() == 0
    if os.name == "posix":
        assert not list(tmp_path.iterdir())
    del stored
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told(monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", functools.partial(Path("/dev/full").open, "r+b", buffering=0))
    with pytest.raises(DataError, match=r"a temporary file .*No space left .*TMPDIR.*training\.memory_limit"):
        StoredRows.of([np.zeros((10, 2))])


def test_a_file_that_was_cut_is_told():
    stored = StoredRows.of([np.zeros((10, 2))])
    stored._blocks._file.truncate(20)
    with pytest.raises(DataError, match="cut short"):
        stored[:]


def test_errors_and_positions_of_rows_stay(tmp_path):
    X = np.arange(40.0).reshape(20, 2)
    X[[3, 9]] = np.nan
    np.save(tmp_path / "x.npy", X)
    source = open_source(tmp_path / "x.npy")
    in_memory, stored = source.load(), load_within(source, 64)
    assert isinstance(stored.X, StoredRows)
    assert np.array_equal(stored.X[:], in_memory.X)
    assert np.array_equal(stored.index, in_memory.index)
    assert stored.errors == in_memory.errors


def test_what_lies_in_memory_stays_there(tmp_path):
    X = np.zeros((20, 2))
    assert isinstance(load_within(open_source(X), 1).X, np.ndarray)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for rows in (mapped, mapped[2:], str(tmp_path / "x.npy")):
        assert isinstance(load_within(open_source(rows), 1).X, StoredRows)
        assert isinstance(load_within(open_source(rows), None).X, np.ndarray)


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "vectors.npy", rng.normal(size=(120, 5)) @ rng.normal(size=(5, 5)))
    np.save(tmp_path / "images.npy", rng.integers(0, 255, (60, 8, 8, 1), np.uint8))
    return tmp_path


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
@pytest.mark.parametrize("name", ["vectors.npy", "images.npy"])
@pytest.mark.parametrize("training", [{}, {"patience": 3}])
def test_a_fit_of_rows_in_a_file_is_that_of_rows_in_memory(files, name, training):
    usual = DeepSVDDVAE(**TINY, trim=0.1, training=training).fit(files / name)
    with pytest.warns(DataNotice, match=r"take [0-9,]+ bytes, more than training\.memory_limit \(100\), and are kept"):
        stored = DeepSVDDVAE(**TINY, trim=0.1, training={**training, "memory_limit": 100}).fit(files / name)
    assert np.array_equal(stored.anomaly_score(files / name), usual.anomaly_score(files / name))
    assert stored.threshold_ == usual.threshold_
    assert stored.data_ == usual.data_


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning", "ignore::insphere.errors.DataNotice")
@pytest.mark.usefixtures("small_blocks")
def test_a_fit_in_windows_resumes_like_one_in_memory(files):
    path, checkpoint = files / "vectors.npy", files / "state"
    detector = DeepSVDDVAE(epochs=4, random_state=0, training={"memory_limit": 100})

    def stop(record):
        if record.epoch == 2:
            raise KeyboardInterrupt

    whole = DeepSVDDVAE(epochs=4, random_state=0, training={"memory_limit": 100}).fit(path)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(path, checkpoint=checkpoint, on_epoch=stop)
    detector.fit(path, checkpoint=checkpoint, resume=True)
    assert np.array_equal(detector.anomaly_score(path), whole.anomaly_score(path))
