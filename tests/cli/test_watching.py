"""``insphere watch``."""

import csv
import shutil
from pathlib import Path

import pytest

from cli.conftest import Run


@pytest.fixture
def inbox(tiles: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiles / "test", tmp_path / "inbox")
    (tmp_path / "inbox" / "text.png").write_text("hello")
    return tmp_path / "inbox"


def read(path: Path) -> dict[str, tuple[str, str, str]]:
    with path.open(newline="") as handle:
        return {row["path"]: (row["anomaly_score"], row["p_value"], row["is_anomaly"]) for row in csv.DictReader(handle)}


def test_once_scores_as_score_does_and_calls_the_command(run: Run, model: Path, inbox: Path, tmp_path: Path) -> None:
    outcome = run("watch", model, inbox, "-o", tmp_path / "w.csv", "--once", "--poll", 0.1, "--command", "touch {path}.seen")
    assert outcome.code == 0 and "37 scored now, 0 before" in outcome.out and "error    text.png" in outcome.err
    run("score", model, inbox, "-o", tmp_path / "s.csv")
    watched, scored = read(tmp_path / "w.csv"), read(tmp_path / "s.csv")
    assert watched == scored
    flagged = {path for path, row in watched.items() if row[2] == "true"}
    assert {str(path.relative_to(inbox)).removesuffix(".seen") for path in inbox.rglob("*.seen")} == flagged
    assert all(f"anomaly  {path}" in outcome.err for path in flagged)


def test_a_second_run_has_nothing_to_do(run: Run, model: Path, inbox: Path, tmp_path: Path) -> None:
    words = ("watch", model, inbox, "-o", tmp_path / "w.parquet", "--once", "--poll", 0.1, "--json")
    assert run(*words).result["n_files"] == 37
    again = run(*words).result
    assert (again["n_files"], again["n_before"], again["n_untold"]) == (0, 37, 0)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["inbox", "-o", "w.txt"], 2, "must end in .csv, .jsonl, .parquet"),
        (["inbox", "--webhook", "example.org"], 2, "URL of http or https"),
        (["inbox", "--command", "no-such-program"], 2, "is not found"),
        (["inbox", "--poll", "0"], 2, "`poll` must be"),
        (["inbox", "--tolerated-share", "0.7"], 2, "`tolerated_share` must be"),
        (["nowhere"], 1, "is not a folder"),
    ],
)
def test_wrong_use_is_told_at_once(
    run: Run, model: Path, inbox: Path, words: list[str], code: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(inbox.parent)
    outcome = run("watch", model, *words, "--once")
    assert outcome.code == code and text in outcome.err
