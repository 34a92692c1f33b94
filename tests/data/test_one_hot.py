"""Columns of words become indicators, at every door through which tables come, and stay what the fit saw."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import insphere
from contract import fit_quietly
from data.doors import TABLE_DOORS, Door, door_name
from insphere.data import open_source
from insphere.data.indicators import MOST_VALUES
from insphere.errors import DataError, ParameterError
from insphere.serving.answers import Refusal
from insphere.serving.models import ServedModel
from insphere.serving.uploads import read_rows

TABLES = pytest.mark.parametrize("door", TABLE_DOORS, ids=door_name)
RPM = np.random.default_rng(0).normal(size=120)
COLOURS = ["red" if row % 3 else "blue" for row in range(120)]
NAMES = ("rpm", "colour=blue", "colour=red")


def fitted(source: Any, **parameters: Any) -> Any:
    return fit_quietly(insphere.KNN(random_state=0, scaling="none", **parameters), open_source(source, one_hot=["colour"]))


@pytest.fixture
def model(tmp_path: Path) -> Any:
    """A detector fitted on a column of words, out of its file."""
    import pyarrow as pa

    fitted(pa.table({"rpm": RPM, "colour": COLOURS})).save(tmp_path / "m.insphere")
    return insphere.load(tmp_path / "m.insphere")


@TABLES
def test_each_value_is_a_feature(door: Door, tmp_path: Path) -> None:
    source = open_source(door({"rpm": RPM, "colour": COLOURS}, tmp_path), one_hot=["colour"])
    assert source.feature_names == NAMES
    X = source.load().X
    assert X[:3, 1:].tolist() == [[1, 0], [0, 1], [0, 1]] and (X[:, 1] + X[:, 2] == 1).all()


@TABLES
def test_a_model_reads_the_words_by_itself(model: Any, door: Door, tmp_path: Path) -> None:
    table = door({"colour": ["blue", "red", "green"], "site": ["n", "s", "n"], "rpm": RPM[:3]}, tmp_path)
    source = model.open(table)
    assert source.load().X.tolist() == [[RPM[0], 1, 0], [RPM[1], 0, 1], [RPM[2], 0, 0]]
    told = f"1 row has a value in column 'colour' of {source.name} that the fit did not see ('green')"
    assert [notice.count for notice in source.notices if notice.text.startswith(told)] == [1]
    direct = model.anomaly_score(np.array([[RPM[0], 1, 0], [RPM[1], 0, 1], [RPM[2], 0, 0]]))
    np.testing.assert_array_equal(model.anomaly_score(table), direct)
    with pytest.raises(DataError, match="no column 'colour'"):
        model.open(door({"rpm": RPM[:3], "site": ["n", "s", "n"]}, tmp_path))


@TABLES
def test_an_empty_cell_is_missing(door: Door, tmp_path: Path) -> None:
    table = door({"rpm": RPM, "colour": [None if row % 10 == 0 else colour for row, colour in enumerate(COLOURS)]}, tmp_path)
    assert set(open_source(table, one_hot=["colour"]).load().errors) == set(range(0, 120, 10))
    filling = fitted(table, missing="impute")
    assert np.isfinite(filling.anomaly_score(table)).all() and "colour=red is missing" in filling.feature_names_


@TABLES
def test_a_column_of_words_that_nobody_declared_is_refused_with_the_remedy(door: Door, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"column 'colour'.*`one_hot` \(`--one-hot`\)"):
        open_source(door({"rpm": RPM, "colour": COLOURS}, tmp_path))


def test_rows_opened_before_get_the_indicators_that_they_lack(model: Any) -> None:
    import pyarrow as pa

    rows = open_source(pa.table({"rpm": RPM[:2], "colour": ["red", "green"]}), one_hot=["colour"])
    opened = model.open(rows)
    assert opened.feature_names == NAMES and opened.load().X[:, 1:].tolist() == [[0, 1], [0, 0]]
    assert any("colour=green" in notice.text for notice in opened.notices)


def test_numbers_may_name_kinds_and_columns_choose_among_all() -> None:
    import pyarrow as pa

    table = pa.table({"region": [3, 1, 3], "rpm": [0.5, 1.5, 2.5], "volt": [1.0, 1.0, 1.0], "id": ["a", "b", "c"]})
    source = open_source(table, one_hot=["region"], columns=["rpm", "region"])
    assert source.feature_names == ("rpm", "region=1", "region=3")
    assert source.load().X.tolist() == [[0.5, 0, 1], [1.5, 1, 0], [2.5, 0, 1]]


def test_a_label_is_no_feature_and_what_names_rows_is_refused() -> None:
    import pyarrow as pa

    table = pa.table({"rpm": np.arange(300.0), "name": [f"part {n}" for n in range(300)], "state": ["ok"] * 300})
    with pytest.raises(DataError, match=f"300 different values, more than {MOST_VALUES}"):
        open_source(table, one_hot=["name"])
    with pytest.raises(ParameterError, match="label or group column"):
        open_source(table, one_hot=["state"], label_column="state", normal_label="ok")
    with pytest.raises(ParameterError, match="`columns` leaves out"):
        open_source(table, one_hot=["state"], columns=["rpm"])
    with pytest.raises(ParameterError, match="must be a list"):
        open_source(table, one_hot="state")
    with pytest.raises(DataError, match=r"has a column 'state=ok'"):
        open_source(table.append_column("state=ok", pa.array([1.0] * 300)), one_hot=["state"], columns=["rpm", "state"])
    with pytest.raises(DataError, match="is empty"):
        open_source(pa.table({"rpm": [1.0], "void": pa.nulls(1)}), one_hot=["void"])


def test_what_the_fit_settled_is_not_changed_later(model: Any, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("rpm,colour\n1,red\n2,blue\n")
    assert model.open(tmp_path / "new.csv", one_hot=["colour"]).feature_names == NAMES
    with pytest.raises(ParameterError, match="settled by the fit"):
        model.open(tmp_path / "new.csv", one_hot=["rpm"])


def test_a_damaged_header_is_refused(model: Any) -> None:
    header = model.input_.to_json()
    assert type(model.input_).from_json(json.loads(json.dumps(header))) == model.input_
    for broken in ([["colour"]], [["colour", ["green"]]], [[1, ["blue"]]], 5, [["colour", [1]]]):
        with pytest.raises(ValueError, match="one_hot"):
            type(model.input_).from_json(header | {"one_hot": broken})


def test_served_rows_may_have_words(model: Any) -> None:
    served = ServedModel("colours", "1", model, max_rows=4)
    expected = [[0.5, 0, 1], [0.7, 0, 0]]
    for body in (
        {"columns": ["colour", "rpm"], "rows": [["red", 0.5], ["green", 0.7]]},
        {"rows": [{"rpm": 0.5, "colour": "red"}, {"colour": "green", "rpm": 0.7}]},
        {"rows": [{"rpm": 0.5, "colour=red": 1, "colour=blue": 0}, [0.7, 0, 0]]},
    ):
        assert read_rows(json.dumps(body).encode(), served).tolist() == expected
    for body, message in (
        ({"rows": [{"rpm": 0.5, "colour": ""}]}, "is missing"),
        ({"rows": [{"rpm": 0.5, "colour": ["red"]}]}, "must be a text"),
        ({"rows": [{"rpm": 0.5}]}, "missing: colour=blue"),
        ({"columns": ["colour", "rpm"], "rows": [["red"]]}, "2 values"),
    ):
        with pytest.raises(Refusal, match=message):
            read_rows(json.dumps(body).encode(), served)
