"""Several models trained as one become what each becomes alone."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor, nn

from insphere.errors import ParameterError, TrainingError
from insphere.training.history import EpochRecord
from insphere.training.loop import train, train_together
from insphere.training.noise import NoiseSource, standard_normal
from insphere.training.objective import AbstractObjective
from insphere.training.options import OPTIMIZERS, Training
from insphere.training.trainee import Stage, Trainee

CPU = torch.device("cpu")
N_MODELS = 3
ROWS = [np.random.default_rng(seed).normal(size=(37, 3)) for seed in range(N_MODELS)]


class Regression(AbstractObjective):
    """Predicts the noisy sum of a row. It stops after as many epochs as its buffer says."""

    last_epoch: Tensor
    n_epochs: Tensor

    def __init__(self, start: float, last_epoch: int = 99) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[start, -0.25, 1.0]]))
        self.register_buffer("last_epoch", torch.tensor(last_epoch))
        self.register_buffer("n_epochs", torch.tensor(0))
        self.register_buffer("start", torch.zeros(3))

    def start_from(self, earlier: AbstractObjective) -> None:
        self.weight.data.copy_(earlier.weight)

    def begin(self, x: Tensor) -> None:
        self.start.copy_(x.mean(dim=0))

    def forward(self, x: Tensor, generator: NoiseSource) -> dict[str, Tensor]:
        noise = 0.1 * standard_normal(x.shape[:1], generator, like=x)
        error = (x @ self.weight.T)[:, 0] - (x - self.start).sum(dim=1) - noise
        return {"loss": error.square().mean(), "noise": noise.mean()}

    def end_epoch(self, batches: Any) -> bool:
        self.n_epochs += sum(len(x) for x in batches) // 37
        return bool(self.n_epochs < self.last_epoch)

    def code(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


def trainees(options: Training, *, last_epochs: tuple[int, ...] = (99, 99, 99), n_stages: int = 1, scale: float = 1.0) -> list[Trainee]:
    found = []
    for seed, (rows, last_epoch) in enumerate(zip(ROWS, last_epochs, strict=True)):
        stages = [Stage(Regression(0.5 * seed, last_epoch), options, 6, name) for name in ("pretraining", "training")[-n_stages:]]
        found.append(Trainee(stages, rows * scale, lambda x: x, seed, np.roll(rows, 1, axis=1)[:9], f"model {seed}"))
    return found


def assert_alike(options: Training, **arguments: Any) -> list[list[EpochRecord]]:
    alone, together = trainees(options, **arguments), trainees(options, **arguments)
    expected, found = [train(trainee, device=CPU) for trainee in alone], train_together(together, device=CPU)
    for one, other, ours, theirs in zip(alone, together, expected, found, strict=True):
        assert [(r.epoch, r.n_epochs, r.stage, r.lr) for r in ours] == [(r.epoch, r.n_epochs, r.stage, r.lr) for r in theirs]
        for name in ("loss", "noise"):
            assert_allclose([r.terms[name] for r in theirs], [r.terms[name] for r in ours], rtol=1e-5, atol=1e-7)
        for stage, twin in zip(one.stages, other.stages, strict=True):
            assert not twin.objective.training
            torch.testing.assert_close(twin.objective.state_dict(), stage.objective.state_dict(), rtol=1e-5, atol=1e-6)
    return found


@pytest.mark.parametrize("gradient_clip", [None, 0.5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimiser(optimizer, gradient_clip):
    histories = assert_alike(Training(optimizer=optimizer, lr=0.05, batch_size=10, weight_decay=0.01, gradient_clip=gradient_clip))
    assert [len(history) for history in histories] == [6, 6, 6]


def test_one_stage_after_another():
    histories = assert_alike(Training(lr=0.05, batch_size=10), n_stages=2)
    assert [record.stage for record in histories[1]] == ["pretraining"] * 6 + ["training"] * 6


def test_models_that_stop_early_stay_as_they_were_when_they_stopped():
    histories = assert_alike(Training(lr=0.05, batch_size=10, schedule="constant"), last_epochs=(2, 99, 4))
    assert [len(history) for history in histories] == [2, 6, 4]


def test_patience_runs_out_for_each_model_by_itself():
    histories = assert_alike(Training(lr=1.0, batch_size=10, schedule="constant", patience=1))
    assert len({len(history) for history in histories}) > 1
    assert all(record.validation_loss is not None for history in histories for record in history)


def test_each_epoch_of_each_unfinished_model_is_told():
    told: list[tuple[int, int]] = []
    train_together(
        trainees(Training(schedule="constant"), last_epochs=(1, 3, 2)), device=CPU, on_epoch=lambda model, r: told.append((model, r.epoch))
    )
    assert told == [(0, 1), (1, 1), (2, 1), (1, 2), (2, 2), (1, 3)]


def test_a_loss_that_is_not_finite_names_its_model():
    broken = trainees(Training(schedule="constant", lr=0.5))
    broken[1].rows[3] = 1e30
    with pytest.raises(TrainingError, match=r"^Training of model 1 stopped in epoch 1: the loss term 'loss' is not finite.*'lr': 0\.05"):
        train_together(broken, device=CPU)


def test_models_with_other_numbers_of_rows_are_refused():
    unequal = trainees(Training())
    unequal[2] = Trainee(unequal[2].stages, ROWS[2][:30], unequal[2].transform, 2)
    with pytest.raises(ParameterError, match="equally many rows"):
        train_together(unequal, device=CPU)


def test_half_precision_is_refused():
    with pytest.raises(ParameterError, match="train in float32; give training={'precision': '32'}"):
        train_together(trainees(Training(precision="bf16")), device=CPU)
