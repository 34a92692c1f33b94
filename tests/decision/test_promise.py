"""The promised rate of false alarms against the real one, over random draws: a small part of benchmarks/false_alarms.py, each time."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "false_alarms.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("false_alarms", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["false_alarms"] = module  # where its records look their types up
    spec.loader.exec_module(module)
    return module


FALSE_ALARMS = load()


@pytest.mark.parametrize("n", [8, 50])
@pytest.mark.parametrize("situation", FALSE_ALARMS.SITUATIONS)
@pytest.mark.parametrize("method", FALSE_ALARMS.METHODS)
def test_normal_rows_are_flagged_no_more_often_than_promised(method: str, situation: str, n: int) -> None:
    for cell in FALSE_ALARMS.measure("knn", method, situation, n, draws=40):
        assert cell.holds, cell


@pytest.mark.parametrize("situation", ["groups of five", "every row twice"])
def test_kernels_are_not_misled_by_twins(situation: str) -> None:
    """Chosen by all rows, gamma was so large that new rows all scored the same: 14.7 % were flagged where 5 % was promised."""
    for cell in FALSE_ALARMS.measure("ocsvm", "cross", situation, 100, draws=20):
        assert cell.holds, cell


def test_the_report_is_of_the_cells_in_its_table() -> None:
    cells = FALSE_ALARMS.read(FALSE_ALARMS.REPORT.with_suffix(".csv"))
    text = FALSE_ALARMS.REPORT.read_text(encoding="utf-8")
    assert f"{sum(cell.holds for cell in cells.values())} of {len(cells)} cells hold." in text
    assert all(FALSE_ALARMS.text_of(cell) in text for cell in cells.values())
