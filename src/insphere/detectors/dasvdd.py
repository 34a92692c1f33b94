"""DASVDD: an autoencoder and a hypersphere around its codes, which are both trained by what a row is scored by (Hojjati 2021)."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from insphere.decision.health import Finding
from insphere.detectors.neural import AbstractNeuralDetector
from insphere.fields import OpenShare, Positive
from insphere.nets.build import initialise
from insphere.nets.options import Network
from insphere.seeding import derive_seed
from insphere.training.autoencoding import AbstractAutoencodingObjective, squared_error
from insphere.training.noise import NoiseSource, standard_normal
from insphere.validation import Within

_N_UNTRAINED = 10


class DASVDDObjective(AbstractAutoencodingObjective):
    """Loss of DASVDD: ``squared reconstruction error + gamma · ‖z − c‖²``, mean over the part of the batch that weights are trained on.

    A row of the batch is in that part with probability `train_share`; the mean code of the others moves the centre c, which no gradient
    reaches. Where gamma is not given it makes the two terms equal before training: the mean of the ratio between reconstruction error
    and ‖z‖² over ten networks with weights of their own.

    Source: Hojjati 2021, the loss, the alternation and the rule for gamma (T = 10). Deviation: rows are dealt by chance, not as the first
    nine tenths; c moves to the mean of the others' codes as a moving average that starts at the mean of the first codes, both as the
    codes were before the step, where the paper takes a step of AdaGrad from a random start; gamma is found on the first 1024 rows. The
    published code divides gamma by a further N and measures the distance of the first row of each batch alone, which is not followed.

    Examples
    --------
    >>> objective = DASVDDObjective((6,), 2, Network(widths=(8,)), gamma=1.0, train_share=0.9, center_momentum=0.9)
    >>> sorted(objective(torch.zeros(4, 6), torch.Generator()))
    ['distance', 'loss', 'reconstruction']
    """

    center: Tensor
    gamma: Tensor

    def __init__(
        self,
        input_shape: Sequence[int],
        latent_dim: int,
        network: Network,
        *,
        gamma: float | None,
        train_share: float,
        center_momentum: float,
    ) -> None:
        super().__init__(input_shape, latent_dim, network)
        self.finds_gamma, self.train_share, self.center_momentum = gamma is None, train_share, center_momentum
        self.register_buffer("center", torch.zeros(latent_dim))
        self.register_buffer("gamma", torch.tensor(1.0 if gamma is None else gamma, dtype=torch.float32))

    def begin(self, x: Tensor) -> None:
        """Find gamma, if it was not given, and start the centre at the mean of the first codes."""
        if self.finds_gamma:
            self.gamma.copy_(self._ratio_before_training(x))
        self.center.copy_(self.code(x).mean(dim=0))

    def forward(self, x: Tensor, generator: NoiseSource) -> dict[str, Tensor]:
        """Return the terms ``reconstruction`` (squared units of the preprocessed rows) and ``distance`` (squared code units), ``loss``."""
        code = self.code(x)
        reconstruction, distance = squared_error(x, self.decode(code)), (code - self.center).square().sum(dim=1)
        if not self.training:
            return self._terms(reconstruction.mean(), distance.mean())
        # The probability that a standard normal draw is below z is the share: one draw a row is the same row by row for all processes.
        drawn = torch.special.ndtr(standard_normal((len(x),), generator, like=distance)) < self.train_share
        trains = drawn.to(distance.dtype)
        share = self.batch_mean(trains, [0])[0].clamp(min=1e-12)
        terms = self._terms((trains * reconstruction).mean() / share, (trains * distance).mean() / share)
        self._move_center(code.detach(), 1 - trains)
        return terms

    def score(self, x: Tensor) -> Tensor:
        """Return the reconstruction error plus gamma times the squared distance to the centre, shape (n,)."""
        code = self.code(x)
        return squared_error(x, self.decode(code)) + self.gamma * (code - self.center).square().sum(dim=1)

    def _terms(self, reconstruction: Tensor, distance: Tensor) -> dict[str, Tensor]:
        return {"loss": reconstruction + self.gamma * distance, "distance": distance, "reconstruction": reconstruction}

    def _move_center(self, codes: Tensor, others: Tensor) -> None:
        with torch.no_grad():
            share = self.batch_mean(others, [0])[0]
            moment = self.batch_mean(others.unsqueeze(1) * codes, [0])[0]
            # Of a small batch now and then no row is left for the centre, which then stays.
            mean = torch.where(share > 0, moment / share.clamp(min=1e-12), self.center)
            self.center.add_((1 - self.center_momentum) * (mean - self.center))

    def _ratio_before_training(self, x: Tensor) -> Tensor:
        ratios, untrained = [], copy.deepcopy(self)
        for number in range(_N_UNTRAINED):
            initialise(untrained, derive_seed(0, f"untrained network {number}"))
            code = untrained.code(x)
            ratios.append(squared_error(x, untrained.decode(code)).mean() / code.square().sum(dim=1).mean().clamp(min=1e-12))
        return torch.stack(ratios).mean()


@dataclasses.dataclass(eq=False, repr=False)
class DASVDD(AbstractNeuralDetector):
    """DASVDD: the anomaly score of a row is its reconstruction error plus gamma times its code's squared distance to the centre.

    Parameters
    ----------
    gamma : float, optional
        Weight of the squared distance against the squared reconstruction error, above 0. None makes both equal before training, see
        `DASVDDObjective`.
    train_share : float
        Share K of the rows of a batch that the weights are trained on, in (0, 1); the others move the centre.
    center_momentum : float
        Weight of the past in the moving average that the centre is, in [0, 1). With 0 it is the best centre for the last batch's others.
    latent_dim, scaling, epochs, network, training, device
        See `AbstractNeuralDetector`.
    target_fpr, trim, calibration, random_state
        See `AbstractDetector`.

    Source: Hojjati 2021. Deviation: see `DASVDDObjective`; networks, optimiser and preprocessing are those of `DeepSVDDVAE`.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> detector = DASVDD(epochs=5, random_state=0).fit(X)
    >>> scores = detector.anomaly_score(np.array([[0.0, 0.0, 0.0, 0.0], [9.0, -9.0, 9.0, -9.0]]))
    >>> bool(scores[1] > scores[0])
    True
    """

    name = "dasvdd"
    scores_reconstructions = True

    gamma: Positive | None = None
    _: dataclasses.KW_ONLY
    train_share: OpenShare = 0.9
    center_momentum: Annotated[float, Within(at_least=0, below=1)] = 0.9

    def _make_objective(self, input_shape: Sequence[int], latent_dim: int, network: Network) -> DASVDDObjective:
        gamma = None if self.gamma is None else float(self.gamma)
        share, momentum = float(self.train_share), float(self.center_momentum)
        return DASVDDObjective(input_shape, latent_dim, network, gamma=gamma, train_share=share, center_momentum=momentum)

    def _method_findings(self, X: NDArray[Any]) -> list[Finding]:
        return [self._spread_finding(X)]
