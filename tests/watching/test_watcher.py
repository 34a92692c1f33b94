"""Each file once, whatever happens: killed at any moment, changed while it is read, gone before it is read."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import insphere
from contract import blobs, fit_quietly, pictures
from insphere.detectors.base import AbstractDetector
from insphere.errors import DataError, ParameterError
from insphere.watching import Watcher, WatchOptions, open_journal
from insphere.watching.notify import AbstractReceiver, Event, UntoldError

ONCE = WatchOptions(once=True, poll=0.01, settled_after=60.0)


class Recorder(AbstractReceiver):
    def __init__(self, *, fails_after: int = 10**9) -> None:
        self.told: list[Event] = []
        self.fails_after = fails_after

    def tell(self, event: Event) -> None:
        if len(self.told) >= self.fails_after:
            time.sleep(3600)
        self.told.append(event)


@pytest.fixture(scope="module")
def detector() -> AbstractDetector:
    return fit_quietly(insphere.KNN(random_state=0), pictures(80))


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def put(folder: Path, *numbers: int, odd: bool = False) -> None:
    normal = pictures(200, seed=7)
    for number in numbers:
        image = np.full((9, 7), 255, np.uint8) * np.eye(9, 7, dtype=np.uint8) if odd else normal[number, :, :, 0]
        Image.fromarray(image).save(folder / f"{number:03}.png")


def watch(detector: AbstractDetector, folder: Path, journal: Path, *receivers: AbstractReceiver, options: WatchOptions = ONCE) -> Any:
    return Watcher(detector, folder, open_journal(journal), receivers=receivers, options=options).run(threading.Event())


def test_scores_are_those_of_the_library_and_corrupt_files_say_why(detector: AbstractDetector, inbox: Path, tmp_path: Path) -> None:
    put(inbox, *range(70))
    (inbox / "cut.png").write_bytes((inbox / "000.png").read_bytes()[:50])
    summary = watch(detector, inbox, tmp_path / "s.csv")
    entries = {entry.path: entry for entry in open_journal(tmp_path / "s.csv").entries()}
    (inbox / "cut.png").unlink()
    source = detector.open(inbox)
    np.testing.assert_array_equal([entries[name].anomaly_score for name in source.ids], detector.anomaly_score(source))
    np.testing.assert_array_equal([entries[name].p_value for name in source.ids], detector.p_value(source))
    np.testing.assert_array_equal([entries[name].is_anomaly for name in source.ids], detector.predict(source) == -1)
    assert entries["cut.png"].anomaly_score is None and "cannot be decoded" in str(entries["cut.png"].error)
    assert (summary.n_files, summary.n_errors, summary.n_before) == (71, 1, 0)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_second_run_scores_only_what_is_new_or_changed(suffix: str, detector: AbstractDetector, inbox: Path, tmp_path: Path) -> None:
    put(inbox, 1, 2, 3)
    journal = inbox / f"s{suffix}"
    assert watch(detector, inbox, journal).n_files == 3
    assert watch(detector, inbox, journal).n_files == 0
    put(inbox, 2, odd=True)
    put(inbox, 4)
    summary = watch(detector, inbox, journal)
    assert (summary.n_files, summary.n_before, summary.n_anomalies) == (2, 3, 1)
    assert Counter(entry.path for entry in open_journal(journal).entries()) == {"001.png": 1, "002.png": 2, "003.png": 1, "004.png": 1}


def test_anomalies_and_drift_are_told_once_across_runs(detector: AbstractDetector, inbox: Path, tmp_path: Path) -> None:
    put(inbox, 1, 2)
    put(inbox, *range(100, 130), odd=True)
    first, second = Recorder(), Recorder()
    summary = watch(detector, inbox, tmp_path / "s.csv", first)
    assert summary.drift.drifted and summary.drift.direction == "higher"
    told = Counter(event["event"] for event in first.told)
    assert told == {"anomaly": summary.n_anomalies, "drift": 1} and summary.n_anomalies >= 30
    assert watch(detector, inbox, tmp_path / "s.csv", second).drift == summary.drift
    assert second.told == []
    event = next(event for event in first.told if event["path"].endswith("100.png"))
    assert Path(event["path"]).is_absolute() and event["anomaly_score"] > event["threshold"] and len(event["id"]) == 16
    json.dumps(first.told)


def test_what_was_written_down_and_not_told_is_told_by_the_next_run(
    detector: AbstractDetector, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insphere.watching.watcher._SECONDS_TO_TELL", 0.5)
    put(inbox, *range(5), odd=True)
    stuck, second = Recorder(fails_after=2), Recorder()
    assert watch(detector, inbox, tmp_path / "s.csv", stuck).n_untold > 0
    watch(detector, inbox, tmp_path / "s.csv", second)
    assert {event["id"] for event in stuck.told + second.told if event["event"] == "anomaly"} == {
        event["id"] for event in watch_all(detector, inbox, tmp_path)
    }


def test_a_receiver_that_was_away_hears_of_it_from_a_later_run_and_a_new_one_of_nothing_old(
    detector: AbstractDetector, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away(Recorder):
        def tell(self, event: Event) -> None:
            raise UntoldError("nobody there")

        key = "recorder"  # type: ignore[assignment]

    class New(Recorder): ...

    monkeypatch.setattr("insphere.watching.watcher._SECONDS_TO_TELL", 0.3)
    put(inbox, 1, 2, odd=True)
    watch(detector, inbox, tmp_path / "s.csv", Away())
    put(inbox, 3, odd=True)
    assert watch(detector, inbox, tmp_path / "s.csv").n_untold == 0  # a run without receivers tells nobody, and loses nothing
    put(inbox, 4, odd=True)
    recorder, new = Recorder(), New()
    watch(detector, inbox, tmp_path / "s.csv", recorder, new)
    told = lambda receiver: [Path(event["path"]).name for event in receiver.told if event["event"] == "anomaly"]  # noqa: E731
    assert told(recorder) == ["001.png", "002.png", "003.png", "004.png"]
    assert told(new) == ["004.png"]


def watch_all(detector: AbstractDetector, inbox: Path, tmp_path: Path) -> list[Event]:
    recorder = Recorder()
    watch(detector, inbox, tmp_path / "anew.csv", recorder)
    return [event for event in recorder.told if event["event"] == "anomaly"]


@pytest.mark.skipif(sys.platform == "win32", reason="such names are none there")
def test_names_that_look_alike_are_scored_once_each_and_told_as_they_are(detector: AbstractDetector, inbox: Path, tmp_path: Path) -> None:
    names = ["a\nb.png", "a\\nb.png", "a\\\\nb.png", "=1+1.png", "'=1+1.png", os.fsdecode(b"\xff.png"), "\\udcff.png"]
    for name in names:
        put(inbox, 1, odd=True)
        (inbox / "001.png").rename(inbox / name)
    for suffix in (".csv", ".jsonl", ".parquet"):
        recorder = Recorder()
        assert watch(detector, inbox, tmp_path / f"s{suffix}", recorder).n_files == len(names)
        assert watch(detector, inbox, tmp_path / f"s{suffix}").n_files == 0
        assert {event["path"] for event in recorder.told} == {str(inbox / name) for name in names}
    assert "\n'=1+1.png," in (tmp_path / "s.csv").read_text()


def test_a_file_that_changes_while_it_is_read_is_scored_in_its_last_version(
    detector: AbstractDetector, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(inbox, 1, 2)
    os.utime(inbox / "002.png", (1000, 1000))
    real, changed = type(detector).score_batches, []

    def change_first(self: AbstractDetector, *arguments: Any, **options: Any) -> Any:
        yield from real(self, *arguments, **options)
        if not changed:
            changed.append(1)
            put(inbox, 2, odd=True)

    monkeypatch.setattr(type(detector), "score_batches", change_first)
    watch(detector, inbox, tmp_path / "s.csv")
    entries = list(open_journal(tmp_path / "s.csv").entries())
    assert sorted(entry.path for entry in entries) == ["001.png", "002.png"]
    assert next(entry for entry in entries if entry.path == "002.png").is_anomaly


def test_another_model_another_watch_vectors_and_no_folder_are_refused(detector: AbstractDetector, inbox: Path, tmp_path: Path) -> None:
    put(inbox, 1)
    watch(detector, inbox, tmp_path / "s.csv")
    other = fit_quietly(insphere.KNN(random_state=1), pictures(80, seed=5))
    with pytest.raises(DataError, match="another model"):
        watch(other, inbox, tmp_path / "s.csv")
    (tmp_path / "s.csv.state").write_text("{")
    with pytest.raises(DataError, match="remove it"):
        watch(detector, inbox, tmp_path / "s.csv")
    with pytest.raises(DataError, match="is not a folder"):
        watch(detector, inbox / "001.png", tmp_path / "t.csv")
    with pytest.raises(DataError, match="takes vectors"):
        watch(fit_quietly(insphere.KNN(random_state=0), blobs(60)), inbox, tmp_path / "t.csv")
    with pytest.raises(ParameterError, match="poll"):
        WatchOptions(poll=0)


@pytest.mark.parametrize("name", ["s.csv", "s.jsonl", "s.parquet"])
def test_two_watches_do_not_write_to_one_journal(detector: AbstractDetector, inbox: Path, tmp_path: Path, name: str) -> None:
    stop = threading.Event()
    first = Watcher(detector, inbox, open_journal(tmp_path / name), options=WatchOptions(poll=0.01))
    thread = threading.Thread(target=first.run, args=(stop,))
    thread.start()
    try:
        while not (tmp_path / f"{name}.state").exists():
            time.sleep(0.01)
        with pytest.raises(DataError, match="Another insphere watch"):
            watch(detector, inbox, tmp_path / name)
    finally:
        stop.set()
        thread.join()


def test_a_folder_that_goes_away_is_waited_for(
    detector: AbstractDetector, inbox: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(inbox, 1)
    stop = threading.Event()
    watcher = Watcher(detector, inbox, open_journal(tmp_path / "s.csv"), options=WatchOptions(poll=0.01), on_entry=lambda _: stop.set())
    inbox.rename(tmp_path / "away")
    complaints = lambda: [record for record in caplog.records if "cannot be listed" in record.getMessage()]  # noqa: E731

    def bring_back() -> None:
        limit = time.monotonic() + 60
        while not complaints() and time.monotonic() < limit:
            time.sleep(0.01)
        time.sleep(0.1)  # some more looks at nothing, of which nothing is said
        (tmp_path / "away").rename(inbox)

    back, end = threading.Thread(target=bring_back), threading.Timer(120, stop.set)
    back.start()
    end.start()
    n_files = watcher.run(stop).n_files
    end.cancel()
    back.join()
    assert n_files == 1
    assert len(complaints()) == 1


PROGRAM = """
import sys, insphere.cli
sys.exit(insphere.cli.main(sys.argv[1:]))
"""


def start(*words: object) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_killed_again_and_again_every_file_has_one_line(detector: AbstractDetector, inbox: Path, tmp_path: Path) -> None:
    model, journal = tmp_path / "m.insphere", tmp_path / "s.csv"
    detector.save(model)
    put(inbox, *range(100))
    for number in range(3):
        process = start("watch", model, inbox, "-o", journal, "--poll", "0.05")
        deadline = time.monotonic() + 60
        while len(journal.read_text().splitlines() if journal.exists() else ()) < 1 + 10 * number + 1 and time.monotonic() < deadline:
            time.sleep(0.005)
            put(inbox, 100 + 10 * number)
        time.sleep(0.05 * number)
        process.kill()
        process.communicate()
        put(inbox, *range(101 + 10 * number, 110 + 10 * number))
    last = start("watch", model, inbox, "-o", journal, "--once")
    last.communicate(timeout=60)
    assert last.returncode == 0
    entries = list(open_journal(journal).entries())
    versions = Counter((entry.path, entry.n_bytes, entry.modified_ns) for entry in entries)
    assert set(versions.values()) == {1}
    assert {entry.path for entry in entries} == {path.name for path in inbox.iterdir()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_watch_with_a_summary(number: int, detector: AbstractDetector, inbox: Path, tmp_path: Path) -> None:
    model, journal = tmp_path / "m.insphere", tmp_path / "s.jsonl"
    detector.save(model)
    put(inbox, 1, 2, 3)
    process = start("watch", model, inbox, "-o", journal, "--poll", "0.05", "--json")
    deadline = time.monotonic() + 60
    while (not journal.exists() or len(journal.read_text().splitlines()) < 3) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0 and json.loads(out)["n_files"] == 3
