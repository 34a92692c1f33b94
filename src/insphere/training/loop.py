"""The only training loop."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from insphere.errors import ParameterError, TrainingError
from insphere.seeding import derive_seed
from insphere.training.checkpoint import read_checkpoint, write_checkpoint
from insphere.training.device import choose_precision, make_fabric, place, single_precision, threads_for
from insphere.training.feed import Feed
from insphere.training.history import EpochRecord
from insphere.training.optimizer import make_optimizer, make_schedule
from insphere.training.processes import Processes
from insphere.training.stacked import STACKED_PRECISION, StackedObjective, clip_gradients_apart
from insphere.training.trainee import Trainee


def train(
    trainee: Trainee,
    *,
    device: torch.device,
    fingerprint: str = "",
    checkpoint: Path | None = None,
    resume: bool = False,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> list[EpochRecord]:
    """Train one model in place and return its history.

    Parameters
    ----------
    trainee : Trainee
    device : torch.device
        Where to compute, and where the trained objective is in the end.
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

    def after_epoch(run: _Run, records: Mapping[int, EpochRecord]) -> None:
        if checkpoint is not None and run.processes.first:
            write_checkpoint(checkpoint, fingerprint, *run.state())
        if on_epoch is not None:
            on_epoch(records[0])

    return _train([trainee], device, saved, after_epoch, fingerprint)[0]


def train_together(
    trainees: Sequence[Trainee],
    *,
    device: torch.device,
    on_epoch: Callable[[int, EpochRecord], None] | None = None,
) -> list[list[EpochRecord]]:
    """Train several models as one, in place, and return their histories.

    Each model has its own rows, order of rows, noise, early stopping and history, and becomes what `train` would have made of it alone,
    but for rounding: sums over a batch are taken in another order.

    Parameters
    ----------
    trainees : sequence of Trainee
        Their stages agree in everything but the values of the objectives' tensors, and they have equally many rows.
    device : torch.device
    on_epoch : callable, optional
        Called with the position of a model and its finished `EpochRecord`; `EpochRecord.seconds` is the time of all models together.

    Raises
    ------
    ParameterError
        If the models cannot be trained as one.
    TrainingError
        If a loss term is not finite; the message names the model, the epoch and the term.
    """
    if len({(trainee.rows.shape, trainee.rows.dtype, len(trainee.stages)) for trainee in trainees}) > 1:
        raise ParameterError("Models that are trained as one must have equally many rows of one shape and type, and equally many stages.")

    def after_epoch(run: _Run, records: Mapping[int, EpochRecord]) -> None:
        if on_epoch is not None:
            for model, record in records.items():
                on_epoch(model, record)

    return _train(trainees, device, None, after_epoch)


def _train(
    trainees: Sequence[Trainee],
    device: torch.device,
    saved: tuple[Mapping[str, Any], dict[str, Tensor]] | None,
    after_epoch: Callable[["_Run", Mapping[int, EpochRecord]], None],
    fingerprint: str = "",
) -> list[list[EpochRecord]]:
    # The state of a later stage holds all that it took over from those before it, so these need not be trained again.
    first = 0 if saved is None else saved[0]["stage"]
    histories = [[] if saved is None else [EpochRecord.from_json(record) for record in saved[0]["earlier"]] for _ in trainees]
    for number in range(first, len(trainees[0].stages)):
        if number > first:
            for trainee in trainees:
                trainee.stages[number].objective.start_from(trainee.stages[number - 1].objective)
        run = _Run(trainees, number, histories, device=device)
        run.processes.agree(fingerprint)
        if number == first and saved is not None:
            run.restore(*saved)
        while not run.finished:
            with single_precision(), threads_for(trainees[0].rows[0].size):
                records = run.epoch()
            after_epoch(run, records)
        run.finish()
        histories = [earlier + model.history for earlier, model in zip(histories, run.models, strict=True)]
    return histories


class _Model:
    """What each model of a run has for itself: objective, random generators, history, early stopping."""

    def __init__(self, trainee: Trainee, number: int, earlier: Sequence[EpochRecord], device: torch.device) -> None:
        self.stage, self.earlier, self.name = trainee.stages[number], earlier, trainee.name
        self.objective = self.stage.objective
        self.n_planned = len(earlier) + sum(stage.n_epochs for stage in trainee.stages[number:])
        # The last stage draws from the fit's own seed, so that a stage before it leaves its order of rows and its noise as they were.
        seed = trainee.seed if number == len(trainee.stages) - 1 else derive_seed(trainee.seed, f"stage {number}")
        self.order = torch.Generator().manual_seed(derive_seed(seed, "order of rows"))
        self.noise = torch.Generator(device=device).manual_seed(derive_seed(seed, "noise"))
        self.validation_seed = derive_seed(seed, "validation noise")
        rows = trainee.validation_rows
        self.validation = None if rows is None or not len(rows) else Feed([rows], [trainee.transform], device)
        self.history: list[EpochRecord] = []
        self.stopped = False
        self.best: dict[str, Tensor] | None = None
        self.best_epoch = 0

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or patience has run out, or the objective has asked to stop."""
        n_done, patience = len(self.history), self.stage.options.patience
        stalled = patience is not None and self.best is not None and n_done - self.best_epoch >= patience
        return n_done >= self.stage.n_epochs or stalled or self.stopped

    def tensors(self) -> dict[str, Tensor]:
        """Return a copy of the objective's state."""
        return {name: tensor.clone() for name, tensor in self.objective.state_dict().items()}

    def record(self, means: Mapping[str, float], validation_loss: float | None, lr: float, seconds: float) -> EpochRecord:
        """Keep and return the record of a finished epoch."""
        number = len(self.earlier) + len(self.history) + 1
        self.history.append(EpochRecord(number, self.n_planned, means, validation_loss, lr, seconds, self.stage.name))
        return self.history[-1]

    def check_finite(self, means: Mapping[str, float]) -> None:
        """Raise if a mean of the epoch that is about to be recorded is not finite."""
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            listed = ", ".join(repr(name) for name in sorted(broken, key=lambda name: name == "loss"))
            of_which = f" of {self.name}" if self.name else ""
            lr = self.stage.options.lr
            raise TrainingError(
                f"Training{of_which} stopped in epoch {len(self.earlier) + len(self.history) + 1}: the loss term {listed} is not finite."
                f" Try a smaller learning rate (now {lr:g}; for example training={{'lr': {lr / 10:g}}}) or"
                " training={'gradient_clip': 1.0}, and check the rows for extreme values."
            )


class _Run:
    """One stage's training of one model, or of several as one: all state, and the step from one epoch to the next."""

    def __init__(self, trainees: Sequence[Trainee], number: int, earlier: Sequence[Sequence[EpochRecord]], *, device: torch.device) -> None:
        stage, rows = trainees[0].stages[number], trainees[0].rows
        self.number, self.options, self.n_epochs, self.device = number, stage.options, stage.n_epochs, device
        self.convolutional = rows.ndim == 4
        self.processes = Processes.here()
        self.models = [_Model(trainee, number, own, device) for trainee, own in zip(trainees, earlier, strict=True)]
        self.feed = Feed([trainee.rows for trainee in trainees], [trainee.transform for trainee in trainees], device)
        self.n_batches = self.options.batches_per_epoch(len(rows))
        objectives = [model.objective for model in self.models]
        for index, objective in enumerate(objectives):
            place(objective, device, convolutional=self.convolutional)
            objective.train()
            with torch.no_grad():
                objective.begin(self.feed.first(index, 1024))
        # One model is trained as it is: stacked, it would be slower, and its sums would round differently.
        self.stacked = StackedObjective(objectives) if len(objectives) > 1 else None
        module = self.stacked or objectives[0]
        precision = choose_precision(self.options.precision, device, row_values=rows[0].size, convolutional=self.convolutional)
        if self.stacked is not None and precision != STACKED_PRECISION:
            raise ParameterError("Models that are trained as one train in float32; give training={'precision': '32'}.")
        if self.stacked is not None and self.processes.several:
            raise ParameterError("Models that are trained as one are trained by one process; start it without torchrun.")
        if self.processes.several and len(rows) // self.n_batches < 2 * self.processes.n:
            raise ParameterError(
                f"A batch of {len(rows) // self.n_batches} rows is too small for {self.processes.n} processes; give larger batches"
                " (--set training.batch_size=N), more rows or fewer processes."
            )
        self.fabric = make_fabric(device, precision)
        self.module, self.optimizer = self.fabric.setup(module, make_optimizer(module, self.options))
        self.processes.share_batches(self.module, together=True)
        self.schedule = make_schedule(self.optimizer, self.options, self.n_epochs * self.n_batches)
        # Of models that end before the others: they go on with them, to no effect.
        self.ended: dict[int, dict[str, Tensor]] = {}

    @property
    def finished(self) -> bool:
        """Whether all models are."""
        return all(model.finished for model in self.models)

    def epoch(self) -> dict[int, EpochRecord]:
        """Train one epoch and return its record for each model that was not finished, by position."""
        started = time.perf_counter()
        active = {index: model for index, model in enumerate(self.models) if not model.finished}
        for model in self.models:
            model.objective.train()
        order = torch.stack([self.feed.shuffled(position, model.order) for position, model in enumerate(self.models)])
        totals: dict[str, Tensor] = {}
        for index in order.tensor_split(self.n_batches, dim=1):
            for name, value in self._step(index).items():
                totals[name] = totals.get(name, torch.zeros((), device=self.device)) + value.detach().float()
        sums = {name: total.reshape(-1).tolist() for name, total in self.processes.mean(totals).items()}
        ends: dict[int, tuple[dict[str, float], float | None]] = {}
        for position, model in active.items():
            means = {name: values[position] / self.n_batches for name, values in sums.items()}
            model.check_finite(means)
            with torch.no_grad():
                model.stopped = not model.objective.end_epoch(self.feed.in_order(position))
            ends[position] = means, self._validate(model)
        seconds = time.perf_counter() - started
        records = {position: self.models[position].record(*end, self._last_lr, seconds) for position, end in ends.items()}
        if not self.finished:
            self.ended |= {position: model.tensors() for position, model in active.items() if model.finished}
        return records

    def finish(self) -> None:
        """Return to the best epoch where there was early stopping, and leave the objectives in evaluation mode."""
        if self.stacked is not None:
            self.stacked.release()
        self.processes.share_batches(self.module, together=False)
        for position, model in enumerate(self.models):
            state = model.best or self.ended.get(position)
            if state is not None:
                model.objective.load_state_dict(state)
            place(model.objective, self.device, convolutional=self.convolutional)
            model.objective.eval()

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return everything a later process needs to go on with one model: (JSON-able header, named tensors)."""
        (model,) = self.models
        optimizer = self.optimizer.state_dict()
        tensors = {f"objective/{name}": value for name, value in model.objective.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in (model.best or {}).items()}
        tensors |= {"generator/order": model.order.get_state(), "generator/noise": model.noise.get_state()}
        for index, entries in optimizer["state"].items():
            tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in entries.items() if value is not None}
        header = {
            "stage": self.number,
            "earlier": [record.to_json() for record in model.earlier],
            "history": [record.to_json() for record in model.history],
            "best_epoch": model.best_epoch,
            "stopped": model.stopped,
            "schedule": {key: value for key, value in self.schedule.state_dict().items() if key in _SCHEDULE_STATE},
            "param_groups": [{key: value for key, value in group.items() if key in _GROUP_STATE} for group in optimizer["param_groups"]],
        }
        return header, tensors

    def restore(self, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Take up the state that `state` returned."""
        (model,) = self.models
        model.objective.load_state_dict(_below(tensors, "objective/"))
        model.best = _below(tensors, "best/") or None
        model.best_epoch, model.stopped = header["best_epoch"], header["stopped"]
        model.order.set_state(tensors["generator/order"])
        model.noise.set_state(tensors["generator/noise"])
        optimizer = self.optimizer.state_dict()
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in _below(tensors, "optimizer/").items():
            index, entry = name.split("/")
            entries.setdefault(int(index), {})[entry] = value
        for group, saved in zip(optimizer["param_groups"], header["param_groups"], strict=True):
            group.update(saved)
        self.optimizer.load_state_dict({"state": entries, "param_groups": optimizer["param_groups"]})
        self.schedule.load_state_dict(self.schedule.state_dict() | dict(header["schedule"]))
        model.history = [EpochRecord.from_json(record) for record in header["history"]]

    def _step(self, index: Tensor) -> dict[str, Tensor]:
        x = self.feed.batch(self.processes.share(index))
        noise = [self.processes.noise(model.noise, index) for model in self.models]
        terms: dict[str, Tensor] = self.module(x, noise[0] if self.stacked is None else noise)
        self._last_lr = float(self.optimizer.param_groups[0]["lr"])
        self.optimizer.zero_grad()
        loss = self._loss_of(terms).sum()
        if self.processes.several:
            weight = self.processes.weight(index)
            loss, terms = loss * weight, {name: value * weight for name, value in terms.items()}
        self.fabric.backward(loss)
        self._clip_gradients()
        self.optimizer.step()
        self.schedule.step()
        return terms

    def _loss_of(self, terms: Mapping[str, Tensor]) -> Tensor:
        loss = terms.get("loss") if isinstance(terms, Mapping) else None
        if not isinstance(loss, Tensor) or loss.numel() != len(self.models):
            got = type(terms).__name__ if not isinstance(terms, Mapping) else f"the terms {', '.join(map(repr, terms)) or 'none'}"
            shape = f", 'loss' of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else ""
            objective = type(self.models[0].objective).__name__
            raise TrainingError(
                f"{objective}.forward must return a mapping with 'loss', one number for the batch; it returned {got}{shape}."
            )
        return loss

    def _clip_gradients(self) -> None:
        max_norm = self.options.gradient_clip
        if max_norm is not None and self.stacked is None:
            self.fabric.clip_gradients(self.module, self.optimizer, max_norm=max_norm)
        elif max_norm is not None:
            clip_gradients_apart(self.module.parameters(), max_norm)

    def _validate(self, model: _Model) -> float | None:
        if model.validation is None:
            return None
        model.objective.eval()
        noise = torch.Generator(device=self.device).manual_seed(model.validation_seed)
        total = 0.0
        with torch.no_grad():
            for x in model.validation.in_order(0):
                total += float(model.objective(x, noise)["loss"]) * len(x)
        loss = total / model.validation.n_rows
        model.check_finite({"validation loss": loss})
        if model.best is None or loss < min(r.validation_loss for r in model.history if r.validation_loss is not None):
            model.best, model.best_epoch = model.tensors(), len(model.history) + 1
        return loss


_SCHEDULE_STATE = ("last_epoch", "_step_count", "_last_lr")
_GROUP_STATE = ("lr", "initial_lr")


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
