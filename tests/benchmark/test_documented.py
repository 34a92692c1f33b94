"""docs/benchmarking.md shows plans that are accepted, and a program that runs."""

import re
from pathlib import Path

import numpy as np
import pytest

from insphere.benchmark.run.plan import read_plan

PAGE = (Path(__file__).parents[2] / "docs" / "benchmarking.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [f"{x:.3f},{y:.3f},ok" for x, y in np.random.default_rng(0).normal(size=(60, 2))]
    (tmp_path / "parts.csv").write_text("\n".join(["a,b,state", *rows, "9,9,bad", "8,-9,bad"]) + "\n")
    return tmp_path


def test_the_plans_are_accepted(folder: Path) -> None:
    small, large = blocks("toml")
    assert small.count("\n") <= 6 + 1  # "five lines", and the file's name
    for text, n_methods in ((small, 3), (large, 5)):
        (folder / "plan.toml").write_text(text)
        assert len({run.method for run in read_plan(folder / "plan.toml").runs()}) == n_methods


def test_the_program_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "plan.toml").write_text(blocks("toml")[0].replace("seeds = 3", "seeds = 1").replace("[methods.vae-svdd]", ""))
    names: dict = {}
    exec(compile(blocks("python")[0], "benchmarking.md", "exec"), names)
    assert [report.status for report in names["reports"]] == ["ok", "ok"]
    assert all(report.metrics["auroc"]["value"] > 0.9 for report in names["reports"])
