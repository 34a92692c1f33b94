"""The sphere in a loss: the distance of codes to a centre that training moves, fixes or learns."""

import dataclasses
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from insphere.fields import Declared
from insphere.training.clusters import MOST_CENTERS, SeveralCenters
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
        Weight of the past in the moving average, in [0, 1); also in that by which several centres move unless they are learned.
    n_centers : int
        Centres, 1 to 100, for normal rows of several kinds. They start at k-means of the first codes and move as the average of
        the codes nearest to them, or are learned; each code is pulled to what `center` says of the codes nearest to the same centre.
        A centre with less than a tenth of the rows of the fullest is dropped at the end of an epoch, which the health report says.
        Rows are scored by the nearest, but for the geometry "local", which looks at no centre. The paper has one.

    Examples
    --------
    >>> SphereReading(norm="squared").center
    'batch-mean'
    """

    norm: Literal["plain", "squared"] = "plain"
    center: Center = "batch-mean"
    final_center: Literal["training-mean", "last"] = "training-mean"
    center_momentum: Annotated[float, Within(at_least=0, below=1)] = 0.9
    n_centers: Annotated[int, Within(at_least=1, at_most=MOST_CENTERS)] = 1


class SphereTerm(SeveralCenters):
    """Mean distance of codes to the sphere's centre, or to the nearest of several, which it keeps.

    Attributes
    ----------
    center : Tensor, shape (latent_dim,); (n_centers, latent_dim) of several
    in_use, rows : Tensor
        Of several: see `SeveralCenters`.

    Source: Zhou 2021, second term of eq. 12. Deviation: none with one centre; see `SphereReading` for what the paper leaves open. That
    several start at k-means, and empty ones go, is as in Ghafoori 2020; that they move with the codes is not.

    Examples
    --------
    >>> SphereTerm(2, SphereReading())(torch.tensor([[[0.0, 0.0], [6.0, 8.0]]])).item()
    5.0
    """

    def __init__(self, latent_dim: int, reading: SphereReading) -> None:
        super().__init__()
        self.reading = reading
        center = self._zero_centers(reading.n_centers, latent_dim)
        if reading.center == "learned":
            self.center = nn.Parameter(center)
        else:
            self.register_buffer("center", center)

    def begin(self, codes: Tensor) -> None:
        """Start the centre at the mean of the first rows' codes (n, latent_dim), several centres at their k-means."""
        self.center.copy_(self._first_centers(codes))

    def forward(self, codes: Tensor) -> Tensor:
        """Return the mean distance, in code units, of codes of shape (n_draws, n, latent_dim)."""
        return self.distance(codes - (self._nearest_for(codes) if self.several else self._center_for(codes)))

    def distance(self, offsets: Tensor) -> Tensor:
        """Return the mean norm, or squared norm, of codes less their centre; shape (…, latent_dim)."""
        squares = offsets.square().sum(dim=-1)
        # The root's gradient is infinite at zero, where a code meets its centre.
        return squares.mean() if self.reading.norm == "squared" else (squares + 1e-12).sqrt().mean()

    def end_epoch(self) -> None:
        """Drop those of several centres that had next to no rows in the epoch."""
        self._drop_empty()

    def final_center(self) -> Tensor | None:
        """Return the centre that training ended with where it is to be c*, else None (the mean of the training codes).

        Of several these are the ones in use, shape (n, latent_dim), and None says that c* of each is the mean of the codes nearest to it.
        """
        ends_with_own = self.reading.final_center == "last" or self.reading.center in ("learned", "moving-average")
        if not ends_with_own:
            return None
        return self.several_centers() if self.several else self.center.detach()

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

    def _nearest_for(self, codes: Tensor) -> Tensor:
        """Return the centre of each code: `_center_for` with means over the codes that are nearest to the same centre."""
        nearest = self._nearest(codes)
        if not self.training:
            return self.center[nearest]
        member, share = self._count_rows(nearest)
        if self.reading.center == "learned":
            return self.center[nearest]
        moment, _ = self.batch_mean(member.unsqueeze(-1) * codes.unsqueeze(-2), (0, 1))
        # A centre that no row of the batch is nearest to stays where it is.
        means = torch.where(share.unsqueeze(1) > 0, moment / share.clamp(min=1e-12).unsqueeze(1), self.center.detach())
        with torch.no_grad():
            # What decides which codes are a centre's must not jump with each batch's few: by batch means alone, centres soon join.
            self.center.add_((1 - self.reading.center_momentum) * (means - self.center))
        if self.reading.center == "batch-mean":
            return means[nearest]
        return (self.center.clone() if self.reading.center == "moving-average" else means.detach())[nearest]
