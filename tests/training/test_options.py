from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from insphere.errors import ParameterError
from insphere.training.options import OPTIMIZERS, Optimizer, Precision, Schedule, Training, default_epochs


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"optimizer": "adma"}, "`optimizer` must be one of 'adam', .*Did you mean 'adam'"),
        ({"optimizer_options": [("eps", 1e-8)]}, "`optimizer_options` must be a mapping, or None, got"),
        ({"lr": 0}, "`lr` must be a finite number above 0, got 0"),
        ({"lr": float("nan")}, "`lr` must be a finite number above 0, got nan"),
        ({"schedule": "onecycle"}, "Did you mean 'one-cycle'"),
        ({"step_at": 1}, "`step_at` must be a finite number above 0 and below 1, got 1"),
        ({"batch_size": 1}, "`batch_size` must be a whole number at least 2, or None, got 1"),
        ({"weight_decay": -1e-6}, "`weight_decay` must be a finite number at least 0"),
        ({"gradient_clip": 0}, "`gradient_clip` must be a finite number above 0"),
        ({"precision": 16}, "`precision` must be one of 'auto', '32', 'bf16', got 16"),
        ({"patience": 0}, "`patience` must be a whole number at least 1"),
        ({"validation_fraction": 0.6}, "`validation_fraction` must be a finite number above 0 and at most 0.5"),
    ],
)
def test_a_choice_out_of_range_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Training(**wrong)


@pytest.mark.parametrize(("field", "names"), [("optimizer", Optimizer), ("schedule", Schedule), ("precision", Precision)])
def test_every_listed_name_is_taken(field: str, names: Any) -> None:
    for name in get_args(names):
        assert getattr(Training(**{field: name}), field) == name


def test_every_optimizer_that_may_be_named_has_its_constants() -> None:
    assert tuple(OPTIMIZERS) == get_args(Optimizer)


@given(st.integers(2, 50_000), st.none() | st.integers(2, 1000))
def test_batches_are_nearly_equal_and_never_a_single_row(n_rows: int, batch_size: int | None) -> None:
    n_batches = Training(batch_size=batch_size).batches_per_epoch(n_rows)
    sizes = [len(batch) for batch in torch.arange(n_rows).tensor_split(n_batches)]
    assert sum(sizes) == n_rows and min(sizes) >= 2 and max(sizes) - min(sizes) <= 1
    wanted = batch_size or max(16, min(200, n_rows // 8))
    # Rounding to the nearest number of batches moves their size by no more than a half, or to a single batch of all rows.
    assert max(sizes) <= max(3, 1.5 * wanted + 1)
    assert n_batches == 1 or min(sizes) >= min(2, wanted / 1.5 - 1)


@pytest.mark.parametrize(("n_rows", "batches"), [(40_000, 200), (1600, 8), (400, 8), (100, 6), (20, 1), (2, 1)])
def test_default_batch_size(n_rows: int, batches: int) -> None:
    assert Training().batches_per_epoch(n_rows) == batches


@given(st.integers(1, 5000))
def test_default_epochs_make_about_five_hundred_steps(batches: int) -> None:
    epochs = default_epochs(batches)
    assert 10 <= epochs <= 200
    assert epochs in (10, 200) or 500 <= epochs * batches < 500 + batches
