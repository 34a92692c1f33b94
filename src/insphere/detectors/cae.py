"""Convolutional autoencoder: a row is scored by how badly a decoder restores it from its code."""

import dataclasses
from collections.abc import Sequence

from torch import Tensor

from insphere.detectors.neural import AbstractNeuralDetector
from insphere.nets.options import Network
from insphere.training.autoencoding import AbstractAutoencodingObjective, squared_error
from insphere.training.noise import NoiseSource


class CAEObjective(AbstractAutoencodingObjective):
    """Loss of the autoencoder: squared reconstruction error, summed over pixels or features, mean over the batch.

    Source: Zhou 2021, sec. 4.2; Ruff 2018, sec. 4.1. Deviation: none.

    Examples
    --------
    >>> import torch
    >>> objective = CAEObjective((6,), 2, Network(widths=(8,)))
    >>> list(objective(torch.zeros(4, 6), torch.Generator()))
    ['loss']
    """

    def forward(self, x: Tensor, generator: NoiseSource) -> dict[str, Tensor]:
        """Return the ``loss``: the mean squared error of a row, in squared units of the preprocessed rows."""
        return {"loss": self.score(x).mean()}

    def score(self, x: Tensor) -> Tensor:
        """Return the squared reconstruction error of each row, shape (n,)."""
        return squared_error(x, self.reconstruct(x))


@dataclasses.dataclass(eq=False, repr=False)
class CAE(AbstractNeuralDetector):
    """Autoencoder: the anomaly score of a row is its squared reconstruction error. Convolutional for images, dense for vectors.

    Parameters
    ----------
    latent_dim, scaling, epochs, network, training, device
        See `AbstractNeuralDetector`.
    target_fpr, trim, calibration, random_state
        See `AbstractDetector`.

    Source: Zhou 2021, sec. 4.2 (CAE). Deviation: optimiser and preprocessing are parameters; the defaults are those of `DeepSVDDVAE`.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 4)) @ np.diag([1, 1, 0.1, 0.1])
    >>> detector = CAE(epochs=20, scaling="none", random_state=0).fit(X)
    >>> scores = detector.anomaly_score(np.array([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 3.0, -3.0]]))
    >>> bool(scores[1] > scores[0])
    True
    """

    name = "cae"
    scores_reconstructions = True

    def _make_objective(self, input_shape: Sequence[int], latent_dim: int, network: Network) -> CAEObjective:
        return CAEObjective(input_shape, latent_dim, network)
