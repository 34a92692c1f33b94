"""Few rows are computed as few where that gives the bits that they have among many, and only there."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from insphere.nets.layers import SCORING_ROWS, Linear
from insphere.training.mapping import map_batches

CPU = torch.device("cpu")


class Model(nn.Module):
    """A model that notes how many rows it was given, last."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.n_rows = layer, 0

    def code(self, x: Tensor) -> Tensor:
        self.n_rows = len(x)
        return self.layer(x)


class Dependent(nn.Module):
    """What a sum in another order for few rows would do, without waiting for a library that does so."""

    def __init__(self, *, at: int) -> None:
        super().__init__()
        self.at = at

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(torch.arange(len(x))[:, None] % 5 == 4, x, x * (1 + 1e-6 * (len(x) == self.at)))


def unchanged(rows: Tensor) -> Tensor:
    return rows


def codes(model: Model, rows: np.ndarray) -> np.ndarray:
    return map_batches(model.code, rows, unchanged, device=CPU)


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(40, 300))


def test_a_dense_layer_takes_few_rows_as_few(rows):
    torch.manual_seed(0)
    model = Model(Linear(300, 20)).eval()
    whole = codes(model, rows)
    for n in (1, 2, 3, 15):
        assert np.array_equal(codes(model, rows[:n]), whole[:n])
        assert model.n_rows == n
    assert np.array_equal(codes(model, rows[:33]), whole[:33])
    assert model.n_rows == 1


@pytest.mark.parametrize("n", [1, 3, 7])
def test_a_model_whose_results_depend_on_the_number_of_rows_gets_full_batches(rows, n):
    model = Model(Dependent(at=n)).eval()
    whole = codes(model, rows)
    assert np.array_equal(codes(model, rows[:n]), whole[:n])
    assert model.n_rows == SCORING_ROWS
    assert np.array_equal(codes(model, rows[: n + 1]), whole[: n + 1])
    assert model.n_rows == n + 1  # which is asked for each number


def test_rows_that_show_nothing_decide_nothing(rows):
    model = Model(Dependent(at=2)).eval()
    assert np.array_equal(codes(model, np.zeros((2, 300))), np.zeros((2, 300)))
    assert model.n_rows == SCORING_ROWS
    assert np.array_equal(codes(model, rows[:2]), codes(model, rows)[:2])
    assert model.n_rows == 8  # the last of forty
    codes(model, rows[:2])
    assert model.n_rows == SCORING_ROWS


def test_a_model_in_training_gets_full_batches(rows):
    # As batch norm then takes its means from the batch, and none from a single row.
    model = Model(nn.BatchNorm1d(300)).train()
    assert codes(model, rows[:17]).shape == (17, 300)
    assert model.n_rows == SCORING_ROWS


def test_many_vectors_are_computed_at_a_time_where_nothing_changes():
    torch.manual_seed(0)
    rows, sizes = np.random.default_rng(0).normal(size=(530, 40)), []
    model = Model(nn.Sequential(Linear(40, 30), nn.ReLU(), Linear(30, 5))).eval()

    def code_of(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return Model.code(model, x)

    model.code = code_of  # not a method: no model is seen, and batches are as ever
    expected = codes(model, rows)
    assert sizes == [SCORING_ROWS] * 34
    del model.code
    assert np.array_equal(codes(model, rows), expected)
    assert np.array_equal(codes(model, rows[:256]), expected[:256])
    assert model.n_rows == 256
    dependent = Model(Dependent(at=256)).eval()
    codes(dependent, rows[:256])
    assert dependent.n_rows == SCORING_ROWS


def test_functions_without_a_model_get_full_batches(rows):
    sizes = []

    def first_values(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return x[:, :1]

    map_batches(first_values, rows, unchanged, device=CPU)
    assert sizes == [SCORING_ROWS] * 3


def test_in_training_a_dense_layer_is_pytorchs_own():
    torch.manual_seed(0)
    layer, x = Linear(300, 20), torch.randn(3, 300)
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    assert layer.eval()(x).shape == (3, 20)
