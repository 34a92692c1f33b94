"""``insphere report``."""

import os
from pathlib import Path

import numpy as np
import pytest

import insphere
from cli.conftest import Run

pytest.importorskip("jinja2", reason="the report's template needs Jinja2")


def test_a_report_on_a_labelled_folder(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    result = run("report", model, tiles, "-o", tmp_path / "r.html", "--no-heatmaps", "--json").result
    assert (result["n_rows"], result["n_scored"], result["n_errors"]) == (36, 36, 0)
    assert result["n_bytes"] == (tmp_path / "r.html").stat().st_size
    assert result["output"] == str(tmp_path / "r.html") and result["level"] in ("ok", "warning", "critical")
    scores = insphere.load(model).anomaly_score(insphere.open_source(tiles, split="test"))
    assert result["n_anomalies"] == (scores > insphere.load(model).threshold_).sum()
    page = (tmp_path / "r.html").read_text()
    assert "scratch" in page and "noise" in page


def test_the_words_for_people(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    outcome = run("report", model, tiles / "test" / "scratch", "-o", tmp_path / "r.html", "--title", "Line 3", "--max-images", "2")
    assert outcome.code == 0
    assert "verdict" in outcome.out and "8 of 8 scored" in outcome.out
    assert "<title>Line 3" in (tmp_path / "r.html").read_text()


def test_the_part_can_be_chosen(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    outcome = run("report", model, tiles, "-o", tmp_path / "r.html", "--split", "all", "--no-heatmaps", "--json")
    assert outcome.result["n_rows"] == 96


def test_unreadable_rows_are_a_warning(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "good.png").write_bytes((tiles / "test" / "good" / "001.png").read_bytes())
    (folder / "text.png").write_text("hello")
    outcome = run("report", model, folder, "-o", tmp_path / "r.html", "--no-heatmaps")
    assert outcome.code == 0
    assert "1 of 2 rows could not be scored; the report lists them" in outcome.err


def test_failures_have_their_exit_codes_and_leave_nothing(run: Run, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((5, 3)))
    before = sorted(os.listdir(tmp_path))
    assert run("report", model, tmp_path / "x.npy", "-o", tmp_path / "r.html").code == 1
    assert run("report", model, tmp_path / "nowhere", "-o", tmp_path / "r.html").code == 1
    assert run("report", model, model.parent, "-o", tmp_path / "r.pdf").code in (1, 2)
    assert run("report", tmp_path / "x.npy", tmp_path, "-o", tmp_path / "r.html").code == 1
    assert run("report", model, tmp_path).code == 2
    assert sorted(os.listdir(tmp_path)) == before
