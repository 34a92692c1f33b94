"""Runs that take a few hundredths of a second each."""

from pathlib import Path

import pytest

from insphere.benchmark.run.execution import Workplace
from insphere.benchmark.run.run import Run


def tiny_run(normal_class: str = "3", method: str = "forest", seed: int = 0, **fields) -> Run:
    return Run("digits", normal_class, method, **{"detector": "iforest", "parameters": {"n_estimators": 5}, "seed": seed} | fields)


@pytest.fixture
def make_run():
    return tiny_run


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)
