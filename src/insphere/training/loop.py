"""The only training loop and the only loop over batches to score."""

import copy
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from insphere.errors import ParameterError, TrainingError
from insphere.seeding import derive_seed
from insphere.training.checkpoint import read_checkpoint, write_checkpoint
from insphere.training.device import choose_precision, place, threads_for
from insphere.training.history import EpochRecord
from insphere.training.objective import AbstractObjective
from insphere.training.options import OPTIMIZERS, Training

SCORING_ROWS = 16
"""Rows a scoring batch always has on a CPU: a fixed shape makes every row's result independent of how many rows came with it, and few
rows leave a network's activations in the cache."""

_ACCELERATOR_ROWS = 512  # the same on a device that computes rows side by side

_RESIDENT_BYTES = 2**31
_OPTIMIZER_CLASSES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


def as_network_input(rows: Tensor, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """Return preprocessed float32 rows with channels first (a channels-last view of images, no copy).

    Parameters
    ----------
    rows : Tensor, shape (n, height, width, channels) or (n, features)
        Raw rows; integers become float32, floats keep their precision until they are scaled.
    transform : callable
        The fitted preprocessing.
    """
    x = transform(rows if rows.is_floating_point() else rows.float()).float()
    return x.permute(0, 3, 1, 2) if x.ndim == 4 else x


@dataclasses.dataclass(frozen=True)
class Stage:
    """One part of a training: an objective, and how long and with what it is trained.

    Attributes
    ----------
    objective : AbstractObjective
        Networks with a loss; takes over what it wants from the objective of the stage before (`AbstractObjective.start_from`).
    options : Training
    n_epochs : int
        Epochs to train.
    name : str
        What the epochs' records call it.
    """

    objective: AbstractObjective
    options: Training
    n_epochs: int
    name: str = "training"


def train(
    stages: Sequence[Stage],
    rows: NDArray[Any],
    transform: Callable[[Tensor], Tensor],
    *,
    seed: int,
    device: torch.device,
    validation_rows: NDArray[Any] | None = None,
    fingerprint: str = "",
    checkpoint: Path | None = None,
    resume: bool = False,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> list[EpochRecord]:
    """Train the objectives of the stages in place, one after the other.

    Parameters
    ----------
    stages : sequence of Stage
        At least one; on return the objective of the last is on `device`, in evaluation mode.
    rows : ndarray, shape (n, height, width, channels) or (n, features)
        Raw training rows, held in memory as they are (uint8 images stay uint8).
    transform : callable
        The fitted preprocessing, applied to each batch on the device.
    seed : int
        Source of the order of rows and of noise.
    validation_rows : ndarray, optional
        Normal rows for early stopping; needed where a stage's `Training.patience` is set.
    fingerprint : str
        Identifies rows and parameters; a checkpoint with another one is refused.
    checkpoint : Path, optional
        File that every finished epoch replaces.
    resume : bool
        Go on from `checkpoint` if it exists; the result equals that of an unbroken run.
    on_epoch : callable, optional
        Called with each finished `EpochRecord`.

    Raises
    ------
    TrainingError
        If a loss term is not finite; the message names the epoch and the term.
    ModelFileError
        If the checkpoint cannot be read, or belongs to other rows or parameters.
    """
    saved = read_checkpoint(checkpoint, fingerprint) if resume and checkpoint is not None and checkpoint.exists() else None
    # The state of a later stage holds all that it took over from those before it, so these need not be trained again.
    first = 0 if saved is None else saved[0]["stage"]
    history = [] if saved is None else [EpochRecord.from_json(record) for record in saved[0]["earlier"]]
    for number, stage in enumerate(stages[first:], start=first):
        if number > first:
            stage.objective.start_from(stages[number - 1].objective)
        # The last stage draws from the fit's own seed, so that a stage before it leaves its order of rows and its noise as they were.
        stage_seed = seed if number == len(stages) - 1 else derive_seed(seed, f"stage {number}")
        run = _Run(stage, rows, transform, seed=stage_seed, device=device, validation_rows=validation_rows)
        run.number, run.earlier, run.n_later = number, history, sum(later.n_epochs for later in stages[number + 1 :])
        if number == first and saved is not None:
            run.restore(*saved)
        while not run.finished:
            with threads_for(rows[0].size):
                record = run.epoch()
            if checkpoint is not None:
                write_checkpoint(checkpoint, fingerprint, *run.state())
            if on_epoch is not None:
                on_epoch(record)
        run.finish()
        history = history + run.history
    return history


def map_batches(
    function: Callable[[Tensor], Tensor],
    rows: NDArray[Any],
    transform: Callable[[Tensor], Tensor],
    *,
    device: torch.device,
) -> NDArray[np.float32]:
    """Apply `function` to preprocessed rows in batches of a fixed size and return its results as one float32 array.

    Parameters
    ----------
    function : callable
        From network input (`SCORING_ROWS` of them, …) to a tensor with as many rows; called without gradients.
    rows : ndarray, shape (n, height, width, channels) or (n, features)
        Raw rows; the last batch is filled up with copies of its last row, whose results are dropped.
    """
    results: list[NDArray[np.float32]] = []
    n_rows = SCORING_ROWS if device.type == "cpu" else _ACCELERATOR_ROWS
    with torch.inference_mode(), threads_for(rows[0].size):
        for start in range(0, len(rows), n_rows):
            chunk = rows[start : start + n_rows]
            n_real = len(chunk)
            if n_real < n_rows:
                chunk = np.concatenate([chunk, np.repeat(chunk[-1:], n_rows - n_real, axis=0)])
            x = as_network_input(torch.from_numpy(np.ascontiguousarray(chunk)).to(device), transform)
            results.append(function(x)[:n_real].float().cpu().numpy())
    return np.concatenate(results)


class _Run:
    """State of one stage's training: everything that a checkpoint must hold, and the step from one epoch to the next."""

    def __init__(
        self,
        stage: Stage,
        rows: NDArray[Any],
        transform: Callable[[Tensor], Tensor],
        *,
        seed: int,
        device: torch.device,
        validation_rows: NDArray[Any] | None,
    ) -> None:
        objective, options = stage.objective, stage.options
        self.name, self.options, self.n_epochs, self.device, self.transform = stage.name, options, stage.n_epochs, device, transform
        # Its place among the stages, for the records and the checkpoint.
        self.number, self.n_later = 0, 0
        self.earlier: Sequence[EpochRecord] = ()
        self.rows = _as_tensor(rows, device)
        self.validation_rows = None if validation_rows is None or not len(validation_rows) else _as_tensor(validation_rows, device)
        self.validation_seed = derive_seed(seed, "validation noise")
        is_image = rows.ndim == 4
        fabric = _make_fabric(device, choose_precision(options.precision, device, row_values=rows[0].size, convolutional=is_image))
        place(objective, device, convolutional=is_image)
        objective.train()
        self.order = torch.Generator().manual_seed(derive_seed(seed, "order of rows"))
        self.noise = torch.Generator(device=device).manual_seed(derive_seed(seed, "noise"))
        self.n_batches = options.batches_per_epoch(len(rows))
        self.objective, self.fabric = objective, fabric
        with torch.no_grad():
            objective.begin(self._batch(self.rows, torch.arange(min(len(rows), 1024))))
        self.model, self.optimizer = fabric.setup(objective, _make_optimizer(objective, options))
        self.schedule = _make_schedule(self.optimizer, options, self.n_epochs * self.n_batches)
        self.history: list[EpochRecord] = []
        self.stopped = False
        self.best: dict[str, Tensor] | None = None
        self.best_epoch = 0

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or patience has run out, or the objective has asked to stop."""
        n_done = len(self.history)
        stalled = self.options.patience is not None and self.best is not None and n_done - self.best_epoch >= self.options.patience
        return n_done >= self.n_epochs or stalled or self.stopped

    def epoch(self) -> EpochRecord:
        """Train one epoch and return its record."""
        started, number = time.perf_counter(), len(self.history) + 1
        self.objective.train()
        totals: dict[str, Tensor] = {}
        batches = torch.randperm(len(self.rows), generator=self.order).tensor_split(self.n_batches)
        for index in batches:
            terms = self._step(self._batch(self.rows, index))
            for name, value in terms.items():
                totals[name] = totals.get(name, torch.zeros((), device=self.device)) + value.detach().float()
        means = {name: float(total) / len(batches) for name, total in totals.items()}
        _check_finite(means, len(self.earlier) + number, self.options.lr)
        with torch.no_grad():
            self.stopped = not self.objective.end_epoch(self._batches(self.rows))
        validation_loss = self._validate(number)
        seconds = time.perf_counter() - started
        n_before = len(self.earlier)
        n_planned = n_before + self.n_epochs + self.n_later
        record = EpochRecord(n_before + number, n_planned, means, validation_loss, self._last_lr, seconds, self.name)
        self.history.append(record)
        return record

    def finish(self) -> None:
        """Return to the best epoch where there was early stopping, and leave the objective in evaluation mode."""
        if self.best is not None:
            self.objective.load_state_dict(self.best)
        self.objective.eval()

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return everything a later process needs to go on: (JSON-able header, named tensors)."""
        optimizer = self.optimizer.state_dict()
        tensors = {f"objective/{name}": value for name, value in self.objective.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in (self.best or {}).items()}
        tensors |= {"generator/order": self.order.get_state(), "generator/noise": self.noise.get_state()}
        for index, entries in optimizer["state"].items():
            tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in entries.items() if value is not None}
        header = {
            "stage": self.number,
            "earlier": [record.to_json() for record in self.earlier],
            "history": [record.to_json() for record in self.history],
            "best_epoch": self.best_epoch,
            "stopped": self.stopped,
            "schedule": {key: value for key, value in self.schedule.state_dict().items() if key in _SCHEDULE_STATE},
            "param_groups": [{key: value for key, value in group.items() if key in _GROUP_STATE} for group in optimizer["param_groups"]],
        }
        return header, tensors

    def restore(self, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Take up the state that `state` returned."""
        self.objective.load_state_dict(_below(tensors, "objective/"))
        self.best = _below(tensors, "best/") or None
        self.best_epoch, self.stopped = header["best_epoch"], header["stopped"]
        self.order.set_state(tensors["generator/order"])
        self.noise.set_state(tensors["generator/noise"])
        optimizer = self.optimizer.state_dict()
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, "optimizer/").items():
            index, entry = name.split("/")
            entries.setdefault(int(index), {})[entry] = value
        for group, saved in zip(optimizer["param_groups"], header["param_groups"], strict=True):
            group.update(saved)
        self.optimizer.load_state_dict({"state": entries, "param_groups": optimizer["param_groups"]})
        self.schedule.load_state_dict(self.schedule.state_dict() | dict(header["schedule"]))
        self.history = [EpochRecord.from_json(record) for record in header["history"]]

    def _batch(self, rows: Tensor, index: Tensor) -> Tensor:
        return as_network_input(rows[index.to(rows.device)].to(self.device), self.transform)

    def _batches(self, rows: Tensor) -> Iterator[Tensor]:
        return (self._batch(rows, index) for index in torch.split(torch.arange(len(rows)), 512))

    def _step(self, x: Tensor) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = self.model(x, self.noise)
        self._last_lr = float(self.optimizer.param_groups[0]["lr"])
        self.optimizer.zero_grad()
        self.fabric.backward(terms["loss"])
        if self.options.gradient_clip is not None:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.options.gradient_clip)
        self.optimizer.step()
        self.schedule.step()
        return terms

    def _validate(self, number: int) -> float | None:
        if self.validation_rows is None:
            return None
        self.objective.eval()
        noise = torch.Generator(device=self.device).manual_seed(self.validation_seed)
        total = 0.0
        with torch.no_grad():
            for x in self._batches(self.validation_rows):
                total += float(self.objective(x, noise)["loss"]) * len(x)
        loss = total / len(self.validation_rows)
        _check_finite({"validation loss": loss}, len(self.earlier) + number, self.options.lr)
        if self.best is None or loss < min(r.validation_loss for r in self.history if r.validation_loss is not None):
            self.best, self.best_epoch = copy.deepcopy(self.objective.state_dict()), number
        return loss


_SCHEDULE_STATE = ("last_epoch", "_step_count", "_last_lr")
_GROUP_STATE = ("lr", "initial_lr")


def _make_fabric(device: torch.device, precision: str) -> Fabric:
    # Fabric announces its precision on standard error, which a library has no business to do unasked.
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        return Fabric(accelerator=device.type, devices=1, precision=precision)  # type: ignore[arg-type]
    finally:
        logger.setLevel(level)


def _make_optimizer(objective: nn.Module, options: Training) -> torch.optim.Optimizer:
    arguments = OPTIMIZERS[options.optimizer] | dict(options.optimizer_options or {})
    make = _OPTIMIZER_CLASSES[options.optimizer]
    try:
        return make(objective.parameters(), lr=options.lr, weight_decay=options.weight_decay, **arguments)
    except (TypeError, ValueError) as error:
        # PyTorch names the argument that is unknown, given twice or out of range.
        raise ParameterError(f"`optimizer_options` do not suit the optimizer {options.optimizer!r}: {error}.") from error


def _make_schedule(optimizer: torch.optim.Optimizer, options: Training, n_steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _relative_lr(options, step / max(1, n_steps)))


def _relative_lr(options: Training, done: float) -> float:
    """Return the learning rate relative to its peak when the fraction `done` of all steps is behind."""
    if options.schedule == "one-cycle":
        # Up to the peak over the first 30 % from a 25th of it, then down to almost nothing, both half cosines (Smith 2018).
        low, share = (0.04, done / 0.3) if done < 0.3 else (1e-4, 1 - (done - 0.3) / 0.7)
        return low + (1 - low) * 0.5 * (1 - math.cos(math.pi * min(1.0, max(0.0, share))))
    if options.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    if options.schedule == "step":
        return 1.0 if done < options.step_at else 0.1
    return 1.0


def _as_tensor(rows: NDArray[Any], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(rows))
    return tensor.to(device) if tensor.nbytes <= _RESIDENT_BYTES else tensor


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _check_finite(means: Mapping[str, float], epoch: int, lr: float) -> None:
    broken = [name for name, value in means.items() if not math.isfinite(value)]
    if broken:
        listed = ", ".join(repr(name) for name in sorted(broken, key=lambda name: name == "loss"))
        raise TrainingError(
            f"Training stopped in epoch {epoch}: the loss term {listed} is not finite. Try a smaller learning rate (now {lr:g};"
            f" for example training={{'lr': {lr / 10:g}}}) or training={{'gradient_clip': 1.0}}, and check the rows for extreme values."
        )
