import numpy as np
import pyarrow.parquet as pq
import pytest

import insphere
from insphere.benchmark.run import execution
from insphere.benchmark.run.execution import Workplace, execute
from insphere.benchmark.run.run import Run
from insphere.data import one_class_split


def test_the_scores_are_those_of_the_detector_bit_by_bit(make_run, place, tmp_path):
    run = make_run("8", seed=3)
    finished = execute(run, place)
    finished.write(tmp_path)
    table = pq.read_table(tmp_path / f"{run.id}.scores.parquet")
    split = one_class_split("digits:8")
    detector = insphere.IForest(n_estimators=5, random_state=3).fit(split.train)
    np.testing.assert_array_equal(table["anomaly_score"].to_numpy(), detector.anomaly_score(split.test))
    np.testing.assert_array_equal(table["label"].to_numpy(), split.labels)
    assert table["type"].to_pylist() == list(split.test.types)
    assert finished.report.metrics["auroc"]["value"] == insphere.metrics.auroc(split.labels, detector.anomaly_score(split.test)).value


def test_a_network_is_counted_and_timed(place):
    report = execute(Run("digits", "3", "cae", "cae", {"epochs": 1, "latent_dim": 2}, 0), place).report
    assert report.status == "ok" and report.n_parameters > 100
    assert report.environment["device"] == "cpu" and report.environment["versions"]["torch"]
    assert report.seconds["fit"] > 0 and report.health["level"] in ("ok", "warning")


def test_an_error_becomes_a_failed_report(make_run, place, monkeypatch):
    report = execute(make_run("nothing"), place).report
    assert report.status == "failed" and report.error.startswith("ParameterError: ") and "no class" in report.error
    assert report.metrics == {} and "fit" not in report.seconds

    def defect(*_):
        raise KeyError("surprise")

    monkeypatch.setattr(execution, "_open", defect)
    report = execute(make_run(), place).report
    assert "KeyError: 'surprise' (at test_execution.py:" in report.error


def test_a_collapsed_detector_fails_with_its_health(tmp_path):
    np.savez(tmp_path / "rows.npz", X=np.random.default_rng(0).normal(size=(200, 4)), y=np.repeat([0, 1], [190, 10]))
    reading = {"distance_of": "mean", "norm": "squared"}
    parameters = {"alpha": 1e-12, "reading": reading, "geometry": "euclidean", "epochs": 400}
    parameters["training"] = {"lr": 0.02, "schedule": "one-cycle", "weight_decay": 0.1}
    run = Run("rows", "normal", "collapse", "vae-svdd", parameters, 0, source={"source": "rows.npz", "label_column": "y"})
    report = execute(run, Workplace(tmp_path)).report
    assert report.status == "failed" and report.error.startswith("CollapseError")
    assert report.health["level"] == "critical"


@pytest.mark.parametrize("named", [True, False])
def test_own_rows_are_split_by_the_seed_and_unreadable_ones_counted(tmp_path, named):
    rng = np.random.default_rng(0)
    rows = [f"{x:.3f},{y:.3f},{'ok' if named else 0}" for x, y in rng.normal(size=(60, 2))]
    rows += [f"{x + 9:.3f},{y:.3f},{'bad' if named else 1}" for x, y in rng.normal(size=(9, 2))] + [f"nan,0.1,{'bad' if named else 1}"]
    (tmp_path / "parts.csv").write_text("\n".join(["a,b,state", *rows]) + "\n")
    source = {"source": "parts.csv", "label_column": "state", "by_class": named, "train_fraction": 0.75}
    reports = [
        execute(Run("parts", "ok" if named else "normal", "knn", "knn", {}, seed, source=source), Workplace(tmp_path)).report
        for seed in (0, 0, 1)
    ]
    assert [(report.status, report.n_train, report.n_test, report.n_errors) for report in reports] == [("ok", 45, 25, 1)] * 3
    assert reports[0].metrics["auroc"]["value"] == 1.0
    assert reports[0].threshold == reports[1].threshold != reports[2].threshold


def test_rows_too_many_for_the_memory_are_read_as_they_come(make_run, place, monkeypatch):
    small = execute(make_run(), place).report
    monkeypatch.setattr(execution, "_MOST_BYTES_IN_MEMORY", 10)
    assert execute(make_run(), place).report.metrics == small.metrics


def test_the_environment_names_no_place_or_person(make_run, place):
    environment = execute(make_run(), place).report.environment
    assert str(place.folder) not in str(environment) and "/" not in environment["machine"]
