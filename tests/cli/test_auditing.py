"""``insphere audit``: exit codes, the report's files, modules of the working folder."""

import html
import re
import sys
from pathlib import Path

import pytest

from cli.conftest import Run

OWN = """
import numpy as np


class Mine:
    def __init__(self, flat=False, contamination=0.05):
        self.flat, self.contamination = flat, contamination

    def get_params(self, deep=True):
        return {"flat": self.flat, "contamination": self.contamination}

    def fit(self, X):
        self.mean_ = X.mean(axis=0)

    def anomaly_score(self, X):
        return np.zeros(len(X)) if self.flat else ((X - self.mean_) ** 2).sum(axis=1)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_detector.py").write_text(OWN)
    monkeypatch.delitem(sys.modules, "own_detector", raising=False)  # that of another test
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_own_detector_in_the_working_folder(run: Run, folder: Path) -> None:
    outcome = run("audit", "own_detector:Mine", "digits:3", "--repeats", 2)
    assert outcome.code == 0, outcome.err
    assert "own_detector:Mine on digits:3" in outcome.out and "false alarms" in outcome.out
    assert "measuring …" in outcome.err


def test_defects_are_exit_code_3_and_json_names_them(run: Run, folder: Path) -> None:
    outcome = run("audit", "own_detector:Mine", "digits:3", "--set", "flat=true", "--json")
    assert outcome.code == 3 and outcome.err == ""
    assert outcome.result["level"] == "error" and outcome.result["facts"]["parameters"] == {"flat": True}
    assert [finding["name"] for finding in outcome.result["findings"]] == ["scores"]


def test_strict_counts_warnings(run: Run) -> None:
    words = (
        "audit",
        "sklearn.ensemble:IsolationForest",
        "digits:3",
        "--repeats",
        1,
        "--set",
        "n_estimators=2",
        "--set",
        "contamination=0.05",
    )
    assert run(*words).code == 0
    assert run(*words, "--strict").code == 3


def test_the_report_is_written_as_a_page_that_loads_nothing_and_as_markdown(run: Run, folder: Path) -> None:
    pytest.importorskip("jinja2")
    for name in ("audit.html", "audit.md"):
        assert run("audit", "own_detector:Mine", "digits:3", "--repeats", 2, "-o", name).code == 0
    page = html.unescape((folder / "audit.html").read_text(encoding="utf-8"))
    assert "default-src 'none'" in page and "script-src 'none'" in page and not re.search(r"(src|href)=\"(http|//)", page)
    assert "<title>Audit of own_detector:Mine on digits:3 · insphere audit</title>" in page
    text = (folder / "audit.md").read_text(encoding="utf-8")
    assert text.startswith("# Audit of own_detector:Mine on digits:3\n") and "| batch | ok | A row scores the same" in text


def test_a_wrong_name_of_the_report_is_refused_before_anything_runs(run: Run, folder: Path) -> None:
    outcome = run("audit", "own_detector:Mine", "digits:3", "-o", "audit.pdf")
    assert outcome.code == 2 and "must end in .html or .md" in outcome.err
    assert run("audit", "nowhere:Thing", "digits:3").code == 2
