import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from insphere.errors import ParameterError
from insphere.validation import check_choice, check_integer, check_number


class TestCheckChoice:
    def test_member_passes(self) -> None:
        assert check_choice("norm", "squared", ("plain", "squared")) == "squared"
        assert check_choice("norm", "plain", {"plain": 1}) == "plain"

    @pytest.mark.parametrize("value", ["Plain", "", None, 3, ["plain"], {}])
    def test_others_are_refused_with_the_list(self, value: Any) -> None:
        with pytest.raises(ParameterError, match="`norm` must be one of 'plain', 'squared', got"):
            check_choice("norm", value, ["plain", "squared"])

    @pytest.mark.parametrize("value", ["Plain", "plian"])
    def test_near_miss_gets_a_hint(self, value: str) -> None:
        with pytest.raises(ParameterError, match="Did you mean 'plain'"):
            check_choice("norm", value, ["plain", "squared"])


class TestCheckNumber:
    @pytest.mark.parametrize("value", [0.5, 1, np.float32(0.5), np.int64(1), Fraction(1, 2)])
    def test_real_numbers_become_float(self, value: Any) -> None:
        assert check_number("alpha", value) == float(value)
        assert type(check_number("alpha", value)) is float

    @pytest.mark.parametrize(
        "value", [True, np.True_, "0.5", None, 1j, Decimal("0.5"), math.nan, math.inf, -math.inf, np.float32("nan"), [1.0], 10**400]
    )
    def test_others_are_refused(self, value: Any) -> None:
        with pytest.raises(ParameterError, match="`alpha` must be a finite number, got"):
            check_number("alpha", value)

    @pytest.mark.parametrize(
        ("bounds", "legal", "illegal", "rule"),
        [
            ({"above": 0, "below": 1}, [0.001, 0.999], [0, 1], "above 0 and below 1"),
            ({"at_least": 0, "at_most": 1}, [0, 1], [-1e-9, 1.0000001], "at least 0 and at most 1"),
            ({"above": 0}, [1e-300], [0, -0.0], "above 0"),
            ({"at_most": 0.05}, [0.05], [0.0500001], "at most 0.05"),
        ],
    )
    def test_bounds(self, bounds: dict[str, float], legal: list[float], illegal: list[float], rule: str) -> None:
        assert [check_number("rate", value, **bounds) for value in legal] == legal
        for value in illegal:
            with pytest.raises(ParameterError, match=f"`rate` must be a finite number {rule}, got {value}."):
                check_number("rate", value, **bounds)


class TestCheckInteger:
    @given(st.integers())
    def test_whole_numbers_pass(self, value: int) -> None:
        assert check_integer("n", value) == value

    @pytest.mark.parametrize("value", [np.int64(3), np.uint8(3)])
    def test_numpy_numbers_become_int(self, value: Any) -> None:
        assert type(check_integer("n", value)) is int

    @pytest.mark.parametrize("value", [3.0, np.float64(3), True, "3", None, math.nan])
    def test_others_are_refused(self, value: Any) -> None:
        with pytest.raises(ParameterError, match="`n` must be a whole number, got"):
            check_integer("n", value)

    def test_bounds_are_exact_and_say_whole_number(self) -> None:
        with pytest.raises(ParameterError, match=r"`epochs` must be a whole number at least 1, got 0\."):
            check_integer("epochs", 0, at_least=1)
        with pytest.raises(ParameterError, match=f"at most {2**53}, got {2**53 + 1}"):
            check_integer("n", 2**53 + 1, at_most=2**53)

    def test_giant_number_is_refused_not_printed(self) -> None:
        with pytest.raises(ParameterError, match="at most 9, got a number of more than 38 digits"):
            check_integer("n", 10**5000, at_most=9)
