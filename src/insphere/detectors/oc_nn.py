"""One-class neural network: a small network's output must exceed a quantile of its own outputs (Chalapathy et al. 2018)."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from insphere.decision.health import Finding, check_spread
from insphere.detectors.pretrained import AbstractPretrainedDetector
from insphere.fields import OpenShare
from insphere.nets.options import Network, Width
from insphere.training.autoencoding import AbstractEncodingObjective
from insphere.training.noise import NoiseSource
from insphere.training.options import Training

_LEAST_SPREAD = 0.05
"""Share of the outputs' first spread below which training stops: the outputs are on their way to a constant."""


class OCNNObjective(AbstractEncodingObjective):
    """Loss of the one-class neural network: ``½‖w‖² + ½‖V‖² + mean(max(0, r − ŷ)) / nu − r`` with ``ŷ = w · g(V φ(x))``.

    Steps on the weights with r fixed alternate with setting r to the nu-quantile of the outputs ŷ, once an epoch.

    Source: Chalapathy 2018, eqs. 3 to 7, Algorithm 1. Deviation: training stops early when the spread of the outputs falls below a
    twentieth of that at the start. The published code chooses parameters and epoch by looking at test data; this does not.

    Examples
    --------
    >>> objective = OCNNObjective((6,), 2, Network(widths=(8,)), nu=0.1, n_hidden=4, activation="sigmoid")
    >>> sorted(objective(torch.zeros(4, 6), torch.Generator()))
    ['hinge', 'loss', 'r', 'weights']
    """

    r: Tensor
    start_spread: Tensor

    def __init__(self, input_shape: Sequence[int], latent_dim: int, network: Network, *, nu: float, n_hidden: int, activation: str) -> None:
        super().__init__(input_shape, latent_dim, network)
        self.nu = nu
        self.hidden = nn.Linear(latent_dim, n_hidden, bias=False)
        self.activation: nn.Module = nn.Sigmoid() if activation == "sigmoid" else nn.Identity()
        self.output = nn.Linear(n_hidden, 1, bias=False)
        for name in ("r", "start_spread"):
            self.register_buffer(name, torch.zeros(()))

    def begin(self, x: Tensor) -> None:
        """Start r at the quantile of the first outputs."""
        outputs = self.outputs(x)
        self.r.copy_(torch.quantile(outputs, self.nu))
        self.start_spread.copy_(outputs.std())

    def forward(self, x: Tensor, generator: NoiseSource) -> dict[str, Tensor]:
        """Return the terms ``hinge`` (mean of max(0, r − ŷ)), ``weights`` (half their squared norms) and ``r``, and the ``loss``."""
        outputs = self.outputs(x)
        hinge = (self.r - outputs).clamp(min=0).mean()
        weights = 0.5 * (self.output.weight.square().sum() + self.hidden.weight.square().sum())
        return {"loss": weights + hinge / self.nu - self.r, "hinge": hinge, "weights": weights, "r": self.r.clone()}

    def end_epoch(self, batches: Iterator[Tensor]) -> bool:
        """Set r to the quantile of all training rows' outputs, and stop when their spread is dying."""
        self.eval()
        outputs = torch.cat([self.outputs(x) for x in batches])
        self.r.copy_(torch.quantile(outputs, self.nu))
        return bool(outputs.std() >= _LEAST_SPREAD * self.start_spread)

    def outputs(self, x: Tensor) -> Tensor:
        """Return ŷ of each row, shape (n,)."""
        outputs: Tensor = self.output(self.activation(self.hidden(self.code(x)))).float()
        return outputs.squeeze(1)

    def score(self, x: Tensor) -> Tensor:
        """Return r − ŷ of each row, shape (n,): above 0 on the far side of the hyperplane."""
        return self.r - self.outputs(x)


@dataclasses.dataclass(eq=False, repr=False)
class OCNN(AbstractPretrainedDetector):
    """One-class neural network: the anomaly score of a row is how far its output falls short of a quantile r of the training outputs.

    Parameters
    ----------
    nu : float
        Share of training rows whose output may fall short of r, in (0, 1).
    n_hidden : int
        Units of the hidden layer between code and output.
    activation : {"sigmoid", "linear"}
        Activation g of the hidden layer.
    pretrain : bool, Pretraining or mapping
        Whether the encoder starts from a trained autoencoder's, and how that is trained.
    latent_dim, scaling, epochs, network, training, device
        See `AbstractNeuralDetector`. Training may stop before the last epoch, see `OCNNObjective`.
    target_fpr, trim, calibration, random_state
        See `AbstractDetector`.

    Source: Chalapathy 2018. Deviation: see `OCNNObjective`.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> detector = OCNN(epochs=5, random_state=0).fit(X)
    >>> detector.anomaly_score(X[:3]).shape
    (3,)
    """

    name = "oc-nn"
    default_training = Training(lr=1e-4, schedule="constant", precision="32")

    nu: OpenShare = 0.1
    _: dataclasses.KW_ONLY
    n_hidden: Width = 32
    activation: Literal["sigmoid", "linear"] = "sigmoid"

    def _make_objective(self, input_shape: Sequence[int], latent_dim: int, network: Network) -> OCNNObjective:
        nu, n_hidden, activation = float(self.nu), int(self.n_hidden), self.activation
        return OCNNObjective(input_shape, latent_dim, network, nu=nu, n_hidden=n_hidden, activation=activation)

    def _method_findings(self, X: NDArray[Any]) -> list[Finding]:
        first, last = self.objective_.get_buffer("start_spread"), self._score(X).std()
        return [check_spread(float(last), float(first), of="outputs")]
