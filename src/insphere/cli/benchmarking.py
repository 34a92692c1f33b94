"""``insphere benchmark``: the runs of a plan, resumed where they stopped, and what is made from their reports."""

import dataclasses
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Self

import typer

from insphere.cli import console, options

if TYPE_CHECKING:
    from insphere.benchmark.attacks.settings import AttackSettings
    from insphere.benchmark.run.results import Report
    from insphere.benchmark.run.run import Run
    from insphere.benchmark.tables.expected import Expected

_WHICH, _HOW = "Which runs", "How"
_SHOWN_FAILURES = 5


def benchmark(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.toml", show_default=False, help="Data sets, methods and seeds; see below.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", show_default=False, help="Where reports, tables and figures go.")
    ],
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="NAME",
            show_default=False,
            rich_help_panel=_WHICH,
            help="A data set, class or method, or several of them: mnist, mnist/8, 'deep-svdd*/cifar10'. May be repeated.",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", metavar="N", show_default=False, rich_help_panel=_WHICH, help="Only the first N seeds of the plan."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", rich_help_panel=_WHICH, help="The plan's reduced form: fewer classes, short training.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", rich_help_panel=_WHICH, help="Do failed runs again.")] = False,
    list_runs: Annotated[
        bool, typer.Option("--list", rich_help_panel=_WHICH, help="Show the runs and how they stand; run nothing.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", metavar="N", show_default=False, rich_help_panel=_HOW, help="Runs at a time. Default: one a core, up to 8."
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", metavar="local|ray", rich_help_panel=_HOW, help="Processes of this machine, or a Ray cluster.")
    ] = "local",
    together: Annotated[
        bool,
        typer.Option(
            "--together",
            rich_help_panel=_HOW,
            help="Fit the seeds of a task in one call, as one batched model where that is faster: on a GPU, and for vectors.",
        ),
    ] = False,
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    r"""Compare detectors: every method of a plan on every data set and class, with every seed.

    Each run leaves a report (figures with intervals, times, health, versions) and the score of each test row in FOLDER/runs. What is
    there is not done again: after Ctrl-C, a power cut or a longer plan, the same command goes on. FOLDER/results.csv has one line a run.

    A plan of five lines, for a table of your own:
      seeds = 3
      \[datasets.parts]
      source = "parts.csv"
      label_column = "state"
      normal_classes = ["ok"]
      \[methods.vae-svdd]
      \[methods.iforest]

    For example:
      insphere benchmark plan.toml -o bench
      insphere benchmark plan.toml -o bench --only parts/iforest --seeds 1
      insphere benchmark plan.toml -o quick --quick --jobs 2
    """
    from insphere.benchmark.run import engines, execution, runner
    from insphere.benchmark.run.plan import read_plan
    from insphere.cli.progress import BenchmarkProgress
    from insphere.validation import check_choice, check_integer

    check_choice("--engine", engine, engines.ENGINES)
    n_jobs = engines.default_jobs() if jobs is None else check_integer("--jobs", jobs, at_least=1)
    read = read_plan(plan)
    chosen = runner.select(read.runs(quick=quick, n_seeds=seeds), only or [])
    if list_runs:
        _show_runs(chosen, runner.finished(chosen, output), json=json)
        return
    n_done = len(runner.finished(chosen, output))
    if n_done:
        console.say(f"{n_done} of {len(chosen)} runs are done already.")
    place = execution.Workplace(read.folder, data_dir, engines.threads_per_job(n_jobs), n_jobs, execution.source_commit())
    with BenchmarkProgress(len(chosen), n_done) as progress, _Stop() as stop:

        def on_report(made: runner.Progress) -> None:
            progress.update(made)
            stop.check()

        try:
            reports = runner.benchmark(
                chosen, output, engines.ENGINES[engine](n_jobs), place, retry_failed=retry_failed, together=together, on_report=on_report
            )
        except KeyboardInterrupt as error:
            n_done = len(runner.finished(chosen, output))
            raise console.Interrupted(f"Stopped with {n_done} of {len(chosen)} runs done; the same command goes on from there.") from error
    # All that the plan asks for, not only what was chosen now: tables are of the plan.
    planned = read.runs(quick=quick)
    written = runner.write_results(planned, output)
    attack = read.attack.quick() if quick and read.attack else read.attack
    written += _attacks(attack, chosen, plan, output, data_dir) + _tables_and_figures(plan, planned, output, data_dir)
    _conclude(reports, written, json=json)


class _Stop:
    """Turns Ctrl-C, and the signal with which systems end a program, into `KeyboardInterrupt` while it is entered.

    An exception that a signal raises is lost in code that must not fail, where Python prints it and goes on: nothing is raised in a
    destructor, and `check` raises what could not be raised, or was lost.
    """

    def __init__(self) -> None:
        self._asked = False

    def __enter__(self) -> Self:
        self._before = {sign: signal.signal(sign, self._interrupt) for sign in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for sign, handler in self._before.items():
            signal.signal(sign, handler)

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if a signal came."""
        if self._asked:
            raise KeyboardInterrupt

    def _interrupt(self, _: int, frame: FrameType | None) -> None:
        self._asked = True
        while frame is not None:
            if frame.f_code.co_name == "__del__":
                return
            frame = frame.f_back
        raise KeyboardInterrupt


def _attacks(attack: "AttackSettings | None", chosen: "Sequence[Run]", plan: Path, output: Path, data_dir: Path | None) -> list[Path]:
    """Attack the chosen runs that the plan's [attack] is about, and return the files for people to read."""
    place = None if attack is None else (attack.dataset, attack.normal_class)
    attacked = [
        run for run in chosen if attack and (run.dataset, run.normal_class) == place and run.method in (attack.methods or [run.method])
    ]
    if attack is None or not attacked:
        return []
    from insphere.benchmark.attacks import attacking
    from insphere.benchmark.run import execution

    environment = {"commit": execution.source_commit(), "machine": execution.machine()}
    return attacking.run_attack_stage(
        attacked,
        dataclasses.replace(attack, methods=()),  # chosen already
        output,
        expected=_published(plan),
        data_dir=data_dir,
        environment=environment,
        on_report=lambda report: console.say(f"attacked: {report['run']['method']} · seed {report['run']['seed']}"),
    )


def _tables_and_figures(plan: Path, planned: "Sequence[Run]", output: Path, data_dir: Path | None) -> list[Path]:
    """Write tables and figures from the results, beside published values."""
    from insphere.benchmark.run.results import read_table
    from insphere.benchmark.tables import figures, tables

    results, expected = read_table(output / "results.parquet"), _published(plan)
    written: list[Path] = tables.write_tables(results, output / "tables", expected=expected, planned=planned)
    folders = {"runs_folder": output / "runs", "attacks_folder": attacked if (attacked := output / "attacks").is_dir() else None}
    drawn = figures.write_figures(results, output / "figures", expected=expected, data_dir=data_dir, **folders)
    return written + [path for figure in drawn for path in figure.paths]


def _published(plan: Path) -> "Expected | None":
    """Return the published values in the expected.toml beside the plan, if there is one."""
    from insphere.benchmark.tables.expected import read_expected

    values = plan.with_name("expected.toml")
    return read_expected(values) if values.exists() else None


def _show_runs(runs: "Sequence[Run]", reports: "Sequence[Report]", *, json: bool) -> None:
    known = {report.run.id: report for report in reports}
    rows = [
        {
            "run": run.id,
            "dataset": run.dataset,
            "normal_class": run.normal_class,
            "method": run.method,
            "seed": run.seed,
            "status": known[run.id].status if run.id in known else "to do",
        }
        for run in runs
    ]
    if json:
        console.write_json({"runs": rows})
        return
    columns = ("data set", "normal class", "method", "seed", "status")
    console.results().print(console.table(f"{len(runs)} runs", columns, [tuple(row.values())[1:] for row in rows], numbers=(3,)))
    console.say(", ".join(f"{n} {status}" for status, n in Counter(row["status"] for row in rows).items()))


def _conclude(reports: "Sequence[Report]", written: Sequence[Path], *, json: bool) -> None:
    """Say what came out; failed runs make the command fail."""
    from insphere.benchmark.run.summary import summarise

    failed = [report for report in reports if report.status == "failed"]
    summaries = summarise(reports)
    if json:
        failures = [{"run": report.run.id, "error": report.error} for report in failed]
        console.write_json({"n_runs": len(reports), "n_failed": len(failed), "failed": failures, "summary": summaries, "files": written})
    else:
        columns = ("data set", "method", "AUROC, %", "±", "runs", "failed", "fit", "score")
        rows = [
            (row.dataset, row.method, _percent(row.auroc), _percent(row.auroc_spread), row.n_runs, row.n_failed or "",
             _duration(row.fit_seconds), _duration(row.score_seconds))
            for row in summaries
        ]  # fmt: skip
        console.results().print(
            console.table("Means over classes and seeds, ± between seeds; medians of times", columns, rows, numbers=range(2, 8))
        )
        console.say("Written: " + ", ".join(str(path) for path in written))
    for report in failed[:_SHOWN_FAILURES]:
        console.warn(f"{report.run.id} failed: {report.error}")
    if failed:
        console.warn(f"{len(failed)} of {len(reports)} runs failed; their reports say why. --retry-failed does them again.")
        raise typer.Exit(1)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else console.duration(seconds)
