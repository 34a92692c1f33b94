"""``insphere fit`` and ``insphere demo``."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import insphere
from cli.conftest import Run
from insphere.cli import demonstrating
from insphere.cli.progress import TrainingProgress
from insphere.cli.settings import FitSettings, gather


def test_fit_writes_a_model_and_removes_the_checkpoint(run: Run, tiles: Path, tmp_path: Path) -> None:
    outcome = run("fit", tiles, "-o", tmp_path / "m.insphere", "--epochs", 5, "--json")
    assert outcome.code == 0
    assert os.listdir(tmp_path) == ["m.insphere"]
    assert outcome.result["detector"] == "transform-svdd" and "slower than vae-svdd" in outcome.err
    assert outcome.result["seed"] == 0
    assert outcome.result["data"]["n_rows"] == 60
    assert outcome.result["output"] == str(tmp_path / "m.insphere")
    assert "epoch 5/5" in outcome.err


def test_fit_tells_a_person_what_was_learned(run: Run, tiles: Path, tmp_path: Path) -> None:
    outcome = run("fit", tiles, "-o", tmp_path / "m.insphere", "--epochs", 5, "--target-fpr", 0.1)
    assert "60 rows of 12×10×1" in outcome.out
    assert "at most 10 % of normal rows" in outcome.out
    assert "insphere score" in outcome.err


def test_options_and_settings_reach_the_detector(run: Run, tiles: Path, tmp_path: Path) -> None:
    config = tmp_path / "fit.toml"
    config.write_text("epochs = 9\nimage-size = 6\n[params]\ntraining = {lr = 0.5, schedule = 'cosine'}\n")
    options = ["--config", config, "--epochs", 3, "--set", "training.lr=0.01", "--seed", 5, "--mode", "rgb", "--device", "cpu"]
    result = run("fit", tiles, "-o", tmp_path / "m.insphere", "--json", *options).result
    assert result["parameters"]["training"] == {"lr": 0.01, "schedule": "cosine"}
    assert (result["parameters"]["epochs"], result["seed"], result["parameters"]["device"]) == (3, 5, "cpu")
    assert result["input"]["shape"] == [6, 6, 3]


def test_small_marks_that_vanish_are_told(run: Run, large_photos: Path, tmp_path: Path) -> None:
    outcome = run("fit", large_photos, "-o", tmp_path / "m.insphere", "--detector", "knn")
    assert outcome.code == 0
    told = " ".join(outcome.err.split())
    assert "a mark below 5 pixels is lost" in told and "--image-size" in told and "--detector photo" in told
    assert "is lost" not in run("score", tmp_path / "m.insphere", large_photos, "-o", tmp_path / "s.csv").err
    assert "is lost" not in run("fit", large_photos, "-o", tmp_path / "m.insphere", "--detector", "knn", "--image-size", 64).err


def test_a_second_fit_takes_features_from_the_cache_and_says_so(
    run: Run, large_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSPHERE_CACHE", str(tmp_path / "cache"))
    command = ("fit", large_photos, "-o", tmp_path / "m.insphere", "--set", "backbone=scratch", "--image-size", 96)
    first, second, third = run(*command), run(*command), run(*command, "--json")
    assert "cache" not in first.err
    assert "pictures, made-up defects among them, came from the cache on disk (INSPHERE_CACHE=off does without)" in " ".join(
        second.err.split()
    )
    assert third.result["n_cached"] > 0 == third.result["n_computed"]


def test_photos_are_fitted_from_scratch_where_no_weights_are_installed(
    run: Run, large_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insphere.selection.choosing.importlib.util.find_spec", lambda name: None)
    outcome = run("fit", large_photos, "-o", tmp_path / "m.insphere", "--image-size", 96, "--json")
    assert outcome.code == 0 and outcome.result["detector"] == "photo" and outcome.result["parameters"]["backbone"] == "scratch"
    assert "pip install 'insphere[photos]'" in " ".join(outcome.err.split())
    named = run("fit", large_photos, "-o", tmp_path / "n.insphere", "--image-size", 96, "--set", "backbone=scratch", "--json")
    assert named.result["parameters"]["backbone"] == "scratch" and "pip install" not in named.err


def test_auto_tries_several_without_labels_and_says_what(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "may.csv"
    np.savetxt(table, np.random.default_rng(0).normal(size=(60, 3)), delimiter=",", header="a,b,c", comments="")
    outcome = run("fit", table, "-o", tmp_path / "m.insphere", "--auto", "--minutes", 0.1)
    told = " ".join(outcome.err.split())
    assert outcome.code == 0 and "Trying 8 detectors on a part of the rows, for 0.05 minutes at most." in told
    assert "(chosen)" in told and "mixed" in told and "was chosen without labels, of" in told
    described = run("info", tmp_path / "m.insphere", "--json").result
    assert described["data"]["auto"]["chosen"].startswith(described["detector"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.insphere", "may.csv"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--auto", "--detector", "knn"], "`--auto` chooses the detector, and `--detector` names one"),
        (["--minutes", "3"], "add --auto"),
        (["--auto", "--minutes", "0"], "`minutes`"),
        (["--auto", "--resume"], "name the one that was chosen"),
        (["--epochs", "0"], "`epochs`"),
        (["--target-fpr", "0"], "`target_fpr`"),
        (["--seed", "-1"], "`random_state`"),
        (["--set", "alhpa=1"], "Did you mean 'alpha'"),
        (["--set", "training.lrr=1"], "Did you mean 'lr'"),
        (["--detector", "vae-svd"], "Did you mean 'vae-svdd'"),
        (["--mode", "colour"], "'grey'"),
        (["--image-size", "big"], "HEIGHTxWIDTH"),
        (["--device", "cuda:99x"], "`device`"),
        (["--epochs", "1", "--set", "epochs=2"], "the same"),
        (["--resume", "--no-checkpoint"], "leave out one"),
    ],
)
def test_bad_values_are_usage_errors_and_leave_nothing(run: Run, tiles: Path, tmp_path: Path, options: list[str], message: str) -> None:
    outcome = run("fit", tiles, "-o", tmp_path / "m.insphere", *options)
    assert outcome.code == 2
    assert message in outcome.err
    assert os.listdir(tmp_path) == []


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_read(run: Run, tmp_path: Path) -> None:
    outcome = run("fit", "no such source", "-o", tmp_path / "missing" / "m.insphere")
    assert outcome.code == 1
    assert "does not exist. Create it first" in outcome.err
    assert "no such source" not in outcome.err


def test_too_few_images_fail_with_one_message(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8)).save(folder / name)
    outcome = run("fit", folder, "-o", tmp_path / "m.insphere")
    assert outcome.code == 1
    assert outcome.err.count("error:") == 1
    assert os.listdir(tmp_path) == ["two"]


def test_unreadable_images_are_skipped_and_told(run: Run, tiles: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((tiles / "train" / "good").iterdir()):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "text.png").write_text("no image")
    outcome = run("fit", folder, "-o", tmp_path / "m.insphere", "--epochs", 5)
    assert outcome.code == 0
    assert "text.png" in outcome.err
    assert "61 rows of 12×10×1, 1 unreadable" in outcome.out


def scores_of(model: Path, source: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    return insphere.load(model).anomaly_score(str(source))


def test_ctrl_c_keeps_the_checkpoint_and_resume_gives_the_unbroken_result(
    run: Run, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["fit", tiles, "--epochs", 4, "--device", "cpu", "-o"]
    assert run(*words, tmp_path / "whole.insphere").code == 0

    def interrupt(self: TrainingProgress, record: Any) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "update", interrupt)
        outcome = run(*words, tmp_path / "m.insphere", "--json")
    assert outcome.code == 130
    assert "--resume" in outcome.err
    assert outcome.result["error"]["type"] == "Interrupted"
    assert sorted(os.listdir(tmp_path)) == ["m.insphere.checkpoint", "whole.insphere"]

    outcome = run(*words, tmp_path / "m.insphere", "--resume")
    assert outcome.code == 0
    assert "epoch 2/4" not in outcome.err
    assert sorted(os.listdir(tmp_path)) == ["m.insphere", "whole.insphere"]
    source = tiles / "test"
    np.testing.assert_array_equal(scores_of(tmp_path / "m.insphere", source), scores_of(tmp_path / "whole.insphere", source))


def test_killed_and_resumed_gives_the_unbroken_result(run: Run, tiles: Path, tmp_path: Path) -> None:
    words = ["fit", str(tiles), "--epochs", "15", "--device", "cpu", "-o"]
    model, checkpoint = tmp_path / "m.insphere", tmp_path / "m.insphere.checkpoint"
    process = subprocess.Popen([sys.executable, "-m", "insphere", *words, str(model)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert checkpoint.exists(), "the fit ended before it could be killed"
    assert not model.exists()
    assert run(*words, model, "--resume").code == 0
    assert run(*words, tmp_path / "whole.insphere").code == 0
    np.testing.assert_array_equal(scores_of(model, tiles / "test"), scores_of(tmp_path / "whole.insphere", tiles / "test"))


def test_ctrl_c_without_checkpoints_says_that_nothing_is_left(
    run: Run, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: TrainingProgress, record: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingProgress, "update", interrupt)
    outcome = run("fit", tiles, "-o", tmp_path / "m.insphere", "--epochs", 2, "--no-checkpoint")
    assert (outcome.code, os.listdir(tmp_path)) == (130, [])
    assert "nothing was written" in outcome.err


def test_resume_without_a_checkpoint_says_so_and_starts(run: Run, tiles: Path, tmp_path: Path) -> None:
    outcome = run("fit", tiles, "-o", tmp_path / "m.insphere", "--epochs", 5, "--resume")
    assert outcome.code == 0
    assert "warning: there is no checkpoint" in outcome.err


def test_a_checkpoint_of_another_fit_is_refused(run: Run, tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: TrainingProgress, record: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "update", interrupt)
        run("fit", tiles, "-o", tmp_path / "m.insphere", "--epochs", 2)
    outcome = run("fit", tiles, "-o", tmp_path / "m.insphere", "--epochs", 2, "--seed", 1, "--resume")
    assert outcome.code == 1
    assert "belongs to other" in outcome.err
    outcome = run("fit", tiles, "-o", tmp_path / "m.insphere", "--epochs", 5)
    assert outcome.code == 0
    assert "will be replaced" in outcome.err


@pytest.fixture
def short_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo train five epochs only."""

    def few_epochs(config: None, assignments: list[str], options: dict[str, Any]) -> FitSettings:
        return gather(config, assignments, {**options, "epochs": 5})

    monkeypatch.setattr(demonstrating, "gather", few_epochs)


@pytest.mark.usefixtures("short_demo")
def test_the_demo_writes_model_scores_and_picture(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "demo"
    outcome = run("demo", "--output", folder)
    assert outcome.code == 0
    assert sorted(os.listdir(folder)) == ["gallery.png", "model.insphere", "scores.csv"]
    assert "AUROC" in outcome.out
    assert "false alarms" in outcome.out
    assert "insphere fit photos/good" in outcome.out
    with Image.open(folder / "gallery.png") as picture:
        assert picture.size[0] > picture.size[1] > 500
    scores = insphere.load(folder / "model.insphere").anomaly_score(insphere.open_source("digits:3", split="test"))
    lines = (folder / "scores.csv").read_text().splitlines()
    assert lines[0] == "row,anomaly_score,p_value,is_anomaly,error"
    assert [float(line.split(",")[1]) for line in lines[1:]] == scores.tolist()


@pytest.mark.usefixtures("short_demo")
def test_the_demo_as_json(run: Run, tmp_path: Path) -> None:
    result = run("demo", "-o", tmp_path, "--dataset", "digits:8", "--seed", 1, "--json").result
    assert set(result["auroc"]) == set(result["false_alarm_rate"]) == {"value", "low", "high"}
    assert result["files"]["gallery"] == str(tmp_path / "gallery.png")


def test_the_demo_needs_labels(run: Run, tmp_path: Path) -> None:
    assert run("demo", "-o", tmp_path / "d", "--dataset", "digits").code == 2


def test_columns_of_words_are_declared_once(run: Run, tmp_path: Path) -> None:
    lines = [f"{row % 7},{'red' if row % 3 else 'blue'}" for row in range(60)]
    (tmp_path / "good.csv").write_text("\n".join(["rpm,colour", *lines, ""]))
    (tmp_path / "new.csv").write_text("colour,rpm\nred,1\ngreen,1\n")
    model = tmp_path / "m.insphere"
    fitted = run("fit", tmp_path / "good.csv", "-o", model, "--detector", "knn", "--one-hot", "colour", "--json")
    assert fitted.code == 0 and insphere.load(model).feature_names_ == ["rpm", "colour=blue", "colour=red"]
    scored = run("score", model, tmp_path / "new.csv", "-o", tmp_path / "s.csv")
    assert scored.code == 0 and "that the fit did not see ('green')" in " ".join(scored.err.split())


def test_a_model_that_was_fitted_on_drafted_photos_scores_drafted_photos(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(24):
        Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).resize((128, 128)).save(folder / f"{number}.jpg")
    words = ("fit", folder, "--detector", "knn", "--image-size", 16, "-o")
    assert run(*words, tmp_path / "draft.insphere", "--jpeg-draft").code == 0
    assert run(*words, tmp_path / "full.insphere").code == 0
    drafted, full = (insphere.load(tmp_path / f"{name}.insphere") for name in ("draft", "full"))
    assert drafted.image_spec_.jpeg_draft and not full.image_spec_.jpeg_draft
    assert drafted.open(folder).spec.jpeg_draft
    assert (drafted.anomaly_score(folder) != full.anomaly_score(folder)).any()
    assert "jpeg_draft" in run("fit", "digits:3", "--jpeg-draft", "-o", tmp_path / "m.insphere").err
