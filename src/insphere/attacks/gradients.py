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
from insphere.scores.graph import SphereGraph, has_graph
from insphere.training.feed import as_network_input

_BATCH_ROWS = 256


def has_gradient(detector: AbstractDetector) -> TypeGuard[AbstractNeuralDetector]:
    """Whether `score_gradient` can be asked: the score is a network's, or a distance to a sphere around its codes.

    Examples
    --------
    >>> from insphere import KNN
    >>> has_gradient(KNN())
    False
    """
    return isinstance(detector, AbstractNeuralDetector) and (detector.sphere_ is None or has_graph(detector.sphere_))


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
    score = differentiable_score(detector)
    return gradient_of(lambda x, _: score(x), images, detector.preprocess_.apply, _device(detector))


def differentiable_score(detector: AbstractNeuralDetector) -> Callable[[Tensor], Tensor]:
    """Return the function from preprocessed rows to anomaly scores, as `anomaly_score` up to rounding, with a way back to the rows."""
    objective, sphere = detector.objective_, detector.sphere_
    if sphere is None:
        return objective.score
    distance = SphereGraph(sphere).to(_device(detector))
    return lambda x: distance(objective.code(x))


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
