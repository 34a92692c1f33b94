import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insphere.benchmark.run.execution import Workplace, execute
from insphere.benchmark.run.results import (
    SCHEMA,
    Report,
    read_report,
    read_reports,
    read_table,
    report_path,
    to_table,
    write_report,
    write_table,
)
from insphere.benchmark.run.run import Run
from insphere.errors import DataError


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    place = Workplace(tmp_path_factory.mktemp("data"), commit="abc")
    good = Run("digits", "3", "forest", "iforest", {"n_estimators": 5}, 0, label="Forest, 5 trees", control=True)
    bad = Run("digits", "8", "missing", "knn", {"n_neighbors": -1}, 1, source={"source": "digits"})
    return [execute(run, place).report for run in (good, bad)]


def test_a_report_is_read_as_it_was_written(reports, tmp_path):
    for report in reports:
        write_report(tmp_path, report)
    assert read_reports(tmp_path) == reports
    stored = json.loads(report_path(tmp_path, reports[0].run).read_text())
    assert stored["format_version"] == 1 and stored["run"]["id"] == reports[0].run.id
    assert set(stored["metrics"]["auroc"]) == {"value", "low", "high"} and 0 <= stored["metrics"]["auroc"]["value"] <= 1
    assert set(stored["seconds"]) == {"load", "fit", "score"} and stored["environment"]["commit"] == "abc"


def test_the_compact_table_has_a_row_a_run_failed_ones_too(reports):
    good, bad = to_table(reports).to_pylist()
    assert good["auroc"] == reports[0].metrics["auroc"]["value"] and good["auroc_low"] < good["auroc"] < good["auroc_high"]
    assert (good["label"], good["control"], good["status"]) == ("Forest, 5 trees", True, "ok")
    assert good["health"] in ("ok", "warning") and "torch" in good["versions"] and good["device"] == "cpu"
    assert (bad["status"], bad["auroc"], bad["health"]) == ("failed", None, None) and "n_neighbors" in bad["error"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_compact_table_comes_back_from_either_file(reports, tmp_path, suffix):
    path = tmp_path / f"results{suffix}"
    table = to_table(reports)
    write_table(path, table)
    assert read_table(path).equals(table) and table.schema.equals(SCHEMA)
    again = read_reports(path)
    assert [report.run for report in again] == [report.run for report in reports]
    assert to_table(again).equals(table)


def test_what_is_no_report_is_told(tmp_path, reports):
    path = write_report(tmp_path, reports[0])
    text = path.read_text()
    for broken, message in (
        (text[: len(text) // 2], "Delete the file"),
        (text.replace('"format_version": 1', '"format_version": 2'), "format version 1"),
        (text.replace('"status"', '"state"'), "not a benchmark report"),
        ("[]", "format version"),
        (re.sub(r'"run": \{', '"run": {"colour": "red",', text), "not a run"),
    ):
        path.write_text(broken)
        with pytest.raises(DataError, match=message):
            read_report(path)
    with pytest.raises(DataError, match="Cannot read"):
        read_report(tmp_path / "none.json")
    with pytest.raises(DataError, match="Cannot read the benchmark results"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "short.csv").write_text("dataset,auroc\nmnist,0.9\n")
    with pytest.raises(DataError, match="run"):
        read_table(tmp_path / "short.csv")


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300), st.integers(0, 2**31 - 1))
def test_a_run_has_a_name_fit_for_a_file_whatever_it_is_called(dataset, normal_class, method, seed):
    run = Run(dataset, normal_class, method, "knn", {}, seed)
    assert re.fullmatch(r"[A-Za-z0-9.-]+", run.id) and len(run.id) < 200 and not run.id.startswith(".")
    assert run.id != dataclasses.replace(run, method=method + "x").id
    assert Run.from_json(json.loads(json.dumps(run.to_json()))) == run


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=4), lambda x: st.lists(x) | st.dictionaries(st.text(max_size=8), x)
    )
)
def test_no_json_breaks_the_reader(content):
    with pytest.raises(DataError):
        Report.from_json(content)
