"""An audit finds each fault where it is and none where there is none."""

import re
from pathlib import Path

import numpy as np
import pytest

from audit import faulty
from insphere.audit import AuditReport, audit
from insphere.audit.auditing import CHECKS
from insphere.audit.rows import audit_rows
from insphere.audit.subjects import subject_of
from insphere.data import ArraySource
from insphere.errors import DataError, ParameterError


@pytest.fixture(scope="module")
def source() -> ArraySource:
    """Four hundred normal rows around zero, correlated, and a hundred anomalies further out."""
    random = np.random.default_rng(1)
    normal = random.normal(size=(400, 4)) @ np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.2], [0, 0, 0, 0.3]])
    return ArraySource(np.concatenate([normal, random.normal(size=(100, 4)) * 3]), labels=[0] * 400 + [1] * 100)


def levels(report: AuditReport) -> dict[str, str]:
    return {finding.name: finding.level for finding in report.findings}


def test_a_sound_detector_passes_every_check(source: ArraySource) -> None:
    report = audit(faulty.Sound, source)
    assert list(levels(report)) == list(CHECKS)
    assert report.level in ("ok", "note")
    assert {name for name, level in levels(report).items() if level != "ok"} <= {"5-NN", "untrained"}
    assert report.facts["rows"].startswith("200 to fit on, 200 normal and 100 anomalous")


@pytest.mark.parametrize(
    ("fault", "check", "level", "words"),
    [
        (faulty.Constant, "scores", "error", "the same score"),
        (faulty.NotANumber, "scores", "error", "1 of 300 rows"),
        (faulty.TooFewScores, "scores", "error", "300 rows have 299 scores"),
        (faulty.Coarse, "scores", "warning", "few can be told apart"),
        (faulty.NeverTrained, "training", "error", "Training changes nothing"),
        (faulty.EpochsWithoutEffect, "training", "error", "not trained at all \\(epochs 0\\)"),
        (faulty.EpochsWithoutEffect, "untrained", "warning", "That training helps can't be seen"),
        (faulty.Unseeded, "same seed", "warning", "with the same random_state give other scores"),
        (faulty.Dicing, "scored again", "error", "depends on chance"),
        (faulty.OfTheBatch, "batch", "error", "depend on the rows scored together: alone"),
        (faulty.PredictsByTheBatch, "batch", "error", "of 40 rows are decided otherwise alone"),
        (faulty.NotAlone, "batch", "error", "cannot score a row alone \\(ValueError: needs two rows\\)"),
        (faulty.OfTheOrder, "order", "error", "order of rows changes scores"),
        (faulty.LearnsWhileScoring, "test data", "error", "Test data is learned from"),
        (faulty.ChangesItsInput, "test data", "error", "changed by fitting"),
        (faulty.ReadsLabels, "labels", "note", "uses y"),
        (faulty.ForgetsInCopies, "copies", "error", "copy by pickle differs"),
        (faulty.FlagsTooMany, "false alarms", "error", "where 5 % is stated"),
        (faulty.FlagsNone, "false alarms", "warning", "0.0 % .* where 5 % is stated: fewer"),
        (faulty.Reversed, "5-NN", "warning", "--higher normal"),
        (faulty.Raises, "scores", "error", "^It fails: RuntimeError: no memory left on the device$"),
        (faulty.NoScores, "scores", "error", "none of the methods"),
    ],
)  # fmt: skip
def test_each_fault_is_found(fault: type, check: str, level: str, words: str, source: ArraySource) -> None:
    report = audit(fault, source, repeats=3)
    found = next(finding for finding in report.findings if finding.name == check)
    assert found.level == level, found.text
    assert re.search(words, found.text), found.text


def test_scores_that_depend_on_chance_are_not_blamed_for_all_that_follows(source: ArraySource) -> None:
    found = levels(audit(faulty.Dicing, source, repeats=1))
    assert found["scored again"] == "error"
    assert {found[name] for name in ("same seed", "batch", "order", "test data", "labels", "copies")} == {"skipped"}


def test_rows_that_are_drawn_to_fit_on_come_from_all_of_the_source() -> None:
    X = np.arange(1000.0)[:, None]
    (part,) = audit_rows(X, n_repeats=1, max_rows=100, seed=0).repeats
    assert len(part.train) == len(part.normal) == 100
    assert part.train.min() < 100 and part.train.max() > 900 and part.normal.max() > 900
    assert not set(part.train[:, 0]) & set(part.normal[:, 0])


@pytest.mark.parametrize("fault", [faulty.OfTheBatch, faulty.FlagsTooMany, faulty.ReadsLabels])
def test_a_fault_is_blamed_on_nothing_else(fault: type, source: ArraySource) -> None:
    found = levels(audit(fault, source, repeats=2))
    blamed = {faulty.OfTheBatch: {"batch", "false alarms"}, faulty.FlagsTooMany: {"false alarms"}, faulty.ReadsLabels: set()}[fault]
    assert {name for name, level in found.items() if level in ("error", "warning")} <= blamed


def test_training_that_helps_is_seen_against_no_epoch_at_all(source: ArraySource) -> None:
    report = audit(faulty.Learning, source, repeats=2)
    finding = next(finding for finding in report.findings if finding.name == "untrained")
    assert finding.level == "ok" and "untrained (epochs 0)" in finding.text
    assert finding.figures["difference"].low > 0
    assert finding.figures["auroc"].value - finding.figures["auroc_untrained"].value == pytest.approx(finding.figures["difference"].value)


def test_pyod_s_ways_are_known_and_its_progress_stays_out(source: ArraySource, capsys: pytest.CaptureFixture[str]) -> None:
    report = audit(faulty.LikePyOD, source, repeats=2)
    assert levels(report)["scores"] == "ok" and levels(report)["batch"] == "ok"
    assert "a higher score is more anomalous, as in PyOD" in report.facts["taken to mean"]
    rate = next(finding for finding in report.findings if finding.name == "false alarms").figures
    assert rate["stated"] is None and 0 < rate["rate"].value < 0.2
    assert capsys.readouterr().out == ""


def test_the_rate_that_is_stated_can_be_named(source: ArraySource) -> None:
    report = audit(faulty.LikePyOD, source, repeats=2, stated_fpr=0.5)
    found = next(finding for finding in report.findings if finding.name == "false alarms")
    assert found.level == "warning" and "50 % is stated" in found.text


def test_rows_without_labels_are_all_normal_and_nothing_is_ranked(source: ArraySource) -> None:
    report = audit(faulty.Sound, source.load().X[:400], repeats=2)
    assert levels(report)["untrained"] == levels(report)["5-NN"] == "skipped"
    assert report.level == "ok"


def test_a_function_that_scores_and_one_that_makes(source: ArraySource) -> None:
    scoring = audit(faulty.norm, source, repeats=2)
    assert {name for name, level in levels(scoring).items() if level == "skipped"} >= {"training", "same seed", "untrained", "copies"}
    assert levels(scoring)["batch"] == levels(scoring)["order"] == "ok"
    assert levels(audit(faulty.norm, source, repeats=1, higher="normal"))["5-NN"] == "warning"
    making = audit("audit.faulty:made", source, repeats=2)
    assert next(finding for finding in making.findings if finding.name == "false alarms").figures["stated"] == 0.2


def test_an_estimator_is_left_as_it_was(source: ArraySource) -> None:
    given = faulty.Sound(contamination=0.3)
    report = audit(given, source, repeats=1, parameters={"contamination": 0.1})
    assert next(finding for finding in report.findings if finding.name == "false alarms").figures["stated"] == 0.1
    assert given.contamination == 0.3 and not hasattr(given, "mean_")


@pytest.mark.slow
def test_an_own_detector_its_file_and_its_graph(tmp_path: Path, source: ArraySource) -> None:
    import insphere
    from insphere.export import export_onnx

    detector = insphere.KNN(random_state=0).fit(source.load().X[:100])
    detector.save(tmp_path / "m.insphere")
    export_onnx(detector, tmp_path / "m.onnx")
    of_file = audit(tmp_path / "m.insphere", source, repeats=1, max_rows=100)
    of_graph = audit(tmp_path / "m.onnx", source, repeats=1, max_rows=100)
    assert levels(of_file)["training"] == levels(of_graph)["training"] == "skipped"
    copies = next(finding for finding in of_file.findings if finding.name == "copies")
    assert set(copies.figures) == {"model file", "ONNX graph"} and copies.figures["model file"] == 0
    alarms = next(finding for finding in of_file.findings if finding.name == "false alarms")
    assert "at most 5 % is stated" in alarms.text
    assert levels(of_file)["copies"] == "ok" and levels(of_graph)["copies"] == "skipped"
    areas = [next(f for f in report.findings if f.name == "5-NN").figures["auroc"].value for report in (of_file, of_graph)]
    assert areas[0] == pytest.approx(areas[1], abs=1e-6) and areas[0] > 0.9


def test_images_go_as_rows_to_others_and_as_images_to_ours() -> None:
    assert audit(faulty.Sound, "digits:3", repeats=1).facts["row"] == "64"
    assert subject_of("knn").images and not subject_of(faulty.Sound).images
    assert audit_rows("digits:3", n_repeats=1, max_rows=50, seed=0, as_images=True).repeats[0].train.shape == (50, 8, 8, 1)


def test_the_same_seed_gives_the_same_report(source: ArraySource) -> None:
    first, second = (audit(faulty.Sound, source, repeats=2, seed=3).to_json() for _ in range(2))
    assert first["findings"] == second["findings"]


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("nowhere:Thing", "cannot be imported"),
        ("audit.faulty:Missing", "cannot be imported"),
        (7, "A int cannot be audited"),
        ("knm", "Did you mean 'knn'"),
    ],
)  # fmt: skip
def test_what_cannot_be_audited_is_refused(subject: object, words: str, source: ArraySource) -> None:
    with pytest.raises(ParameterError, match=words):
        audit(subject, source)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(DataError, match="sixteen normal rows"):
        audit(faulty.Sound, np.zeros((9, 2)))
