"""A neural detector's score as a differentiable function of its network input, and the pieces of it."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from insphere.detectors.neural import AbstractNeuralDetector
from insphere.errors import ExplainError
from insphere.scores.graph import SphereGraph, has_graph, norms
from insphere.scores.sphere import AbstractSphere
from insphere.training.autoencoding import AbstractAutoencodingObjective
from insphere.training.feed import as_network_input
from insphere.training.mapping import map_batches
from insphere.training.objective import AbstractObjective
from insphere.training.variational import AbstractVariationalObjective

Array = NDArray[np.float64]


def latent_contributions(sphere: AbstractSphere, codes: Array) -> Array:
    """Return what each latent dimension adds to a code's distance: its part of the squared distance, over the distance.

    By angles, where half the squared distance is what counts, its part of that.

    Returns
    -------
    ndarray of float64, shape (n, latent_dim)
        At least 0; each row sums to ``sphere.distance(codes)``. Whitened dimensions keep their numbers, as the whitening is symmetric.

    Examples
    --------
    >>> from insphere.scores.sphere import EuclideanSphere
    >>> latent_contributions(EuclideanSphere(np.zeros(2)), np.array([[3.0, 4.0]]))
    array([[1.8, 3.2]])
    """
    graph = SphereGraph(sphere)
    offsets = graph.offsets(torch.from_numpy(codes))
    parts = offsets.square() / (2 if graph.angular else norms(offsets).unsqueeze(2))
    return np.asarray(parts.mean(dim=1).numpy(), dtype=np.float64)


def score_function(detector: AbstractNeuralDetector) -> Callable[[Tensor], Tensor]:
    """Return the anomaly score as a differentiable function of the network input (n, channels, height, width) or (n, features).

    Raises
    ------
    ExplainError
        If the geometry of the detector's sphere has no gradient.
    """
    objective, sphere = detector.objective_, detector.sphere_
    if sphere is None:
        return lambda x: objective.score(x).double()
    if not has_graph(sphere):
        raise ExplainError(f"Gradients through a sphere of the kind {sphere.kind!r} are not known; use method='occlusion'.")
    distance = SphereGraph(sphere).to(next(objective.parameters()).device)
    return lambda x: distance(objective.code(x))


def network_input(detector: AbstractNeuralDetector, rows: NDArray[np.generic]) -> Tensor:
    """Return raw rows as the network takes them, on its device."""
    device = next(detector.objective_.parameters()).device
    return as_network_input(torch.from_numpy(np.ascontiguousarray(rows)).to(device), detector.preprocess_.apply)


def reconstruct(detector: AbstractNeuralDetector, rows: NDArray[np.generic]) -> Array | None:
    """Return the reconstruction of raw rows in scaled units, channels last, or None where there is no decoder."""
    objective = detector.objective_
    with torch.no_grad():
        if objective.reconstruct(network_input(detector, rows[:1])) is None:
            return None

    def reconstructed(x: Tensor) -> Tensor:
        output = objective.reconstruct(x)
        return x if output is None else output

    device = next(objective.parameters()).device
    return channels_last(map_batches(reconstructed, rows, detector.preprocess_.apply, device=device))


def decode(objective: AbstractObjective, codes: Array) -> Array | None:
    """Return what the decoder makes of codes (n, latent_dim), in scaled units, channels last, or None where there is no decoder."""
    z = torch.from_numpy(codes).to(next(objective.parameters()).device).float()
    with torch.no_grad():
        if isinstance(objective, AbstractVariationalObjective):
            return channels_last(objective.likelihood.mean(objective.decoder(z).float()).cpu().numpy())
        if isinstance(objective, AbstractAutoencodingObjective):
            return channels_last(objective.decode(z).cpu().numpy())
    return None


def channels_last(x: NDArray[np.float32]) -> Array:
    """Return network rows as float64, images as (n, height, width, channels)."""
    return (x.transpose(0, 2, 3, 1) if x.ndim == 4 else x).astype(np.float64)
