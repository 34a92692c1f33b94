"""Paths of charts, read back and compared with numpy."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from insphere.data import ArraySource
from insphere.metrics import auroc, average_precision
from insphere.report.axes import score_axis
from insphere.report.charts import curves, histogram, line, training_curves
from insphere.report.judging import JudgedRows
from insphere.training.history import EpochRecord


def judged(scores: Any, labels: Any = None, types: tuple[str, ...] | None = None) -> JudgedRows:
    """Return rows with these scores, a score above 0.5 being flagged."""
    scores = np.asarray(scores, dtype=np.float64)
    source = ArraySource(np.arange(len(scores), dtype=np.float64)[:, None])
    labels = None if labels is None else np.asarray(labels)
    return JudgedRows(source, np.arange(len(scores)), scores, np.ones(len(scores)), scores > 0.5, labels, types, {})


def corners(path: str) -> NDArray[np.float64]:
    """Return the corners of a path of ``line`` in the unit square, y upwards."""
    points = np.array([[float(part) for part in point.split()] for point in path[1:].split("L")])
    return np.column_stack([points[:, 0], 1000 - points[:, 1]]) / 1000


scored_rows = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.7, 1.0, 3.0]), st.booleans()), min_size=2, max_size=60).filter(
    lambda rows: 0 < sum(label for _, label in rows) < len(rows)
)


@given(scored_rows)
def test_the_area_below_the_roc_curve_is_auroc(rows: list[tuple[float, bool]]) -> None:
    scores, labels = [score for score, _ in rows], [int(label) for _, label in rows]
    (curve,) = curves(judged(scores, labels))
    points = corners(curve.roc)
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(auroc(labels, scores).value, abs=2e-3)
    assert points[0].tolist() == [0, 0] and points[-1].tolist() == [1, 1]


@given(scored_rows)
def test_the_area_below_the_precision_recall_curve_is_average_precision(rows: list[tuple[float, bool]]) -> None:
    scores, labels = [score for score, _ in rows], [int(label) for _, label in rows]
    (curve,) = curves(judged(scores, labels))
    points = corners(curve.precision_recall)
    assert np.trapezoid(points[:, 1], points[:, 0]) == pytest.approx(average_precision(labels, scores).value, abs=3e-3)


def test_each_type_has_its_curves_and_many_rows_few_corners() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=20_000), rng.integers(0, 2, 20_000)
    types = tuple(np.where(labels == 1, np.where(scores > 0, "high", "low"), "good").tolist())
    found = {curve.name: curve for curve in curves(judged(scores, labels, types))}
    assert list(found) == ["", "high", "low"]
    assert all(len(curve.roc) < 6000 for curve in found.values())
    area = {name: np.trapezoid(corners(curve.roc)[:, 1], corners(curve.roc)[:, 0]) for name, curve in found.items()}
    assert area["high"] > area[""] > area["low"]


def test_there_is_no_curve_without_both_labels() -> None:
    assert curves(judged([1.0, 2.0])) == []
    assert curves(judged([1.0, 2.0], [0, 0])) == curves(judged([1.0, 2.0], [1, 1])) == []


def bar_heights(path: str) -> list[float]:
    return [abs(float(base) - float(top)) for base, top in re.findall(r" (\d+)V(-?[\d.]+)H", path)]


@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=1, max_size=200))
@example([(1e-308, False)] * 20 + [(1.0, True), (5.0, False)])  # a long tail of positive scores from near the smallest number on
@example([(5e-324, False)] * 20 + [(5.0, True)])
def test_bars_hold_every_row(rows: list[tuple[float, bool]]) -> None:
    scores, labels = np.array([score for score, _ in rows]), np.array([int(label) for _, label in rows])
    found = histogram(judged(scores, labels), np.empty(0), score_axis(scores))
    up, down = sum(bar_heights(found.up)) / 500 * found.highest_up, sum(bar_heights(found.down)) / 500 * found.highest_down
    assert (up, down) == (pytest.approx((labels == 0).sum(), rel=0.01), pytest.approx((labels == 1).sum(), rel=0.01))
    assert found.base == 500


def test_unlabelled_rows_stand_on_the_ground_below_what_was_expected() -> None:
    scores = np.linspace(0, 1, 100)
    found = histogram(judged(scores), scores[::4], score_axis(scores))
    assert found.base == 1000 and found.down == "" and found.highest_down == 0
    tops = [1000 - float(top) for top in re.findall(r"V([\d.]+)H", found.held_out)]
    assert sum(tops) / 1000 * found.highest_up == pytest.approx(100, rel=0.01)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=50))
def test_a_line_keeps_its_ends(points: list[tuple[float, float]]) -> None:
    x, y = (np.array(values) for values in zip(*points, strict=True))
    found = corners(line(x, y))
    assert found[0] == pytest.approx([x[0], y[0]], abs=1e-3)
    assert found[-1] == pytest.approx([x[-1], y[-1]], abs=1e-3)


def record(epoch: int, stage: str, loss: float, validation: float | None = None) -> EpochRecord:
    return EpochRecord(epoch, 6, {"kl": 1.0, "loss": loss}, validation, 0.1, 0.5, stage)


def test_training_curves_by_stage_the_loss_first() -> None:
    history = [
        record(1, "pretraining", 9.0),
        record(2, "pretraining", 5.0),
        record(3, "training", 4.0, 4.5),
        record(4, "training", 2.0, 3.0),
    ]
    found = training_curves(history)
    assert {stage: [term.name for term in terms] for stage, terms in found.items()} == {
        "pretraining": ["loss", "kl"],
        "training": ["loss", "kl", "validation loss"],
    }
    loss = found["training"][0]
    assert (loss.first, loss.last, loss.n_epochs, loss.path) == (4.0, 2.0, 2, "M0 0L1000 1000")
    assert found["training"][1].path == "M0 500L1000 500"
    assert training_curves([]) == {}
    assert training_curves([record(1, "training", 1.0)])["training"][0].path.startswith("M0 500")
