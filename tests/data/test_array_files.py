import io
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insphere.data import ArraySource, open_source
from insphere.errors import DataError, ParameterError


def test_npy_is_read_as_its_rows_are_asked_for(tmp_path):
    X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.save(tmp_path / "x.npy", X)
    source = open_source(tmp_path / "x.npy")
    assert source.row_shape == (3, 4, 1) and source.name == "x.npy"
    assert np.array_equal(source.load().X[..., 0], X)
    assert source.load().X.flags.writeable


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.uint8, np.bool_, ">f8"])
@pytest.mark.parametrize("shape", [(7, 3), (7, 5, 6), (7, 5, 6, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_of_a_file_are_those_of_the_array(tmp_path, dtype, shape, order):
    X = np.asarray(np.random.default_rng(0).integers(0, 2, shape), dtype, order=order)
    np.save(tmp_path / "x.npy", X)
    source, array = open_source(tmp_path / "x.npy"), ArraySource(X)
    assert (source.row_shape, source.dtype, len(source)) == (array.row_shape, array.dtype, 7)
    for some, same in ((source, array), (source.take([6, 0, 6]), array.take([6, 0, 6]))):
        for rows, expected in zip(some.batches(2), same.batches(2), strict=True):
            assert np.array_equal(rows.X, expected.X) and rows.X.dtype == expected.X.dtype and rows.X.flags.writeable


def test_images_with_channels_first_are_turned(tmp_path):
    X = np.random.default_rng(0).random((4, 3, 8, 9)).astype(np.float32)
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(DataError, match="channels first"):
        open_source(tmp_path / "x.npy")
    assert np.array_equal(open_source(tmp_path / "x.npy", channels="first").load().X, np.moveaxis(X, 1, -1))


def test_a_row_that_is_no_number_is_named(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[0.0, 1.0], [np.nan, 1.0]]))
    assert open_source(tmp_path / "x.npy").load().errors == {1: "feature 0 is nan"}


@pytest.mark.parametrize("change", ["cut", "written", "replaced", "gone"])
def test_a_file_that_changes_while_it_is_read_is_told(tmp_path, change):
    path = tmp_path / "x.npy"
    np.save(path, np.ones((100_000, 4)))
    batches = open_source(path).batches(10)
    next(batches)
    if change == "cut":
        os.truncate(path, 5000)
    elif change == "written":
        np.save(path, np.zeros((100_000, 4)))
        os.utime(path, ns=(1, 1))
    else:
        path.rename(tmp_path / "other.npy")
        if change == "replaced":
            np.save(path, np.zeros((100_000, 4)))
    with pytest.raises(DataError, match="cannot be read: No such file" if change == "gone" else "was changed while it was read"):
        list(batches)


def test_npz_with_labels(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.arange(6).reshape(3, 2), y=[0, 1, 0])
    assert open_source(tmp_path / "t.npz").labels.tolist() == [0, 1, 0]
    train = open_source(tmp_path / "t.npz", split="train")
    assert train.load().X.tolist() == [[0, 1], [4, 5]] and train.labels.tolist() == [0, 0]
    assert open_source(tmp_path / "t.npz", normal_label=1).labels.tolist() == [1, 0, 1]


def test_npz_with_text_labels_or_other_names(tmp_path):
    np.savez(tmp_path / "t.npz", rows=np.ones((2, 2)), state=["ok", "bad"])
    with pytest.raises(DataError, match="no array 'X'"):
        open_source(tmp_path / "t.npz")
    with pytest.raises(DataError, match="normal_label"):
        open_source(tmp_path / "t.npz", label_column="state")
    source = open_source(tmp_path / "t.npz", label_column="state", normal_label="ok")
    assert source.labels.tolist() == [0, 1] and source.types == ("ok", "bad")
    with pytest.raises(DataError, match="Did you mean 'state'"):
        open_source(tmp_path / "t.npz", label_column="stat")


def test_single_array_of_any_name_is_taken(tmp_path):
    np.savez(tmp_path / "t.npz", rows=np.ones((2, 2)))
    assert len(open_source(tmp_path / "t.npz")) == 2
    with pytest.raises(ParameterError, match="without labels"):
        open_source(tmp_path / "t.npz", normal_label=0)


def test_labels_of_another_length_are_refused(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.ones((3, 2)), y=[0, 1])
    with pytest.raises(DataError, match="one entry per row"):
        open_source(tmp_path / "t.npz")


def test_objects_are_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    objects = np.array([[Bomb()]], dtype=object)
    np.save(tmp_path / "x.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "x.npz", X=objects)
    np.savez(tmp_path / "y.npz", X=np.ones((1, 1)), y=objects[0])
    for name in ("x.npy", "x.npz", "y.npz"):
        with pytest.raises(DataError, match="without unpickling"):
            open_source(tmp_path / name)


@pytest.mark.parametrize("data", [b"", b"only text", b"\x93NUMPY", b"PK\x03\x04rest", b"\x80\x04K\x01."])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_what_is_no_array_is_refused(tmp_path, data, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(data)
    with pytest.raises(DataError, match="cannot be read as NumPy arrays"):
        open_source(path)


def test_truncated_arrays_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((100, 100)))
    raw = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(raw[:5000])
    with pytest.raises(DataError, match="cannot be read"):
        open_source(tmp_path / "x.npy")


def _example():
    stream = io.BytesIO()
    np.savez(stream, X=np.ones((3, 2)), y=np.array([0, 1, 0]))
    return stream.getvalue()


EXAMPLE = _example()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 30))
def test_damaged_files_give_rows_or_a_data_error(tmp_path, changes, cut):
    raw = bytearray(EXAMPLE)
    for place, value in changes:
        raw[place] = value
    path = tmp_path / "fuzz.npz"
    path.write_bytes(raw[: len(raw) - cut])
    try:
        source = open_source(path)
        rows = source.load()
    except DataError:
        return
    assert len(rows.X) + len(rows.errors) == len(source)


def test_a_head_with_a_negative_shape_is_refused(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.zeros((14, 3)))
    path.write_bytes(path.read_bytes().replace(b"(14, 3)", b"(-4, 3)"))
    with pytest.raises(DataError, match=r"its shape is \(-4, 3\)"):
        open_source(path)
