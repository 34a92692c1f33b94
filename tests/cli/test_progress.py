"""Progress on standard error."""

import re
from typing import Any

import pytest

from insphere.cli import progress
from insphere.cli.progress import RowProgress, TrainingProgress
from insphere.training.history import EpochRecord


def record(epoch: int, n_epochs: int) -> EpochRecord:
    return EpochRecord(epoch, n_epochs, {"kl": 0.5, "loss": 1.25}, None, 1e-3, 0.1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def epochs(shown: TrainingProgress, first: int, last: int, n_epochs: int, clock: list[float]) -> None:
    with shown:
        for epoch in range(first, last + 1):
            clock[0] += 2.0
            shown.update(record(epoch, n_epochs))


def test_a_log_has_few_lines_with_terms_and_time_left(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    epochs(TrainingProgress("fitting x"), 1, 100, 100, clock)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[0] == "fitting x: epoch 20/100 · 2 min 40 s left · loss 1.25 kl 0.5"
    assert lines[-1].startswith("fitting x: epoch 100/100")


def test_short_trainings_tell_each_epoch(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    epochs(TrainingProgress("fitting x"), 1, 2, 2, clock)
    assert re.findall(r"epoch \d/2", capsys.readouterr().err) == ["epoch 1/2", "epoch 2/2"]


def test_resumed_epochs_do_not_count_as_done_in_no_time(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    epochs(TrainingProgress("x"), 5, 6, 10, clock)
    assert "epoch 6/10 · 8.0 s left · loss 1.25 kl 0.5" in capsys.readouterr().err


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes the stream for a terminal
    monkeypatch.setenv("COLUMNS", "200")
    epochs(TrainingProgress("fitting x"), 1, 3, 3, clock)
    with RowProgress("scoring y", 10) as rows:
        rows.advance(10)
    captured: Any = capsys.readouterr()
    assert "3/3" in captured.err
    assert "10/10 rows" in captured.err
    assert captured.out == ""


def test_without_a_terminal_scoring_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with RowProgress("scoring y", 10) as rows:
        rows.advance(10)
    assert capsys.readouterr().err == ""


def test_a_log_has_a_line_now_and_then_however_slow_the_work(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    shown = TrainingProgress("fitting x")
    with shown:
        for epoch in range(1, 4):
            clock[0] += 65.0
            shown.update(record(epoch, 100))
    with RowProgress("scoring x", 30) as rows:
        for _ in range(3):
            clock[0] += 36.0
            rows.advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" · ")[0] for line in lines[:3]] == [f"fitting x: epoch {epoch}/100" for epoch in (1, 2, 3)]
    assert lines[3:] == ["scoring x: 20 of 30 rows"]
