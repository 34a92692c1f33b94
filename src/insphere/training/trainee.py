"""What is to be trained, as data: a model's rows, and the stages that it goes through."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from insphere.training.feed import Transform
from insphere.training.objective import AbstractObjective
from insphere.training.options import Training


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


@dataclasses.dataclass(frozen=True, eq=False)
class Trainee:
    """One model to train: all that a training with one seed needs to know.

    Attributes
    ----------
    stages : sequence of Stage
        At least one, trained one after the other in place; in the end the objective of the last is in evaluation mode.
    rows : ndarray, shape (n, height, width, channels) or (n, features)
        Raw training rows.
    transform : callable
        The fitted preprocessing; it treats each row alone.
    seed : int
        Source of the order of rows and of noise.
    validation_rows : ndarray, optional
        Normal rows for early stopping; needed where a stage's `Training.patience` is set.
    name : str
        What an error calls it, where several are trained.
    """

    stages: Sequence[Stage]
    rows: NDArray[Any]
    transform: Transform
    seed: int
    validation_rows: NDArray[Any] | None = None
    name: str = ""
