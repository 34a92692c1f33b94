"""Every detector's parameters, from their declarations: a value just outside its rule is refused at every door before a row is read."""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pytest

from insphere.benchmark.run.plan import make_plan
from insphere.data import ArraySource
from insphere.detectors import catalog
from insphere.detectors.parameters import _told_of, described
from insphere.errors import ParameterError
from insphere.fields import CheckedRule, EitherRule, ItemsRule, NumberRule, Rule, TypeRule, rules_of
from insphere.nets.backbones import BACKBONES, SCRATCH, Named

WITHOUT_A_RULE = {
    ("hybrid", "encoder"),
    ("hybrid", "detector"),
    ("fusion", "detectors"),
}  # detectors themselves: see test_hybrid.py, test_fusion.py
OF_FUNCTIONS = {"random_state": -1, "roi": (0.5, 0, 0.5, 1), "backbone": "resnet", "tiles": (0, 1), "views.transformations": "turns"}


def fields_of(kind: type, prefix: str = "") -> Iterator[tuple[str, Rule | None]]:
    """Yield each field with its rule, those of nested records named with a dot."""
    rules = rules_of(kind)
    for field in dataclasses.fields(kind):
        rule = rules.get(field.name)
        yield prefix + field.name, rule
        nested = None if rule is None else rule.nested()
        if nested is not None:
            yield from fields_of(nested.record, f"{prefix}{field.name}.")


def outside(name: str, rule: Rule) -> list[Any]:
    """Return values just outside a rule."""
    values: list[Any] = [object(), "zzz"]
    if not (isinstance(rule, CheckedRule) or (isinstance(rule, EitherRule) and rule.none)):
        values.append(None)
    for part in rule.parts():
        if isinstance(part, NumberRule):
            values += [math.nan, math.inf, *beyond(part)]
        elif isinstance(part, ItemsRule):
            values += [[], 3, [0], [1] * 9]
        elif isinstance(part, CheckedRule):
            values.append(OF_FUNCTIONS[name])
        elif isinstance(part, TypeRule) and part.of is bool:
            values += [0, 1.0]
    return values


def beyond(rule: NumberRule) -> Iterator[float]:
    """Yield the nearest numbers that the bounds leave out."""
    within = rule.within
    yield from (bound for bound in (within.above, within.below) if bound is not None)
    if within.at_least is not None:
        yield within.at_least - 1 if rule.whole else math.nextafter(within.at_least, -math.inf)
    if within.at_most is not None:
        yield within.at_most + 1 if rule.whole else math.nextafter(within.at_most, math.inf)


def cases() -> list[Any]:
    """Return every declared field of every detector, with values that it must not take."""
    found = []
    for detector in catalog.DETECTORS:
        for name, rule in fields_of(catalog.detector_class(detector)):
            if rule is not None:
                found.append(pytest.param(detector, name, outside(name, rule), id=f"{detector}-{name}"))
    return found


class Unread(ArraySource):
    """Rows that nobody may read."""

    def batches(self, size: int) -> Any:
        raise AssertionError("a row was read")


def nested(name: str, value: Any) -> dict[str, Any]:
    """Return the parameters that a name with dots stands for."""
    for part in reversed(name.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


@pytest.mark.parametrize(("detector", "name", "wrong"), cases())
def test_a_value_outside_its_rule_is_refused_before_a_row_is_read(detector: str, name: str, wrong: list[Any]) -> None:
    told = rf"`{re.escape(name)}[`\[]"
    for value in wrong:
        parameters = nested(name, value)
        with pytest.raises(ParameterError, match=told):
            catalog.detector_class(detector)(**parameters).fit(Unread(np.zeros((20, 4))))
        with pytest.raises(ParameterError, match=told):
            catalog.check(detector, parameters)
        if isinstance(value, str | int | float) and math.isfinite(0 if isinstance(value, str) else value) and name != "random_state":
            with pytest.raises(ParameterError, match=told):
                make_plan({"datasets": {"digits": {"normal_classes": ["3"]}}, "methods": {"m": {"detector": detector, **parameters}}})


@pytest.mark.parametrize("detector", catalog.DETECTORS)
def test_every_field_declares_its_rule(detector: str) -> None:
    without = {(detector, name) for name, rule in fields_of(catalog.detector_class(detector)) if rule is None}
    assert without == {pair for pair in WITHOUT_A_RULE if pair[0] == detector}


@pytest.mark.parametrize("detector", catalog.DETECTORS)
def test_docstrings_list_the_choices_that_are_declared(detector: str) -> None:
    def check(kind: type) -> None:
        told = _told_of(kind)
        for name, rule in rules_of(kind).items():
            of_type = told[name][0]
            if "{" in of_type:
                assert tuple(re.findall(r'"([^"]+)"', of_type)) == rule.choices, name
            else:
                assert set(re.findall(r'"([^"]+)"', of_type)) == set(rule.choices), name
            assert ("optional" in of_type) == ("optional" in rule.type), name
            inner = rule.nested()
            if inner is not None:
                check(inner.record)

    check(catalog.detector_class(detector))


def test_what_is_listed_has_choices_ranges_and_defaults() -> None:
    entries = {entry["name"]: entry for entry in described(catalog.detector_class("ocsvm"))}
    gamma, share = entries["gamma"], entries["calibration.fraction"]
    assert (gamma["type"], gamma["choices"], gamma["range"]) == ('{"auto", "scale"} or float', ["auto", "scale"], "above 0")
    assert (share["type"], share["range"], share["default"]) == ("float", "above 0 and at most 0.5", 0.2)
    names = {entry["name"] for entry in described(catalog.detector_class("oc-nn"))}
    assert {"pretrain", "pretrain.epochs", "pretrain.training"} <= names


def test_every_backbone_that_may_be_named_is_there() -> None:
    assert get_args(Named) == (*BACKBONES, SCRATCH)
