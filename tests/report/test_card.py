"""The model card says what the file holds, what was measured, and what nobody stated."""

import hashlib
import html
import warnings
from pathlib import Path

import numpy as np
import pytest

import insphere
from cli.conftest import Run, run  # noqa: F401 - a fixture
from insphere.data import ArraySource
from insphere.detectors.base import AbstractDetector
from insphere.report.card import CardTexts, model_card
from insphere.report.document import Document


@pytest.fixture(scope="module")
def rows() -> ArraySource:
    random = np.random.default_rng(0)
    X = np.concatenate([random.normal(size=(200, 3)), random.normal(size=(40, 3)) + 4])
    return ArraySource(X, labels=[0] * 200 + [1] * 40, name="new rows")


@pytest.fixture(scope="module")
def detector() -> AbstractDetector:
    return insphere.KNN(random_state=0, target_fpr=0.1).fit(np.random.default_rng(1).normal(size=(300, 3)))


def facts(card: Document, title: str) -> dict[str, str]:
    section = next(section for section in card.sections if section.title == title)
    return {row[0]: row[1] for row in section.rows}


def test_what_the_file_holds(detector: AbstractDetector, tmp_path: Path) -> None:
    path = tmp_path / "m.insphere"
    detector.save(path)
    card = model_card(detector, path=path)
    integrity = facts(card, "Versions and integrity")
    assert integrity["SHA-256 of the file"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert integrity["signature"] == "none"
    assert facts(card, "Data")["SHA-256 of these rows"] == detector.data_["fingerprint"]
    assert facts(card, "How it was made")["n_neighbors"] == "5"
    guarantee = facts(card, "Guarantee and its limits")
    assert guarantee["promised"].startswith("10 % at most") and guarantee["calibrated on"].startswith(
        f"scores of {len(detector.decision_)} "
    )
    (tmp_path / "m.insphere.sig").write_bytes(b"")
    assert facts(model_card(detector, path=path), "Versions and integrity")["signature"].startswith("m.insphere.sig lies beside it")


def test_figures_are_those_of_evaluate_and_the_rows_are_hashed(detector: AbstractDetector, rows: ArraySource) -> None:
    from insphere.metrics import evaluate

    card = model_card(detector, source=rows)
    found = facts(card, "Figures")
    scores = detector.anomaly_score(rows)
    wanted = evaluate(rows.labels, scores, scores > detector.threshold_)
    assert found["normal rows that are flagged (false alarms)"] == f"{100 * wanted.false_alarm_rate.value:.1f} %"
    assert found["AUROC: how often an anomaly scores above a normal row"] == f"{100 * wanted.auroc.value:.1f} %"
    X = rows.load().X
    data = next(section for section in card.sections if section.title == "Data")
    assert data.rows[-1][1] == hashlib.sha256(f"{X.dtype}{X.shape}".encode() + X.tobytes()).hexdigest()
    assert "none of them was given to fit" in facts(card, "Data")["measured on"]


def test_rows_that_were_learned_are_told(detector: AbstractDetector) -> None:
    seen = np.random.default_rng(1).normal(size=(300, 3))[:50]
    card = model_card(detector, source=seen)
    assert "50 of them equal a row that was given to fit" in facts(card, "Data")["measured on"]
    assert "without labels there is nothing to compare" in card.to_markdown()


def test_what_nobody_stated_is_said_to_be_not_stated(detector: AbstractDetector) -> None:
    general = facts(model_card(detector), "General description")
    assert general["intended purpose"] == "Not stated (--purpose)" and general["who answers for it"] == "Not stated (--owner)"
    said = model_card(detector, texts=CardTexts("Tiles | line 3", "Medicine", "Quality"))
    assert facts(said, "General description")["not intended for"] == "Medicine"
    assert (
        said.to_markdown().startswith("# Model card: Tiles | line 3\n") and "| intended purpose | Tiles \\| line 3 |" in said.to_markdown()
    )


def test_the_paper_s_radius_promises_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = insphere.KNN(calibration={"decision": "radius"}, random_state=0).fit(np.random.default_rng(1).normal(size=(60, 2)))
    assert "no rate of false alarms is promised" in model_card(fitted).to_markdown()


def test_changes_are_listed(detector: AbstractDetector, tmp_path: Path) -> None:
    detector.save(tmp_path / "m.insphere")
    changed = insphere.load(tmp_path / "m.insphere").recalibrate(target_fpr=0.2)
    section = next(section for section in model_card(changed).sections if section.title == "Changes since the fit")
    assert [row[1:] for row in section.rows] == [(changed.decision_.history[0]["what"], "0.1", "0.2")]


def test_the_command_writes_both_forms_and_prints(run: Run, detector: AbstractDetector, tmp_path: Path) -> None:  # noqa: F811
    pytest.importorskip("jinja2")
    detector.save(tmp_path / "m.insphere")
    words = ("card", tmp_path / "m.insphere", "-o", tmp_path / "c.md", "-o", tmp_path / "c.html", "--purpose", "<b>Tiles</b>")
    assert run(*words).code == 0
    page, text = (tmp_path / "c.html").read_text(), (tmp_path / "c.md").read_text()
    assert "<b>Tiles" not in page and "<b>Tiles</b>" in html.unescape(page) and "&lt;b>Tiles" in text
    printed = run("card", tmp_path / "m.insphere")
    assert printed.code == 0 and printed.out.startswith("# Model card: array\n")
    assert run("card", tmp_path / "m.insphere", "-o", tmp_path / "c.pdf").code == 2
