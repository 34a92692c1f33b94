"""``insphere recalibrate``, and what is told of rows that a model was fitted on."""

from pathlib import Path

import numpy as np
import pytest

import insphere
from cli.conftest import Run


@pytest.fixture
def table_model(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "train.npy", rng.normal(size=(300, 3)))
    np.save(tmp_path / "new.npy", rng.normal(size=(240, 3)))
    path = tmp_path / "m.insphere"
    insphere.KNN(random_state=0).fit(str(tmp_path / "train.npy")).save(path)
    return path


def test_another_target_is_kept_in_the_file_with_its_history(run: Run, table_model: Path) -> None:
    before = insphere.load(table_model).threshold_
    outcome = run("recalibrate", table_model, "--target-fpr", "0.02", "--json")
    assert outcome.code == 0 and outcome.result["decision"]["target_fpr"] == 0.02
    after = insphere.load(table_model)
    assert after.threshold_ == outcome.result["decision"]["threshold"] > before and after.target_fpr == 0.02
    assert [entry["what"] for entry in after.decision_.history] == ["target_fpr"]
    assert "Changes of the decision" in run("info", table_model).out


def test_new_rows_go_to_a_file_of_their_own(run: Run, table_model: Path, tmp_path: Path) -> None:
    before = table_model.read_bytes()
    outcome = run("recalibrate", table_model, tmp_path / "new.npy", "-o", tmp_path / "n.insphere")
    assert outcome.code == 0 and "240 normal rows given to recalibrate" in " ".join(outcome.out.split())
    after = insphere.load(tmp_path / "n.insphere")
    assert (after.decision_.method, len(after.decision_)) == ("given", 240)
    assert table_model.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ([], 2, "needs SOURCE"),
        (["--target-fpr", "0"], 2, "target_fpr"),
        (["train.npy"], 1, "were given to `fit`"),
        (["nowhere.npy"], 1, "nowhere.npy"),
    ],
)
def test_what_cannot_be_is_told_and_leaves_the_file(
    run: Run, table_model: Path, tmp_path: Path, words: list[str], code: int, text: str
) -> None:
    before = table_model.read_bytes()
    outcome = run("recalibrate", table_model, *(tmp_path / word if word.endswith(".npy") else word for word in words))
    assert outcome.code == code and text in outcome.err
    assert table_model.read_bytes() == before


def test_figures_on_rows_that_were_learned_are_told(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    (folder / "good").mkdir(parents=True)
    (folder / "scratch").mkdir()
    for number in range(10):
        name = f"{number:03}.png"
        (folder / "good" / name).write_bytes((tiles / "train" / "good" / name).read_bytes())
    (folder / "scratch" / "s.png").write_bytes((tiles / "test" / "scratch" / "000.png").read_bytes())
    outcome = run("evaluate", model, folder, "--json")
    assert outcome.result["n_seen"] == 10 and "10 of 11 rows were given to fit" in outcome.err
    assert "were given to fit" not in run("evaluate", model, tiles).err
    outcome = run("report", model, folder, "-o", tmp_path / "r.html", "--json")
    assert outcome.result["n_seen"] == 10 and "10 of 11 rows were given to fit" in outcome.err
    assert "10 of 11 rows were given to fit" in (tmp_path / "r.html").read_text()


def test_rows_that_train_and_calibrate_are_not_told_as_held_out(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.random.default_rng(0).normal(size=(60, 3)))
    out = " ".join(run("fit", tmp_path / "few.npy", "--detector", "knn", "-o", tmp_path / "m.insphere").out.split())
    assert "60 to train, each of them left out once to calibrate" in out and "held out" not in out
    assert "set on 60 normal rows, each left out once" in out
    assert run("report", tmp_path / "m.insphere", tmp_path / "few.npy", "-o", tmp_path / "r.html").code == 0
    page = (tmp_path / "r.html").read_text()
    assert "60 to train, each of them left out once to calibrate" in page and "60 normal rows that the model had not seen" in page


def test_labelled_anomalies_are_not_taken_as_normal_rows(run: Run, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def write(name: str, X: np.ndarray, labels: list[int] | None = None) -> Path:
        ends = [""] * len(X) if labels is None else [f",{label}" for label in labels]
        lines = [",".join(map(repr, row)) + end for row, end in zip(X.tolist(), ends, strict=True)]
        (tmp_path / name).write_text("\n".join(["a,b,c" + ("" if labels is None else ",label"), *lines]) + "\n")
        return tmp_path / name

    model = tmp_path / "m.insphere"
    run("fit", write("train.csv", rng.normal(size=(100, 3))), "--detector", "knn", "-o", model)
    X = np.concatenate([rng.normal(size=(60, 3)), rng.normal(size=(20, 3)) + 8])
    source = write("new.csv", X, [0] * 60 + [1] * 20)
    refused = run("recalibrate", model, source, "-o", tmp_path / "n.insphere")
    assert refused.code == 1 and "looks like the label and is not read" in " ".join(refused.err.split())
    assert "--label-column label" in " ".join(refused.err.split()) and not (tmp_path / "n.insphere").exists()
    done = run("recalibrate", model, source, "--label-column", "label", "-o", tmp_path / "n.insphere")
    assert done.code == 0 and "20 of 80 rows are labelled as anomalies and left out" in " ".join(done.err.split())
    changed = insphere.load(tmp_path / "n.insphere")
    assert len(changed.decision_) == 60 and (changed.predict(X[60:]) == -1).all()
    assert run("score", model, source, "-o", tmp_path / "s.csv").code == 0
    by_columns = run("recalibrate", model, source, "--columns", "a,b,c", "-o", tmp_path / "n.insphere")
    assert by_columns.code == 0 and len(insphere.load(tmp_path / "n.insphere").decision_) == 80
