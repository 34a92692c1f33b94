"""Variational autoencoder: the control that shows what the sphere adds (Zhou et al. 2021, sec. 2.1)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from insphere.detectors.enclosing import AbstractEnclosingDetector
from insphere.nets.options import Network
from insphere.scores.sphere import AbstractSphere
from insphere.training.autoencoding import squared_error
from insphere.training.noise import NoiseSource
from insphere.training.variational import AbstractVariationalObjective, VariationalReading, kl_to_standard_normal, sample_code


class VAEObjective(AbstractVariationalObjective):
    """Loss of the variational autoencoder: the negative evidence lower bound, ``KL − log-likelihood``, mean over the batch, in nats.

    Source: Zhou 2021, eqs. 4 to 6 (with their sign turned). Deviation: the likelihood, which the paper does not name.

    Examples
    --------
    >>> import torch
    >>> objective = VAEObjective((6,), 2, Network(widths=(8,)), reading=VariationalReading(), scored_by="negative-elbo")
    >>> sorted(objective(torch.zeros(4, 6), torch.Generator()))
    ['kl', 'loss', 'reconstruction']
    """

    def __init__(
        self, input_shape: Sequence[int], latent_dim: int, network: Network, *, reading: VariationalReading, scored_by: str
    ) -> None:
        super().__init__(input_shape, latent_dim, network, likelihood=reading.likelihood)
        self.n_draws, self.scored_by = reading.n_draws, scored_by

    def forward(self, x: Tensor, generator: NoiseSource) -> dict[str, Tensor]:
        """Return the terms ``kl`` and ``reconstruction`` and their sum, the ``loss``; nats per row."""
        mu, logvar = self.posterior(x)
        z = sample_code(mu, logvar, self.n_draws, generator)
        kl, reconstruction = kl_to_standard_normal(mu, logvar).mean(), -self.log_likelihood(x, z).mean()
        return {"loss": kl + reconstruction, "kl": kl, "reconstruction": reconstruction}

    def score(self, x: Tensor) -> Tensor:
        """Return the squared reconstruction error from mu, or the negative evidence lower bound with z = mu; shape (n,)."""
        if self.scored_by == "reconstruction":
            return squared_error(x, self.reconstruct(x))
        mu, logvar = self.posterior(x)
        return kl_to_standard_normal(mu, logvar) - self.log_likelihood(x, mu.unsqueeze(0))[0]


@dataclasses.dataclass(eq=False, repr=False)
class VAE(AbstractEnclosingDetector):
    """Variational autoencoder, scored by its evidence lower bound, its reconstruction error or the distance of its codes.

    Parameters
    ----------
    scored_by : {"negative-elbo", "reconstruction", "distance"}
        The negative evidence lower bound in nats, the squared reconstruction error, or the distance of the mean code to the training
        codes. With "distance" this is `DeepSVDDVAE` without its sphere: the control that shows what training the sphere adds.
    reading : VariationalReading or mapping, optional
        The likelihood and the number of draws, which the paper leaves open.
    geometry, n_neighbors
        How "distance" is measured: see `AbstractEnclosingDetector`.
    latent_dim, scaling, epochs, network, training, device
        See `AbstractNeuralDetector`.
    target_fpr, trim, calibration, random_state
        See `AbstractDetector`.

    Source: Zhou 2021, sec. 2.1. Deviation: scored with z = mu, so that no score depends on chance.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> detector = VAE(epochs=20, random_state=0).fit(X)
    >>> scores = detector.anomaly_score(np.array([[0.0, 0.0, 0.0, 0.0], [9.0, -9.0, 9.0, -9.0]]))
    >>> bool(scores[1] > scores[0])
    True
    """

    name = "vae"
    scores_reconstructions = True

    scored_by: Literal["negative-elbo", "reconstruction", "distance"] = "negative-elbo"
    _: dataclasses.KW_ONLY
    reading: VariationalReading | Mapping[str, Any] | None = None

    def _record_defaults(self) -> dict[str, Any]:
        return super()._record_defaults() | {"reading": VariationalReading()}

    def _make_objective(self, input_shape: Sequence[int], latent_dim: int, network: Network) -> VAEObjective:
        return VAEObjective(input_shape, latent_dim, network, reading=self._record("reading"), scored_by=self.scored_by)

    def _enclose(self, codes: NDArray[np.float64]) -> AbstractSphere | None:
        return super()._enclose(codes) if self.scored_by == "distance" else None
