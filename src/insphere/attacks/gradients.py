"""Which way a score rises: its gradient in the pixels, through preprocessing, network and sphere."""

from collections.abc import Callable
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from insphere.detectors.base import AbstractDetector
from insphere.detectors.neural import AbstractNeuralDetector
from insphere.errors import ParameterError
from insphere.scores.sphere import AbstractSphere, EuclideanSphere, LocalSphere, MahalanobisSphere
from insphere.training.feed import as_network_input

_BATCH_ROWS = 256
_LEAST_SQUARE = 1e-24  # added below a square root: a norm has no gradient at zero, and NaN would spread to every pixel


def has_gradient(detector: AbstractDetector) -> TypeGuard[AbstractNeuralDetector]:
    """Whether `score_gradient` can be asked: the score is a network's, or a distance to a sphere around its codes.

    Examples
    --------
    >>> from insphere import KNN
    >>> has_gradient(KNN())
    False
    """
    known = (type(None), EuclideanSphere, MahalanobisSphere, LocalSphere)
    return isinstance(detector, AbstractNeuralDetector) and isinstance(detector.sphere_, known)


def score_gradient(detector: AbstractDetector, images: NDArray[Any]) -> NDArray[np.float32]:
    """Return the gradient of each image's anomaly score in its pixels, same shape, in score per pixel level.

    Parameters
    ----------
    detector : AbstractDetector
        A fitted one with `has_gradient`.
    images : ndarray, shape (n, height, width, channels)
        As the detector takes them.

    Raises
    ------
    ParameterError
        If the detector's score has no gradient.
    """
    if not has_gradient(detector):
        raise ParameterError(f"{detector.name} scores by something that has no gradient; attack the classifier instead.")
    return gradient_of(lambda x, _: differentiable_score(detector, x), images, detector.preprocess_.apply, _device(detector))


def differentiable_score(detector: AbstractNeuralDetector, x: Tensor) -> Tensor:
    """Return the anomaly scores of preprocessed rows, as `anomaly_score` up to rounding, with a way back to the rows."""
    if detector.sphere_ is None:
        return detector.objective_.score(x)
    return _distance(detector.sphere_, detector.objective_.code(x).double())


def gradient_of(
    function: Callable[[Tensor, slice], Tensor], images: NDArray[Any], transform: Callable[[Tensor], Tensor], device: torch.device
) -> NDArray[np.float32]:
    """Return the gradient of `function` (one number a row, each of its own row alone) in the raw pixels.

    Parameters
    ----------
    function : callable
        From network input, and which of the images these are, to a tensor with one number each.
    images : ndarray, shape (n, height, width, channels)
    transform : callable
        The fitted preprocessing.
    """
    gradients = []
    for start in range(0, len(images), _BATCH_ROWS):
        rows = slice(start, start + _BATCH_ROWS)
        pixels = torch.from_numpy(np.ascontiguousarray(images[rows])).to(device).float().requires_grad_()
        (gradient,) = torch.autograd.grad(function(as_network_input(pixels, transform), rows).sum(), pixels)
        gradients.append(gradient.cpu().numpy())
    return np.concatenate(gradients)


def _device(detector: AbstractNeuralDetector) -> torch.device:
    return next(detector.objective_.parameters()).device


def _distance(sphere: AbstractSphere, codes: Tensor) -> Tensor:
    """Return the sphere's distance of each code, computed as `sphere.distance` does."""

    def constant(array: NDArray[np.float64]) -> Tensor:
        return torch.from_numpy(array).to(codes.device)

    centred = codes - constant(sphere.center)
    if isinstance(sphere, EuclideanSphere):
        return _norm(centred)
    if not isinstance(sphere, MahalanobisSphere | LocalSphere):
        raise ParameterError(f"The {sphere.kind} sphere has no gradient here.")
    whitened = centred @ constant(sphere.whitening).T
    if isinstance(sphere, MahalanobisSphere):
        return _norm(whitened)
    references = constant(sphere.references)
    n_nearest = min(sphere.n_neighbors, len(references))
    with torch.no_grad():
        nearest = torch.cdist(whitened, references).topk(n_nearest, largest=False).indices
    return _norm(whitened[:, None] - references[nearest]).mean(dim=1)


def _norm(rows: Tensor) -> Tensor:
    return (rows.square().sum(dim=-1) + _LEAST_SQUARE).sqrt()
