import os

import pytest

import deadly
from insphere.benchmark.run.engines import LocalEngine, RayEngine, threads_per_job
from insphere.benchmark.run.execution import Workplace, execute


def alone(runs):
    return [(run,) for run in runs]


def results(engine, runs, place):
    return {finished.report.run.id: finished.report for finished in engine.finish(alone(runs), place)}


def test_every_run_is_finished_once_as_in_this_process(make_run, place):
    runs = [make_run(normal_class, seed=seed) for seed in range(2) for normal_class in "358"]
    finished = [result.report for result in LocalEngine(2).finish(alone(runs), place)]
    assert sorted(report.run.id for report in finished) == sorted(run.id for run in runs)
    for report in finished:
        assert report.metrics == execute(report.run, place).report.metrics


def test_runs_see_the_threads_they_are_given_also_with_one_job(make_run, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    [finished] = LocalEngine(1, deadly.threads).finish([(make_run(),)], Workplace(tmp_path, n_threads=3))
    assert finished.report.error == "InsphereError: 3"


@pytest.mark.slow  # each death costs the start of new processes
def test_a_killed_process_costs_no_run_and_no_other_run_is_blamed(make_run, place):
    methods = ["forest", "unlucky", "forest-2", "deadly", "forest-3", "forest-4"]
    runs = [make_run(method=method) for method in methods]
    with pytest.warns(UserWarning, match="A process was killed") as warned:
        finished = list(LocalEngine(2, deadly.work).finish(alone(runs), place))
    assert "unlucky" in " ".join(str(warning.message) for warning in warned)
    by_method = {result.report.run.method: result.report for result in finished}
    assert len(finished) == len(runs) and set(by_method) == set(methods)
    assert {name for name, report in by_method.items() if report.status == "failed"} == {"deadly"}
    assert "killed twice" in by_method["deadly"].error and "memory" in by_method["deadly"].error
    assert by_method["unlucky"].metrics == execute(make_run(method="unlucky"), place).report.metrics


@pytest.mark.slow
def test_of_a_killed_job_of_several_runs_each_is_done_again_alone(make_run, place):
    job = (make_run(method="unlucky"), make_run(seed=1), make_run(seed=2))
    with pytest.warns(UserWarning, match="A process was killed"):
        finished = list(LocalEngine(2, deadly.work).finish([job], place))
    assert sorted(result.report.run.seed for result in finished if result.report.status == "ok") == [0, 1, 2]


def test_closing_the_results_ends_the_rest(make_run, place):
    runs = [make_run(seed=seed) for seed in range(50)]
    results = LocalEngine(2).finish(alone(runs), place)
    next(results)
    results.close()
    with pytest.raises(StopIteration):
        next(results)


@pytest.mark.parametrize(("variable", "n_jobs", "expected"), [("1", 1, 1), ("", 10_000, 1), ("rubbish", 10_000, 1), ("3", 10_000, 1)])
def test_threads_times_jobs_stay_within_the_cores(monkeypatch, variable, n_jobs, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert threads_per_job(n_jobs) == expected


def test_a_single_job_may_use_all_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("joblib.cpu_count", lambda: 12)
    assert (threads_per_job(1), threads_per_job(5), threads_per_job(12)) == (12, 2, 1)


def test_ray_that_is_missing_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'insphere\[bench\]'"):
        RayEngine(1)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Ray's own
def test_a_local_ray_gives_the_same_and_survives_a_killed_worker(make_run, place, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed (insphere[bench])")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.path.dirname(deadly.__file__), os.environ.get("PYTHONPATH", "")]))
    runs = [make_run("3"), make_run("8"), make_run(method="unlucky"), make_run(method="deadly")]
    try:
        reports = results(RayEngine(2, deadly.work), runs, place)
    finally:
        ray.shutdown()
    assert [reports[run.id].status for run in runs] == ["ok", "ok", "ok", "failed"]
    assert all(reports[run.id].metrics == execute(run, place).report.metrics for run in runs[:3])
    assert "killed twice" in reports[runs[3].id].error
