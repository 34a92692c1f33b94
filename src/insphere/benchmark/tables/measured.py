"""The rows of a compact table of results as records: what tables and figures are made from, and nothing else."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from insphere.errors import DataError

NEEDED = ("dataset", "normal_class", "method", "seed", "auroc")
"""Columns that a table of results must have; the others may be missing, and are then unknown."""

_TEXTS = ("label", "health", "commit", "machine", "device", "versions", "n_threads", "concurrency", "together", "detector", "run")


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one run gave.

    Attributes
    ----------
    dataset, normal_class, method : str
        What was measured.
    seed : int
    auroc : float or None
        In [0, 1]; None if the run failed.
    label : str
        What to call the method.
    control : bool
        Whether the method is a control, which tables mark.
    fit_seconds, score_seconds : float or None
    health : str
        "ok", "warning" or "critical"; empty if unknown.
    commit, machine, device, versions : str
        Where it was measured; empty if unknown.
    n_threads, concurrency, together : str
        Threads of the run, jobs at a time, and runs that share the time of one fit; empty if unknown.
    detector : str
        Name in the catalog; empty if unknown.
    parameters : Mapping[str, Any]
        Its arguments; empty if unknown.
    run : str
        The run's name, which its files bear; empty if unknown.

    Examples
    --------
    >>> Measured("digits", "3", "knn", 0, 0.98).key
    ('digits', '3', 'knn', 0)
    """

    dataset: str
    normal_class: str
    method: str
    seed: int
    auroc: float | None
    label: str = ""
    control: bool = False
    fit_seconds: float | None = None
    score_seconds: float | None = None
    health: str = ""
    commit: str = ""
    machine: str = ""
    device: str = ""
    versions: str = ""
    n_threads: str = ""
    concurrency: str = ""
    together: str = ""
    detector: str = ""
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    run: str = ""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What no two runs of a table share: data set, normal class, method, seed."""
        return self.dataset, self.normal_class, self.method, self.seed

    @property
    def timing(self) -> tuple[str, str, str, str]:
        """What must be equal for times on one device to be comparable: machine, threads, jobs at a time, runs that share a fit."""
        return self.machine, self.n_threads, self.concurrency, self.together or "1"


def measured_runs(results: pa.Table) -> list[Measured]:
    """Return the runs of a compact table of results, in its order.

    Raises
    ------
    DataError
        If a needed column is missing, a value is of the wrong kind, or one run is there twice.

    Examples
    --------
    >>> table = pa.table({"dataset": ["digits"], "normal_class": [3], "method": ["knn"], "seed": [0], "auroc": [0.98]})
    >>> measured_runs(table)[0].normal_class
    '3'
    """
    missing = [name for name in NEEDED if name not in results.column_names]
    if missing:
        raise DataError(f"The table of results lacks {', '.join(missing)}; give the compact table that the benchmark writes.")
    runs = [_run(number, record) for number, record in enumerate(results.to_pylist())]
    seen: set[tuple[str, str, str, int]] = set()
    for run in runs:
        if run.key in seen:
            dataset, normal_class, method, seed = run.key
            raise DataError(
                f"The table of results holds {method} on {dataset} {normal_class} with seed {seed} twice;"
                " give methods with different parameters different names, or leave one of the two out."
            )
        seen.add(run.key)
    return runs


def is_control(runs: Iterable[Measured]) -> bool:
    """Whether any of the runs is marked as one of a control.

    Examples
    --------
    >>> is_control([Measured("digits", "3", "knn", 0, 0.98, control=True)])
    True
    """
    return any(run.control for run in runs)


def distinct(values: Iterable[str]) -> str:
    """Return the different non-empty texts, in order of appearance.

    Examples
    --------
    >>> distinct(["a", "", "b", "a"])
    'a; b'
    """
    return "; ".join(dict.fromkeys(value for value in values if value))


def _run(number: int, record: Mapping[str, Any]) -> Measured:
    try:
        auroc = _number(record["auroc"])
        if auroc is not None and not 0 <= auroc <= 1:
            raise ValueError(f"an AUROC must be in [0, 1], got {auroc:g}")
        return Measured(
            dataset=_name(record, "dataset"),
            normal_class=_name(record, "normal_class"),
            method=_name(record, "method"),
            seed=int(record["seed"]),
            auroc=auroc,
            control=str(record.get("control")).lower() in ("true", "1"),
            fit_seconds=_number(record.get("fit_seconds")),
            score_seconds=_number(record.get("score_seconds")),
            parameters=_parameters(record.get("parameters")),
            **{name: _text(record.get(name)) for name in _TEXTS},
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"Row {number} of the table of results cannot be read: {error}.") from error


def _name(record: Mapping[str, Any], column: str) -> str:
    text = _text(record[column])
    if not text:
        raise ValueError(f"`{column}` is empty")
    return text


def _text(value: object) -> str:
    """Return a text on one line; of a mapping such as the versions, its entries."""
    if isinstance(value, Mapping):
        value = ", ".join(f"{name} {entry}" for name, entry in value.items())
    return "" if value is None else " ".join(str(value).split())


def _number(value: object) -> float | None:
    if value is None or value == "":
        return None
    number = float(str(value))
    return None if math.isnan(number) else number


def _parameters(value: object) -> Mapping[str, Any]:
    """Return the arguments, which a table holds as JSON."""
    if isinstance(value, str) and value:
        value = json.loads(value)
    if value in (None, ""):
        return {}
    if not isinstance(value, Mapping):
        raise ValueError("`parameters` must be a JSON object")
    return value


def provenance(runs: Sequence[Measured]) -> list[str]:
    """Return what runs rest on: how many, seeds of each method, health, commit, versions, machine.

    Examples
    --------
    >>> provenance([Measured("digits", "3", "knn", 0, 0.9, machine="two cores", health="warning")])
    ['1 run, 0 failed; seeds in a class: knn 1. Health: 1 with a warning.', 'Commit: unknown. Versions: unknown. Machine: two cores.']
    """
    if not runs:
        return ["No runs yet."]
    counts: dict[str, dict[str, int]] = {}
    for run in runs:
        by_class = counts.setdefault(run.label or run.method, {})
        by_class[run.normal_class] = by_class.get(run.normal_class, 0) + (run.auroc is not None)
    seeds = ", ".join(f"{method} {_range(by_class.values())}" for method, by_class in counts.items())
    n_failed = sum(run.auroc is None for run in runs)
    health = {level: sum(run.health == level for run in runs) for level in ("warning", "critical")}
    worries = ", ".join(f"{count} {'with a warning' if level == 'warning' else level}" for level, count in health.items() if count)
    first = f"{len(runs)} run{'' if len(runs) == 1 else 's'}, {n_failed} failed; seeds in a class: {seeds}."
    places = ("Commit", distinct(run.commit for run in runs)), ("Versions", distinct(run.versions for run in runs))
    machines = distinct(", ".join(part for part in (run.machine, run.device) if part) for run in runs)
    return [
        first + (f" Health: {worries}." if worries else ""),
        " ".join(f"{name}: {value or 'unknown'}." for name, value in (*places, ("Machine", machines))),
    ]


def _range(counts: Iterable[int]) -> str:
    numbers = list(counts)
    return f"{min(numbers)}" if min(numbers) == max(numbers) else f"{min(numbers)}–{max(numbers)}"
