"""Scores files: every row once, in order, in three formats."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insphere.errors import DataError, ParameterError
from insphere.scores_file import write_scores
from insphere.visible import csv_text, one_line

COLUMNS = ["anomaly_score", "p_value", "is_anomaly", "error"]


def batch(index: list[int], scores: list[float], errors: dict[int, str] | None = None) -> SimpleNamespace:
    values = np.array(scores, dtype=np.float64)
    return SimpleNamespace(
        index=np.array(index, dtype=np.int64),
        anomaly_score=values,
        p_value=1 / (2 + np.abs(values)),
        is_anomaly=values > 1,
        errors=errors or {},
    )


def write(path: Path, batches: list[SimpleNamespace], ids: list[str] | None = None) -> None:
    with write_scores(path, ids=ids) as file:
        for entry in batches:
            file.append(entry)


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with path.open(newline="", encoding="utf-8") as handle:
        return [_typed(row) for row in csv.DictReader(handle)]


def _typed(row: dict[str, str]) -> dict[str, Any]:
    flags = {"true": True, "false": False, "": None}
    numbers = {name: float(row[name]) if row[name] else None for name in ("anomaly_score", "p_value")}
    identity = {"row": int(row["row"])} if "row" in row else {"path": row["path"]}
    return {**identity, **numbers, "is_anomaly": flags[row["is_anomaly"]], "error": row["error"] or None}


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".CSV"])
def test_rows_keep_their_order_and_errors_their_place(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scores{suffix}"
    write(path, [batch([0, 2], [0.1, 2.5], {1: "not an image"}), batch([3], [1 / 3]), batch([], [], {4: "cut off"})], list("abcde"))
    rows = read(path) if suffix != ".CSV" else read(path.rename(tmp_path / "x.csv"))
    assert list(rows[0]) == ["path", *COLUMNS]
    assert [row["path"] for row in rows] == list("abcde")
    assert [row["anomaly_score"] for row in rows] == [0.1, None, 2.5, 1 / 3, None]
    assert [row["is_anomaly"] for row in rows] == [False, None, True, False, None]
    assert [row["error"] for row in rows] == [None, "not an image", None, None, "cut off"]
    assert [row["p_value"] is None for row in rows] == [False, True, False, False, True]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_without_names_rows_have_numbers(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scores{suffix}"
    write(path, [batch([0, 1], [0.0, 1.0])])
    assert [row["row"] for row in read(path)] == [0, 1]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_name_and_any_score_come_back(tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject) -> None:
    # No control characters: a carriage return in a file name is normalised by CSV readers, not by the file.
    names = data.draw(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1, max_size=5))
    scores = data.draw(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=len(names), max_size=len(names)))
    path = tmp_path_factory.mktemp("scores") / f"s{suffix}"
    write(path, [batch(list(range(len(names))), scores)], names)
    shown = [csv_text(one_line(name)) if suffix == ".csv" else one_line(name) for name in names]
    assert [(row["path"], row["anomaly_score"]) for row in read(path)] == list(zip(shown, scores, strict=True))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_names_that_are_no_unicode_are_escaped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"s{suffix}"
    write(path, [batch([0], [1.0])], [os.fsdecode(b"caf\xe9.png")])
    assert read(path)[0]["path"] == "caf\\udce9.png"


def test_json_has_no_infinity(tmp_path: Path) -> None:
    write(tmp_path / "s.jsonl", [batch([0], [math.inf])])
    assert read(tmp_path / "s.jsonl")[0]["anomaly_score"] is None


@pytest.mark.parametrize("name", ["scores", "scores.xlsx", "scores.parqet"])
def test_an_unknown_suffix_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ParameterError, match=r"\.parquet, \.csv, \.jsonl"), write_scores(tmp_path / name):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_gap_in_the_rows_is_an_error_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match="go on at row 1"):
        write(tmp_path / f"s{suffix}", [batch([0], [1.0]), batch([2], [1.0])])
    assert os.listdir(tmp_path) == []


def test_parquet_groups_hold_many_batches(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    write(path, [batch([row], [float(row)]) for row in range(100)])
    assert pq.ParquetFile(path).num_row_groups == 1


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_full_disk_leaves_nothing_and_says_so_once(tmp_path: Path, suffix: str) -> None:
    resource = pytest.importorskip("resource", reason="needs a limit on file sizes")
    program = f"""
import resource, signal
import numpy as np
from types import SimpleNamespace
from insphere.output_file import OutputError
from insphere.scores_file import write_scores
from insphere.visible import csv_text, one_line
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, {resource.RLIM_INFINITY}))
scores = np.random.default_rng(0).random(70_000)
rows = SimpleNamespace(index=np.arange(70_000), anomaly_score=scores, p_value=scores, is_anomaly=scores > 0.5, errors={{}})
try:
    with write_scores({str(tmp_path / "s") + suffix!r}) as file:
        file.append(rows)
except OutputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Cannot write" in done.stdout
    assert done.stderr == ""
    assert os.listdir(tmp_path) == []


def test_texts_are_no_formulas_and_hold_no_control_characters(tmp_path: Path) -> None:
    ids = ["=1+1.png", "-1.png", "'s.png", "a=1.png", "\x1b[2J\n.png", "\udcff.png"]
    batch = SimpleNamespace(
        index=np.array([0, 1]),
        anomaly_score=np.array([-1.5, 2.0]),
        p_value=np.array([0.5, 0.5]),
        is_anomaly=np.array([False, True]),
        errors={2: "@x", 3: "b", 4: "c\x07", 5: "d"},
    )
    expected = ["=1+1.png", "-1.png", "'s.png", "a=1.png", "\\x1b[2J\\n.png", "\\udcff.png"]
    for suffix in (".csv", ".jsonl", ".parquet"):
        path = tmp_path / f"s{suffix}"
        with write_scores(path, ids=ids, types=["=x"] * 6) as file:
            file.append(batch)
        assert file.n_guarded == (10 if suffix == ".csv" else 0)
        if suffix == ".csv":
            lines = list(csv.DictReader(path.read_text().splitlines()))
            assert [line["path"] for line in lines] == ["'=1+1.png", "'-1.png", "''s.png", *expected[3:]]
            assert lines[0]["anomaly_score"] == "-1.5" and lines[2]["error"] == "'@x" and lines[4]["error"] == "c\\x07"
        elif suffix == ".parquet":
            assert pq.read_table(path)["path"].to_pylist() == expected
        else:
            assert [json.loads(line)["path"] for line in path.read_text().splitlines()] == expected
