import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from insphere.data import ArraySource, open_source
from insphere.errors import DataError, ParameterError


@pytest.mark.parametrize(
    ("given_type", "kept"),
    [
        ("uint8", "uint8"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("float16", "float32"),
        ("longdouble", "float64"),
        ("int16", "float64"),
        ("int64", "float64"),
        ("bool", "float64"),
        (">f4", "float32"),
        (">i2", "float64"),
    ],
)
def test_types_become_those_that_are_computed_with(given_type, kept):
    source = ArraySource(np.ones((2, 3), dtype=given_type))
    assert source.dtype == np.dtype(kept) and source.dtype.isnative
    assert source.load().X.tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize(("shape", "row_shape"), [((2, 3), (3,)), ((2, 3, 4), (3, 4, 1)), ((2, 3, 4, 5), (3, 4, 5))])
def test_shapes_of_rows_and_of_images(shape, row_shape):
    source = ArraySource(np.zeros(shape))
    assert source.row_shape == row_shape and source.is_image == (len(row_shape) == 3)
    assert source.load().X.shape == (2, *row_shape)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros(3), "shape"),
        (np.zeros((1, 1, 1, 1, 1)), "shape"),
        (3.0, "shape"),
        (np.zeros((0, 3)), "at least one row"),
        (np.zeros((3, 0)), "at least one row"),
        ([[1, 2], [3]], "one shape"),
        (np.array([[1, "a"]], dtype=object), "object"),
        (np.array([[None, 1.0]]), "object"),
        (["a.png", "b.png"], "folder or a glob"),
        (np.ones((2, 2), dtype=complex), "complex"),
        (np.ones((2, 2), dtype="datetime64[s]"), "datetime64"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(X, message):
    with pytest.raises(DataError, match=message):
        ArraySource(X)


def test_sparse_matrix_is_refused_with_its_remedy():
    from scipy.sparse import csr_matrix

    with pytest.raises(DataError, match="toarray"):
        ArraySource(csr_matrix((3, 3)))


def test_rows_that_are_not_finite_are_errors_that_say_where():
    X = np.ones((5, 2))
    X[1, 1], X[3] = np.inf, np.nan
    rows = ArraySource(X, feature_names=["a", "b"]).load()
    assert rows.index.tolist() == [0, 2, 4] and len(rows.X) == 3
    assert rows.errors == {1: "feature 1 'b' is inf", 3: "feature 0 'a' is nan (and 1 more)"}


def test_pixel_that_is_not_finite_is_named():
    X = np.ones((1, 3, 4, 2))
    X[0, 2, 1, 1] = -np.inf
    assert ArraySource(X).load().errors == {0: "pixel at row 2, column 1, channel 1 is -inf"}


def test_masked_values_are_missing_values():
    X = np.ma.array([[1, 2], [3, 4]], mask=[[False, False], [True, False]])
    assert ArraySource(X).load().errors == {1: "feature 0 is nan"}


def test_read_only_array_is_given_out_writable():
    X = np.ones((2, 2))
    X.flags.writeable = False
    assert next(ArraySource(X).batches(2)).X.flags.writeable


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 3))), st.integers(1, 15))
def test_batches_cover_every_row_once_in_order(X, batch_size):
    source = ArraySource(X)
    batches = list(source.batches(batch_size))
    seen = np.concatenate([np.sort(np.r_[rows.index, np.array(list(rows.errors), dtype=np.int64)]) for rows in batches])
    assert seen.tolist() == list(range(len(X)))
    finite = np.isfinite(X).all(axis=1)
    assert np.array_equal(np.concatenate([rows.X for rows in batches]), X[finite])
    assert {row for rows in batches for row in rows.errors} == set(np.flatnonzero(~finite).tolist())
    assert np.array_equal(source.load().X, X[finite])


@pytest.mark.parametrize("batch_size", [0, -1, 1.5])
def test_bad_batch_size_is_refused_at_once(batch_size):
    with pytest.raises(ParameterError, match="batch_size"):
        ArraySource(np.ones((2, 2))).batches(batch_size)


def test_take_keeps_facts_with_their_rows():
    source = ArraySource(
        np.arange(6.0).reshape(3, 2),
        labels=[0, 1, 0],
        types=["a", "b", "c"],
        groups=[7, 8, 9],
        ids=["x", "y", "z"],
        feature_names=["f", "g"],
    )
    part = source.take([2, 1])
    assert part.load().X.tolist() == [[4, 5], [2, 3]]
    assert part.labels.tolist() == [0, 1] and part.types == ("c", "b") and part.groups == ("9", "8") and part.ids == ("z", "y")
    assert part.feature_names == ("f", "g")


def test_facts_of_another_length_are_refused():
    with pytest.raises(DataError, match="`types` must have one entry per row: 2 rows, but 3"):
        ArraySource(np.ones((2, 2)), types=["a", "b", "c"])
    with pytest.raises(DataError, match="feature_names"):
        ArraySource(np.ones((2, 2)), feature_names=["a"])


def test_data_frame_gives_its_column_names():
    class Frame:
        columns = ("a", "b")
        dtypes = ()

        def __array__(self, dtype=None, copy=None):
            return np.ones((2, 2))

    assert ArraySource(Frame()).feature_names == ("a", "b")


@pytest.mark.parametrize("shape", [(5, 3, 32, 32), (5, 1, 28, 28), (5, 4, 9, 7)])
def test_channels_first_is_refused_or_turned(shape, tmp_path):
    X = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    np.save(tmp_path / "x.npy", X)
    for source in (X, tmp_path / "x.npy"):
        with pytest.raises(DataError, match=r'channels first.*channels="first".*--channels first'):
            open_source(source)
        turned = open_source(source, channels="first")
        np.testing.assert_array_equal(turned.load().X, X.transpose(0, 2, 3, 1))
        assert open_source(source, channels="last").row_shape == shape[1:]
    assert turned.take([2]).row_shape == (*shape[2:], shape[1])


@pytest.mark.parametrize("shape", [(5, 3, 3, 3), (5, 28, 28, 1), (5, 1, 28, 3), (5, 3, 32, 4), (5, 16, 16, 12), (5, 2, 9, 9)])
def test_channels_last_is_taken_as_it_is(shape):
    assert open_source(np.zeros(shape)).row_shape == shape[1:]


def test_channels_apply_to_arrays_of_images_only(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    for source in (np.ones((3, 2)), tmp_path / "t.csv"):
        with pytest.raises(ParameterError, match="`channels` does not apply"):
            open_source(source, channels="first")


def test_row_errors_keep_their_rows():
    source = ArraySource(np.arange(8.0).reshape(4, 2), row_errors={1: "line 3: cut"})
    assert source.load().errors == {1: "line 3: cut"} and source.load().index.tolist() == [0, 2, 3]
    assert [rows.errors for rows in source.batches(2)] == [{1: "line 3: cut"}, {}]
    assert source.take([3, 1, 1]).load().errors == {1: "line 3: cut", 2: "line 3: cut"}
