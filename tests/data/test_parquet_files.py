import decimal
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insphere.data import ImageSpec, one_class_split, open_source
from insphere.errors import DataError, ParameterError


def write_images(path, blobs, *, labels=None, names=None, column="image", **columns):
    content = {column: pa.array([{"bytes": blob, "path": f"{number}.png"} for number, blob in enumerate(blobs)])}
    if labels is not None:
        content["label"] = pa.array(labels)
    table = pa.table({**content, **columns})
    if names is not None:
        features = {"info": {"features": {"label": {"names": names}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, path, row_group_size=2)
    return path


@pytest.fixture
def blobs(png):
    return [png(value=number) for number in range(5)]


def test_plain_columns_of_every_numeric_type(tmp_path):
    table = pa.table(
        {
            "whole": pa.array([1, 2**53 + 1, None], pa.int64()),
            "small": pa.array([1.5, 2.5, 3.5], pa.float32()),
            "truth": pa.array([True, False, True]),
            "exact": pa.array([decimal.Decimal("1.25")] * 3),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet")
    assert source.dtype == np.float64 and source.feature_names == ("whole", "small", "truth", "exact")
    rows = source.load()
    assert rows.X[0].tolist() == [1, 1.5, 1, 1.25] and rows.errors == {2: "feature 0 'whole' is nan"}


def test_small_floats_stay_small(tmp_path):
    pq.write_table(pa.table({"a": pa.array([1.0], pa.float32()), "b": pa.array([2.0], pa.float32())}), tmp_path / "t.parquet")
    assert open_source(tmp_path / "t.parquet").dtype == np.float32


@pytest.mark.parametrize(
    "values", [pa.array([[1, 2]]), pa.array([{"a": 1}]), pa.array(["x"]).dictionary_encode(), pa.array([0], pa.timestamp("s"))]
)
def test_columns_that_are_no_numbers_are_named(tmp_path, values):
    pq.write_table(pa.table({"odd": values, "x": pa.array([1.0])}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column 'odd'"):
        open_source(tmp_path / "t.parquet")
    assert open_source(tmp_path / "t.parquet", columns=["x"]).row_shape == (1,)


def test_text_label_column(tmp_path):
    table = pa.table({"x": [1.0, 2.0], "state": pa.array(["ok", "bad"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "t.parquet")
    assert open_source(tmp_path / "t.parquet", label_column="state", normal_label="ok").labels.tolist() == [0, 1]


def test_shards_are_joined_and_split_by_their_names(tmp_path):
    for name, value in (("train-0", 1.0), ("train-1", 2.0), ("test-0", 3.0)):
        pq.write_table(pa.table({"x": [value], "y": [0]}), tmp_path / f"{name}.parquet")
    assert open_source(tmp_path, split="train").load().X[:, 0].tolist() == [1, 2]
    assert open_source(tmp_path, split="test").load().X[:, 0].tolist() == [3]
    assert open_source(tmp_path).load().X[:, 0].tolist() == [3, 1, 2]
    split = one_class_split(tmp_path, label_column="y")
    assert len(split.train) == 2 and len(split.test) == 1
    (tmp_path / "test-0.parquet").unlink()
    with pytest.raises(DataError, match="no Parquet file for the split 'test'"):
        open_source(tmp_path, split="test")


def test_shards_of_different_columns_are_refused(tmp_path):
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"z": [1.0]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="do not have the same columns"):
        open_source(tmp_path)


def test_shards_are_joined_by_the_names_of_their_columns(tmp_path):
    pq.write_table(pa.table({"x": [1.0], "z": [5]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"z": [6.5], "x": [2.0]}), tmp_path / "b.parquet")
    assert open_source(tmp_path).load().X.tolist() == [[1, 5], [2, 6.5]]


def test_partitioned_folders(tmp_path):
    table = pa.table({"x": [1.0, 2.0, 3.0], "y2": [4.0, 5.0, 6.0], "site": ["north", "a b", "north"], "year": [2024, 2024, 2025]})
    pq.write_to_dataset(table, tmp_path / "t", partition_cols=["site", "year"])
    source = open_source(tmp_path / "t")
    assert source.feature_names == ("x", "y2") and sorted(source.load().X[:, 0].tolist()) == [1, 2, 3]
    (notice,) = source.notices
    assert notice.examples == ("site", "year") and "--groups" in notice.text
    grouped = open_source(tmp_path / "t", groups="site")
    assert dict(zip(grouped.load().X[:, 0].tolist(), grouped.groups, strict=True)) == {1: "north", 2: "a b", 3: "north"}
    with_year = open_source(tmp_path / "t", columns=["x", "year"])
    assert sorted(with_year.load().X.tolist()) == [[1, 2024], [2, 2024], [3, 2025]]
    labelled = open_source(tmp_path / "t", label_column="site", normal_label="north", split="train")
    assert sorted(labelled.load().X[:, 0].tolist()) == [1, 3]


def test_images_with_class_names(tmp_path, blobs):
    path = write_images(tmp_path / "i.parquet", blobs, labels=[0, 1, 1, 0, 2], names=["cat", "dog", "eel"])
    source = open_source(path)
    assert source.spec == ImageSpec(6, 5, 1) and source.load().X[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert source.labels is None and source.types == ("cat", "dog", "dog", "cat", "eel")
    assert source.ids == ("0.png", "1.png", "2.png", "3.png", "4.png")
    for normal in (1, "1", "dog"):
        assert open_source(path, normal_label=normal).labels.tolist() == [1, 0, 0, 1, 1]
    train = open_source(path, split="train", normal_label="dog")
    assert train.load().X[:, 0, 0, 0].tolist() == [1, 2]
    with pytest.raises(DataError, match="Did you mean 'dog'"):
        open_source(path, normal_label="dogs")


def test_binary_labels_and_groups_of_images(tmp_path, blobs):
    path = write_images(tmp_path / "i.parquet", blobs, bad=pa.array([0, 1, 0, 0, 1]), lot=pa.array(list("aabbc")))
    source = open_source(path, label_column="bad", groups="lot", split="train")
    assert source.labels.tolist() == [0, 0, 0] and source.groups == ("a", "b", "b")
    with pytest.raises(ParameterError, match="label column"):
        open_source(path, normal_label=0)
    with pytest.raises(DataError, match=r"no column 'lots'.*Did you mean 'lot'"):
        open_source(path, groups="lots")
    with pytest.raises(ParameterError, match="`columns` does not apply"):
        open_source(path, columns=["bad"])


def test_categories_of_images(tmp_path, blobs):
    cameras = write_images(tmp_path / "a.parquet", blobs, camera=pa.array(["left", None, "right", "left", "left"]))
    assert open_source(cameras, category="camera").categories == ("left", None, "right", "left", "left")
    numbered = write_images(tmp_path / "b.parquet", blobs, camera=pa.array([1.0, float("nan"), 2.0, 1.0, 1.0]))
    assert open_source(numbered, category="camera").categories == ("1", None, "2", "1", "1")


def test_binary_column_and_missing_bytes(tmp_path, blobs):
    pq.write_table(pa.table({"img": pa.array([blobs[1], None, b"text"], pa.binary())}), tmp_path / "i.parquet")
    rows = open_source(tmp_path / "i.parquet").load()
    assert rows.index.tolist() == [0] and rows.errors[1] == "has no bytes." and "not an image" in rows.errors[2]


def test_images_in_shards_know_their_part(tmp_path, blobs):
    (tmp_path / "data").mkdir()
    write_images(tmp_path / "data" / "train-0.parquet", blobs[:3], labels=[0, 0, 1])
    write_images(tmp_path / "data" / "test-0.parquet", blobs[3:], labels=[0, 1])
    assert open_source(tmp_path).parts == ("test", "test", "train", "train", "train")
    split = one_class_split(tmp_path, normal_label=0)
    assert len(split.train) == 2 and split.labels.tolist() == [0, 1]


def test_what_is_no_parquet_is_refused(tmp_path):
    whole = write_images(tmp_path / "whole.parquet", [b"x" * 500]).read_bytes()
    for number, data in enumerate((b"", b"only text", whole[: len(whole) // 2])):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(data)
        with pytest.raises(DataError, match="cannot be read as a table"):
            open_source(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.data())
def test_damaged_files_give_rows_or_a_data_error(tmp_path, data):
    path = tmp_path / "fuzz.parquet"
    if not path.exists():
        write_images(tmp_path / "good.parquet", [b"P5 1 1 255 0"] * 3, labels=[0, 1, 0])
    raw = bytearray((tmp_path / "good.parquet").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        source = open_source(path)
        rows = source.load()
    except DataError:
        return
    assert len(rows.X) + len(rows.errors) == len(source)


def test_texts_that_are_no_utf8_are_refused(tmp_path):
    letters = pa.array([b"\xff", b"a"]).cast(pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, letters.buffers())  # as damage leaves them
    pq.write_table(pa.table({"a": [1.0, 2.0], "b": text}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="cannot be read as a table"):
        open_source(tmp_path / "t.parquet")
