"""Deep SVDD-CAE: an autoencoder and a data-enclosing hypersphere, trained jointly (Zhou et al. 2021, the ablation of Fig. 8)."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from insphere.detectors.enclosing import AbstractEnclosingDetector
from insphere.fields import Positive
from insphere.nets.options import Network
from insphere.training.autoencoding import AbstractAutoencodingObjective, squared_error
from insphere.training.noise import NoiseSource
from insphere.training.sphere_term import SphereReading, SphereTerm


class DeepSVDDCAEObjective(AbstractAutoencodingObjective):
    """Loss of Deep SVDD-CAE: ``alpha · squared reconstruction error + distance to the centre``, means over the batch.

    Source: Zhou 2021, sec. 4.3.3: eq. 12 with an autoencoder in the place of the variational one. Deviation: none that is known; the
    paper does not print this loss.

    Examples
    --------
    >>> import torch
    >>> objective = DeepSVDDCAEObjective((6,), 2, Network(widths=(8,)), alpha=1.0, reading=SphereReading())
    >>> sorted(objective(torch.zeros(4, 6), torch.Generator()))
    ['distance', 'loss', 'reconstruction']
    """

    def __init__(self, input_shape: Sequence[int], latent_dim: int, network: Network, *, alpha: float, reading: SphereReading) -> None:
        super().__init__(input_shape, latent_dim, network)
        self.alpha = alpha
        self.sphere = SphereTerm(latent_dim, reading)

    def begin(self, x: Tensor) -> None:
        """Start the centre at the mean code of the first rows, several at the k-means of their codes."""
        self.sphere.begin(self.code(x))

    def end_epoch(self, batches: Iterator[Tensor]) -> bool:
        """Drop those of several centres that next to no row belongs to."""
        self.sphere.end_epoch()
        return True

    def forward(self, x: Tensor, generator: NoiseSource) -> dict[str, Tensor]:
        """Return the terms ``reconstruction`` (squared units of the preprocessed rows), ``distance`` and their ``loss``."""
        code = self.code(x)
        reconstruction = squared_error(x, self.decode(code)).mean()
        distance = self.sphere(code.unsqueeze(0))
        return {"loss": self.alpha * reconstruction + distance, "distance": distance, "reconstruction": reconstruction}

    def final_center(self) -> Tensor | None:
        """Return the centre that training ended with where it is to be c*, else None (the mean of the training codes)."""
        return self.sphere.final_center()

    def several_centers(self) -> Tensor | None:
        """Return those of several centres that are still in use, None where there is one by design."""
        return self.sphere.several_centers()


@dataclasses.dataclass(eq=False, repr=False)
class DeepSVDDCAE(AbstractEnclosingDetector):
    """Deep SVDD-CAE: `DeepSVDDVAE` with a plain autoencoder, which shows what the distribution over codes adds.

    Parameters
    ----------
    alpha : float
        Weight of the reconstruction error against the distance, above 0.
    reading : SphereReading or mapping, optional
        How to read what the paper leaves open about norm and centre, and how many centres.
    geometry, n_neighbors
        How a code's distance is measured at scoring time: see `AbstractEnclosingDetector`.
    latent_dim, scaling, epochs, network, training, device
        See `AbstractNeuralDetector`.
    target_fpr, trim, calibration, random_state
        See `AbstractDetector`.

    Source: Zhou 2021, sec. 4.3.3. Deviation: the defaults are those of `DeepSVDDVAE`.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> detector = DeepSVDDCAE(epochs=5, random_state=0).fit(X)
    >>> scores = detector.anomaly_score(np.array([[0.0, 0.0, 0.0, 0.0], [9.0, -9.0, 9.0, -9.0]]))
    >>> bool(scores[1] > scores[0])
    True
    """

    name = "cae-svdd"

    alpha: Positive = 1.0
    _: dataclasses.KW_ONLY
    reading: SphereReading | Mapping[str, Any] | None = None

    def _record_defaults(self) -> dict[str, Any]:
        return super()._record_defaults() | {"reading": SphereReading()}

    def _make_objective(self, input_shape: Sequence[int], latent_dim: int, network: Network) -> DeepSVDDCAEObjective:
        return DeepSVDDCAEObjective(input_shape, latent_dim, network, alpha=float(self.alpha), reading=self._record("reading"))
