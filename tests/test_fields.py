"""Rules declared by annotations: what each refuses, and in which words."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from insphere.errors import ParameterError
from insphere.fields import (
    AtLeastOne,
    Checked,
    Count,
    Declared,
    Length,
    OpenShare,
    Positive,
    Share,
    as_record,
    check_fields,
    rule_of,
    rules_of,
)
from insphere.validation import Within


def _even(name: str, value: Any) -> None:
    if value % 2:
        raise ParameterError(f"`{name}` must be even, got {value!r}.")


@dataclasses.dataclass(frozen=True)
class Options(Declared):
    rate: Share = 0.5
    norm: Literal["plain", "squared"] = "plain"
    widths: Annotated[Sequence[AtLeastOne], Length(1, 3)] | None = None
    derived: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass(frozen=True)
class Pair(Declared):
    low: float = 0.0
    high: float = 1.0

    def _check_together(self) -> None:
        if self.low > self.high:
            raise ParameterError(f"`low` must not be above `high`, got {self.low} and {self.high}.")


@dataclasses.dataclass
class Holder:
    """As an estimator is: nothing is checked when it is made."""

    options: Options | Mapping[str, Any] | None = None
    start: bool | Pair | Mapping[str, Any] = True
    anything: Any = None


REFUSED = [
    (Positive, 0, "a finite number above 0, got 0."),
    (Positive, "1", "a finite number above 0, got '1'."),
    (Positive, True, "a finite number above 0, got True."),
    (Positive, None, "a finite number above 0, got None."),
    (Positive | None, 0, "a finite number above 0, or None, got 0."),
    (Share, 1.5, "a finite number above 0 and at most 1, got 1.5."),
    (OpenShare, 1, "a finite number above 0 and below 1, got 1."),
    (float, float("nan"), "a finite number, got nan."),
    (AtLeastOne, 0, "a whole number at least 1, got 0."),
    (AtLeastOne, 2.0, "a whole number at least 1, got 2.0."),
    (Count | None, -1, "a whole number at least 0, or None, got -1."),
    (bool, 1, "True or False, got 1."),
    (bool | None, "yes", "True or False, or None, got 'yes'."),
    (str, 3, "a text, got 3."),
    (Literal["mean", "zero"], "men", "one of 'mean', 'zero', got 'men'. Did you mean 'mean'?"),
    (Literal["mean"] | None, "zero", "one of 'mean', or None, got 'zero'."),
    (Literal["auto", "scale"] | Positive, "scal", "'auto', 'scale' or a finite number above 0, got 'scal'. Did you mean 'scale'?"),
    (Literal["auto"] | Share | None, 2, "'auto' or a finite number above 0 and at most 1, or None, got 2."),
    (Mapping[str, Any] | None, [1], "a mapping, or None, got [1]."),
    (tuple[int, int], (1, 2, 3), "a list of 2 entries, each a whole number, got (1, 2, 3)."),
    (Sequence[int], "12", "a list of entries, each a whole number, got '12'."),
    (Annotated[Any, Checked(_even, "int")], 3, "even, got 3."),
]


@pytest.mark.parametrize(("annotation", "value", "told"), REFUSED)
def test_what_breaks_a_rule_is_refused_in_its_words(annotation: Any, value: Any, told: str) -> None:
    rule = rule_of(annotation)
    assert rule is not None
    with pytest.raises(ParameterError) as caught:
        rule.check("x", value)
    assert str(caught.value) == f"`x` must be {told}"


@pytest.mark.parametrize(
    ("annotation", "value", "kept"),
    [
        (Positive, np.float32(0.5), 0.5),
        (Positive | None, None, None),
        (Share, 1, 1.0),
        (AtLeastOne, np.int64(3), 3),
        (Literal["32", "bf16"], 32, "32"),
        (Literal["auto"] | Share, "auto", "auto"),
        (Literal["auto"] | Share, 0.5, 0.5),
        (Sequence[int], [1, 2], (1, 2)),
        (Annotated[Any, Checked(_even, "int")], 4, 4),
    ],
)
def test_what_keeps_a_rule_is_kept(annotation: Any, value: Any, kept: Any) -> None:
    rule = rule_of(annotation)
    assert rule is not None
    found = rule.check("x", value)
    assert found == kept and type(found) is type(kept)


@pytest.mark.parametrize("annotation", [Any, object, complex, int | complex, np.ndarray, tuple[int, str], Sequence[Any]])
def test_other_annotations_declare_nothing(annotation: Any) -> None:
    assert rule_of(annotation) is None


@pytest.mark.parametrize(
    ("annotation", "of_type", "bounds", "choices"),
    [
        (Share | None, "float, optional", "above 0 and at most 1", ()),
        (Literal["a", "b"], '{"a", "b"}', "", ("a", "b")),
        (Literal["a"] | Annotated[int, Within(at_most=3)], '{"a"} or int', "at most 3", ("a",)),
        (bool | Pair | Mapping[str, Any], "bool or Pair or mapping", "", ()),
        (Sequence[AtLeastOne], "sequence of int", "at least 1", ()),
    ],
)
def test_what_is_listed_is_what_is_declared(annotation: Any, of_type: str, bounds: str, choices: tuple[str, ...]) -> None:
    rule = rule_of(annotation)
    assert rule is not None
    assert (rule.type, rule.range, rule.choices) == (of_type, bounds, choices)


def test_fields_without_a_rule_and_derived_ones_are_left_alone() -> None:
    assert list(rules_of(Holder)) == ["options", "start"] and list(rules_of(Options)) == ["rate", "norm", "widths"]


class TestRecords:
    def test_are_checked_when_made(self) -> None:
        with pytest.raises(ParameterError, match="`rate` must be a finite number above 0 and at most 1, got 0"):
            Options(rate=0)
        with pytest.raises(ParameterError, match=r"`widths\[1\]` must be a whole number at least 1, got 0"):
            Options(widths=(8, 0))

    def test_keep_numbers_as_pythons_own(self) -> None:
        made = Options(rate=np.float32(0.25), widths=[np.int64(8)])  # type: ignore[arg-type]
        assert (made.rate, made.widths) == (0.25, (8,)) and type(made.rate) is float

    def test_what_no_field_says_alone_is_checked_too(self) -> None:
        with pytest.raises(ParameterError, match="`low` must not be above `high`"):
            Pair(low=2)


class TestAnInstance:
    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ({"options": {"rate": 2}}, "`model.options.rate` must be a finite number above 0 and at most 1, got 2."),
            ({"options": {"raet": 1}}, "`model.options` has no field 'raet'; its fields are rate, norm, widths. Did you mean 'rate'?"),
            ({"options": 3}, "`model.options` must be a mapping or a Options, or None, got 3."),
            ({"start": {"low": "x"}}, "`model.start.low` must be a finite number, got 'x'."),
            ({"start": None}, "`model.start` must be True or False or a mapping or a Pair, got None."),
        ],
    )
    def test_is_checked_with_its_nested_records_by_full_names(self, wrong: dict[str, Any], told: str) -> None:
        with pytest.raises(ParameterError) as caught:
            check_fields(Holder(**wrong), "model.")
        assert str(caught.value) == told

    @pytest.mark.parametrize("right", [{}, {"options": Options()}, {"options": {"rate": 1}}, {"start": False}, {"start": {"low": -1}}])
    def test_may_hold_records_mappings_and_none(self, right: dict[str, Any]) -> None:
        held = Holder(**right)
        check_fields(held)
        assert held == Holder(**right)


class TestAsRecord:
    def test_none_mapping_and_record(self) -> None:
        assert as_record("options", None, Options) == Options()
        assert as_record("options", {"rate": 1.0}, Options) == Options(rate=1.0)
        record = Options(norm="squared")
        assert as_record("options", record, Options) is record

    def test_a_mapping_changes_the_default_that_is_given(self) -> None:
        assert as_record("options", {"rate": 1}, Options, Options(norm="squared")) == Options(rate=1.0, norm="squared")

    def test_a_field_is_named_with_the_record(self) -> None:
        with pytest.raises(ParameterError, match="`options.rate` must be a finite number above 0 and at most 1, got -1"):
            as_record("options", {"rate": -1}, Options)

    @pytest.mark.parametrize("key", ["raet", "derived", 3])
    def test_unknown_field(self, key: Any) -> None:
        with pytest.raises(ParameterError, match=f"`options` has no field '{key}'; its fields are rate, norm"):
            as_record("options", {key: 1.0}, Options)

    def test_near_miss_gets_a_hint(self) -> None:
        with pytest.raises(ParameterError, match="Did you mean 'rate'"):
            as_record("options", {"raet": 1.0}, Options)

    @pytest.mark.parametrize("value", [3, "rate", [("rate", 1.0)], Options])
    def test_other_types(self, value: Any) -> None:
        with pytest.raises(ParameterError, match="`options` must be a mapping or a Options, or None"):
            as_record("options", value, Options)
