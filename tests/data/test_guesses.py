import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import insphere
from insphere.data import open_source
from insphere.data.guesses import index_columns, label_columns
from insphere.errors import DataError

RNG = np.random.default_rng(0)


def table(**columns):
    return pa.table({"volt": RNG.normal(size=200), "rpm": RNG.normal(size=200), **columns})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("", np.arange(200)),
        ("", RNG.permutation(1000)[:200]),
        ("Unnamed: 0", np.arange(5, 205)),
        ("index", np.arange(200)),
        ("index", RNG.permutation(200)),
        ("id", np.arange(1, 201)),
        ("__index_level_0__", RNG.permutation(200)),
        ("", [f"row {number}" for number in range(200)]),
    ],
)
def test_row_numbers_are_left_aside_and_told(name, values):
    frame = table(**{name: values})
    source = open_source(frame)
    assert source.feature_names == ("volt", "rpm")
    (notice,) = source.notices
    assert notice.kind == "left out" and notice.examples == (name,) and "columns" in notice.text


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("", RNG.normal(size=200)),
        ("", RNG.integers(0, 5, size=200)),
        ("id", RNG.permutation(200)),
        ("count", np.arange(200)),
        ("index", RNG.normal(size=200)),
    ],
)
def test_what_is_not_a_row_number_stays(name, values):
    assert name in open_source(table(**{name: values})).feature_names


def test_an_index_can_be_asked_for():
    source = open_source(table(id=np.arange(200)), columns=["volt", "id"])
    assert source.feature_names == ("volt", "id") and source.notices == ()


def test_index_that_pandas_declares(tmp_path):
    content = {"index_columns": ["site"], "columns": []}
    declared = table(site=RNG.normal(size=200)).replace_schema_metadata({b"pandas": json.dumps(content).encode()})
    pq.write_table(declared, tmp_path / "t.parquet")
    assert open_source(tmp_path / "t.parquet").feature_names == ("volt", "rpm")
    for odd in (b"not json", b"[1]", b'{"index_columns": 3}', b'{"index_columns": [{"kind": "range"}]}'):
        assert index_columns(declared.replace_schema_metadata({b"pandas": odd})) == []


LABELS = [
    "label",
    "Label",
    "target",
    "y",
    "class",
    "Class",
    "outlier",
    "anomaly",
    "is_anomaly",
    "isFraud",
    "fraud",
    "Machine failure",
    "Pass/Fail",
]


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("values", [[0, 1], [-1, 1], [False, True], [0.0, 1.0], [0, 0]])
def test_a_label_is_never_learned_in_silence(name, values):
    source = open_source(table(**{name: (values * 100)}))
    assert any("label_column" in notice.text for notice in source.notices)
    with pytest.raises(DataError, match=r"looks like the label.*label_column=.*--label-column.*--columns volt,rpm"):
        insphere.KNN(random_state=0).fit(source.part("train"))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("door", RNG.integers(0, 2, 200)),
        ("alarm", RNG.integers(0, 2, 200)),
        ("target_temp", RNG.integers(0, 2, 200)),
        ("y", RNG.normal(size=200)),
        ("y", RNG.integers(0, 9, 200)),
        ("label", RNG.normal(size=200)),
        ("classic", RNG.integers(0, 2, 200)),
    ],
)
def test_what_is_not_a_label_is_a_feature(name, values):
    assert label_columns(table(**{name: values}), ["volt", "rpm", name]) == []


def test_classes_are_labels_too():
    assert label_columns(table(target=RNG.integers(0, 10, 200)), ["target"]) == ["target"]


def test_a_label_is_a_feature_where_the_user_says_so():
    frame = table(label=RNG.integers(0, 2, 200))
    detector = insphere.KNN(random_state=0).fit(open_source(frame, columns=["volt", "rpm", "label"]))
    assert detector.feature_names_ == ["volt", "rpm", "label"]
    assert detector.open(frame).notices == ()
    labelled = insphere.KNN(random_state=0).fit(open_source(frame, split="train", label_column="label"))
    assert labelled.feature_names_ == ["volt", "rpm"]


@pytest.mark.parametrize("name", ["ok", "good", "normal", "is_normal", "isGood", "Passed", "pass/fail"])
@pytest.mark.parametrize(("values", "value"), [([0, 1], "1"), ([False, True], "true"), ([0.0, 1.0], "1")])
def test_a_column_that_is_called_normal_is_not_read_the_other_way_round(name, values, value, tmp_path):
    labelled = table(**{name: values * 100})
    with pytest.raises(DataError, match=rf"read the other way round.*--normal-label {value}`"):
        open_source(labelled, label_column=name)
    right = open_source(labelled, label_column=name, normal_label=value)
    assert right.labels.tolist() == [1, 0] * 100
    source = open_source(labelled)
    if source.doubt is not None:  # the advice is the command that works
        assert f"--label-column {name} --normal-label {value})" in source.doubt
    np.savez(tmp_path / "a.npz", X=np.zeros((200, 2)), **{name.replace("/", "_"): values * 100})
    with pytest.raises(DataError, match="read the other way round"):
        open_source(tmp_path / "a.npz", label_column=name.replace("/", "_"))


def test_columns_that_are_called_anomalies_need_no_normal_label():
    assert open_source(table(not_ok=[0, 1] * 100), label_column="not_ok").labels.tolist() == [0, 1] * 100
    assert "(--label-column is_defect); to leave" in open_source(table(is_defect=[0, 1] * 100)).doubt
    assert "--normal-label VALUE" in open_source(table(outlier=[-1, 1] * 100)).doubt


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "index", "level_0"])
@pytest.mark.parametrize("kind", [int, float])
def test_an_index_of_tables_put_below_one_another_counts_in_pieces(name, kind):
    counted = np.concatenate([np.arange(150), np.arange(40), np.arange(77)]).astype(kind)
    assert index_columns(pa.table({name: counted, "volt": RNG.normal(size=267)})) == [name]
    # Whole numbers that repeat in another way are features.
    assert index_columns(pa.table({name: RNG.integers(0, 9, 267).astype(kind)})) == []
    assert index_columns(pa.table({name: np.tile(np.arange(3), 89).astype(kind)})) == []
