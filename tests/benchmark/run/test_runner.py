import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from insphere.benchmark.run.engines import AbstractEngine
from insphere.benchmark.run.execution import Workplace, execute, execute_job
from insphere.benchmark.run.plan import read_plan
from insphere.benchmark.run.results import read_reports
from insphere.benchmark.run.runner import BenchmarkBusyError, Pace, benchmark, select, write_results
from insphere.errors import DataError, ParameterError

PLAN = """
seeds = 2
[datasets.digits]
[methods.forest]
detector = "iforest"
n_estimators = 5
[methods.knn]
"""

# Each kill costs a start of the program, which takes seconds; `make campaign` has more.
N_KILLS = 10 if os.environ.get("INSPHERE_TEST_PROFILE") == "campaign" else 2


class HereEngine(AbstractEngine):
    """Runs in this process, the last first."""

    def __init__(self, work=execute_job):
        super().__init__(1, work)
        self.ids = []

    def finish(self, jobs, place):
        for job in reversed(jobs):
            self.ids += [run.id for run in job]
            yield from self.work(job, place)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "runs").iterdir())


def expected_files(runs) -> list[str]:
    return sorted(run.id + suffix for run in runs for suffix in (".json", ".scores.parquet"))


def test_what_is_done_is_not_done_again(make_run, place, tmp_path):
    runs, seen = [make_run("3"), make_run("8")], []
    first = benchmark(runs[:1], tmp_path, HereEngine(), place)
    engine = HereEngine()
    reports = benchmark(runs, tmp_path, engine, place, on_report=seen.append)
    assert engine.ids == [runs[1].id] and [report.run for report in reports] == runs and reports[0] == first[0]
    assert [(one.n_done, one.n_runs, one.seconds_left) for one in seen] == [(2, 2, 0.0)]
    assert files(tmp_path) == expected_files(runs)


def test_a_failed_run_is_done_again_on_wish_only(make_run, place, tmp_path):
    run = make_run(parameters={"n_estimators": -1})
    assert benchmark([run], tmp_path, HereEngine(), place)[0].status == "failed"
    engine = HereEngine()
    assert benchmark([run], tmp_path, engine, place)[0].status == "failed" and engine.ids == []
    healed = HereEngine(lambda job, place: [good])
    good = execute(make_run(), place)
    object.__setattr__(good.report, "run", run)
    assert benchmark([run], tmp_path, healed, place, retry_failed=True)[0].status == "ok"
    assert files(tmp_path) == expected_files([run])


def test_seeds_that_are_fitted_together_give_what_each_gives_alone(make_run, place, tmp_path):
    runs = [make_run(detector="vae-svdd", parameters={"epochs": 5}, seed=seed) for seed in range(3)] + [make_run("8")]
    alone = benchmark(runs, tmp_path / "alone", HereEngine(), place)
    together = benchmark(runs, tmp_path / "together", HereEngine(), place, together=True)
    assert files(tmp_path / "alone") == files(tmp_path / "together") == expected_files(runs)
    for one, other in zip(alone, together, strict=True):
        assert one.metrics["auroc"]["value"] == pytest.approx(other.metrics["auroc"]["value"], abs=0.02)
    assert [report.environment["together"] for report in alone + together] == [1, 1, 1, 1, 3, 3, 3, 1]
    assert len({report.seconds["fit"] for report in together[:3]}) == 1


def test_an_error_in_a_common_fit_finds_its_run(make_run, place, tmp_path):
    runs = [make_run(seed=seed, parameters={"n_estimators": -1}) for seed in range(2)]
    with pytest.warns(UserWarning, match="2 seeds could not be fitted together.*n_estimators"):
        reports = benchmark(runs, tmp_path, HereEngine(), place, together=True)
    assert all("n_estimators" in report.error and report.environment["together"] == 1 for report in reports)


def test_what_a_killed_runner_left_is_removed_and_foreign_files_stay(make_run, place, tmp_path):
    run = make_run()
    (tmp_path / "runs").mkdir()
    for name in (".insphere-0123-45.partial", f"{run.id}.scores.parquet", "gone.scores.parquet", "notes.txt"):
        (tmp_path / "runs" / name).write_text("half")
    benchmark([run], tmp_path, HereEngine(), place)
    assert files(tmp_path) == sorted([*expected_files([run]), "notes.txt"])


def test_a_second_runner_is_kept_out(make_run, place, tmp_path):
    def meanwhile(_):
        with pytest.raises(BenchmarkBusyError, match="Another benchmark is at work"):
            benchmark([], tmp_path, HereEngine(), place)

    benchmark([make_run()], tmp_path, HereEngine(), place, on_report=meanwhile)
    assert benchmark([], tmp_path, HereEngine(), place) == []


def test_a_damaged_report_is_told_and_not_overwritten(make_run, place, tmp_path):
    run = make_run()
    benchmark([run], tmp_path, HereEngine(), place)
    path = tmp_path / "runs" / f"{run.id}.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(DataError, match="Delete the file"):
        benchmark([run], tmp_path, HereEngine(), place)
    assert len(path.read_text()) == 50


def test_results_hold_the_runs_of_the_plan_and_no_others(make_run, place, tmp_path):
    runs = [make_run("3"), make_run("8"), make_run("9")]
    benchmark(runs[:2], tmp_path, HereEngine(), place)
    paths = write_results(runs[1:], tmp_path)
    assert [path.name for path in paths] == ["results.parquet", "results.csv"]
    assert [[report.run for report in read_reports(path)] for path in paths] == [[runs[1]]] * 2


def test_select_says_what_there_is(make_run):
    runs = [make_run("3"), make_run("8", "knn")]
    assert select(runs, ["8/digits"]) == runs[1:] and select(runs, ["f*", "knn"]) == runs and select(runs, []) == runs
    with pytest.raises(ParameterError, match="Did you mean 'forest'"):
        select(runs, ["knn", "forst"])
    with pytest.raises(ParameterError, match="names no run"):
        select(runs, ["3/knn"])


def test_the_time_left_is_that_of_like_runs(make_run, place):
    pace, report = Pace(), execute(make_run(), place).report
    assert pace.left([make_run()], 1) is None
    for method, seconds in (("slow", 100.0), ("fast", 1.0)):
        run = make_run(method=method)
        object.__setattr__(report, "run", run)
        object.__setattr__(report, "seconds", {"fit": seconds})
        pace.observe(report)
    assert pace.left([make_run("8", "slow"), make_run("8", "fast")], 2) == 50.5
    assert pace.left([make_run("8", "unseen")], 2) == 50.5  # one run cannot use two processes
    assert pace.left([], 2) == 0


def start(plan: Path, output: Path) -> subprocess.Popen:
    """Start the command in a process group of its own."""
    command = [sys.executable, "-m", "insphere", "benchmark", str(plan), "-o", str(output), "--jobs", "2"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_reports(process: subprocess.Popen, folder: Path, n_reports: int) -> None:
    """Wait until there are so many reports, or the process has ended."""
    limit = time.monotonic() + 120
    while len(list(folder.glob("runs/*.json"))) < n_reports and process.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills a process group")
def test_kills_at_random_lose_and_double_nothing(tmp_path, chance):
    plan, output = tmp_path / "plan.toml", tmp_path / "out"
    plan.write_text(PLAN)
    runs = read_plan(plan).runs()
    kept = {}
    for _ in range(N_KILLS):
        process = start(plan, output)
        wait_for_reports(process, output, len(kept) + chance.randrange(4))
        time.sleep(chance.uniform(0, 0.3))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for path in output.glob("runs/*.json"):
            kept.setdefault(path.name, path.read_bytes())
    process = start(plan, output)
    _, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints
    assert files(output) == expected_files(runs)
    for name, content in kept.items():
        assert (output / "runs" / name).read_bytes() == content
    unbroken = {run.id: execute(run, Workplace(tmp_path)) for run in runs}
    for report in read_reports(output / "runs"):
        expected = unbroken[report.run.id]
        assert report.metrics == expected.report.metrics and report.threshold == expected.report.threshold
        scores = pq.read_table(output / "runs" / f"{report.run.id}.scores.parquet")["anomaly_score"].to_pylist()
        assert scores == [score for batch in expected.batches for score in batch.anomaly_score.tolist()]
    assert len(read_reports(output / "results.csv")) == len(runs)


def assert_all_gone(group: int) -> None:
    """Wait until no process of the group is left."""
    with pytest.raises(ProcessLookupError):
        for _ in range(400):
            os.killpg(group, 0)
            time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="looks for the processes of a group")
def test_who_computes_for_a_killed_runner_ends_too(tmp_path):
    plan, output = tmp_path / "plan.toml", tmp_path / "out"
    plan.write_text(PLAN.replace("seeds = 2", "seeds = 50"))
    process = start(plan, output)
    wait_for_reports(process, output, 2)
    process.kill()
    process.wait()
    assert_all_gone(process.pid)
    process.communicate()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to a process group")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_cleanly(tmp_path, sign):
    plan, output = tmp_path / "plan.toml", tmp_path / "out"
    plan.write_text(PLAN.replace("seeds = 2", "seeds = 50"))
    process = start(plan, output)
    wait_for_reports(process, output, 1)
    os.killpg(process.pid, sign) if sign == signal.SIGINT else process.send_signal(sign)
    _, complaints = process.communicate(timeout=60)
    n_done = len(list(output.glob("runs/*.json")))
    assert process.returncode == 130 and f"Stopped with {n_done} of 1000 runs done" in complaints
    assert "Traceback" not in complaints and "Warning" not in complaints
    assert {json.loads(path.read_text())["status"] for path in output.glob("runs/*.json")} == {"ok"}
    assert_all_gone(process.pid)
