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
    """

    epoch: int
    n_epochs: int
    terms: Mapping[str, float]
    validation_loss: float | None
    lr: float
    seconds: float
    stage: str = "training"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "EpochRecord":
        """Return the record that `to_json` described."""
        return cls(**{field.name: record[field.name] for field in dataclasses.fields(cls)})
