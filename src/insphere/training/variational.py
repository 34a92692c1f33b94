"""The parts of a variational autoencoder's loss: Kullback–Leibler divergence, reparametrised samples and likelihoods.

Likelihoods are sums over pixels or features, in nats per row.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from insphere.fields import Declared
from insphere.nets.build import GaussianEncoder, build_decoder
from insphere.nets.options import Network
from insphere.nets.shared_batches import SharesBatches
from insphere.training.noise import NoiseSource, standard_normal
from insphere.training.objective import AbstractObjective
from insphere.validation import Within


def kl_to_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    """Return KL(N(mu, exp(logvar)) ‖ N(0, I)) per row, in nats, shape (n,).

    Source: Zhou 2021, eq. 5 (with its sign turned: a divergence, not its negative). Deviation: none.

    Examples
    --------
    >>> kl_to_standard_normal(torch.zeros(1, 3), torch.zeros(1, 3)).item()
    0.0
    """
    return 0.5 * (mu.square() + logvar.exp() - 1.0 - logvar).sum(dim=1)


def sample_code(mu: Tensor, logvar: Tensor, n_draws: int, generator: NoiseSource) -> Tensor:
    """Return reparametrised draws z = mu + sigma · eps of shape (n_draws, n, latent_dim).

    Source: Zhou 2021, sec. 2.1 (between eqs. 3 and 4). Deviation: none.
    """
    return mu + (0.5 * logvar).exp() * standard_normal((n_draws, *mu.shape), generator, like=mu, rows_along=1)


_LEAST_VARIANCE = 1e-6
_VARIANCE_MOMENTUM = 0.9


class AbstractLikelihood(SharesBatches, ABC):
    """log p(x | z), given what the decoder made of z."""

    @abstractmethod
    def forward(self, output: Tensor, x: Tensor) -> Tensor:
        """Return log p(x | z) per row, summed over pixels or features, in nats; shape (n,).

        Parameters
        ----------
        output : Tensor
            The decoder's unbounded output, same shape as `x`.
        x : Tensor
            The preprocessed rows.
        """

    @abstractmethod
    def mean(self, output: Tensor) -> Tensor:
        """Return the mean of p(x | z), the reconstruction."""


class BernoulliLikelihood(AbstractLikelihood):
    """Independent Bernoulli pixels with the decoder's output as logits; meant for rows in [0, 1].

    Examples
    --------
    >>> round(BernoulliLikelihood()(torch.zeros(1, 2), torch.ones(1, 2)).item(), 4)
    -1.3863
    """

    def forward(self, output: Tensor, x: Tensor) -> Tensor:
        return -nn.functional.binary_cross_entropy_with_logits(output, x, reduction="none").flatten(1).sum(dim=1)

    def mean(self, output: Tensor) -> Tensor:
        return output.sigmoid()


class GaussianLikelihood(AbstractLikelihood):
    """Independent Gaussian pixels around the decoder's output, with one variance for all of them.

    Parameters
    ----------
    learned : bool
        Whether the variance is the maximum-likelihood one of each training batch, or stays fixed at 1. Outside training the learned
        variance is a running mean. (A variance that gradient steps move is still far off after a thousand of them.)

    Source: the closed form is Rybkin 2021 (sigma-VAE), eq. 4. Deviation: none.

    Examples
    --------
    >>> round(GaussianLikelihood(learned=False)(torch.zeros(1, 2), torch.zeros(1, 2)).item(), 4)
    -1.8379
    """

    def __init__(self, *, learned: bool) -> None:
        super().__init__()
        self.learned = learned
        self.variance: Tensor
        self.register_buffer("variance", torch.ones(()))

    def forward(self, output: Tensor, x: Tensor) -> Tensor:
        squares = (x - output).square().flatten(1)
        variance = self.variance
        if self.learned and self.training:
            # A perfect reconstruction would send the likelihood to infinity: hold the variance at 1e-6.
            variance = self.batch_mean(squares.detach(), (0, 1))[0].clamp(min=_LEAST_VARIANCE)
            with torch.no_grad():
                self.variance.copy_(_VARIANCE_MOMENTUM * self.variance + (1 - _VARIANCE_MOMENTUM) * variance)
        return -0.5 * (squares / variance + (2 * math.pi * variance).log()).sum(dim=1)

    def mean(self, output: Tensor) -> Tensor:
        return output


Likelihood = Literal["gaussian-learned", "gaussian", "bernoulli"]
"""Names of the likelihoods that `make_likelihood` knows."""


def make_likelihood(name: str) -> AbstractLikelihood:
    """Return the likelihood called `name`, a `Likelihood`."""
    if name == "bernoulli":
        return BernoulliLikelihood()
    return GaussianLikelihood(learned=name == "gaussian-learned")


@dataclasses.dataclass(frozen=True)
class VariationalReading(Declared):
    """How to read what the paper leaves open about the variational autoencoder (eqs. 4 to 6).

    Parameters
    ----------
    n_draws : int
        Draws L of the code per row and step.
    likelihood : {"gaussian-learned", "gaussian", "bernoulli"}
        p(x | z): Gaussian with one learned variance, Gaussian with variance 1, or Bernoulli (for rows in [0, 1]).

    Examples
    --------
    >>> VariationalReading().likelihood
    'gaussian-learned'
    """

    n_draws: Annotated[int, Within(at_least=1, at_most=1000)] = 1
    likelihood: Likelihood = "gaussian-learned"


class AbstractVariationalObjective(AbstractObjective):
    """An objective with a variational autoencoder: an encoder to a Gaussian over codes, a decoder, a likelihood.

    Source: Zhou 2021, sec. 2.1. Deviation: the likelihood, which the paper does not name, is a parameter.
    """

    def __init__(self, input_shape: Sequence[int], latent_dim: int, network: Network, *, likelihood: str) -> None:
        super().__init__()
        self.encoder = GaussianEncoder(input_shape, latent_dim, network)
        self.decoder = build_decoder(input_shape, latent_dim, network)
        self.likelihood = make_likelihood(likelihood)

    def code(self, x: Tensor) -> Tensor:
        """Return mu, shape (n, latent_dim)."""
        return self.posterior(x)[0]

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z | x), each (n, latent_dim)."""
        mu, logvar = self.encoder(x)
        return mu, logvar

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the mean of p(x | mu), in the shape of `x`."""
        return self.likelihood.mean(self.decoder(self.posterior(x)[0]).float())

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Return log p(x | z) of each draw of z (n_draws, n, latent_dim) and row, in nats, shape (n_draws, n)."""
        outputs = self.decoder(z.flatten(0, 1)).float().unflatten(0, z.shape[:2])
        return torch.stack([self.likelihood(output, x) for output in outputs])
