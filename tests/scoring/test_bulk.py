"""Each image once, whole parts only, the same bits everywhere; killed at any moment."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from PIL import Image

import insphere
from contract import fit_quietly, pictures
from deadly import DeadlyKNN
from insphere.errors import DataError, ModelFileError, ParameterError
from insphere.output_file import OutputError
from insphere.scoring import BulkOptions, BulkProgress, score_in_bulk
from insphere.scoring.engines import LocalEngine
from scoring.conftest import N_BROKEN, N_READABLE

HERE = BulkOptions(n_workers=0)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of all parts, by path; every reader of Parquet takes the folder for one table."""
    rows = ds.dataset(folder, format="parquet").to_table().to_pylist()
    assert max(Counter(row["path"] for row in rows).values(), default=1) == 1
    return sorted(rows, key=lambda row: row["path"])


def test_every_image_has_one_row_and_the_scores_are_those_of_the_library(model: Path, photos: Path, tmp_path: Path) -> None:
    seen: list[BulkProgress] = []
    done = score_in_bulk(model, photos, tmp_path / "scores", HERE, on_progress=seen.append)
    assert (done.n_rows, done.n_before, done.n_scored, done.n_errors) == (N_READABLE + N_BROKEN, 0, N_READABLE, N_BROKEN)
    rows = rows_of(tmp_path / "scores")
    detector = insphere.load(model)
    source = detector.open(photos)
    [batch] = detector.score_batches(source)
    expected = dict(zip((source.ids[row] for row in batch.index) if source.ids else (), batch.anomaly_score.tolist(), strict=True))
    assert {row["path"]: row["anomaly_score"] for row in rows if row["error"] is None} == expected
    errors = {row["path"]: row["error"] for row in rows if row["error"] is not None}
    assert sorted(errors) == ["line0/cut.png", "line1/text.jpg", "line2/gone.png"]
    assert "is not an image" in errors["line1/text.jpg"]
    assert "No such file" in errors["line2/gone.png"]
    assert done.n_anomalies == {"near.insphere": sum(bool(row["is_anomaly"]) for row in rows)}
    first = rows[0]
    assert first["n_bytes"] == (photos / first["path"]).stat().st_size
    assert first["modified_ns"] == (photos / first["path"]).stat().st_mtime_ns
    told = " ".join(str(notice) for notice in done.notices)
    assert "Masks" in told
    assert ".txt: 1" in told
    assert seen[-1].n_done == seen[-1].n_to_do == N_READABLE + N_BROKEN
    assert seen[-1].seconds_left == 0
    assert seen[0].rows_per_second > 0


@pytest.mark.slow
def test_patterns_choose_and_workers_change_no_bit(model: Path, photos: Path, tmp_path: Path) -> None:
    score_in_bulk(model, photos / "*" / "*.png", tmp_path / "one", HERE)
    score_in_bulk(model, f"{photos}/**/*.png", tmp_path / "two", BulkOptions(n_workers=2, rows_per_part=7))
    one, two = rows_of(tmp_path / "one"), rows_of(tmp_path / "two")
    assert one == two
    assert {Path(row["path"]).suffix for row in one} == {".png"}
    assert len(list((tmp_path / "two").glob("part-*.parquet"))) > 1


def test_what_is_written_is_not_scored_again_and_new_images_are_added(model: Path, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos / "line0", folder)
    score_in_bulk(model, folder, tmp_path / "scores", HERE)
    before = {part: part.stat().st_mtime_ns for part in (tmp_path / "scores").glob("*.parquet")}
    again = score_in_bulk(model, folder, tmp_path / "scores", HERE)
    assert (again.n_before, again.n_scored, again.n_errors, again.n_changed) == (21, 0, 0, 0)
    shutil.copy(photos / "line1" / "001.png", folder / "new.png")
    shutil.copy(photos / "line1" / "004.png", folder / "000.png")
    more = score_in_bulk(model, folder, tmp_path / "scores", HERE)
    assert (more.n_before, more.n_scored, more.n_changed) == (21, 1, 1)
    assert {part: part.stat().st_mtime_ns for part in before} == before
    assert len(rows_of(tmp_path / "scores")) == 22


def test_several_models_share_a_pass_and_each_scores_as_it_does_alone(model: Path, photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "small.insphere"
    fit_quietly(insphere.IForest(random_state=0), np.ascontiguousarray(pictures(80)[:, ::2])).save(other)
    done = score_in_bulk([model, other], photos / "line1", tmp_path / "both", HERE)
    assert set(done.n_anomalies) == {"near.insphere", "small.insphere"}
    both = rows_of(tmp_path / "both")
    for path in (model, other):
        score_in_bulk(path, photos / "line1", tmp_path / path.stem, HERE)
        alone = rows_of(tmp_path / path.stem)
        for column in ("anomaly_score", "p_value", "is_anomaly"):
            assert [row[f"{column}_{path.stem}"] for row in both] == [row[column] for row in alone]
        assert [row["error"] for row in both] == [row["error"] for row in alone]


DRIVER = """
import sys
from insphere.scoring import BulkOptions, score_in_bulk
options = BulkOptions(n_workers=2, rows_per_part=5)
score_in_bulk(*sys.argv[1:], options, on_progress=lambda progress: print(progress.n_done, flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 4])
def test_a_killed_run_leaves_whole_parts_and_the_next_goes_on(model: Path, photos: Path, tmp_path: Path, after: int) -> None:
    arguments = [sys.executable, "-c", DRIVER, str(model), str(photos), str(tmp_path / "scores")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(after):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    kept = rows_of(tmp_path / "scores")
    done = score_in_bulk(model, photos, tmp_path / "scores", BulkOptions(n_workers=2))
    assert done.n_before == len(kept)
    assert done.n_before + done.n_scored + done.n_errors == N_READABLE + N_BROKEN
    rows = rows_of(tmp_path / "scores")
    assert [row for row in rows if row["path"] in {row["path"] for row in kept}] == kept
    score_in_bulk(model, photos, tmp_path / "unbroken", HERE)
    assert rows == rows_of(tmp_path / "unbroken")


def children() -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and b"popen_loky" in (status.parent / "cmdline").read_bytes():
            found.append(int(status.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc")
def test_a_killed_worker_costs_no_row_and_doubles_none(model: Path, photos: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_one(progress: BulkProgress) -> None:
        if not killed:
            killed.append(max(children()))
            os.kill(killed[0], signal.SIGKILL)

    done = score_in_bulk(model, photos, tmp_path / "scores", BulkOptions(n_workers=2), on_progress=kill_one)
    assert killed
    assert (done.n_scored, done.n_errors) == (N_READABLE, N_BROKEN)
    assert len(rows_of(tmp_path / "scores")) == N_READABLE + N_BROKEN


@pytest.mark.slow
def test_an_image_that_kills_its_process_is_one_error_row(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPHERE_DETECTORS", "deadly:DeadlyKNN")
    model = tmp_path / "deadly.insphere"
    fit_quietly(DeadlyKNN(random_state=0), pictures(80)).save(model)
    folder = tmp_path / "few"
    folder.mkdir()
    for number in range(3):
        shutil.copy(photos / "line0" / f"{3 * number:03}.png", folder / f"{number}.png")
    height, width = pictures(1).shape[1:3]
    Image.fromarray(np.full((height, width), 255, np.uint8)).save(folder / "1-deadly.png")
    done = score_in_bulk(model, folder, tmp_path / "scores", BulkOptions(n_workers=1))
    assert (done.n_scored, done.n_errors) == (3, 1)
    assert {row["path"]: row["error"] is None for row in rows_of(tmp_path / "scores")} == {
        "0.png": True,
        "1-deadly.png": False,
        "1.png": True,
        "2.png": True,
    }


def test_a_folder_takes_no_scores_of_another_model_or_place(model: Path, photos: Path, tmp_path: Path) -> None:
    score_in_bulk(model, photos / "line0", tmp_path / "scores", HERE)
    other = tmp_path / "near.insphere"
    fit_quietly(insphere.KNN(n_neighbors=3, random_state=0), pictures(80)).save(other)
    with pytest.raises(DataError, match="another models"):
        score_in_bulk(other, photos / "line0", tmp_path / "scores", HERE)
    with pytest.raises(DataError, match="another images"):
        score_in_bulk(model, photos / "line1", tmp_path / "scores", HERE)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="did not write"):
        score_in_bulk(model, photos / "line0", tmp_path / "mine", HERE)
    assert [path.name for path in (tmp_path / "mine").iterdir() if not path.name.startswith("_")] == ["thesis.txt"]


def test_two_runs_do_not_write_one_folder(model: Path, photos: Path, tmp_path: Path) -> None:
    def second(progress: BulkProgress) -> None:
        with pytest.raises(DataError, match="Another insphere score"):
            score_in_bulk(model, photos / "line0", tmp_path / "scores", HERE)

    score_in_bulk(model, photos / "line0", tmp_path / "scores", HERE, on_progress=second)


def test_damaged_and_doubled_parts_are_named(model: Path, photos: Path, tmp_path: Path) -> None:
    score_in_bulk(model, photos / "line0", tmp_path / "scores", HERE)
    [part] = (tmp_path / "scores").glob("part-*.parquet")
    shutil.copy(part, part.with_name("part-00000007.parquet"))
    with pytest.raises(DataError, match="21 images twice"):
        score_in_bulk(model, photos / "line0", tmp_path / "scores", HERE)
    part.with_name("part-00000007.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="part-00000007"):
        score_in_bulk(model, photos / "line0", tmp_path / "scores", HERE)


def test_what_cannot_be_scored_in_bulk_is_refused_before_anything_is_made(model: Path, photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.insphere"
    fit_quietly(insphere.KNN(random_state=0), np.random.default_rng(0).normal(size=(60, 3))).save(table)
    output = tmp_path / "scores"
    cases: list[tuple[Any, Any, type[Exception], str]] = [
        (table, photos, DataError, "rows of features"),
        (model, tmp_path / "nothing", DataError, "has no image"),
        (model, table, DataError, "is not an image"),
        (photos / "notes.txt", photos, ModelFileError, "notes.txt"),
        ([], photos, ParameterError, "at least one"),
        ([model, model], photos, ParameterError, "same file name"),
        (model, "nowhere://photos", Exception, "nowhere"),
    ]
    for models, source, kind, text in cases:
        with pytest.raises(kind, match=text):
            score_in_bulk(models, source, output, HERE)
    assert not output.exists()
    with pytest.raises(ParameterError, match="Heat-maps need"):
        score_in_bulk(model, photos, output, BulkOptions(maps=tmp_path / "maps"))
    with pytest.raises(ParameterError, match="Did you mean 'local'"):
        BulkOptions(engine="locl")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        score_in_bulk(model, photos, tmp_path / "file" / "scores", HERE)


def test_names_that_are_not_unicode_are_scored(model: Path, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    try:
        shutil.copy(photos / "line0" / "000.png", os.fsencode(folder) + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes names of valid Unicode only")
    for _ in range(2):
        done = score_in_bulk(model, folder, tmp_path / "scores", HERE)
        assert done.n_errors == 0
        assert len(rows_of(tmp_path / "scores")) == 1


def test_the_local_engine_counts_its_workers() -> None:
    assert LocalEngine(3).n_workers == 3
    assert LocalEngine().n_workers >= 1
    with pytest.raises(ParameterError, match="n_workers"):
        LocalEngine(-1)
    with pytest.raises(ParameterError, match="n_workers"):
        BulkOptions(engine="ray", n_workers=0)


def test_a_part_on_the_disk_is_whole(model: Path, photos: Path, tmp_path: Path) -> None:
    """While a run goes on, whatever is called a part can be read."""

    def look(progress: BulkProgress) -> None:
        for part in (tmp_path / "scores").glob("part-*"):
            assert pq.read_metadata(part).num_rows > 0

    score_in_bulk(model, photos, tmp_path / "scores", BulkOptions(n_workers=0, rows_per_part=1), on_progress=look)
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    assert digest in (tmp_path / "scores" / "_insphere.json").read_text()
