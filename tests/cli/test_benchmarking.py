"""``insphere benchmark``."""

import csv
import signal
from pathlib import Path

import pytest

from cli.conftest import Run
from insphere.benchmark.run import runner
from insphere.cli.benchmarking import _Stop

DIGITS = Path(__file__).parents[1] / "benchmark" / "digits.toml"


PLAN = """
[datasets.digits]
normal_classes = [3, 8]
methods = ["iforest", "knn"]
[datasets.none]
source = "none.csv"
methods = ["kde"]
[methods.iforest]
n_estimators = 5
[methods.knn]
n_neighbors = 3
[methods.kde]
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    (tmp_path / "none.csv").write_text("a,b\n" + "1,2\n" * 20)  # without labels there is nothing to measure
    return path


def test_a_benchmark_from_end_to_end(run: Run, tmp_path: Path) -> None:
    done = run("benchmark", DIGITS, "-o", tmp_path / "out", "--quick", "--json")
    assert done.code == 0, done.err
    assert done.result["n_runs"] == 5 and done.result["n_failed"] == 0
    assert all(0.4 < row["auroc"] <= 1 and row["n_runs"] == 1 for row in done.result["summary"])
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["vae-svdd", "alpha-0.1", "alpha-1.0", "iforest", "knn"]
    assert {row["normal_class"] for row in rows} == {"8"}
    for path in done.result["files"]:
        assert Path(path).stat().st_size > 0
    again = run("benchmark", DIGITS, "-o", tmp_path / "out", "--quick")
    assert again.code == 0 and "Deep SVDD-VAE" not in again.err and "AUROC, %" in again.out
    assert "seed 0" not in again.err  # nothing was run


def test_a_failed_run_fails_the_command_and_not_the_others(run: Run, plan: Path, tmp_path: Path) -> None:
    done = run("benchmark", plan, "-o", tmp_path / "out", "--jobs", 1)
    assert done.code == 1
    assert "1 of 5 runs failed" in done.err and "has no labels" in done.err and "5/5" in done.err and "--retry-failed" in done.err
    listed = run("benchmark", plan, "-o", tmp_path / "out", "--list", "--json").result["runs"]
    assert [(row["method"], row["status"]) for row in listed] == [
        ("iforest", "ok"), ("iforest", "ok"), ("knn", "ok"), ("knn", "ok"), ("kde", "failed"),
    ]  # fmt: skip
    result = run("benchmark", plan, "-o", tmp_path / "out", "--only", "digits", "--json").result
    assert (result["n_runs"], result["n_failed"]) == (4, 0)


def test_listing_runs_nothing(run: Run, plan: Path, tmp_path: Path) -> None:
    shown = run("benchmark", plan, "-o", tmp_path / "out", "--list", "--only", "knn")
    assert shown.code == 0 and shown.out.count("to do") == 2 and "2 to do" in shown.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--only", "knm"), "Did you mean 'knn'"),
        (("--seeds", "0"), "`--seeds` must be"),
        (("--jobs", "0"), "`--jobs` must be"),
        (("--engine", "rey"), "Did you mean 'ray'"),
    ],
)
def test_wrong_usage(run: Run, plan: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = run("benchmark", plan, "-o", tmp_path / "out", *words)
    assert done.code == 2 and message in done.err and not (tmp_path / "out").exists()


def test_a_plan_with_a_mistake(run: Run, plan: Path, tmp_path: Path) -> None:
    plan.write_text(plan.read_text().replace("n_neighbors", "n_neighbours"))
    done = run("benchmark", plan, "-o", tmp_path / "out")
    assert done.code == 2 and "plan.toml: [methods.knn]" in done.err and "Did you mean 'n_neighbors'" in done.err
    assert run("benchmark", tmp_path / "none.toml", "-o", tmp_path / "out").code == 1


def test_a_folder_that_is_in_use(run: Run, plan: Path, tmp_path: Path) -> None:
    with runner._alone_in(tmp_path):
        done = run("benchmark", plan, "-o", tmp_path)
    assert done.code == 1 and "Another benchmark is at work" in done.err


def test_an_output_that_is_a_file(run: Run, plan: Path, tmp_path: Path) -> None:
    done = run("benchmark", plan, "-o", plan)
    assert done.code == 1 and "choose a path inside a folder" in done.err


class Destroyed:
    """Something in whose destructor the signal comes, as it can come in that of a file."""

    def __init__(self) -> None:
        self.reached_the_end: list[bool] = []

    def __del__(self) -> None:
        self.interrupted()
        self.reached_the_end.append(True)

    def interrupted(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_in_a_destructor_waits_for_the_next_check() -> None:
    with _Stop() as stop:
        thing = Destroyed()
        reached_the_end = thing.reached_the_end
        stop.check()
        del thing
        assert reached_the_end == [True]
        with pytest.raises(KeyboardInterrupt):
            stop.check()


def test_ctrl_c_elsewhere_stops_at_once() -> None:
    with _Stop(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
