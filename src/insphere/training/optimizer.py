"""The optimiser and the learning-rate schedule that the training options ask for."""

import math
from collections.abc import Callable

import torch
from torch import nn

from insphere.errors import ParameterError
from insphere.training.options import OPTIMIZERS, Training

_OPTIMIZER_CLASSES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}


def make_optimizer(module: nn.Module, options: Training) -> torch.optim.Optimizer:
    """Return the optimiser of the module's parameters.

    Raises
    ------
    ParameterError
        If `Training.optimizer_options` do not suit it.
    """
    arguments = OPTIMIZERS[options.optimizer] | dict(options.optimizer_options or {})
    make = _OPTIMIZER_CLASSES[options.optimizer]
    try:
        return make(module.parameters(), lr=options.lr, weight_decay=options.weight_decay, **arguments)
    except (TypeError, ValueError) as error:
        # PyTorch names the argument that is unknown, given twice or out of range.
        raise ParameterError(f"`optimizer_options` do not suit the optimizer {options.optimizer!r}: {error}.") from error


def make_schedule(optimizer: torch.optim.Optimizer, options: Training, n_steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the learning-rate schedule over `n_steps` steps."""
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
