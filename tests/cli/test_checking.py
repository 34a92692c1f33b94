"""``insphere check``: what it says, and its exit code."""

from pathlib import Path

import numpy as np

from cli.conftest import Run


def test_a_folder_in_layout_is_checked(run: Run, tiles: Path) -> None:
    outcome = run("check", tiles)
    assert outcome.code == 0
    assert "Readable normal rows to learn from: 60." in outcome.out


def test_strict_counts_warnings(run: Run, tiles: Path) -> None:
    assert run("check", tiles, "--strict").code == 3


def test_json_is_one_object_with_every_check(run: Run, tiles: Path) -> None:
    result = run("check", tiles, "--json").result
    assert result["n_rows"] == 96
    assert {finding["level"] for finding in result["findings"]} <= {"ok", "note", "warning", "error"}


def test_a_broken_image_is_an_error(run: Run, tmp_path: Path, tiles: Path) -> None:
    for number, path in enumerate(sorted((tiles / "train" / "good").iterdir())):
        (tmp_path / f"{number}.png").write_bytes(path.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    outcome = run("check", tmp_path)
    assert outcome.code == 3
    assert "broken.png" in outcome.out


def test_copies_between_two_sources(run: Run, tiles: Path) -> None:
    outcome = run("check", tiles / "train", "--test", tiles / "train", "--json")
    assert outcome.code == 3
    found = {finding["name"]: finding for finding in outcome.result["findings"]}
    assert found["copies across train and test"]["n_rows"] == 60


def test_a_table_with_a_label_column(run: Run, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lines = ["a,b,state", *(f"{random.normal()},{random.normal()},{'ok' if row else 'bad'}" for row in range(150))]
    (tmp_path / "may.csv").write_text("\n".join(lines))
    assert run("check", tmp_path / "may.csv", "--label-column", "state", "--normal-label", "ok").code == 0


def test_nothing_there_is_no_finding_but_a_failure(run: Run, tmp_path: Path) -> None:
    assert run("check", tmp_path / "none").code == 1


def test_small_marks_that_vanish_are_a_note(run: Run, large_photos: Path) -> None:
    outcome = run("check", large_photos, "--json")
    (told,) = (finding for finding in outcome.result["findings"] if finding["name"] == "shrunk")
    assert (
        told["level"] == "note"
        and "of 320 × 240 pixels are shrunk to 64 × 48 by detectors other than photo: a mark below 5 pixels is lost" in told["text"]
    )
    asked = run("check", large_photos, "--image-size", "240x320", "--json").result
    assert "shrunk" not in {finding["name"] for finding in asked["findings"]}
