"""Deep SVDD: an encoder that maps normal rows close to a fixed centre (Ruff et al. 2018)."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor

from insphere.decision.health import Finding
from insphere.detectors.pretrained import AbstractPretrainedDetector
from insphere.errors import ParameterError
from insphere.fields import Count, Declared, NotNegative, Share
from insphere.nets.options import Network
from insphere.training.autoencoding import AbstractEncodingObjective
from insphere.training.clusters import MOST_CENTERS, SeveralCenters
from insphere.training.noise import NoiseSource
from insphere.training.options import Training
from insphere.validation import Within


@dataclasses.dataclass(frozen=True)
class DeepSVDDReading(Declared):
    """The centre, and when the radius starts to move.

    Parameters
    ----------
    center : {"mean", "zero"}
        The fixed centre c: mean of the first codes, or zero, which an encoder can reach with all weights at zero.
    center_margin : float
        How far each coordinate of the mean is kept from zero, in code units; 0 leaves it where it is.
    warm_up_epochs : int
        Epochs that "soft-boundary" trains with radius zero before the radius follows the distances.
    n_centers : int
        Centres, 1 to 100, for normal rows of several kinds: k-means of the first codes, which "mean" is for. A row is pulled to the
        nearest, and scored by it. One with less than a tenth of the rows of the fullest is dropped at the end of an epoch.

    Examples
    --------
    >>> DeepSVDDReading(center="zero").warm_up_epochs
    10
    """

    center: Literal["mean", "zero"] = "mean"
    center_margin: NotNegative = 0.1
    warm_up_epochs: Count = 10
    n_centers: Annotated[int, Within(at_least=1, at_most=MOST_CENTERS)] = 1

    def _check_together(self) -> None:
        if self.n_centers > 1 and self.center == "zero":
            raise ParameterError(
                f"`reading.n_centers` must be 1 with center='zero', got {self.n_centers}: there is one zero. Give center='mean', with which"
                " several are the k-means of the first codes."
            )


class DeepSVDDObjective(SeveralCenters, AbstractEncodingObjective):
    """Loss of Deep SVDD, mean over the batch, in squared code units; the penalty on the weights is the optimiser's weight decay.

    One-class: ``‖φ(x) − c‖²``. Soft boundary: ``R² + max(0, ‖φ(x) − c‖² − R²) / nu``, where R² is the (1 − nu)-quantile of the squared
    distances of the epoch before, and 0 during the warm-up.

    Source: Ruff 2018, eqs. 3 and 4, sec. 3.3. Deviation: c is the mean over the first 1024 rows; R is found once an epoch, as the
    quantile at which the derivative of the loss by R² is zero, where the paper searches every five epochs.

    With several centres c is the one nearest to the code, as in Ghafoori 2020 (DMSVDD). Deviation from that: one radius R for all, and
    scored by the distance alone.

    Examples
    --------
    >>> objective = DeepSVDDObjective((6,), 2, Network(widths=(8,)), soft=False, nu=0.1, reading=DeepSVDDReading())
    >>> sorted(objective(torch.zeros(4, 6), torch.Generator()))
    ['distance', 'loss']
    """

    radius: Tensor
    n_epochs: Tensor

    def __init__(
        self, input_shape: Sequence[int], latent_dim: int, network: Network, *, soft: bool, nu: float, reading: DeepSVDDReading
    ) -> None:
        super().__init__(input_shape, latent_dim, network)
        self.soft, self.nu, self.reading = soft, nu, reading
        self.register_buffer("center", self._zero_centers(reading.n_centers, latent_dim))
        self.register_buffer("radius", torch.zeros(()))
        self.register_buffer("n_epochs", torch.zeros(()))
        self._distances: list[Tensor] = []  # of the current epoch; empty between epochs, so that no checkpoint misses it

    @property
    def stackable(self) -> bool:
        """Whether several can be trained as one: not with the soft boundary, which keeps an epoch's distances beside the buffers."""
        return not self.soft

    def begin(self, x: Tensor) -> None:
        """Fix the centre at the mean of the first codes, several at their k-means, each coordinate at least the margin from zero."""
        if self.reading.center == "mean":
            mean, margin = self._first_centers(self.code(x)), self.reading.center_margin
            self.center.copy_(torch.where(mean < 0, mean.clamp(max=-margin), mean.clamp(min=margin)))

    def forward(self, x: Tensor, generator: NoiseSource) -> dict[str, Tensor]:
        """Return the mean squared ``distance`` to the centre and the ``loss``; for the soft boundary the squared radius too."""
        codes = self.code(x)
        distances = self._squared_distances(codes)
        if self.several and self.training:
            self._count_rows(self._nearest(codes))
        distance = distances.mean()
        if not self.soft:
            return {"loss": distance, "distance": distance}
        if self.training:
            self._distances.append(distances.detach())
        squared_radius = self.radius.square()
        loss = squared_radius + (distances - squared_radius).clamp(min=0).mean() / self.nu
        return {"loss": loss, "distance": distance, "squared radius": squared_radius}

    def end_epoch(self, batches: Iterator[Tensor]) -> bool:
        """Let the radius follow the distances once the warm-up is over, and drop those of several centres that had next to no rows."""
        self.n_epochs += 1
        self._drop_empty()
        if self.soft and self.n_epochs >= self.reading.warm_up_epochs:
            self.radius.copy_(torch.quantile(self.batch_rows(torch.cat(self._distances)), 1 - self.nu).sqrt())
        self._distances.clear()
        return True

    def score(self, x: Tensor) -> Tensor:
        """Return the squared distance of each code to the centre, the nearest of several, shape (n,)."""
        return self._squared_distances(self.code(x))

    def _squared_distances(self, codes: Tensor) -> Tensor:
        center = self.center[self._nearest(codes)] if self.several else self.center
        return (codes - center).square().sum(dim=1)


@dataclasses.dataclass(eq=False, repr=False)
class DeepSVDD(AbstractPretrainedDetector):
    """Deep SVDD: the anomaly score of a row is the squared distance of its code to a centre that was fixed before training.

    The defaults keep the published recipe's network (no biases, batch norms without scale and shift, initialised from a trained
    autoencoder) and its weight decay of 0.5e-6, but train a ninth as long with a larger learning rate. The published training is
    ``training={"lr": 1e-4, "schedule": "step", "step_at": 1 / 3}, epochs=150`` and, for ``pretrain``, the same.

    Parameters
    ----------
    objective : {"one-class", "soft-boundary"}
        Whether all rows are pulled to the centre, or a share of about `nu` may lie outside a sphere that shrinks.
    nu : float
        Share of rows that may lie outside, in (0, 1]; for "soft-boundary" only.
    pretrain : bool, Pretraining or mapping
        Whether the encoder starts from a trained autoencoder's, and how that is trained.
    reading : DeepSVDDReading or mapping, optional
        The centre, or how many centres, and the warm-up.
    latent_dim, scaling, epochs, network, training, device
        See `AbstractNeuralDetector`. With ``network={"bias": True}``, ``reading={"center": "zero"}`` and ``pretrain=False`` the encoder
        can map every row to the centre, which the health report tells.
    target_fpr, trim, calibration, random_state
        See `AbstractDetector`.

    Source: Ruff 2018. Deviation: see `DeepSVDDObjective`; the architecture is that of `DeepSVDDVAE`, as in Zhou 2021, sec. 4.2. The
    score is ‖φ(x) − c‖² for both objectives: less R², which is the same for all rows, it ranks them alike.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> detector = DeepSVDD(epochs=20, random_state=0).fit(X)
    >>> scores = detector.anomaly_score(np.array([[0.0, 0.0, 0.0, 0.0], [9.0, -9.0, 9.0, -9.0]]))
    >>> bool(scores[1] > scores[0])
    True
    """

    name = "deep-svdd"
    default_network = Network(bias=False, batch_norm_affine=False)
    # Codes gather around the centre, and bfloat16 resolves no more than a 256th of their distance from zero: train in float32.
    # One cycle up to 1e-3 tells held-out digits from rotated, shuffled and blended ones better than 1e-4 by steps (89.6 against 82.9 on
    # digit 8, five hundred steps each), which needs no labels.
    default_training = Training(lr=1e-3, weight_decay=0.5e-6, precision="32")

    objective: Literal["one-class", "soft-boundary"] = "one-class"
    _: dataclasses.KW_ONLY
    nu: Share = 0.1
    reading: DeepSVDDReading | Mapping[str, Any] | None = None

    def _record_defaults(self) -> dict[str, Any]:
        return super()._record_defaults() | {"reading": DeepSVDDReading()}

    def _make_objective(self, input_shape: Sequence[int], latent_dim: int, network: Network) -> DeepSVDDObjective:
        soft, reading = self.objective == "soft-boundary", self._record("reading")
        return DeepSVDDObjective(input_shape, latent_dim, network, soft=soft, nu=float(self.nu), reading=reading)

    def _method_findings(self, X: NDArray[Any]) -> list[Finding]:
        return [self._spread_finding(X), *self._centers_findings(X)]
