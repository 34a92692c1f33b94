"""Model files that earlier versions wrote load, and give the scores that they gave then."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import insphere

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*/*.insphere"))

spec = importlib.util.spec_from_file_location("make_golden", GOLDEN / "make.py")
MAKE = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
spec.loader.exec_module(MAKE)  # type: ignore[union-attr]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_it_loads_with_equal_scores(path: Path) -> None:
    wanted = json.loads((path.parent / "scores.json").read_text(encoding="utf-8"))[path.stem]
    detector = insphere.load(path)
    new = MAKE.rows()[1]
    # Other processors round otherwise; what a change of the code does is orders larger.
    np.testing.assert_allclose(detector.anomaly_score(new), wanted["anomaly_score"], rtol=1e-5)
    np.testing.assert_allclose(detector.p_value(new), wanted["p_value"], rtol=1e-12)
    assert detector.threshold_ == pytest.approx(wanted["threshold"], rel=1e-9)


def test_there_are_files_of_every_state_of_the_format() -> None:
    assert {path.parent.name for path in FILES} == {"0.1.0", "one-decision", "input-contract", "schema", "fusion"}
    assert all(len(list((GOLDEN / name).glob("*.insphere"))) >= 9 for name in ("0.1.0", "one-decision", "input-contract", "schema"))


def test_they_stay_small() -> None:
    assert sum(path.stat().st_size for path in FILES) < 500_000
