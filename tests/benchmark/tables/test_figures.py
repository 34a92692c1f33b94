"""Figures: their data recomputed by hand, the same bytes each time, and a reason for each that is not drawn."""

import csv
import dataclasses
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from insphere.benchmark.tables.drawing import CannotDrawError
from insphere.benchmark.tables.expected import Expected, ExpectedFigure
from insphere.benchmark.tables.figures import write_figures
from insphere.benchmark.tables.galleries import choose_strips, read_scores
from insphere.data.datasets import load_dataset
from results_table import example_results, row


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def one(kind: str, **fields: Any) -> Expected:
    return Expected("A paper", (), (ExpectedFigure("figure-1", "Figure 1", kind, "digits", **fields),))


def draw(rows: list[dict[str, Any]] | pa.Table, out: Path, expected: Expected, **options: Any) -> tuple[list[dict[str, str]], str]:
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows)
    (drawn,) = write_figures(table, out, expected=expected, **options)
    for path in drawn.paths:
        assert path.exists()
    return (read_csv(out / "figure-1.csv") if drawn.paths else []), drawn.reason


def test_times_are_medians_of_each_method_sorted(tmp_path):
    rows = [row("3", "cae", seed, 0.9, fit_seconds=value) for seed, value in enumerate((10.0, 30.0, 20.0))] + [row("3", "knn", 0, 0.9)]
    lines, _ = draw(rows, tmp_path, one("times"))
    assert [line["method"] for line in lines] == ["knn", "cae"]
    assert [float(lines[1][f"fit_seconds_{what}"]) for what in ("median", "least", "most")] == [20.0, 10.0, 30.0]
    assert lines[1]["n_runs"] == "3" and (lines[1]["machine"], lines[1]["concurrency"]) == ("two cores", "1")


def test_times_of_different_machines_or_loads_are_not_mixed(tmp_path, caplog):
    rows = [
        row("3", "cae", 0, 0.9, machine="fast", fit_seconds=1.0),
        row("3", "cae", 1, 0.9, concurrency=4, fit_seconds=2.0),
        row("3", "knn", 0, 0.9, concurrency=4),
        row("3", "vae", 0, 0.9, machine="fast", concurrency=2),
    ]
    with caplog.at_level(logging.WARNING):
        lines, _ = draw(rows, tmp_path, one("times"))
    assert {(line["method"], line["machine"], line["concurrency"]) for line in lines} == {
        ("cae", "two cores", "4"),
        ("knn", "two cores", "4"),
    }
    assert float(next(line for line in lines if line["method"] == "cae")["fit_seconds_median"]) == 2.0
    assert "leaves out VAE" in caplog.text


def test_bars_hold_means_and_deviations_in_the_order_asked_for(tmp_path):
    lines, _ = draw(example_results(), tmp_path, one("bars", methods=("knn", "cae")))
    assert [(line["normal_class"], line["method"]) for line in lines] == [("3", "knn"), ("8", "knn"), ("3", "cae"), ("8", "cae")]
    assert float(lines[0]["auroc_mean"]) == 97.0 and float(lines[0]["auroc_deviation"]) == pytest.approx(2**0.5, abs=1e-4)
    assert lines[2]["n_seeds"] == "2" and lines[3]["auroc_deviation"] == ""


def test_a_sweep_takes_the_runs_that_differ_in_the_parameter_alone(tmp_path):
    def run(normal_class: str, seed: int, auroc: float, **parameters: Any) -> dict[str, Any]:
        method = "-".join(map(str, parameters.values()))
        return row(normal_class, method, seed, auroc, detector="vae-svdd", parameters=json.dumps(parameters))

    rows = [
        run(name, seed, 0.8 + 0.01 * seed + alpha / 100, alpha=alpha, epochs=5)
        for name in "38"
        for seed in (0, 1)
        for alpha in (0.1, 1, 10)
    ]
    rows += [run("3", 0, 0.1, alpha=alpha, epochs=9) for alpha in (2, 3)] + [run("3", 0, 0.2, epochs=5)]
    expected = one("sweep", detector="vae-svdd", parameter="alpha", normal_classes=("3", "8"), stated_spread=(1.0, 2.0))
    lines, _ = draw(rows, tmp_path, expected)
    assert [(line["normal_class"], float(line["alpha"])) for line in lines] == [(name, alpha) for name in "38" for alpha in (0.1, 1, 10)]
    assert float(lines[2]["auroc_mean"]) == pytest.approx(90.5) and lines[2]["n_seeds"] == "2"


@pytest.mark.parametrize(
    ("rows", "expected", "reason"),
    [
        ([row("3", "knn", 0, 0.9, fit_seconds=None)], one("times"), "no run on digits has its times"),
        ([row("3", "knn", 0, 0.9)], one("bars", methods=("knn", "cae")), "there is no result of cae on digits"),
        ([row("3", "knn", 0, None)], one("bars"), "there is no result of any method on digits"),
        ([row("3", "knn", 0, 0.9)], one("sweep", detector="vae-svdd", parameter="alpha"), "no run of vae-svdd on digits states its alpha"),
        (
            [row("3", "a", 0, 0.9, detector="vae-svdd", parameters='{"alpha": 1}')],
            one("sweep", detector="vae-svdd", parameter="alpha"),
            "no two runs of vae-svdd on digits differ in alpha alone",
        ),
        ([row("3", "knn", 0, 0.9)], one("gallery"), "no folder of runs was given"),
        ([row("3", "knn", 0, 0.9)], one("attack-gallery"), "no folder of attacks was given"),
    ],
)
def test_what_cannot_be_drawn_is_skipped_with_its_reason(tmp_path, caplog, rows, expected, reason):
    with caplog.at_level(logging.WARNING):
        _, told = draw(rows, tmp_path, expected)
    assert reason in told
    assert f"Figure figure-1 was skipped: {told}." in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_data_sets_that_nobody_drew_get_times_and_bars(tmp_path):
    drawn = write_figures(example_results(), tmp_path)
    assert [figure.name for figure in drawn] == ["times-digits", "bars-digits"]
    for figure in drawn:
        picture, data = figure.paths
        with Image.open(picture) as image:
            assert image.width > 500
        assert len(read_csv(data)) >= 2


def test_the_same_results_give_the_same_bytes(tmp_path):
    first, second = (
        [path.read_bytes() for figure in write_figures(example_results(), tmp_path / name) for path in figure.paths] for name in "ab"
    )
    assert first == second


def test_text_from_outside_is_no_formula(tmp_path):
    table = example_results()
    table = table.set_column(table.column_names.index("label"), "label", pa.array(["$\\frac{$"] * len(table)))
    assert all(figure.paths for figure in write_figures(table, tmp_path))


@pytest.fixture
def runs_folder(tmp_path) -> Path:
    """Scores of one run on all test digits: each is as anomalous as its ink, flagged from the median on."""
    source = load_dataset("digits:3", "test")
    scores = source.load().X.sum(axis=(1, 2, 3)).astype(np.float64)
    folder = tmp_path / "runs"
    folder.mkdir()
    pq.write_table(pa.table({"anomaly_score": scores, "is_anomaly": scores > np.median(scores)}), folder / "run-0.scores.parquet")
    return folder


def test_a_gallery_shows_the_extremes_and_the_mistakes(tmp_path, runs_folder):
    rows = [row("3", "knn", 0, 0.9, run="run-0"), row("3", "knn", 1, 0.9, run="run-1"), row("3", "cae", 0, None, run="none")]
    (drawn,) = write_figures(pa.Table.from_pylist(rows), tmp_path, expected=one("gallery", methods=("knn",)), runs_folder=runs_folder)
    assert [path.name for path in drawn.paths] == ["figure-1-3.png", "figure-1-3.csv"]
    lines = read_csv(drawn.paths[1])
    source = load_dataset("digits:3", "test")
    ink = source.load().X.sum(axis=(1, 2, 3))
    normal = [line for line in lines if line["strip"] == "most normal"]
    assert [int(line["row"]) for line in normal] == np.argsort(ink, kind="stable")[:10].tolist()
    for line in lines:
        assert source.types[int(line["row"])] == line["type"] and float(line["anomaly_score"]) == ink[int(line["row"])]
    missed = [line for line in lines if line["strip"] == "anomalies taken for normal"]
    assert missed and {(line["label"], line["is_anomaly"]) for line in missed} == {("1", "false")}
    alarms = [line for line in lines if line["strip"] == "normal images flagged"]
    assert alarms and {(line["label"], line["is_anomaly"]) for line in alarms} == {("0", "true")}


def test_a_gallery_without_its_scores_or_images_is_skipped(tmp_path, runs_folder):
    expected = one("gallery")
    table = pa.Table.from_pylist([row("3", "knn", 0, 0.9, run="lost")])
    assert "cannot be read" in draw(table, tmp_path, expected, runs_folder=runs_folder)[1]
    short = pa.table({"anomaly_score": [1.0], "is_anomaly": [True]})
    pq.write_table(short, runs_folder / "lost.scores.parquet")
    assert "has scores of 1 images, but" in draw(table, tmp_path, expected, runs_folder=runs_folder)[1]
    other = dataclasses.replace(expected.figures[0], dataset="mnist")
    table = pa.Table.from_pylist([row("3", "knn", 0, 0.9, run="run-0", dataset="mnist")])
    told = draw(table, tmp_path, Expected("", (), (other,)), runs_folder=runs_folder, data_dir=tmp_path)[1]
    assert "images are not at hand" in told or "has scores of" in told


def test_scores_with_gaps_are_refused(tmp_path):
    pq.write_table(pa.table({"anomaly_score": [1.0, None], "is_anomaly": [True, None]}), tmp_path / "s.parquet")
    with pytest.raises(CannotDrawError, match="lacks the scores of some images"):
        read_scores(tmp_path / "s.parquet")
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    with pytest.raises(CannotDrawError, match="cannot be read"):
        read_scores(tmp_path / "t.parquet")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1), st.booleans()), min_size=1, max_size=40), st.integers(1, 5))
def test_strips_are_sorted_and_hold_what_they_say(rows, n_columns):
    scores, labels, flagged = (np.array(column) for column in zip(*rows, strict=True))
    strips = choose_strips(scores.astype(float), labels, flagged, n_columns)
    for name, chosen in strips.items():
        assert 0 < len(chosen) <= n_columns
        ordered = scores[chosen].tolist()
        assert ordered == sorted(ordered, reverse=name in ("normal images flagged", "most anomalous"))
    missed = sum(1 for _, label, flag in rows if label and not flag)
    assert len(strips.get("anomalies taken for normal", [])) == min(missed, n_columns)


def test_tables_and_figures_do_without_torch():
    program = "import sys, insphere.benchmark.tables.figures, insphere.benchmark.attacks.table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
