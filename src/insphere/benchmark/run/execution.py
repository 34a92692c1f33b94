"""One run, done: split, fit, score, measure. Whatever happens, a report comes back."""

import dataclasses
import datetime
import math
import os
import platform
import subprocess
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from insphere import metrics
from insphere.benchmark.run.results import Report, report_path, scores_path, write_report
from insphere.benchmark.run.run import Run
from insphere.data import AbstractSource, ArraySource, RowFacts, one_class_split
from insphere.data.datasets import DATA_DIR_VARIABLE, DATASETS
from insphere.data.own_sets import target_of
from insphere.decision.scored import ScoredRows
from insphere.detectors import catalog
from insphere.detectors.base import AbstractDetector
from insphere.detectors.batched import fit_many
from insphere.errors import HealthWarning, InsphereError
from insphere.scores_file import write_scores

_PACKAGES = ("insphere", "torch", "numpy", "scikit-learn")

_MOST_BYTES_IN_MEMORY = 2**31
"""Test rows up to this size are decoded before the clock runs, so that times are the detector's and not the decoder's."""


@dataclasses.dataclass(frozen=True)
class Workplace:
    """Where runs are done.

    Parameters
    ----------
    folder : Path
        The plan's; sources are relative to it.
    data_dir : Path, optional
        Folder of the named data sets; None takes the environment variable's.
    n_threads : int
        Threads that each run may use.
    concurrency : int
        Jobs at a time.
    commit : str, optional
        Of insphere's source, where it is a git checkout.
    """

    folder: Path
    data_dir: Path | None = None
    n_threads: int = 1
    concurrency: int = 1
    commit: str | None = None

    def __post_init__(self) -> None:
        # Absolute, as a process elsewhere need not have the same current folder; the environment variable is read there, but means here.
        root = self.data_dir if self.data_dir is not None else os.environ.get(DATA_DIR_VARIABLE) or None
        object.__setattr__(self, "folder", Path(self.folder).absolute())
        object.__setattr__(self, "data_dir", None if root is None else Path(root).expanduser().absolute())


@dataclasses.dataclass(frozen=True)
class Finished:
    """A run's report with the scores of its test rows, not yet written; no scores if it failed."""

    report: Report
    batches: tuple[ScoredRows, ...] = ()
    facts: RowFacts = dataclasses.field(default_factory=RowFacts)

    def write(self, folder: Path) -> None:
        """Write the scores and then the report, so that a report means a finished run; each file complete or not there.

        Raises
        ------
        OutputError
            If the disk refuses.
        """
        run = self.report.run
        # Of a failed run that is done again the old report goes first: with new scores beside it, it would lie.
        report_path(folder, run).unlink(missing_ok=True)
        if self.batches:
            with write_scores(scores_path(folder, run), ids=self.facts.ids, labels=self.facts.labels, types=self.facts.types) as table:
                for batch in self.batches:
                    table.append(batch)
        write_report(folder, self.report)


def execute(run: Run, place: Workplace) -> Finished:
    """Do a run and return its report and scores; an error of the data or the detector makes a report of status "failed".

    Examples
    --------
    >>> finished = execute(Run("digits", "3", "forest", "iforest", {}, seed=0), Workplace(Path()))
    >>> finished.report.status, finished.report.n_train, finished.report.n_test
    ('ok', 122, 596)
    """
    seconds: dict[str, float] = {}
    detector: AbstractDetector | None = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HealthWarning)  # the report has it in full
            with _timed(seconds, "load"):
                opened = _open(run, place)
            detector = _detector(run)
            with _timed(seconds, "fit"):
                detector.fit(opened[0])
    except Exception as error:
        return failed(run, place, error, seconds, detector)
    return _scored(run, place, detector, opened, seconds)


def execute_job(runs: Sequence[Run], place: Workplace) -> list[Finished]:
    """Do one run, or several that differ in their seeds only: these are fitted in one call of `insphere.fit_many`.

    Of such a call's time each run gets an equal share. If it fails, a warning says so, and the runs are done one by one, so that the
    error finds the run that it belongs to.
    """
    if len(runs) > 1:
        try:
            return _fit_as_one(runs, place)
        except Exception as error:
            warnings.warn(
                f"{len(runs)} seeds could not be fitted together, so each is fitted alone, from {runs[0].id} on: {error}", stacklevel=2
            )
    return [execute(run, place) for run in runs]


def _fit_as_one(runs: Sequence[Run], place: Workplace) -> list[Finished]:
    shared: dict[str, float] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        with _timed(shared, "load"):
            opened = [_open(run, place) for run in runs]
        detectors = [_detector(run) for run in runs]
        with _timed(shared, "fit"):
            fit_many(detectors, [train for train, _ in opened], strict=False)
    share = {name: round(value / len(runs), 4) for name, value in shared.items()}
    return [
        _scored(run, place, detector, own, dict(share), together=len(runs))
        for run, detector, own in zip(runs, detectors, opened, strict=True)
    ]


def _scored(
    run: Run,
    place: Workplace,
    detector: AbstractDetector,
    opened: tuple[AbstractSource, AbstractSource],
    seconds: dict[str, float],
    *,
    together: int = 1,
) -> Finished:
    """Return the report and scores of a run whose detector is fitted."""
    try:
        with _timed(seconds, "score"):
            batches = tuple(detector.score_batches(opened[1]))
        return _measured(run, place, detector, opened, batches, seconds, together=together)
    except Exception as error:
        return failed(run, place, error, seconds, detector)


def _detector(run: Run) -> AbstractDetector:
    return catalog.make(run.detector, {**run.parameters, "random_state": run.seed})


def failed(
    run: Run,
    place: Workplace,
    error: Exception,
    seconds: Mapping[str, float] | None = None,
    detector: AbstractDetector | None = None,
) -> Finished:
    """Return the report of a run that an error ended; that of an unforeseen one says where it arose."""
    where = "" if isinstance(error, InsphereError) or error.__traceback__ is None else f" (at {_innermost(error)})"
    health = getattr(detector, "health_", None)
    report = Report(
        run=run,
        status="failed",
        error=f"{type(error).__name__}: {error}{where}",
        metrics={},
        seconds=dict(seconds or {}),
        n_train=None,
        n_test=None,
        radius=None,
        threshold=None,
        decision=None,
        health={} if health is None else health.to_json(),
        n_parameters=None,
        environment=_environment(place, None),
        created=_now(),
    )
    return Finished(report)


def _measured(
    run: Run,
    place: Workplace,
    detector: AbstractDetector,
    sources: tuple[AbstractSource, AbstractSource],
    batches: tuple[ScoredRows, ...],
    seconds: Mapping[str, float],
    *,
    together: int,
) -> Finished:
    train, test = sources
    # Rows that cannot be read have no score: they are counted, and do not enter the figures.
    index, scores, flagged = (np.concatenate([getattr(b, name) for b in batches]) for name in ("index", "anomaly_score", "is_anomaly"))
    facts = test.facts.take(index)
    evaluation = metrics.evaluate(np.asarray(facts.labels, dtype=np.int64), scores, flagged, facts.types)
    report = Report(
        run=run,
        status="ok",
        error=None,
        metrics=evaluation.to_json(),
        seconds=dict(seconds),
        n_train=len(train),
        n_test=len(test),
        radius=_finite(detector.radius_),
        threshold=_finite(detector.threshold_),
        decision=detector.decision_.by,
        health=detector.health_.to_json(),
        n_parameters=_n_parameters(detector),
        environment=_environment(place, detector, together),
        created=_now(),
        n_errors=len(test) - len(index),
    )
    return Finished(report, batches, test.facts)


def _open(run: Run, place: Workplace) -> tuple[AbstractSource, AbstractSource]:
    options = {name: value for name, value in run.source.items() if name not in ("source", "by_class")}
    location = str(run.source.get("source", run.dataset))
    if isinstance(options.get("image_size"), list):
        options["image_size"] = tuple(options["image_size"])
    if location in DATASETS:
        split = one_class_split(f"{location}:{run.normal_class}", data_dir=place.data_dir, **options)
    else:
        if run.source.get("by_class"):
            options["normal_label"] = run.normal_class
        own = target_of(location) is not None
        split = one_class_split(location if own else str(place.folder / Path(location).expanduser()), random_state=run.seed, **options)
    return _in_memory(split.train), _in_memory(split.test)


def _in_memory(source: AbstractSource) -> AbstractSource:
    """Return the same rows, read, unless they are too large or some cannot be read."""
    if len(source) * math.prod(source.row_shape) * source.dtype.itemsize > _MOST_BYTES_IN_MEMORY:
        return source
    rows = source.load()
    if rows.errors:
        return source
    facts = {field.name: getattr(source.facts, field.name) for field in dataclasses.fields(source.facts)}
    return ArraySource(rows.X, name=source.name, feature_names=source.feature_names, **facts)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] = round(time.perf_counter() - started, 4)


def _n_parameters(detector: AbstractDetector) -> int | None:
    objective = _objective(detector)
    return None if objective is None else sum(int(weights.numel()) for weights in objective.parameters())


def _objective(detector: AbstractDetector | None) -> Any:
    """Return the trained network of a detector, or of its encoder; None where there is none."""
    return getattr(getattr(detector, "encoder_", detector), "objective_", None)


def _environment(place: Workplace, detector: AbstractDetector | None, together: int = 1) -> dict[str, Any]:
    return {
        "commit": place.commit,
        "versions": package_versions(),
        "device": _device(detector),
        "machine": machine(),
        "n_threads": place.n_threads,
        "concurrency": place.concurrency,
        "together": together,
    }


def _device(detector: AbstractDetector | None) -> str:
    objective = _objective(detector)
    if objective is None:
        return "cpu"
    from insphere.training.device import device_name  # here, as PyTorch takes seconds to import and shallow detectors do without

    return device_name(objective)


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that figures depend on, "unknown" for one that is not installed."""
    return {name: _version(name) for name in _PACKAGES} | {"python": platform.python_version()}


def machine() -> str:
    """Return what this machine computes with: processor, number of cores, operating system; no name that tells whose it is."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:  # not Linux
        pass
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def source_commit() -> str | None:
    """Return the commit of insphere's source, with a plus sign if files differ from it; None where it is not a git checkout."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def _innermost(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _finite(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
