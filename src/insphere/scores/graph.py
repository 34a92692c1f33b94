"""Distances as PyTorch modules: one definition for gradients (explanations, attacks) and for exported graphs.

`scores.sphere` and `scores.neighbours` are the reference, in NumPy and the same bit by bit whatever the batch; these follow them up to
rounding. What the library computes in float64 is computed in float64 here too.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from insphere.errors import ParameterError
from insphere.scores.neighbours import AS_FAR, ON
from insphere.scores.sphere import (
    LEAST_LENGTH,
    AbstractSphere,
    AngularSphere,
    EuclideanSphere,
    LocalSphere,
    MahalanobisSphere,
    SeveralSpheres,
)

_LEAST_SQUARE = 1e-24  # the square root has no slope at zero, and NaN would spread to every pixel


def has_graph(sphere: AbstractSphere | None) -> bool:
    """Return whether `SphereGraph` knows the sphere's geometry."""
    return isinstance(sphere, EuclideanSphere | MahalanobisSphere | LocalSphere | AngularSphere | SeveralSpheres)


class SphereGraph(nn.Module):
    """``sphere.distance`` as a module that PyTorch can differentiate and export.

    Parameters
    ----------
    sphere : AbstractSphere

    Raises
    ------
    ParameterError
        If the geometry is not known here.

    Examples
    --------
    >>> SphereGraph(EuclideanSphere(np.zeros(2)))(torch.tensor([[3.0, 4.0]])).item()
    5.0
    """

    def __init__(self, sphere: AbstractSphere) -> None:
        super().__init__()
        if not has_graph(sphere):
            raise ParameterError(f"No graph is known for a sphere of the kind {sphere.kind!r}.")
        self.several = isinstance(sphere, SeveralSpheres)
        whitening = sphere.whitening if isinstance(sphere, MahalanobisSphere | LocalSphere) else None
        if isinstance(sphere, SeveralSpheres):
            whitening = sphere.whitenings
        self.center: Tensor
        self.register_buffer("center", tensor(sphere.centers if isinstance(sphere, SeveralSpheres) else sphere.center))
        self.whitening: Tensor | None
        self.register_buffer("whitening", None if whitening is None else tensor(whitening))
        self.angular = isinstance(sphere, AngularSphere)
        self.nearest = Nearest(sphere.references, sphere.n_neighbors) if isinstance(sphere, LocalSphere | AngularSphere) else None

    def offsets(self, codes: Tensor) -> Tensor:
        """Return what each code differs by, in the sphere's metric, from the points whose mean distance is its score.

        Returns
        -------
        Tensor of float64, shape (n, n_points, latent_dim)
            One point, the centre, for the Euclidean and Mahalanobis spheres, the nearest centre of several; the nearest training codes
            for the local one and, all at length one, for the angular one.
        """
        if self.several:
            return self._from_nearest_center(codes.double())
        placed = codes.double() - self.center
        if self.whitening is not None:
            placed = placed @ self.whitening.T
        if self.angular:
            placed = placed / norms(placed).clamp(min=LEAST_LENGTH).unsqueeze(1)
        return placed.unsqueeze(1) if self.nearest is None else self.nearest.offsets(placed)

    def _from_nearest_center(self, codes: Tensor) -> Tensor:
        placed = codes.unsqueeze(1) - self.center
        if self.whitening is not None:
            placed = (placed.unsqueeze(2) @ self.whitening.transpose(1, 2)).squeeze(2)
        nearest = placed.square().sum(dim=2).argmin(dim=1)
        return placed.gather(1, nearest.view(-1, 1, 1).expand(-1, 1, placed.shape[2]))

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes (n, latent_dim) to distances (n,), float64.

        Continuous in the codes; where the nearest training codes of a local sphere change, or the nearest of several centres, the slope
        jumps and the value does not.
        """
        offsets = self.offsets(codes)
        return offsets.square().sum(dim=2).mean(dim=1) / 2 if self.angular else norms(offsets).mean(dim=1)


class Nearest(nn.Module):
    """The nearest of some points.

    Products of matrices find them, differences measure them: by products alone a row on top of a point would be at a distance of 1e-8
    times its size from it, not at zero.

    Parameters
    ----------
    points : ndarray, shape (m, d)
    n_neighbors : int
        At least 1; all points where there are fewer.
    """

    def __init__(self, points: NDArray[np.float64], n_neighbors: int) -> None:
        super().__init__()
        self.n_found = min(n_neighbors, len(points))
        self.points: Tensor
        self.register_buffer("points", tensor(points))

    def offsets(self, rows: Tensor) -> Tensor:
        """Map rows (n, d) to their differences from the nearest points (n, n_found, d)."""
        _, nearest = squared_distances(rows.detach(), self.points).topk(self.n_found, dim=1, largest=False)
        return rows.unsqueeze(1) - self.points[nearest]


class NearestDistance(Nearest):
    """Mean distance to the nearest of some points, or that to the last of them.

    Parameters
    ----------
    points, n_neighbors
        As of `Nearest`.
    aggregation : {"mean", "largest"}
    exclude_self : bool
        Whether a point that a row lies on is not its neighbour, as by `Neighbours.places`.
    """

    def __init__(self, points: NDArray[np.float64], n_neighbors: int, *, aggregation: str, exclude_self: bool = False) -> None:
        super().__init__(points, n_neighbors + exclude_self)
        self.takes_mean = aggregation == "mean"
        self.exclude_self, self.n_neighbors = exclude_self, n_neighbors

    def distances(self, rows: Tensor) -> Tensor:
        """Map rows (n, d) to the distances to their neighbours, shape (n, n_neighbors or fewer)."""
        found = norms(self.offsets(rows))
        if not self.exclude_self:
            return found
        found, _ = found.sort(dim=1)
        n_kept = min(self.n_neighbors, len(self.points) - 1)
        last = found[:, -n_kept:]  # without the nearest, where there is one more than is asked for
        return torch.where(self.lies_on(found[:, :1], rows), last, found[:, :n_kept])

    def lies_on(self, nearest: Tensor, rows: Tensor) -> Tensor:
        """Return whether a row lies on the nearest point, which is at this distance; shape (n, 1)."""
        return nearest <= ON * (1 + norms(rows).unsqueeze(1))

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows (n, d) to distances (n,)."""
        distances = self.distances(rows)
        return distances.mean(dim=1) if self.takes_mean else distances.amax(dim=1)


class RelativeDistance(NearestDistance):
    """Mean distance to the neighbourhood of a row in units of what is usual there (see `Neighbours.means`).

    Parameters
    ----------
    points, n_neighbors, exclude_self
        As of `NearestDistance`.
    spread : ndarray of float64, shape (m,)
        What is usual around each point, above 0.
    """

    def __init__(self, points: NDArray[np.float64], n_neighbors: int, spread: NDArray[np.float64], *, exclude_self: bool = False) -> None:
        super().__init__(points, n_neighbors, aggregation="mean", exclude_self=exclude_self)
        self.spread: Tensor
        self.as_far: Tensor
        self.register_buffer("spread", tensor(spread))
        self.register_buffer("as_far", number(AS_FAR**2))  # as a plain number a graph would have it in single precision: 1

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows (n, d) to distances (n,)."""
        distances = self.distances(rows)
        squares = squared_distances(rows.detach(), self.points)
        nearest, which = squares.topk(self.n_found, dim=1, largest=False)
        last = nearest[:, [distances.shape[1] - 1]]
        near = torch.zeros_like(squares)
        if self.exclude_self:
            exact = norms(self.offsets(rows))
            closest = exact.argmin(dim=1, keepdim=True)
            itself = self.lies_on(exact.gather(1, closest), rows)
            last = torch.where(itself, nearest[:, -1:], last)
            near = near.scatter(1, which.gather(1, closest), -itself.double())
        near = near + (squares <= last * self.as_far).double()
        n_more = near.sum(dim=1) - distances.shape[1]  # as far as the last one
        return (distances.sum(dim=1) + n_more * distances.amax(dim=1)) / (near @ self.spread)


def norms(offsets: Tensor) -> Tensor:
    """Return the lengths along the last axis, with a slope (of zero) at zero too."""
    return offsets.square().sum(dim=-1).clamp(min=_LEAST_SQUARE).sqrt()


def squared_distances(X: Tensor, points: Tensor) -> Tensor:
    """Return ‖x − y‖² for each row x and each point y, shape (n, m), by products; at least 0.

    Examples
    --------
    >>> squared_distances(torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2))
    tensor([[25.]])
    """
    # Measured from among the points, so that less cancels where all lie far from zero.
    middle = points.mean(dim=0)
    X, points = X - middle, points - middle
    return (X.square().sum(dim=1, keepdim=True) + points.square().sum(dim=1) - 2 * (X @ points.T)).clamp(min=0)


def number(value: float) -> Tensor:
    """Return a number as a tensor, because the exporter writes plain ones in single precision."""
    return torch.tensor(value, dtype=torch.float64)


def tensor(array: NDArray[np.generic]) -> Tensor:
    """Return a copy of an array as a tensor: the model's own arrays may be read-only."""
    return torch.from_numpy(np.array(array))
