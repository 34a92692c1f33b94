"""Deep SVDD-VAE: a variational autoencoder and a data-enclosing hypersphere, trained jointly (Zhou et al. 2021)."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from insphere.detectors.enclosing import AbstractEnclosingDetector
from insphere.fields import Positive
from insphere.nets.options import Network
from insphere.training.noise import NoiseSource
from insphere.training.sphere_term import SphereReading, SphereTerm
from insphere.training.variational import AbstractVariationalObjective, VariationalReading, kl_to_standard_normal, sample_code


@dataclasses.dataclass(frozen=True)
class Reading(SphereReading, VariationalReading):
    """How to read what the paper leaves open about its loss (eq. 12) and score (eq. 13).

    The parameters of `SphereReading` (`norm`, `center`, `final_center`, `center_momentum`, `n_centers`) and of `VariationalReading`
    (`n_draws`, `likelihood`), and:

    Parameters
    ----------
    distance_of : {"sample", "mean"}
        Whether the distance term takes the drawn code z or its mean mu.
    score_of : {"mean", "sample"}
        Whether a row is scored by mu or by a drawn code, the paper's literal reading; drawn scores depend on a row's position.

    Examples
    --------
    >>> Reading(norm="squared").likelihood
    'gaussian-learned'
    """

    distance_of: Literal["sample", "mean"] = "sample"
    score_of: Literal["mean", "sample"] = "mean"


class DeepSVDDVAEObjective(AbstractVariationalObjective):
    """Loss of Deep SVDD-VAE: ``alpha · (KL − log-likelihood) + distance to the centre``, means over the batch, in nats and code units.

    Source: Zhou 2021, eq. 12 and Algorithm 1. Deviation: the likelihood, which the paper does not name; see `Reading`.

    Examples
    --------
    >>> objective = DeepSVDDVAEObjective((6,), 2, Network(widths=(8,)), alpha=1.0, reading=Reading())
    >>> sorted(objective(torch.zeros(4, 6), torch.Generator()))
    ['distance', 'kl', 'loss', 'reconstruction']
    """

    def __init__(self, input_shape: Sequence[int], latent_dim: int, network: Network, *, alpha: float, reading: Reading) -> None:
        super().__init__(input_shape, latent_dim, network, likelihood=reading.likelihood)
        self.alpha, self.reading = alpha, reading
        self.sphere = SphereTerm(latent_dim, reading)

    def begin(self, x: Tensor) -> None:
        """Start the centre at the mean code of the first rows, several at the k-means of their codes."""
        self.sphere.begin(self.posterior(x)[0])

    def end_epoch(self, batches: Iterator[Tensor]) -> bool:
        """Drop those of several centres that next to no row belongs to."""
        self.sphere.end_epoch()
        return True

    def forward(self, x: Tensor, generator: NoiseSource) -> dict[str, Tensor]:
        """Return the terms ``kl`` and ``reconstruction`` (nats per row), ``distance`` and their ``loss``."""
        mu, logvar = self.posterior(x)
        z = sample_code(mu, logvar, self.reading.n_draws, generator)
        log_likelihood = self.log_likelihood(x, z).mean()
        kl = kl_to_standard_normal(mu, logvar).mean()
        distance = self.sphere(z if self.reading.distance_of == "sample" else mu.unsqueeze(0))
        return {
            "loss": self.alpha * (kl - log_likelihood) + distance,
            "distance": distance,
            "kl": kl,
            "reconstruction": -log_likelihood,
        }

    def code(self, x: Tensor) -> Tensor:
        """Return mu, or one draw of z where `Reading.score_of` asks for it; shape (n, latent_dim)."""
        mu, logvar = self.posterior(x)
        if self.reading.score_of == "mean":
            return mu
        # The noise starts again with every batch of the scoring loop, so that a call repeated gives the same scores.
        generator = torch.Generator(device=x.device).manual_seed(0)
        return sample_code(mu, logvar, 1, generator)[0]

    def final_center(self) -> Tensor | None:
        """Return the centre that training ended with where it is to be c*, else None (the mean of the training codes)."""
        return self.sphere.final_center()

    def several_centers(self) -> Tensor | None:
        """Return those of several centres that are still in use, None where there is one by design."""
        return self.sphere.several_centers()


def default_alpha(input_shape: Sequence[int]) -> float:
    """Return the weight alpha of eq. 12 for an input of shape (height, width, channels) or (features,).

    The likelihood is a sum over pixels or features, the distance is not: the fewer there are, the less the same alpha keeps the sphere
    from swallowing the code. From MNIST's 784 pixels upwards it is 0.01; below, alpha times their number stays the same, up to 1.

    Examples
    --------
    >>> default_alpha((32, 32, 3)), default_alpha((28, 28, 1)), default_alpha((98,)), default_alpha((4,))
    (0.01, 0.01, 0.08, 1.0)
    """
    return min(1.0, max(0.01, 7.84 / math.prod(input_shape)))


@dataclasses.dataclass(eq=False, repr=False)
class DeepSVDDVAE(AbstractEnclosingDetector):
    """Deep SVDD-VAE: the anomaly score of a row is its code's distance to the centre of a jointly trained hypersphere.

    The defaults are the best label-free setting that we know; the paper's own are in ``papers/vae-svdd-2021/plan.toml``.

    Parameters
    ----------
    alpha : float, optional
        Weight of the variational autoencoder's loss against the sphere's, above 0. Small values make the sphere matter. None chooses by
        input size, see `default_alpha`.
    reading : Reading or mapping, optional
        How to read what the paper leaves open (norm, centre, likelihood, …), and how many centres: see `SphereReading.n_centers`.
    latent_dim : int, optional
        Dimensions of the code; None chooses by input size.
    geometry : {"local", "mahalanobis", "euclidean"}
        Distance at scoring time: to the nearest training codes in the whitened code space, to the centre in units of the codes' spread,
        or to the centre as in the paper.
    n_neighbors : int
        Nearest training codes that "local" averages over.
    scaling : {"auto", "none", "unit", "standard", "robust", "gcn", "gcn-unit", "whiten"}
        Preprocessing, fitted on the training rows: see `insphere.data.preprocess.fit_preprocess`.
    epochs : int, optional
        Passes over the training rows; None makes about five hundred steps, between 10 and 200 epochs.
    target_fpr : float
        Share of normal rows that may be flagged, in (0, 1).
    trim : float
        Share of the training rows, the most suspicious ones, that are left out; in [0, 0.5). For training rows that are known to hold
        anomalies: see `AbstractDetector`.
    calibration : Calibration or mapping, optional
        How many normal rows are held out, and whether the threshold is conformal or the paper's radius.
    network : Network or mapping, optional
        Architecture; None chooses by input size.
    training : Training or mapping, optional
        Optimiser, learning rate, batch size, precision, early stopping.
    device : {"auto", "cpu", "cuda", "mps"}
    random_state : int, RandomState, Generator or None
        Seed of weights, order, noise and of the held-out split. The same seed gives the same scores.

    Attributes
    ----------
    radius_ : float
        The paper's R*: 95th percentile of the training scores.
    threshold_ : float
        Scores above it are anomalies; `decision_` says whether it is conformal or the radius.
    health_ : HealthReport
    history_ : list of EpochRecord

    Source: Zhou 2021, sec. 3. Deviation: scored by mu, so that no score depends on chance; geometry, preprocessing and optimiser as above.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 2)) @ np.array([[1.0, 0.5, -1.0, 0.0], [0.0, 1.0, 1.0, -0.5]])
    >>> detector = DeepSVDDVAE(epochs=20, random_state=0).fit(X)
    >>> scores = detector.anomaly_score(np.array([[0.0, 0.0, 0.0, 0.0], [9.0, -9.0, 9.0, -9.0]]))
    >>> bool(scores[1] > scores[0])
    True
    """

    name = "vae-svdd"

    alpha: Positive | None = None
    _: dataclasses.KW_ONLY
    reading: Reading | Mapping[str, Any] | None = None

    def _record_defaults(self) -> dict[str, Any]:
        return super()._record_defaults() | {"reading": Reading()}

    def _make_objective(self, input_shape: Sequence[int], latent_dim: int, network: Network) -> DeepSVDDVAEObjective:
        alpha = default_alpha(input_shape) if self.alpha is None else float(self.alpha)
        return DeepSVDDVAEObjective(input_shape, latent_dim, network, alpha=alpha, reading=self._record("reading"))
