"""The examples that log a fit, run against stand-ins for the trackers, which insphere doesn't depend on."""

import runpy
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(60, 3)))
    return tmp_path / "rows.npy"


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = ModuleType(name)
    module.__dict__.update(members)
    monkeypatch.setitem(sys.modules, name, module)


def run(example: str, *words: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runpy.run_path(str(EXAMPLES / example))["main"](*words)


def test_each_term_of_each_epoch_goes_to_tensorboard(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scalars: list[tuple[str, int]] = []
    histograms: list[str] = []

    class SummaryWriter(nullcontext):  # type: ignore[type-arg]
        def __init__(self, folder: str) -> None:
            super().__init__(self)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            assert np.isfinite(value)
            scalars.append((name, step))

        def add_histogram(self, name: str, values: Any, step: int) -> None:
            histograms.append(name)

    stand_in(monkeypatch, "torch.utils.tensorboard", SummaryWriter=SummaryWriter)
    run("log_to_tensorboard.py", str(table), "logs")
    steps = [step for name, step in scalars if name == "train/loss"]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > 5
    assert ("expected false-alarm rate", 0) in scalars and histograms == ["held-out scores"]


def test_parameters_terms_and_files_go_to_mlflow(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, Any] = {"metrics": [], "params": {}, "files": []}
    stand_in(
        monkeypatch,
        "mlflow",
        start_run=nullcontext,
        log_metrics=lambda terms, step: logged["metrics"].append((step, terms["loss"])),
        log_metric=lambda name, value: logged["params"].update({name: value}),
        log_params=logged["params"].update,
        log_artifacts=lambda folder: logged["files"].extend(sorted(path.name for path in Path(folder).iterdir())),
    )
    run("log_to_mlflow.py", str(table))
    assert [step for step, _ in logged["metrics"]] == list(range(1, len(logged["metrics"]) + 1))
    assert logged["params"]["random_state"] == "0" and logged["params"]["rows"] == 60 and logged["params"]["threshold"] > 0
    assert logged["files"] == ["card.md", "model.insphere"]
