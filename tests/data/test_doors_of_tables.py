"""What is promised of tables, at every door through which one comes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import insphere
from contract import fit_quietly
from data.doors import NUMERIC_DOORS, TABLE_DOORS, Door, door_name
from insphere.data import open_source
from insphere.errors import DataError
from insphere.serving.models import ServedModel
from insphere.serving.uploads import read_rows

NAMES = ("temp", "volt", "rpm")
X = np.random.default_rng(0).normal(size=(200, 3)) * [1, 100, 10_000]
NUMERIC = pytest.mark.parametrize("door", NUMERIC_DOORS, ids=door_name)
TABLES = pytest.mark.parametrize("door", TABLE_DOORS, ids=door_name)


def columns(*names: str, rows: Any = X) -> dict[str, Any]:
    return {name: rows[:, NAMES.index(name)] for name in names}


def fitted(source: Any, **parameters: Any) -> Any:
    return fit_quietly(insphere.KNN(random_state=0, **parameters), source)


@pytest.fixture
def model(tmp_path: Path) -> Any:
    """A detector fitted on names, out of its file."""
    fitted(named(columns(*NAMES))).save(tmp_path / "m.insphere")
    return insphere.load(tmp_path / "m.insphere")


def named(table: dict[str, Any]) -> Any:
    from data.doors import arrow_table

    return arrow_table(table, Path())


@NUMERIC
def test_columns_go_by_name_whatever_their_order(model: Any, door: Door, tmp_path: Path) -> None:
    expected = model.anomaly_score(X)
    np.testing.assert_array_equal(model.anomaly_score(door(columns("rpm", "temp", "volt"), tmp_path)), expected)
    learned = fitted(door(columns("rpm", "volt", "temp"), tmp_path))
    assert learned.feature_names_ == ["rpm", "volt", "temp"] == learned.feature_names_in_.tolist()
    np.testing.assert_array_equal(learned.anomaly_score(door(columns(*NAMES), tmp_path)), learned.anomaly_score(X[:, ::-1]))


@NUMERIC
def test_further_columns_are_left_aside_and_told(model: Any, door: Door, tmp_path: Path) -> None:
    source = model.open(door({"site": X[:, 0], **columns(*NAMES)}, tmp_path))
    assert [notice.examples for notice in source.notices if notice.kind == "left out"] == [("site",)]
    np.testing.assert_array_equal(model.anomaly_score(source), model.anomaly_score(X))


@TABLES
def test_further_columns_of_text_do_not_matter_either(model: Any, door: Door, tmp_path: Path) -> None:
    table = door({"site": ["north"] * 200, **columns(*NAMES)}, tmp_path)
    np.testing.assert_array_equal(model.anomaly_score(table), model.anomaly_score(X))


@NUMERIC
def test_missing_columns_are_named(model: Any, door: Door, tmp_path: Path) -> None:
    table = columns("temp", "volt") | {"rpn": X[:, 2]}
    with pytest.raises(DataError, match=r"no column 'rpm'.*Did you mean 'rpn'"):
        model.anomaly_score(door(table, tmp_path))


@TABLES
def test_labels_and_groups_are_remembered(door: Door, tmp_path: Path) -> None:
    state = ["ok"] * 150 + ["bad"] * 50
    table = door({"state": state, **columns(*NAMES), "film": [f"film {row // 5}" for row in range(200)]}, tmp_path)
    options = {"label_column": "state", "normal_label": "ok", "groups": "film"}
    fitted(open_source(table, split="train", **options)).save(tmp_path / "m.insphere")
    opened = insphere.load(tmp_path / "m.insphere").open(table)
    assert opened.labels.tolist() == [0] * 150 + [1] * 50 and len(set(opened.groups)) == 40
    assert opened.feature_names == NAMES


@TABLES
def test_a_label_is_not_learned_in_silence(door: Door, tmp_path: Path) -> None:
    table = door({**columns(*NAMES), "Is_Fraud": np.arange(200) % 2}, tmp_path)
    with pytest.raises(DataError, match=r"'Is_Fraud'.*label_column"):
        fitted(table)


@TABLES
def test_row_numbers_are_not_learned(door: Door, tmp_path: Path) -> None:
    table = door({"Unnamed: 0": np.arange(200), **columns(*NAMES)}, tmp_path)
    detector = fitted(table)
    assert detector.feature_names_ == list(NAMES)


@TABLES
def test_missing_values_are_row_errors_or_filled(model: Any, door: Door, tmp_path: Path) -> None:
    volt = [None if row % 10 == 0 else value for row, value in enumerate(X[:, 1].tolist())]
    table = door({"temp": X[:, 0], "volt": volt, "rpm": X[:, 2]}, tmp_path)
    source = model.open(table)
    assert source.load().errors == dict.fromkeys(range(0, 200, 10), "feature 1 'volt' is nan")
    filling = fitted(table, missing="impute")
    assert np.isfinite(filling.anomaly_score(table)).all() and filling.feature_names_[-1] == "volt is missing"


@TABLES
def test_a_single_row_with_a_missing_value_is_an_error_or_filled(model: Any, door: Door, tmp_path: Path) -> None:
    one = door({"temp": X[:1, 0], "volt": [None], "rpm": X[:1, 2]}, tmp_path)
    (batch,) = model.score_batches(one)
    assert batch.errors == {0: "feature 1 'volt' is nan"}
    volt = [None if row % 10 == 0 else value for row, value in enumerate(X[:, 1].tolist())]
    filling = fitted(named(columns(*NAMES) | {"volt": volt}), missing="impute")
    assert np.isfinite(filling.anomaly_score(one)).all()


@TABLES
def test_one_bad_cell_is_one_row(model: Any, door: Door, tmp_path: Path) -> None:
    temp = ["ERR" if row == 7 else repr(value) for row, value in enumerate(X[:, 0].tolist())]
    rows = model.open(door({**columns(*NAMES), "temp": temp}, tmp_path)).load()
    assert list(rows.errors) == [7] and "'ERR'" in rows.errors[7] and "'temp'" in rows.errors[7]
    np.testing.assert_array_equal(rows.X, np.delete(X, 7, axis=0))


def test_names_over_http(model: Any) -> None:
    served = ServedModel("sensors", "1", model, max_rows=1000)
    body = {"columns": ["rpm", "temp", "volt"], "rows": X[:, [2, 0, 1]].tolist()}
    np.testing.assert_array_equal(served.score(read_rows(json.dumps(body).encode(), served)).anomaly_score, model.anomaly_score(X))
