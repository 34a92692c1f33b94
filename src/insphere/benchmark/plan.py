"""The plan of a benchmark: a TOML file of data sets, methods and seeds, checked as a whole before anything runs."""

import dataclasses
import json
import os
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from insphere.benchmark.run import Run
from insphere.benchmark.settings import accepted, check_keys, check_name, check_plain, check_table, merge, seeds_of
from insphere.data.datasets import DATASETS, parse_name
from insphere.detectors import catalog
from insphere.errors import DataError, InsphereError, ParameterError, did_you_mean
from insphere.validation import check_choice, check_integer

_PLAN_KEYS = ("seeds", "datasets", "methods", "quick")
_SOURCE_KEYS = ("label_column", "columns", "groups", "image_size", "mode", "train_fraction")
_DATASET_KEYS = ("source", "normal_classes", "seeds", "overrides", *_SOURCE_KEYS)
_METHOD_KEYS = ("detector", "label", "control", "seeds", "datasets", "parameters", "on", "quick")
_QUICK_KEYS = ("seeds", "normal_classes", "overrides")


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
    """

    name: str
    normal_classes: tuple[str, ...]
    source: dict[str, Any]
    overrides: dict[str, Any]
    n_seeds: int | None


@dataclasses.dataclass(frozen=True)
class MethodPlan:
    """One method of a plan: a detector with parameters, and where it runs.

    Attributes
    ----------
    name, detector, label : str
        What runs, the catalog, and tables call it.
    control : bool
        Whether tables mark it as a control.
    parameters, quick : dict
        Arguments of the detector: always, and further ones of a quick run.
    on : dict
        The same for single data sets, by name; `seeds` among them is a count.
    datasets : tuple of str
        Where it runs.
    n_seeds : int, optional
        How many of the plan's seeds it gets.
    """

    name: str
    detector: str
    label: str
    control: bool
    parameters: dict[str, Any]
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
    """

    folder: Path
    seeds: tuple[int, ...]
    datasets: tuple[DatasetPlan, ...]
    methods: tuple[MethodPlan, ...]
    quick: QuickPlan

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
            check_integer("seeds", n_seeds, at_least=1)
        seeds = self.quick.seeds if quick else self.seeds
        return [
            run
            for position, seed in enumerate(seeds[:n_seeds])
            for dataset in self.datasets
            for method in self._methods_on(dataset, position)
            for run in self._runs_of(dataset, method, seed, quick)
        ]

    def _methods_on(self, dataset: DatasetPlan, position: int) -> Iterator[MethodPlan]:
        """Yield the methods that run on the data set with the seed at this position."""
        for method in self.methods:
            limit = method.on.get(dataset.name, {}).get("seeds")
            limits = [limit] if limit is not None else [method.n_seeds, dataset.n_seeds]
            if dataset.name in method.datasets and all(limit is None or position < limit for limit in limits):
                yield method

    def _runs_of(self, dataset: DatasetPlan, method: MethodPlan, seed: int, quick: bool) -> Iterator[Run]:
        parameters = self.parameters(dataset, method, quick=quick)
        classes = self.quick.normal_classes.get(dataset.name, dataset.normal_classes[:1]) if quick else dataset.normal_classes
        for normal_class in classes:
            yield Run(
                dataset.name, normal_class, method.name, method.detector, parameters, seed,
                source=dataset.source, label=method.label, control=method.control,
            )  # fmt: skip

    def parameters(self, dataset: DatasetPlan, method: MethodPlan, *, quick: bool = False) -> dict[str, Any]:
        """Return the detector's arguments; the later wins: the method's, the data set's, the method's on this data set, quick ones."""
        on_this = {name: value for name, value in method.on.get(dataset.name, {}).items() if name != "seeds"}
        layers = [method.parameters, accepted(method.detector, dataset.overrides), on_this]
        if quick:
            layers += [accepted(method.detector, self.quick.overrides), method.quick]
        merged: dict[str, Any] = {}
        for layer in layers:
            merged = merge(merged, layer)
        return merged


def read_plan(path: str | os.PathLike[str]) -> Plan:
    r"""Return the plan in a TOML file, every name and parameter in it checked.

    Raises
    ------
    DataError
        If the file cannot be read, is not TOML, or names a source that is not there.
    ParameterError
        If a name is unknown, something is missing, or a detector refuses its parameters; the message says where.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "plan.toml"
    ...     _ = file.write_text("seeds = 2\n[datasets.digits]\nnormal_classes = [3, 8]\n[methods.iforest]\n[methods.knn]\n")
    ...     [f"{run.method} {run.normal_class} {run.seed}" for run in read_plan(file).runs()]
    ['iforest 3 0', 'iforest 8 0', 'knn 3 0', 'knn 8 0', 'iforest 3 1', 'iforest 8 1', 'knn 3 1', 'knn 8 1']
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"Cannot read the plan {path}: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"The plan {path} is not valid TOML: {error}.") from error
    try:
        return make_plan(content, path.parent)
    except InsphereError as error:
        raise type(error)(f"Plan {path}: {error}") from error


def make_plan(content: Mapping[str, Any], folder: str | os.PathLike[str] = ".") -> Plan:
    """Return the plan that the parsed TOML says, checked; see `read_plan`."""
    check_plain("the plan", content)
    check_keys("the plan", content, _PLAN_KEYS)
    datasets = tuple(_dataset(name, table, Path(folder)) for name, table in _tables(content, "datasets"))
    names = [dataset.name for dataset in datasets]
    methods = tuple(_method(name, table, names) for name, table in _tables(content, "methods"))
    seeds = seeds_of("seeds", content.get("seeds", 1))
    plan = Plan(Path(folder), seeds, datasets, methods, _quick(content.get("quick", {}), seeds, datasets))
    _check_overrides(plan)
    _check_parameters(plan)
    return plan


def _tables(content: Mapping[str, Any], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    tables = check_table(f"[{name}]", content.get(name, {}))
    if not tables:
        raise ParameterError(
            f"There must be at least one table [{name}.NAME], such as [{'datasets.digits' if name == 'datasets' else 'methods.knn'}]."
        )
    for key, table in tables.items():
        check_name(f"[{name}.{key}]", key)
        yield key, check_table(f"[{name}.{key}]", table)


def _dataset(name: str, table: Mapping[str, Any], folder: Path) -> DatasetPlan:
    place = f"[datasets.{name}]"
    check_keys(place, table, _DATASET_KEYS)
    source = {key: table[key] for key in ("source", *_SOURCE_KEYS) if key in table}
    location = str(source.get("source", name))
    if location in DATASETS:
        given = [key for key in source if key not in ("source", "image_size", "mode")]
        if given:
            raise ParameterError(
                f"{place}: `{given[0]}` is for your own files; {location} is a named data set with its own split and labels."
            )
        classes = _class_names(place, table.get("normal_classes", list(DATASETS[location].classes)))
        for normal_class in classes:
            parse_name(f"{location}:{normal_class}")
    else:
        classes = _class_names(place, table["normal_classes"]) if "normal_classes" in table else ("normal",)
        source |= {"by_class": "normal_classes" in table}
        _check_source(place, name, source, folder)
    overrides = check_table(f"{place} overrides", table.get("overrides", {}))
    return DatasetPlan(name, classes, source, dict(overrides), _count(f"{place} seeds", table.get("seeds")))


def _check_source(place: str, name: str, source: Mapping[str, Any], folder: Path) -> None:
    if "source" not in source:
        raise ParameterError(
            f'{place} is no named data set ({", ".join(DATASETS)}), so it needs source = "FILE or FOLDER".{did_you_mean(name, DATASETS)}'
        )
    location = Path(source["source"]).expanduser()
    if not any(sign in str(location) for sign in "*?[") and not (folder / location).exists():
        raise DataError(
            f"{place}: there is no {source['source']!r} in {folder}; paths are relative to the plan."
            f"{did_you_mean(str(source['source']), DATASETS)}"
        )


def _class_names(place: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(entry, str | int) and not isinstance(entry, bool) for entry in value):
        raise ParameterError(f"{place}: `normal_classes` must be a list of class names or numbers, at least one, got {value!r}.")
    names = tuple(str(entry) for entry in value)
    if len(set(names)) < len(names):
        raise ParameterError(f"{place}: `normal_classes` names a class twice: {value!r}.")
    return names


def _method(name: str, table: Mapping[str, Any], datasets: Sequence[str]) -> MethodPlan:
    place = f"[methods.{name}]"
    detector = table.get("detector", name)
    if "detector" not in table and name not in catalog.DETECTORS:
        raise ParameterError(
            f'{place} is no detector, so it needs detector = "NAME", one of {", ".join(catalog.DETECTORS)}.'
            f"{did_you_mean(name, catalog.DETECTORS)}"
        )
    check_choice(f"{place} detector", detector, catalog.DETECTORS)
    known = catalog.detector_class(detector)._get_param_names()
    flat = {key: value for key, value in table.items() if key not in _METHOD_KEYS}
    check_keys(place, flat, [*_METHOD_KEYS, *(parameter for parameter in known if parameter != "random_state")])
    on = {key: dict(check_table(f"{place} on.{key}", value)) for key, value in check_table(f"{place} on", table.get("on", {})).items()}
    chosen = table.get("datasets", list(datasets))
    if not isinstance(chosen, list):
        raise ParameterError(f"{place}: `datasets` must be a list of names, got {chosen!r}.")
    for dataset in (*chosen, *on):
        check_choice(f"{place} data set", dataset, datasets)
    for dataset, parameters in on.items():
        _count(f"{place} on.{dataset} seeds", parameters.get("seeds"))
    label, control = table.get("label", name), table.get("control", False)
    if not isinstance(label, str) or not isinstance(control, bool):
        raise ParameterError(f"{place}: `label` must be a text and `control` true or false, got {label!r} and {control!r}.")
    return MethodPlan(
        name, detector, label, control,
        parameters=merge(flat, check_table(f"{place} parameters", table.get("parameters", {}))),
        quick=dict(check_table(f"{place} quick", table.get("quick", {}))),
        on=on, datasets=tuple(chosen), n_seeds=_count(f"{place} seeds", table.get("seeds")),
    )  # fmt: skip


def _quick(value: object, seeds: tuple[int, ...], datasets: Collection[DatasetPlan]) -> QuickPlan:
    table = check_table("[quick]", value)
    check_keys("[quick]", table, _QUICK_KEYS)
    by_name = {dataset.name: dataset for dataset in datasets}
    classes = {}
    for name, listed in check_table("[quick] normal_classes", table.get("normal_classes", {})).items():
        check_choice("[quick] normal_classes", name, by_name)
        classes[name] = _class_names(f"[quick] normal_classes.{name}", listed)
        for normal_class in classes[name]:
            check_choice(f"[quick] normal_classes.{name}", normal_class, by_name[name].normal_classes)
    overrides = check_table("[quick] overrides", table.get("overrides", {}))
    return QuickPlan(seeds_of("[quick] seeds", table["seeds"]) if "seeds" in table else seeds[:1], classes, dict(overrides))


def _count(name: str, value: object) -> int | None:
    return None if value is None else check_integer(name, value, at_least=1)


def _check_overrides(plan: Plan) -> None:
    """Refuse an override that no method has as a parameter: nothing would ever take it."""
    known = {name for method in plan.methods for name in catalog.detector_class(method.detector)._get_param_names()} - {"random_state"}
    for place, overrides in (
        *((f"[datasets.{d.name}] overrides", d.overrides) for d in plan.datasets),
        ("[quick] overrides", plan.quick.overrides),
    ):
        check_keys(place, overrides, sorted(known))


def _check_parameters(plan: Plan) -> None:
    """Have every detector check its parameters now, so that a typing error does not cost a night."""
    seen = set()
    for dataset in plan.datasets:
        for method in plan.methods:
            for quick in (False, True) if dataset.name in method.datasets else ():
                parameters = plan.parameters(dataset, method, quick=quick)
                key = method.detector + json.dumps(parameters, sort_keys=True)
                if key not in seen:
                    seen.add(key)
                    try:
                        catalog.check(method.detector, parameters)
                    except InsphereError as error:
                        raise ParameterError(f"[methods.{method.name}] on {dataset.name}: {error}") from error
