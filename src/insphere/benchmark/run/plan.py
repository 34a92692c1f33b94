"""Reads the plan of a benchmark, a TOML file of data sets, methods and seeds, and checks it as a whole before anything runs."""

import dataclasses
import itertools
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from insphere.benchmark.attacks.settings import AttackSettings
from insphere.benchmark.run.planned import DatasetPlan, MethodPlan, Plan, QuickPlan
from insphere.benchmark.run.settings import check_keys, check_name, check_plain, check_table, merge, nested, seeds_of
from insphere.data.datasets import DATASETS, parse_name
from insphere.data.own_sets import target_of
from insphere.detectors import catalog
from insphere.errors import DataError, InsphereError, ParameterError, did_you_mean
from insphere.toml_file import read_toml
from insphere.validation import check_choice, check_integer

_PLAN_KEYS = ("seeds", "datasets", "methods", "attack", "quick")
_SOURCE_KEYS = ("label_column", "columns", "one_hot", "groups", "image_size", "mode", "train_fraction")
_DATASET_KEYS = ("source", "normal_classes", "seeds", "methods", "overrides", *_SOURCE_KEYS)
_METHOD_KEYS = ("detector", "label", "control", "seeds", "datasets", "parameters", "on", "quick", "like", "vary")
_QUICK_KEYS = ("seeds", "normal_classes", "overrides")


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
    content = read_toml(path, "the plan")
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
    methods = tuple(_methods(_tables(content, "methods"), names))
    seeds = seeds_of("seeds", content.get("seeds", 1))
    attack = AttackSettings.from_mapping(check_table("[attack]", content["attack"])) if "attack" in content else None
    plan = Plan(Path(folder), seeds, datasets, methods, _quick(content.get("quick", {}), seeds, datasets), attack)
    _check_names(plan)
    _check_overrides(plan)
    _check_parameters(plan)
    if attack is not None:
        attack.choose(plan.runs())
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
    location = source.get("source", name)
    if not isinstance(location, str):
        raise ParameterError(f"{place}: `source` must be the name of a data set, a file or a folder, got {location!r}.")
    if location in DATASETS:
        given = [key for key in source if key not in ("source", "image_size", "mode")]
        if given:
            raise ParameterError(
                f"{place}: `{given[0]}` is for your own files; {location} is a named data set with its own split and labels."
            )
        classes = _class_names(place, table.get("normal_classes", list(DATASETS[location].normal_classes)))
        for normal_class in classes:
            parse_name(f"{location}:{normal_class}")
    else:
        classes = _class_names(place, table["normal_classes"]) if "normal_classes" in table else ("normal",)
        source |= {"by_class": "normal_classes" in table}
        _check_source(place, name, source, folder)
    overrides = check_table(f"{place} overrides", table.get("overrides", {}))
    methods = table.get("methods")
    if methods is not None and (not isinstance(methods, list) or not methods):
        raise ParameterError(f"{place}: `methods` must be a list of names, at least one, got {methods!r}.")
    n_seeds = _count(f"{place} seeds", table.get("seeds"))
    return DatasetPlan(name, classes, source, dict(overrides), n_seeds, None if methods is None else tuple(methods))


def _check_source(place: str, name: str, source: Mapping[str, Any], folder: Path) -> None:
    if "source" not in source:
        raise ParameterError(
            f'{place} is not a named data set ({", ".join(DATASETS)}), so it needs source = "FILE or FOLDER".{did_you_mean(name, DATASETS)}'
        )
    if target_of(source["source"]) is not None:
        return
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


def _methods(tables: Iterator[tuple[str, Mapping[str, Any]]], datasets: Sequence[str]) -> Iterator[MethodPlan]:
    """Yield the methods: those that are like another with its settings below their own, those that vary as one for each value."""
    seen: dict[str, Mapping[str, Any]] = {}
    names: set[str] = set()
    for name, own in tables:
        place = f"[methods.{name}]"
        table = own
        if "like" in own:
            if own["like"] not in seen:
                raise ParameterError(
                    f"{place}: `like` must name a method further up, {', '.join(seen) or 'of which there is none'}, got {own['like']!r}."
                    f"{did_you_mean(str(own['like']), seen)}"
                )
            base = seen[own["like"]]
            inherited = {key: value for key, value in base.items() if key not in ("label", "control", "vary")}
            table = merge({"detector": own["like"]} | inherited, own)
        seen[name] = table
        for method in _variants(_method(name, table, datasets), check_table(f"{place} vary", table.get("vary", {})), place):
            if method.name in names:
                raise ParameterError(f"{place}: there is a method called {method.name!r} already; choose another name.")
            names.add(method.name)
            yield method


def _variants(method: MethodPlan, vary: Mapping[str, Any], place: str) -> Iterator[MethodPlan]:
    """Yield the method with each value of each parameter that varies, one parameter at a time; the method itself if none does."""
    if not vary:
        yield method
    for path, values in vary.items():
        if not isinstance(values, list) or not values:
            raise ParameterError(f"{place} vary.{path} must be a list of values, at least one, got {values!r}.")
        short = path.rpartition(".")[2]
        for value in values:
            name = f"{method.name}-{value}" if short == method.name else f"{method.name}-{short}-{value}"
            check_name(f"{place} vary.{path}", name)
            label = f"{method.label}, {short} {value}"
            yield dataclasses.replace(method, name=name, label=label, varied=nested(path, value))


def _method(name: str, table: Mapping[str, Any], datasets: Sequence[str]) -> MethodPlan:
    place = f"[methods.{name}]"
    detector = table.get("detector", name)
    if "detector" not in table and name not in catalog.DETECTORS and name not in catalog.installed():
        raise ParameterError(
            f'{place} is not a detector, so it needs detector = "NAME", one of {", ".join(catalog.DETECTORS)}.'
            f"{did_you_mean(name, catalog.DETECTORS)}"
        )
    if ":" not in str(detector):
        check_choice(f"{place} detector", detector, (*catalog.DETECTORS, *catalog.installed()))
    known = catalog.detector_class(detector)._get_param_names()
    flat = {key: value for key, value in table.items() if key not in _METHOD_KEYS}
    check_keys(place, flat, [*_METHOD_KEYS, *(parameter for parameter in known if parameter != "random_state")])
    on = {key: dict(check_table(f"{place} on.{key}", value)) for key, value in check_table(f"{place} on", table.get("on", {})).items()}
    chosen = table.get("datasets", list(datasets))
    if not isinstance(chosen, list) or not chosen:
        raise ParameterError(f"{place}: `datasets` must be a list of names, at least one, got {chosen!r}.")
    for dataset in (*chosen, *on):
        check_choice(f"{place} data set", dataset, datasets)
    for dataset, parameters in on.items():
        _count(f"{place} on.{dataset} seeds", parameters.get("seeds"))
    label, control = table.get("label", name), table.get("control", False)
    if not isinstance(label, str) or not isinstance(control, bool):
        raise ParameterError(f"{place}: `label` must be a text and `control` true or false, got {label!r} and {control!r}.")
    return MethodPlan(
        name, name, detector, label, control,
        parameters=merge(flat, check_table(f"{place} parameters", table.get("parameters", {}))), varied={},
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


def _check_names(plan: Plan) -> None:
    """Refuse a data set whose methods are not there, and a plan in which a data set or a method has nothing to do."""
    tables = dict.fromkeys(method.table for method in plan.methods)
    for dataset in plan.datasets:
        for name in dataset.methods or ():
            check_choice(f"[datasets.{dataset.name}] methods", name, tables)
    pairs = list(plan.pairs())
    idle = [f"[datasets.{d.name}]" for d in plan.datasets if all(d is not used for used, _ in pairs)]
    idle += [f"[methods.{m.table}]" for m in plan.methods if all(m is not used for _, used in pairs)]
    if idle:
        raise ParameterError(f"{idle[0]} takes part in no run: what `datasets` and `methods` allow rules out every pair with it.")


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
    for (dataset, method), quick in itertools.product(plan.pairs(), (False, True)):
        parameters = plan.parameters(dataset, method, quick=quick)
        if "random_state" in parameters:
            raise ParameterError(f"[methods.{method.table}] sets `random_state`, which is the plan's `seeds` to say; leave it out.")
        key = method.detector + json.dumps(parameters, sort_keys=True)
        if key not in seen:
            seen.add(key)
            try:
                catalog.check(method.detector, parameters)
            except InsphereError as error:
                raise ParameterError(f"[methods.{method.table}] on {dataset.name}{', quick' if quick else ''}: {error}") from error
