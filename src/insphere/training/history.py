"""Training as data: one record an epoch."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class EpochRecord:
    """What one epoch did.

    Attributes
    ----------
    epoch, n_epochs : int
        Number of this epoch, from 1, and of the epochs planned; over all stages of the training.
    terms : mapping of str to float
        Mean of each loss term over the epoch's batches; ``"loss"`` is the one minimised.
    validation_loss : float or None
        The loss on rows held out for early stopping, where there are any.
    lr : float
        Learning rate of the epoch's last step.
    seconds : float
        Wall-clock time of the epoch; of all models, where several are trained as one.
    stage : str
        "training", or the stage before it, such as "pretraining".

    Examples
    --------
    ``fit(X, on_epoch=print)`` follows a training line by line:

    >>> print(EpochRecord(3, 20, {"loss": 1.25, "kl": 0.5, "distance": 0.75}, None, 0.001, 0.31))
    training, epoch 3 of 20: loss 1.25 (kl 0.5, distance 0.75), 0.3 s
    """

    epoch: int
    n_epochs: int
    terms: Mapping[str, float]
    validation_loss: float | None
    lr: float
    seconds: float
    stage: str = "training"

    def __str__(self) -> str:
        """Return a line for people."""
        parts = ", ".join(f"{name} {value:.4g}" for name, value in self.terms.items() if name != "loss")
        validated = "" if self.validation_loss is None else f", {self.validation_loss:.4g} on rows held out"
        loss = f"loss {self.terms['loss']:.4g}" + (f" ({parts})" if parts else "")
        return f"{self.stage}, epoch {self.epoch} of {self.n_epochs}: {loss}{validated}, {self.seconds:.1f} s"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "EpochRecord":
        """Return the record that `to_json` described."""
        return cls(**{field.name: record[field.name] for field in dataclasses.fields(cls)})
