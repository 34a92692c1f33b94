"""The choices of the training loop, and how they depend on the number of rows when they are left open."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from insphere.fields import AtLeastOne, AtLeastTwo, Declared, NotNegative, OpenShare, Positive
from insphere.validation import Within

Optimizer = Literal["adam", "adamw", "rmsprop", "sgd"]

OPTIMIZERS: dict[Optimizer, dict[str, Any]] = {
    "adam": {},
    "adamw": {},
    # Keras's defaults, which the paper's authors will have used (Zhou 2021, sec. 4: Keras, RMSprop); PyTorch's are alpha 0.99, eps 1e-8.
    "rmsprop": {"alpha": 0.9, "eps": 1e-7},
    "sgd": {"momentum": 0.9},
}
"""Name of each optimiser and the constants that differ from PyTorch's defaults."""

Schedule = Literal["one-cycle", "constant", "cosine", "step"]

Precision = Literal["auto", "32", "bf16"]
"""Of training; scoring is always in float32."""


@dataclasses.dataclass(frozen=True)
class Training(Declared):
    """How a neural detector is trained.

    Parameters
    ----------
    optimizer : {"adam", "adamw", "rmsprop", "sgd"}
        Optimiser; "rmsprop" with Keras's constants.
    lr : float
        (Peak) learning rate.
    schedule : {"one-cycle", "constant", "cosine", "step"}
        Learning rate over the steps: up and down again, constant, half a cosine to zero, or divided by ten at `step_at`.
    step_at : float
        Fraction of the epochs after which "step" divides the learning rate by ten.
    batch_size : int, optional
        Rows a step. None gives 200 (the paper's), less where that would leave fewer than eight steps an epoch, at least 16.
    weight_decay : float
        L2 penalty (decoupled for "adamw").
    optimizer_options : mapping, optional
        Further arguments of the PyTorch optimiser, such as ``{"alpha": 0.99}`` for RMSprop.
    gradient_clip : float, optional
        Largest norm of the gradient; None for no limit.
    precision : {"auto", "32", "bf16"}
        "auto" is bfloat16 where the hardware computes it natively and faster, see `insphere.training.device.choose_precision`.
    patience : int, optional
        Stop when the loss on held-out normal rows has not improved for this many epochs, and return to the best epoch. None trains
        all epochs.
    validation_fraction : float
        Share of the training rows held out for `patience`, in (0, 0.5]. Neither these nor the calibration rows are trained on.
    memory_limit : int
        Bytes that the rows of image files, or of a .npy file, may take in memory; default 1 GiB. More of them are kept decoded in a
        temporary file (in TMPDIR), read a megabyte at a time, and shuffled as far as 128 MiB of them reach. Nothing else changes.

    Examples
    --------
    >>> Training(lr=1e-3).optimizer
    'adam'
    """

    optimizer: Optimizer = "adam"
    lr: Positive = 3e-3
    schedule: Schedule = "one-cycle"
    step_at: OpenShare = 2 / 3
    batch_size: AtLeastTwo | None = None
    weight_decay: NotNegative = 0.0
    optimizer_options: Mapping[str, Any] | None = None
    gradient_clip: Positive | None = None
    precision: Precision = "auto"
    patience: AtLeastOne | None = None
    validation_fraction: Annotated[float, Within(above=0, at_most=0.5)] = 0.1
    memory_limit: AtLeastOne = 2**30

    def batches_per_epoch(self, n_rows: int) -> int:
        """Return the number of nearly equal batches that `n_rows` are dealt into; none has fewer than two rows.

        Examples
        --------
        >>> Training().batches_per_epoch(5000), Training().batches_per_epoch(100)
        (25, 6)
        """
        batch_size = self.batch_size or max(16, min(200, n_rows // 8))
        return max(1, min(math.floor(n_rows / batch_size + 0.5), n_rows // 2))


def default_epochs(batches_per_epoch: int, n_steps: int = 500) -> int:
    """Return how many epochs make about `n_steps` steps, between 10 and 200.

    For Deep SVDD-VAE, twice as many as five hundred gained nothing on digits, and lost on CIFAR-10, in telling held-out normal images
    from rotated, shuffled and blended ones, which needs no labels.

    Examples
    --------
    >>> default_epochs(25), default_epochs(5000), default_epochs(1)
    (20, 10, 200)
    """
    return min(200, max(10, math.ceil(n_steps / batches_per_epoch)))
