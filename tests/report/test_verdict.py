"""The verdict: what the figures say, in words."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from insphere.decision.health import Finding, HealthReport
from insphere.report.verdict import LEVELS, reach_verdict
from report.test_charts import judged


def detector(*findings: Finding, target_fpr: float = 0.05) -> Any:
    decision = SimpleNamespace(target_fpr=target_fpr, promised_fpr=target_fpr)
    return SimpleNamespace(decision_=decision, health_=HealthReport(findings or (Finding("radius", "ok", 0.0, "Fine."),)))


def rows(n_normal: int, n_alarms: int, n_anomalies: int, n_found: int) -> Any:
    """Return judged rows of which `n_alarms` normal ones and `n_found` anomalies are flagged."""
    jitter = np.linspace(0.1, 0, n_normal + n_anomalies)
    flagged = np.arange(n_normal + n_anomalies) < n_alarms
    flagged[n_normal : n_normal + n_found] = True
    return judged(flagged * 0.7 + jitter, [0] * n_normal + [1] * n_anomalies)


def levels(verdict: Any) -> list[str]:
    return [remark.level for remark in verdict.remarks]


def test_a_good_model_is_sound() -> None:
    verdict = reach_verdict(detector(), rows(100, 4, 50, 48))
    assert (verdict.level, verdict.headline) == ("ok", "Sound")
    assert verdict.summary == "Finds 96.0 % of the anomalies (86.5–98.9) at 4.0 % false alarms (1.6–9.8)."
    assert set(levels(verdict)) == {"ok"}


def test_more_false_alarms_than_allowed_are_told_with_a_remedy() -> None:
    verdict = reach_verdict(detector(), rows(100, 30, 50, 50))
    assert verdict.level == "warning"
    assert "are flagged (95 % interval 21.9–39.6); 5 % were allowed. New normal rows are not like" in verdict.remarks[0].text


def test_a_model_that_guesses_is_not_to_be_relied_on() -> None:
    verdict = reach_verdict(detector(), rows(100, 4, 50, 2))
    assert verdict.headline == LEVELS["critical"]
    assert "cannot be told from guessing" in verdict.remarks[0].text


def test_missing_most_anomalies_is_told_even_where_the_ranking_is_good() -> None:
    scores = np.concatenate([np.linspace(0, 0.3, 100), np.linspace(0.31, 0.4, 45), np.linspace(0.6, 0.7, 5)])
    verdict = reach_verdict(detector(), judged(scores, [0] * 100 + [1] * 50))
    assert verdict.level == "warning"
    assert verdict.remarks[0].text.startswith("Most anomalies are missed: 10.0 % are found (4.3–21.4).")


def test_health_comes_into_it() -> None:
    verdict = reach_verdict(detector(Finding("KL divergence", "warning", 0.0, "Lower alpha.")), rows(100, 4, 50, 48))
    assert (verdict.level, verdict.remarks[0].text) == ("warning", "KL divergence: Lower alpha.")


def test_a_type_that_is_not_found_is_named() -> None:
    scores = np.concatenate([np.linspace(0, 0.4, 100), np.linspace(0, 0.4, 20), np.linspace(0.8, 0.9, 20)])
    types = ("good",) * 100 + ("scratch",) * 20 + ("dent",) * 20
    verdict = reach_verdict(detector(), judged(scores, [0] * 100 + [1] * 40, types))
    assert [remark.text for remark in verdict.remarks if remark.level == "warning"] == [
        "Not to be told from guessing for 1 of 2 types of anomalies: scratch. If their marks are small, fit with a larger image size."
    ]


@pytest.mark.parametrize(("n_flagged", "level"), [(5, "ok"), (40, "warning"), (0, "ok")])
def test_without_labels_the_share_of_flagged_rows_speaks(n_flagged: int, level: str) -> None:
    verdict = reach_verdict(detector(), judged(np.where(np.arange(100) < n_flagged, 0.9, 0.1)))
    assert verdict.level == level
    assert verdict.summary == f"{n_flagged} of 100 rows are flagged ({n_flagged}.0 %)."


def test_rows_of_one_label_only() -> None:
    assert reach_verdict(detector(), rows(100, 4, 0, 0)).summary == "4.0 % of 100 normal rows are flagged (1.6–9.8)."
    assert reach_verdict(detector(), rows(0, 0, 50, 48)).summary == "Finds 96.0 % of the anomalies (86.5–98.9)."


def test_few_rows_and_unreadable_ones_are_mentioned() -> None:
    verdict = reach_verdict(detector(), rows(8, 0, 50, 50))
    assert any("only 8 rows" in remark.text for remark in verdict.remarks)
    unreadable = judged([0.1] * 40)
    unreadable = type(unreadable)(
        **{**{name: getattr(unreadable, name) for name in unreadable.__dataclass_fields__}, "errors": {40: "cut"}}
    )
    assert any("1 of 41 rows could not be read" in remark.text for remark in reach_verdict(detector(), unreadable).remarks)
