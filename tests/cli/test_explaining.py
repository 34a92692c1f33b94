"""``insphere explain``: files for each image, and words for what cannot be explained."""

import json
from pathlib import Path

from cli.conftest import Run


def test_one_image(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    image = tiles / "test" / "scratch" / "000.png"
    outcome = run("explain", model, image, "-o", tmp_path / "why", "--json")
    assert outcome.code == 0, outcome.err
    assert sorted(outcome.result["files"]) == sorted(path.name for path in (tmp_path / "why").iterdir())
    (row,) = json.loads((tmp_path / "why" / "explanations.json").read_text())["rows"]
    assert run("score", model, image, "-o", tmp_path / "scores.csv").code == 0
    score = (tmp_path / "scores.csv").read_text().splitlines()[1].split(",")[1]
    assert row["anomaly_score"] == float(score)
    # The block lies in rows 4 to 6 and columns 2 to 7.
    assert 3 <= row["hottest_pixel"]["row"] <= 7
    assert 1 <= row["hottest_pixel"]["column"] <= 8


def test_the_highest_scores_of_several_sources(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    folders = [tiles / "test" / kind for kind in ("good", "noise")]
    outcome = run("explain", model, *folders, "-o", tmp_path / "why", "--most", "5", "--normals", tiles)
    assert outcome.code == 0, outcome.err
    assert "5 rows" in outcome.out
    rows = json.loads((tmp_path / "why" / "explanations.json").read_text())["rows"]
    assert [row["neighbours"][0]["kind"] for row in rows] == ["example"] * 5


def test_a_broken_image_beside_a_good_one(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes((tiles / "test" / "good" / "000.png").read_bytes()[:60])
    (tmp_path / "good.png").write_bytes((tiles / "test" / "good" / "000.png").read_bytes())
    outcome = run("explain", model, tmp_path, "-o", tmp_path / "why")
    assert outcome.code == 0
    assert "could not be read" in outcome.err
    assert run("explain", model, tmp_path / "broken.png", "-o", tmp_path / "why2").code == 1


def test_wrong_usage(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    outcome = run("explain", model, tiles, "-o", tmp_path / "why", "--method", "integrated-gradient")
    assert outcome.code == 2
    assert "Did you mean 'integrated-gradients'" in outcome.err
    assert run("explain", model, tiles, "-o", tmp_path / "why", "--most", "0").code == 2
    assert not (tmp_path / "why").exists()


def test_a_file_where_the_folder_should_be(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    (tmp_path / "why").write_text("taken")
    assert run("explain", model, tiles, "-o", tmp_path / "why").code == 1
