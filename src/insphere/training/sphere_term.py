"""The sphere in a loss: the distance of codes to a centre that training moves, fixes or learns."""

import dataclasses
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from insphere.fields import Declared
from insphere.nets.shared_batches import SharesBatches
from insphere.validation import Within

Center = Literal["batch-mean", "batch-mean-detached", "moving-average", "learned"]
"""How the centre c is found in training: see `SphereReading`."""


@dataclasses.dataclass(frozen=True)
class SphereReading(Declared):
    """How to read what the paper leaves open about the distance in its loss (eq. 12) and its centre.

    Parameters
    ----------
    norm : {"plain", "squared"}
        The distance term is ‖z − c‖ (eq. 12 as printed) or ‖z − c‖² (eq. 11).
    center : {"batch-mean", "batch-mean-detached", "moving-average", "learned"}
        The centre in training: mean of the batch's codes (Algorithm 1) with or without gradient, their exponential moving average, or
        a learned parameter (sec. 3.2).
    final_center : {"training-mean", "last"}
        The centre c* for scoring: mean over the training set, or the one that training ended with (Algorithm 1, line 10).
    center_momentum : float
        Weight of the past in the moving average, in [0, 1).

    Examples
    --------
    >>> SphereReading(norm="squared").center
    'batch-mean'
    """

    norm: Literal["plain", "squared"] = "plain"
    center: Center = "batch-mean"
    final_center: Literal["training-mean", "last"] = "training-mean"
    center_momentum: Annotated[float, Within(at_least=0, below=1)] = 0.9


class SphereTerm(SharesBatches):
    """Mean distance of codes to the sphere's centre, which it keeps.

    Source: Zhou 2021, second term of eq. 12. Deviation: none; see `SphereReading` for what the paper leaves open.

    Examples
    --------
    >>> SphereTerm(2, SphereReading())(torch.tensor([[[0.0, 0.0], [6.0, 8.0]]])).item()
    5.0
    """

    def __init__(self, latent_dim: int, reading: SphereReading) -> None:
        super().__init__()
        self.reading = reading
        self.center: Tensor
        if reading.center == "learned":
            self.center = nn.Parameter(torch.zeros(latent_dim))
        else:
            self.register_buffer("center", torch.zeros(latent_dim))

    def forward(self, codes: Tensor) -> Tensor:
        """Return the mean distance, in code units, of codes of shape (n_draws, n, latent_dim)."""
        return self.distance(codes - self._center_for(codes))

    def distance(self, offsets: Tensor) -> Tensor:
        """Return the mean norm, or squared norm, of codes less their centre; shape (…, latent_dim)."""
        squares = offsets.square().sum(dim=-1)
        # The root's gradient is infinite at zero, where a code meets its centre.
        return squares.mean() if self.reading.norm == "squared" else (squares + 1e-12).sqrt().mean()

    def final_center(self) -> Tensor | None:
        """Return the centre that training ended with where it is to be c*, else None (the mean of the training codes)."""
        ends_with_own = self.reading.final_center == "last" or self.reading.center in ("learned", "moving-average")
        return self.center.detach() if ends_with_own else None

    def _center_for(self, codes: Tensor) -> Tensor:
        if self.reading.center == "learned":
            return self.center
        if not self.training:
            return self.center
        batch_mean, _ = self.batch_mean(codes, (0, 1))
        with torch.no_grad():
            keep = self.reading.center_momentum if self.reading.center == "moving-average" else 0.0
            self.center.copy_(keep * self.center + (1 - keep) * batch_mean)
        if self.reading.center == "batch-mean":
            return batch_mean
        return self.center.clone() if self.reading.center == "moving-average" else batch_mean.detach()
