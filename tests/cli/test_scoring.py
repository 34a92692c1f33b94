"""``insphere score`` and ``insphere evaluate``."""

import csv
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import insphere
from cli.conftest import Run


@pytest.fixture
def mixed(tiles: Path, tmp_path: Path) -> Path:
    """A folder with images, and with files that only look like images."""
    folder = tmp_path / "new"
    folder.mkdir()
    for number in range(3):
        shutil.copy(tiles / "test" / "scratch" / f"{number:03}.png", folder / f"b{number}.png")
    (folder / "a-text.png").write_text("hello")
    (folder / "c-cut.png").write_bytes((folder / "b0.png").read_bytes()[:60])
    return folder


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_each_row_is_there_once_in_order_and_bad_ones_say_why(run: Run, model: Path, mixed: Path, tmp_path: Path) -> None:
    outcome = run("score", model, mixed, "-o", tmp_path / "s.csv")
    assert outcome.code == 0
    assert "2 of 5 rows could not be scored" in outcome.err
    rows = read_csv(tmp_path / "s.csv")
    assert list(rows[0]) == ["path", "anomaly_score", "p_value", "is_anomaly", "error"]
    assert [row["path"] for row in rows] == ["a-text.png", "b0.png", "b1.png", "b2.png", "c-cut.png"]
    assert [bool(row["error"]) for row in rows] == [True, False, False, False, True]
    assert {row["is_anomaly"] for row in rows} <= {"", "true", "false"}


def test_the_formats_agree_with_the_library(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    for suffix in ("csv", "parquet", "jsonl"):
        assert run("score", model, tiles / "test", "-o", tmp_path / f"s.{suffix}").code == 0
    from_csv = [float(row["anomaly_score"]) for row in read_csv(tmp_path / "s.csv")]
    from_parquet = pq.read_table(tmp_path / "s.parquet").to_pylist()
    from_lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    detector = insphere.load(model)
    scores = detector.anomaly_score(str(tiles / "test"))
    assert from_csv == [row["anomaly_score"] for row in from_parquet] == scores.tolist()
    assert from_parquet == from_lines
    assert [row["is_anomaly"] for row in from_parquet] == (detector.predict(str(tiles / "test")) == -1).tolist()


def test_zip_and_folder_score_alike(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "tiles"), "zip", tiles.parent, "tiles")
    for name, source in (("zip", archive), ("folder", tiles)):
        assert run("score", model, source, "-o", tmp_path / f"{name}.csv").code == 0
    assert read_csv(tmp_path / "zip.csv") == read_csv(tmp_path / "folder.csv")
    assert len(read_csv(tmp_path / "zip.csv")) == 96


def test_a_split_of_the_rows(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    result = run("score", model, tiles, "-o", tmp_path / "s.csv", "--split", "test", "--json").result
    assert (result["n_rows"], result["n_scored"], result["n_errors"]) == (36, 36, 0)
    assert run("score", model, tiles, "-o", tmp_path / "s.csv", "--split", "tset").code == 2


def test_nothing_scored_is_a_failure_with_the_reasons_written(run: Run, model: Path, mixed: Path, tmp_path: Path) -> None:
    outcome = run("score", model, mixed / "a-text.png", "-o", tmp_path / "s.csv", "--json")
    assert outcome.code == 1
    assert outcome.result["n_errors"] == 1
    assert read_csv(tmp_path / "s.csv")[0]["error"]


def test_a_failed_score_leaves_no_file(run: Run, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((5, 3)))
    before = sorted(os.listdir(tmp_path))
    outcome = run("score", model, tmp_path / "x.npy", "-o", tmp_path / "s.csv")
    assert outcome.code == 1
    assert "12, 10, 1" in outcome.err
    assert run("score", tmp_path / "x.npy", tmp_path, "-o", tmp_path / "s.csv").code == 1
    assert run("score", model, tmp_path / "nowhere", "-o", tmp_path / "s.csv").code == 1
    assert sorted(os.listdir(tmp_path)) == before


def test_evaluate_gives_every_figure_with_its_interval(run: Run, model: Path, tiles: Path) -> None:
    outcome = run("evaluate", model, tiles, "--json")
    assert outcome.code == 0
    result = outcome.result
    assert (result["n_normal"], result["n_anomaly"], result["n_rows"], result["n_errors"]) == (20, 16, 36, 0)
    for name in ("auroc", "average_precision", "fpr_at_95_tpr", "precision", "recall", "false_alarm_rate"):
        assert set(result[name]) == {"value", "low", "high"}
        assert 0 <= result[name]["low"] <= result[name]["value"] <= result[name]["high"] <= 1
    assert set(result["per_type"]) == {"scratch", "noise"}


def test_evaluate_shows_percent_to_people(run: Run, model: Path, tiles: Path) -> None:
    value = run("evaluate", model, tiles, "--json").result["auroc"]["value"]
    outcome = run("evaluate", model, tiles)
    assert f"{100 * value:.1f} (" in outcome.out
    assert "scratch" in outcome.out


def test_unreadable_rows_are_left_out_and_counted(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiles / "test", tmp_path / "classes"))
    (folder / "good" / "text.png").write_text("hello")
    outcome = run("evaluate", model, folder, "--json")
    assert (outcome.result["n_rows"], outcome.result["n_errors"], outcome.result["n_normal"]) == (37, 1, 20)
    assert "1 of 37 rows could not be scored" in outcome.err


def test_evaluate_without_labels_is_refused(run: Run, model: Path, tiles: Path) -> None:
    outcome = run("evaluate", model, tiles / "train" / "good")
    assert outcome.code == 1
    assert "says which rows are anomalies" in outcome.err


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A CSV file with two columns of numbers and a column of text that says which rows are bad."""
    random = np.random.default_rng(0)
    rows = [(*random.normal(0, 1, 2), "ok") for _ in range(80)] + [(*random.normal(9, 1, 2), "bad") for _ in range(20)]
    path = tmp_path / "table.csv"
    path.write_text("a,b,state\n" + "".join(f"{a},{b},{state}\n" for a, b, state in rows))
    return path


def test_tables_from_fit_to_evaluate(run: Run, table: Path, tmp_path: Path) -> None:
    labels = ["--label-column", "state", "--normal-label", "ok"]
    model = tmp_path / "m.insphere"
    assert run("fit", table, "-o", model, "--epochs", 8).code == 1, "a text column without a meaning"
    assert run("fit", table, "-o", model, "--epochs", 8, "--label-column", "state").code == 1, "labels without a meaning"
    assert run("fit", table, "-o", model, "--epochs", 8, *labels, "--json").result["data"]["n_rows"] == 80
    assert run("evaluate", model, table, *labels, "--json").result["n_anomaly"] == 20
    assert run("score", model, table, "-o", tmp_path / "s.jsonl", "--columns", "a,b").code == 0
    first: dict[str, Any] = json.loads((tmp_path / "s.jsonl").read_text().splitlines()[0])
    assert list(first) == ["row", "anomaly_score", "p_value", "is_anomaly", "error"]
    assert math.isfinite(first["anomaly_score"])


def test_a_larger_photo_is_brought_to_the_models_size(run: Run, model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), "red").save(tmp_path / "photo.jpg")
    assert run("score", model, tmp_path / "photo.jpg", "-o", tmp_path / "s.csv").code == 0
    assert read_csv(tmp_path / "s.csv")[0]["path"] == "photo.jpg"


def test_scores_of_a_batch_with_a_false_discovery_rate_and_of_cameras(run, tmp_path):
    rng = np.random.default_rng(0)
    cameras = rng.choice(["left", "right"], 2000)

    def write(name, X):
        lines = [f"{a:.6f},{b:.6f},{camera}" for (a, b), camera in zip(X, cameras, strict=False)]
        (tmp_path / name).write_text("\n".join(["a,b,camera", *lines, ""]))
        return tmp_path / name

    model, scores = tmp_path / "m.insphere", tmp_path / "scores.csv"
    fit = ["fit", write("fit.csv", rng.normal(size=(2000, 2))), "-o", model, "--detector", "knn", "--category", "camera", "--json"]
    told = json.loads(run(*fit).out)
    assert [entry["name"] for entry in told["decision"]["categories"]] == ["left", "right"]
    batch = write("new.csv", np.concatenate([rng.normal(size=(90, 2)), np.full((10, 2), 9.0)]))
    result = json.loads(run("score", model, batch, "-o", scores, "--fdr", "0.1", "--json").out)
    lines = read_csv(scores)
    assert list(lines[0]) == ["row", "anomaly_score", "p_value", "is_anomaly", "error", "adjusted_p_value", "is_discovery", "category"]
    assert {line["is_discovery"] for line in lines[90:]} == {"true"}
    assert result["fdr"]["n_discoveries"] == sum(line["is_discovery"] == "true" for line in lines)
    assert [line["category"] for line in lines] == cameras[:100].tolist()
    assert result["n_pooled"] == 0


def test_a_row_of_a_camera_that_the_model_does_not_have_is_an_error(run, tmp_path):
    rng = np.random.default_rng(0)

    def write(name, cameras):
        lines = [f"{a:.6f},{b:.6f},{camera}" for (a, b), camera in zip(rng.normal(size=(len(cameras), 2)), cameras, strict=True)]
        (tmp_path / name).write_text("\n".join(["a,b,camera", *lines, ""]))
        return tmp_path / name

    model, scores = tmp_path / "m.insphere", tmp_path / "scores.jsonl"
    run("fit", write("fit.csv", ["c1"] * 200), "-o", model, "--detector", "knn", "--category", "camera")
    result = json.loads(run("score", model, write("new.csv", ["c1", "c2", ""]), "-o", scores, "--json").out)
    assert (result["n_scored"], result["n_errors"], result["n_pooled"]) == (2, 1, 1)
    assert "'c2', for which the model is not calibrated" in json.loads(scores.read_text().splitlines()[1])["error"]


def test_a_folder_of_parts_is_written_and_gone_on_with(run: Run, model: Path, mixed: Path, tmp_path: Path) -> None:
    outcome = run("score", model, mixed, "-o", f"{tmp_path}/scores/", "--workers", 0)
    assert outcome.code == 0
    assert "3 of 5 images" in outcome.out
    assert "2 images could not be scored" in outcome.err
    rows = {row["path"]: row for row in pq.read_table(tmp_path / "scores").to_pylist()}
    run("score", model, mixed, "-o", tmp_path / "s.parquet")
    for row in pq.read_table(tmp_path / "s.parquet").to_pylist():
        assert rows[row["path"]] == rows[row["path"]] | row
    again = run("score", model, mixed, "-o", f"{tmp_path}/scores", "--engine", "local", "--workers", 0, "--json")
    assert again.code == 0
    assert (again.result["n_before"], again.result["n_scored"], again.result["engine"]) == (5, 0, "local")


def test_what_does_not_go_with_parts_is_refused(run: Run, model: Path, mixed: Path, tmp_path: Path) -> None:
    for words, text in (
        (("-o", tmp_path / "s.csv", "--engine", "local"), "folder of parts"),
        (("-o", tmp_path / "s.csv", "--workers", 2), "--workers"),
        (("-o", tmp_path / "s.csv", "--model", model), "--model"),
        (("-o", f"{tmp_path}/s/", "--columns", "a,b"), "columns"),
        (("-o", f"{tmp_path}/s/", "--split", "test"), "split"),
        (("-o", f"{tmp_path}/s/", "--engine", "spark"), "engine"),
    ):
        outcome = run("score", model, mixed, *words)
        assert (outcome.code, text in outcome.err) == (2, True), outcome.err
