"""``insphere info``, ``datasets`` and ``detectors``."""

from pathlib import Path

import pytest

from cli.conftest import Run


def test_info_tells_people_and_programs_the_same(run: Run, model: Path) -> None:
    result = run("info", model, "--json").result
    assert result["detector"] == "vae-svdd"
    assert result["data"]["n_rows"] == 60
    shown = run("info", model).out
    for text in (f"{result['decision']['threshold']:.4g}", result["data"]["fingerprint"], "alpha", "distinct scores", "torch"):
        assert text in shown


def test_info_of_something_else(run: Run, tmp_path: Path) -> None:
    (tmp_path / "m.insphere").write_bytes(b"")
    assert run("info", tmp_path / "m.insphere").code == 1
    assert run("info", tmp_path).code == 1


def test_data_sets_and_where_they_are(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part in ("train", "test"):
        (folder / f"{part}-00000-of-00001.parquet").write_bytes(b"")
    entries = {entry["name"]: entry for entry in run("datasets", "--data-dir", tmp_path, "--json").result["datasets"]}
    assert {"digits", "mnist", "fashion-mnist", "cifar10", "gtsrb32"} <= set(entries)
    assert entries["mnist"]["folder"] == str(folder)
    assert entries["cifar10"]["folder"] is None
    assert entries["cifar10"]["classes"][1] == "automobile"
    shown = run("datasets").out
    assert "comes along" in shown
    assert "--data-dir" in shown


def test_detectors_and_when_to_choose_them(run: Run) -> None:
    entries = run("detectors", "--json").result["detectors"]
    assert "vae-svdd" in [entry["name"] for entry in entries]
    assert all(entry["when"] and entry["summary"] for entry in entries)
    assert "vae-svdd" in run("detectors").out


@pytest.mark.parametrize(("by", "use"), [("conformal", "for comparison, it decides nothing"), ("radius", "decides, as asked")])
def test_what_the_radius_is_for_is_said(by: str, use: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n" + "\n".join(f"{n},{n * n % 17}" for n in range(40)), encoding="utf-8")
    words = ("fit", tmp_path / "rows.csv", "-o", tmp_path / "m.insphere", "--detector", "knn", "--set", f"calibration.decision={by}")
    outcome = run(*words)
    assert outcome.code == 0 and use in " ".join(outcome.out.split())
