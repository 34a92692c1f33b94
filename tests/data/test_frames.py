import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from insphere.data import open_source
from insphere.data.frames import frame_table, is_frame
from insphere.errors import DataError


def test_arrow_tables_and_record_batches():
    table = pa.table({"volt": [1.0, 2.0], "state": ["ok", "bad"]})
    for frame in (table, table.to_batches()[0], pa.RecordBatchReader.from_batches(table.schema, table.to_batches())):
        source = open_source(frame, label_column="state", normal_label="ok")
        assert source.feature_names == ("volt",) and source.labels.tolist() == [0, 1] and source.load().X.tolist() == [[1], [2]]
    with pytest.raises(DataError, match=r"column 'state' of the data frame .*label_column"):
        open_source(table)


def test_what_only_looks_like_a_frame():
    class Frame:
        columns, dtypes = ["a", "b"], None

        def __array__(self, dtype=None, copy=None):
            return np.array([[1.0, 2.0]])

    assert is_frame(Frame()) and frame_table(Frame()).column_names == ["a", "b"]
    assert not is_frame(np.ones((2, 2))) and not is_frame([[1.0]]) and not is_frame(Frame)

    class Broken(Frame):
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("gone")

    with pytest.raises(DataError, match=r"Broken\) cannot be read as columns: gone"):
        frame_table(Broken())


def test_a_series_is_not_a_frame():
    assert not is_frame(pd.Series([1.0, 2.0])) and not is_frame(pl.Series("a", [1.0])) and not is_frame(pa.chunked_array([[1.0]]))
    assert is_frame(pd.DataFrame({"a": [1.0]})) and is_frame(pl.DataFrame({"a": [1.0]}))


def test_a_lazy_frame_is_to_be_collected_first():
    with pytest.raises(DataError, match=r"LazyFrame has its rows computed only when asked for; give `frame\.collect\(\)`"):
        open_source(pl.LazyFrame({"volt": [1.0, 2.0]}))
