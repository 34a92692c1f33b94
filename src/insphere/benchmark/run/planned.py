"""A plan of a benchmark, checked: data sets, methods and seeds, and the runs that they make."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from insphere.benchmark.attacks.settings import AttackSettings
from insphere.benchmark.run.run import Run
from insphere.benchmark.run.settings import accepted, merge
from insphere.validation import check_integer


@dataclasses.dataclass(frozen=True)
class DatasetPlan:
    """One data set of a plan.

    Attributes
    ----------
    name : str
        What runs and tables call it.
    normal_classes : tuple of str
        One task each: the class whose rows are normal.
    source : dict
        How its rows are opened; empty where `name` is a named data set itself.
    overrides : dict
        Parameters that its rows ask for; a detector takes those that it has.
    n_seeds : int, optional
        How many of the plan's seeds it gets.
    methods : tuple of str, optional
        Tables of the methods that run on it; None for all.
    """

    name: str
    normal_classes: tuple[str, ...]
    source: dict[str, Any]
    overrides: dict[str, Any]
    n_seeds: int | None
    methods: tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class MethodPlan:
    """One method of a plan: a detector with parameters, and where it runs.

    Attributes
    ----------
    table, name, detector, label : str
        Name of its table in the plan (those of one that varies are many), and what runs, the catalog, and tables call it.
    control : bool
        Whether tables mark it as a control.
    parameters, varied, quick : dict
        Arguments of the detector: always, the one in which this of several methods differs, and further ones of a quick run.
    on : dict
        The same for single data sets, by name; `seeds` among them is a count.
    datasets : tuple of str
        Where it runs.
    n_seeds : int, optional
        How many of the plan's seeds it gets.
    """

    table: str
    name: str
    detector: str
    label: str
    control: bool
    parameters: dict[str, Any]
    varied: dict[str, Any]
    quick: dict[str, Any]
    on: dict[str, dict[str, Any]]
    datasets: tuple[str, ...]
    n_seeds: int | None


@dataclasses.dataclass(frozen=True)
class QuickPlan:
    """How a quick run is smaller: which seeds, which classes (the first of a data set that is not named), which parameters."""

    seeds: tuple[int, ...]
    normal_classes: dict[str, tuple[str, ...]]
    overrides: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A benchmark, checked.

    Attributes
    ----------
    folder : Path
        Where the plan lies; the sources in it are relative to this.
    seeds : tuple of int
    datasets : tuple of DatasetPlan
    methods : tuple of MethodPlan
    quick : QuickPlan
    attack : AttackSettings, optional
        What the trained detectors must tell from clean images, if anything; see `insphere.benchmark.attacks.attacking`.
    """

    folder: Path
    seeds: tuple[int, ...]
    datasets: tuple[DatasetPlan, ...]
    methods: tuple[MethodPlan, ...]
    quick: QuickPlan
    attack: AttackSettings | None = None

    def runs(self, *, quick: bool = False, n_seeds: int | None = None) -> list[Run]:
        """Return all runs, those of the first seed first, so that a benchmark cut short is as complete as it can be.

        Parameters
        ----------
        quick : bool
            The reduced plan.
        n_seeds : int, optional
            Only the first of the plan's seeds; at least 1.

        Raises
        ------
        ParameterError
            If `n_seeds` is below 1, or a detector refuses its parameters.
        """
        if n_seeds is not None:
            check_integer("--seeds", n_seeds, at_least=1)
        seeds = self.quick.seeds if quick else self.seeds
        return [
            run
            for position, seed in enumerate(seeds[:n_seeds])
            for dataset, method in self.pairs()
            if position < _n_seeds(dataset, method, len(seeds))
            for run in self._runs_of(dataset, method, seed, quick)
        ]

    def pairs(self) -> Iterator[tuple[DatasetPlan, MethodPlan]]:
        """Yield every data set with every method that runs on it."""
        for dataset in self.datasets:
            for method in self.methods:
                if dataset.name in method.datasets and method.table in (dataset.methods or (method.table,)):
                    yield dataset, method

    def _runs_of(self, dataset: DatasetPlan, method: MethodPlan, seed: int, quick: bool) -> Iterator[Run]:
        parameters = self.parameters(dataset, method, quick=quick)
        classes = self.quick.normal_classes.get(dataset.name, dataset.normal_classes[:1]) if quick else dataset.normal_classes
        for normal_class in classes:
            yield Run(
                dataset.name, normal_class, method.name, method.detector, parameters, seed,
                source=dataset.source, label=method.label, control=method.control,
            )  # fmt: skip

    def parameters(self, dataset: DatasetPlan, method: MethodPlan, *, quick: bool = False) -> dict[str, Any]:
        """Return the detector's arguments; the later wins.

        They are the method's, the data set's, the method's on this data set, the value that varies, and those of quick runs.
        """
        on_this = {name: value for name, value in method.on.get(dataset.name, {}).items() if name != "seeds"}
        layers = [method.parameters, accepted(method.detector, dataset.overrides), on_this, method.varied]
        if quick:
            layers += [accepted(method.detector, self.quick.overrides), method.quick]
        merged: dict[str, Any] = {}
        for layer in layers:
            merged = merge(merged, layer)
        return merged


def _n_seeds(dataset: DatasetPlan, method: MethodPlan, n_seeds: int) -> int:
    """Return how many seeds a method gets on a data set: what is said of the pair, else the fewer of what is said of each."""
    of_both: int | None = method.on.get(dataset.name, {}).get("seeds")
    if of_both is not None:
        return of_both
    return min(limit for limit in (method.n_seeds, dataset.n_seeds, n_seeds) if limit is not None)
