import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from insphere.errors import ModelFileError, ParameterError, TrainingError
from insphere.nets.build import build_decoder, build_encoder, initialise
from insphere.nets.options import Network
from insphere.seeding import derive_seed
from insphere.training.checkpoint import read_checkpoint, write_checkpoint
from insphere.training.feed import as_network_input
from insphere.training.history import EpochRecord
from insphere.training.loop import _Run, train
from insphere.training.mapping import SCORING_ROWS, map_batches
from insphere.training.objective import AbstractObjective
from insphere.training.options import OPTIMIZERS, Schedule, Training
from insphere.training.trainee import Stage, Trainee

CPU = torch.device("cpu")
ROWS = np.random.default_rng(0).normal(size=(37, 3))
SEED = 11


def unchanged(x: Tensor) -> Tensor:
    return x


class LeastSquares(AbstractObjective):
    """Predicts the noisy sum of a row: one matrix, and a gradient that is easily written out."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.5, -0.25, 1.0]]))
        self.began_with = torch.empty(0)

    def begin(self, x: Tensor) -> None:
        self.began_with = x

    def forward(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        noise = 0.1 * torch.randn(len(x), generator=generator)
        error = (x @ self.weight.T)[:, 0] - x.sum(dim=1) - noise
        return {"loss": error.square().mean(), "noise": noise.mean()}

    def code(self, x: Tensor) -> Tensor:
        return x @ self.weight.T

    def reconstruct(self, x: Tensor) -> Tensor:
        return x


class Autoencoder(AbstractObjective):
    """Convolutions, batch norms and noise: all kinds of state that a checkpoint must hold."""

    def __init__(self, shape: tuple[int, ...] = (8, 8, 1)) -> None:
        super().__init__()
        network = Network(widths=(4,), kernel_size=3)
        self.encoder, self.decoder = build_encoder(shape, [2], network), build_decoder(shape, 2, network)
        initialise(self, 0)

    def forward(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        code = self.code(x)
        output = self.decoder(code + 0.1 * torch.randn(code.shape, generator=generator)).float()
        return {"loss": (output - x).square().mean()}

    def code(self, x: Tensor) -> Tensor:
        code: Tensor = self.encoder(x)[0]
        return code

    def reconstruct(self, x: Tensor) -> Tensor:
        output: Tensor = self.decoder(self.code(x))
        return output


def fit(objective: AbstractObjective, options: Training, rows: NDArray[Any] = ROWS, **arguments: Any) -> list[EpochRecord]:
    stage = Stage(objective, options, arguments.pop("n_epochs", 4))
    trainee = Trainee([stage], rows, unchanged, arguments.pop("seed", SEED), arguments.pop("validation_rows", None))
    return train(trainee, device=CPU, **arguments)


def images(n_rows: int = 40) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (n_rows, 8, 8, 1)).astype(np.uint8)


def scaled(x: Tensor) -> Tensor:
    return x / 255


# ---- one step is the optimiser's textbook step


class PlainSGD:
    """Momentum as PyTorch has it: the velocity starts at the first gradient."""

    def __init__(self) -> None:
        self.velocity = np.zeros(3)

    def step(self, gradient: NDArray[Any], lr: float) -> NDArray[Any]:
        self.velocity = 0.9 * self.velocity + gradient
        return lr * self.velocity


class PlainAdam:
    """Kingma 2015, Algorithm 1."""

    def __init__(self) -> None:
        self.mean, self.square, self.t = np.zeros(3), np.zeros(3), 0

    def step(self, gradient: NDArray[Any], lr: float) -> NDArray[Any]:
        self.t += 1
        self.mean = 0.9 * self.mean + 0.1 * gradient
        self.square = 0.999 * self.square + 0.001 * gradient**2
        corrected = np.sqrt(self.square / (1 - 0.999**self.t)) + 1e-8
        return np.asarray(lr * self.mean / (1 - 0.9**self.t) / corrected)


class PlainRMSprop:
    """With Keras's constants."""

    def __init__(self) -> None:
        self.square = np.zeros(3)

    def step(self, gradient: NDArray[Any], lr: float) -> NDArray[Any]:
        self.square = 0.9 * self.square + 0.1 * gradient**2
        return np.asarray(lr * gradient / (np.sqrt(self.square) + 1e-7))


@pytest.mark.parametrize(("name", "plain"), [("sgd", PlainSGD), ("adam", PlainAdam), ("rmsprop", PlainRMSprop)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("gradient_clip", [None, 0.5])
def test_training_equals_a_plain_loop(name: str, plain: Callable[[], Any], weight_decay: float, gradient_clip: float | None) -> None:
    options = Training(
        optimizer=name, lr=0.05, schedule="step", step_at=0.5, batch_size=10, weight_decay=weight_decay, gradient_clip=gradient_clip
    )
    objective = LeastSquares()
    history = fit(objective, options)

    weight, optimizer = np.array([0.5, -0.25, 1.0]), plain()
    order, noise = (torch.Generator().manual_seed(derive_seed(SEED, purpose)) for purpose in ("order of rows", "noise"))
    for epoch in range(4):
        lr, losses = (0.05 if epoch < 2 else 0.005), []
        for index in torch.randperm(37, generator=order).tensor_split(4):
            x = ROWS[index.numpy()]
            error = x @ weight - x.sum(axis=1) - 0.1 * torch.randn(len(x), generator=noise).numpy()
            losses.append((error**2).mean())
            gradient = 2 * (error[:, None] * x).mean(axis=0)
            if gradient_clip is not None:
                gradient *= min(1.0, gradient_clip / np.sqrt((gradient**2).sum()))
            weight = weight - optimizer.step(gradient + weight_decay * weight, lr)
        assert history[epoch].terms["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
        assert history[epoch].lr == pytest.approx(lr)
    np.testing.assert_allclose(objective.weight.detach().numpy()[0], weight, rtol=1e-4, atol=1e-6)


def test_decoupled_weight_decay_differs_from_the_coupled_one() -> None:
    weights = []
    for name in ("adam", "adamw"):
        objective = LeastSquares()
        fit(objective, Training(optimizer=name, weight_decay=0.3, lr=0.05))
        weights.append(objective.weight.detach())
    assert not torch.allclose(weights[0], weights[1], atol=1e-3)


def test_every_row_is_trained_on_once_an_epoch() -> None:
    seen: list[Tensor] = []

    class Spy(LeastSquares):
        def forward(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
            seen.append(x)
            return super().forward(x, generator)

    fit(Spy(), Training(batch_size=10), n_epochs=2)
    assert [len(batch) for batch in seen] == [10, 9, 9, 9] * 2
    for epoch in (seen[:4], seen[4:]):
        found = np.sort(torch.cat(epoch).numpy(), axis=0)
        np.testing.assert_array_equal(found, np.sort(ROWS.astype(np.float32), axis=0))
    assert not torch.equal(seen[0], seen[4])


def test_a_method_may_look_at_the_first_rows_before_it_starts() -> None:
    objective = LeastSquares()
    fit(objective, Training())
    np.testing.assert_array_equal(objective.began_with.numpy(), ROWS.astype(np.float32))


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        (lambda error: {"loss": error}, r"it returned the terms 'loss', 'loss' of shape \(\d+,\)"),
        (lambda error: {"Loss": error.mean()}, "it returned the terms 'Loss'"),
        (lambda error: {"loss": 1.0}, "it returned the terms 'loss'"),
        (lambda error: error.mean(), "it returned Tensor"),
    ],
)
def test_what_is_no_loss_of_a_batch_is_refused(terms: Callable[[Tensor], Any], told: str) -> None:
    class Wrong(LeastSquares):
        def forward(self, x: Tensor, generator: torch.Generator) -> Any:
            return terms(self.code(x)[:, 0].square())

    with pytest.raises(TrainingError, match=f"Wrong.forward must return a mapping with 'loss', one number for the batch; {told}"):
        fit(Wrong(), Training(batch_size=10))


def test_the_seed_alone_decides() -> None:
    weights = []
    before = torch.get_rng_state()
    for seed in (1, 1, 2):
        objective = LeastSquares()
        fit(objective, Training(), seed=seed)
        weights.append(objective.weight.detach())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("wrong", [{"alhpa": 0.9}, {"lr": 1.0}, {"momentum": -1.0}])
def test_options_that_the_optimiser_does_not_know_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match=rf"`optimizer_options` do not suit the optimizer 'sgd': .*{next(iter(wrong))}"):
        fit(LeastSquares(), Training(optimizer="sgd", optimizer_options=wrong))


# ---- schedules


def rates(schedule: str, n_epochs: int = 200) -> NDArray[np.float64]:
    """Learning rate of every step, of which each epoch has one."""
    history = fit(LeastSquares(), Training(schedule=schedule, lr=0.01, batch_size=37), n_epochs=n_epochs)
    return np.array([record.lr for record in history])


def test_one_cycle_rises_to_its_peak_and_falls_to_almost_nothing() -> None:
    found = rates("one-cycle")
    assert int(found.argmax()) == 60 and found.max() == pytest.approx(0.01)
    assert found[0] == pytest.approx(0.01 / 25) and found[-1] < 1e-5
    assert (np.diff(found[:61]) > 0).all() and (np.diff(found[60:]) < 0).all()
    assert np.abs(np.diff(found)).max() < 0.01 * 0.03  # no jump


def test_cosine_falls_from_its_peak_to_zero() -> None:
    np.testing.assert_allclose(rates("cosine"), 0.005 * (1 + np.cos(np.pi * np.arange(200) / 200)), rtol=1e-6, atol=1e-12)


def test_step_divides_by_ten_after_two_thirds() -> None:
    np.testing.assert_allclose(rates("step"), np.where(np.arange(200) < 200 * 2 / 3, 0.01, 0.001))


def test_constant_stays() -> None:
    assert set(rates("constant", 5)) == {0.01}


# ---- what goes wrong


class Breaking(LeastSquares):
    """A term that stops being finite at a given call."""

    def __init__(self, call: int, term: str) -> None:
        super().__init__()
        self.n_calls, self.call, self.term = 0, call, term

    def forward(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        self.n_calls += 1
        terms = super().forward(x, generator)
        return terms | {self.term: terms[self.term] + (math.inf if self.n_calls == self.call else 0.0)}


@pytest.mark.parametrize("term", ["loss", "noise"])
def test_a_term_that_is_not_finite_names_itself_its_epoch_and_a_remedy(term: str, tmp_path: Path) -> None:
    told: list[EpochRecord] = []
    with pytest.raises(TrainingError, match=rf"epoch 3: the loss term '{term}' is not finite.*now 0\.02;.*'lr': 0\.002.*gradient_clip"):
        fit(Breaking(10, term), Training(batch_size=10, lr=0.02), on_epoch=told.append, checkpoint=tmp_path / "c")
    assert [record.epoch for record in told] == [1, 2]


# ---- early stopping


class Scripted(LeastSquares):
    """Validation losses as told; one call an epoch, as there are few validation rows."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.losses = iter(losses)

    def forward(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return super().forward(x, generator) if self.training else {"loss": torch.tensor(next(self.losses))}


@pytest.mark.parametrize(
    ("losses", "patience", "n_done", "best"),
    [
        ([5, 4, 3, 4, 5, 6, 7, 8], 2, 5, 3),
        ([5, 4, 3, 4, 2, 6, 7, 8], 2, 7, 5),
        ([5, 5, 5, 5, 5, 5, 5, 5], 3, 4, 1),
        ([8, 7, 6, 5, 4, 3, 2, 1], 1, 8, 8),
    ],
)
def test_patience_stops_and_returns_to_the_best_epoch(losses: list[float], patience: int, n_done: int, best: int) -> None:
    weights: list[Tensor] = []
    objective = Scripted(losses)
    options = Training(patience=patience, schedule="constant")
    history = fit(
        objective, options, n_epochs=8, validation_rows=ROWS[:5], on_epoch=lambda _: weights.append(objective.weight.detach().clone())
    )
    assert [record.validation_loss for record in history] == losses[:n_done]
    assert torch.equal(objective.weight, weights[best - 1])
    assert all(not torch.equal(objective.weight, other) for number, other in enumerate(weights, 1) if number != best)
    assert not objective.training


def test_validation_loss_is_the_mean_over_all_rows_and_the_same_noise_every_time() -> None:
    rows = np.random.default_rng(3).normal(size=(1100, 3))
    objective = LeastSquares()
    history = fit(objective, Training(lr=1e-30), n_epochs=2, validation_rows=rows)
    noise = 0.1 * torch.randn(1100, generator=torch.Generator().manual_seed(derive_seed(SEED, "validation noise"))).numpy()
    expected = ((rows @ np.array([0.5, -0.25, 1.0]) - rows.sum(axis=1) - noise) ** 2).mean()
    # The noise of one draw of 1100 differs from that of three batches, so the loss agrees within its spread only.
    assert history[0].validation_loss == history[1].validation_loss == pytest.approx(expected, rel=0.05)


def test_validation_loss_that_is_not_finite_stops() -> None:
    with pytest.raises(TrainingError, match="epoch 2: the loss term 'validation loss' is not finite"):
        fit(Scripted([1.0, math.nan]), Training(patience=2), validation_rows=ROWS[:5])


def test_validation_rows_are_not_trained_on() -> None:
    weights = []
    for validation_rows in (None, 100 * ROWS[:5]):
        objective = LeastSquares()
        fit(objective, Training(patience=None if validation_rows is None else 4, lr=1e-3), validation_rows=validation_rows)
        weights.append(objective.weight.detach())
    assert torch.equal(weights[0], weights[1])


# ---- checkpoints

VARIANTS = [
    *({"optimizer": name} for name in OPTIMIZERS),
    {"optimizer": "adam", "optimizer_options": {"amsgrad": True}},
    {"optimizer": "rmsprop", "optimizer_options": {"centered": True, "momentum": 0.5}},
    {"optimizer": "sgd", "optimizer_options": {"momentum": 0.0}},
    *({"schedule": name} for name in get_args(Schedule)),
    {"patience": 6},
]


def make_run(options: Training) -> _Run:
    rows = images()
    return _Run([Trainee([Stage(Autoencoder(), options, 6)], rows[:30], scaled, SEED, rows[30:])], 0, [[]], device=CPU)


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """All leaves of nested mappings and lists by their path."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else None
    if entries is None:
        return {name: value}
    return {path: leaf for key, entry in entries for path, leaf in flat(entry, f"{name}/{key}").items()}


def assert_same(one: Any, other: Any) -> None:
    first, second = flat(one), flat(other)
    assert first.keys() == second.keys()
    for path, value in first.items():
        if isinstance(value, Tensor):
            assert torch.equal(value, second[path]), path
        elif not callable(value):
            assert value == second[path], path


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_restored_state_is_complete_and_goes_on_alike(variant: dict[str, Any], tmp_path: Path) -> None:
    options = Training(lr=1e-3, batch_size=10, **variant)
    run, restored = make_run(options), make_run(options)
    for _ in range(3):
        run.epoch()
    write_checkpoint(tmp_path / "c", "", *run.state())
    restored.restore(*read_checkpoint(tmp_path / "c", ""))
    for _ in range(2):
        assert_same(restored.optimizer.state_dict(), run.optimizer.state_dict())
        assert_same(restored.schedule.state_dict(), run.schedule.state_dict())
        (ours,), (theirs,) = run.models, restored.models
        assert_same(theirs.objective.state_dict(), ours.objective.state_dict())
        assert_same(theirs.best, ours.best)
        assert (theirs.best_epoch, restored.finished) == (ours.best_epoch, run.finished)
        # The second time around: after one more epoch, whose duration alone may differ.
        (record,), (other,) = run.epoch().values(), restored.epoch().values()
        assert record.to_json() | {"seconds": 0} == other.to_json() | {"seconds": 0}


def test_resuming_reads_the_file_and_a_finished_one_trains_no_more(tmp_path: Path) -> None:
    path, told = tmp_path / "fit.checkpoint", []
    unbroken, resumed = LeastSquares(), LeastSquares()
    fit(unbroken, Training(), n_epochs=6)

    def stop(record: EpochRecord) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(LeastSquares(), Training(), n_epochs=6, checkpoint=path, fingerprint="a", on_epoch=stop)
    history = fit(resumed, Training(), n_epochs=6, checkpoint=path, fingerprint="a", resume=True, on_epoch=told.append)
    assert torch.equal(resumed.weight, unbroken.weight)
    assert [record.epoch for record in told] == [3, 4, 5, 6] and [record.epoch for record in history] == [1, 2, 3, 4, 5, 6]

    again = LeastSquares()
    assert fit(again, Training(), n_epochs=6, checkpoint=path, fingerprint="a", resume=True) == history
    assert torch.equal(again.weight, unbroken.weight)


def test_a_checkpoint_is_read_only_when_asked_and_only_if_it_is_this_fits(tmp_path: Path) -> None:
    path = tmp_path / "fit.checkpoint"
    fit(LeastSquares(), Training(), checkpoint=path, fingerprint="a")
    assert len(fit(LeastSquares(), Training(), checkpoint=path, fingerprint="b", n_epochs=1)) == 1
    with pytest.raises(ModelFileError, match="other training rows"):
        fit(LeastSquares(), Training(), checkpoint=path, fingerprint="c", resume=True)
    fit(LeastSquares(), Training(), checkpoint=tmp_path / "none", resume=True, n_epochs=1)  # nothing there yet: from the beginning


# ---- precision


def test_half_precision_trains_float32_weights_about_as_well() -> None:
    losses, weights = {}, {}
    for precision in ("32", "bf16"):
        objective = Autoencoder()
        stage = Stage(objective, Training(precision=precision, lr=0.01), 8)
        history = train(Trainee([stage], images(), scaled, SEED), device=CPU)
        losses[precision] = [record.terms["loss"] for record in history]
        weights[precision] = torch.cat([weight.flatten() for weight in objective.parameters()])
        assert {tensor.dtype for tensor in objective.state_dict().values()} == {torch.float32, torch.int64}
        assert losses[precision][-1] < 0.6 * losses[precision][0]
    assert losses["bf16"][-1] == pytest.approx(losses["32"][-1], rel=0.1)
    assert not torch.equal(weights["bf16"], weights["32"])  # it was computed in half precision at all


# ---- scoring


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 149), min_size=1, max_size=3 * SCORING_ROWS))
def test_a_row_gets_the_same_result_in_any_company(chosen: list[int]) -> None:
    rows = images(150)
    network = Autoencoder().eval()
    whole = map_batches(network.code, rows, scaled, device=CPU)
    assert whole.shape == (150, 2) and whole.dtype == np.float32
    np.testing.assert_array_equal(map_batches(network.code, rows[chosen], scaled, device=CPU), whole[chosen])


@pytest.mark.parametrize("n_rows", [1, SCORING_ROWS - 1, SCORING_ROWS, SCORING_ROWS + 1, 3 * SCORING_ROWS])
def test_batches_have_a_fixed_size_and_results_the_rows_own_number(n_rows: int) -> None:
    sizes = []

    def first_value(x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        sizes.append(len(x))
        return x[:, :1]

    rows = np.arange(3.0 * n_rows).reshape(n_rows, 3)
    np.testing.assert_array_equal(map_batches(first_value, rows, unchanged, device=CPU), rows[:, :1])
    assert sizes == [SCORING_ROWS] * math.ceil(n_rows / SCORING_ROWS)


def test_images_arrive_with_channels_first_and_as_float32() -> None:
    rows = torch.from_numpy(np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5))
    x = as_network_input(rows, lambda rows: rows / 2)
    assert x.shape == (2, 5, 3, 4) and x.dtype == torch.float32
    assert x[1, 4, 2, 3] == rows[1, 2, 3, 4] / 2
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_large_numbers_keep_their_precision_until_they_are_scaled() -> None:
    rows = torch.tensor([[1e9 + 1], [1e9 + 2]], dtype=torch.float64)
    assert as_network_input(rows, lambda rows: rows - 1e9).tolist() == [[1], [2]]
