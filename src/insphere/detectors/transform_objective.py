"""Transformations of each row, and the loss that has a sphere for each of them."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from insphere.fields import Checked, Declared, Share
from insphere.nets.options import Network
from insphere.scores.graph import SphereGraph
from insphere.scores.sphere import AbstractSphere
from insphere.training.augmentation import coloured, cropped, jittered, mirrored
from insphere.training.noise import NoiseSource, standard_normal
from insphere.training.transformations import Family, Transformations
from insphere.training.variational import AbstractVariationalObjective, VariationalReading, kl_to_standard_normal, sample_code
from insphere.validation import Within, check_choice

_FIRST_RADIUS = 3.0
_TEMPERATURE = 0.5
_LEAST_CROP = 0.5


def _check_families(name: str, value: object) -> None:
    for family in () if value == "auto" else str(value).split("+"):
        check_choice(name, family, ("auto", *get_args(Family)))


def in_colour(input_shape: Sequence[int]) -> bool:
    """Return whether rows of shape (height, width, channels) or (features,) are pictures with several channels."""
    return len(input_shape) == 3 and input_shape[2] > 1


@dataclasses.dataclass(frozen=True)
class Views(Declared):
    """The transformations, and how rows are varied in training.

    Parameters
    ----------
    transformations : str
        Families joined by "+": "rotations", "flips", "shifts", "affine" and "permutations" (quarters in another order) for pictures,
        "projections" (random affine maps), "masks" (half of the features hidden) and "learned" (factors that a network learns) for vectors.
        "auto" is "rotations" for colour pictures, "rotations+flips+affine" for grey ones and "projections" for vectors.
    n_projections : int
        How many of each family of vectors, at least 2.
    at_once : int
        How many transformations of each row a step of the training takes, drawn again each time.
    mirror : bool, optional
        Whether half the pictures are mirrored left to right in training, as normal ones too; None does so in colour.
    jitter : int, optional
        Pixels by which pictures are shifted at most in training, as normal ones too; None takes a tenth of the shorter side in colour and
        a thirtieth in grey.
    crop : float, optional
        Least share of a picture's area that is cut out in training and brought to its size again, in (0, 1]; 1 cuts nothing. None takes
        0.5 where versions are compared with each other (`similarity` above 0) and 1 elsewhere.
    colour : bool, optional
        Whether brightness, contrast and saturation are varied in training, down to grey. None does so where `similarity` is above 0.

    Examples
    --------
    >>> Views(transformations="rotations+shifts").families((32, 32, 3))
    ['rotations', 'shifts']
    >>> Views().families((4,))
    ['projections']
    """

    transformations: Annotated[str, Checked(_check_families, "str")] = "auto"
    n_projections: Annotated[int, Within(at_least=2, at_most=1000)] = 16
    at_once: Annotated[int, Within(at_least=1, at_most=1000)] = 4
    mirror: bool | None = None
    jitter: Annotated[int, Within(at_least=0, at_most=1000)] | None = None
    crop: Share | None = None
    colour: bool | None = None

    def families(self, input_shape: Sequence[int]) -> list[str]:
        """Return the names of the families for rows of shape (height, width, channels) or (features,)."""
        if self.transformations != "auto":
            return self.transformations.split("+")
        if len(input_shape) == 1:
            return ["projections"]
        return ["rotations"] if in_colour(input_shape) else ["rotations", "flips", "affine"]


class TransformSVDDObjective(AbstractVariationalObjective):
    """Loss of Transform-SVDD, means over a batch of transformed rows, in nats and code units.

    ``alpha · (KL − log-likelihood) + ‖z − c_T‖ − contrast · log p(T | mu)``: eq. 12 around the centre c_T of the transformation T that was
    applied, and a head that predicts T by the distances to all centres, ``p(T | mu) ∝ exp(−scale/2 · ‖mu − c_T‖²)``. So the head is made
    of the spheres: its log-loss is the distance to the own centre against those to the others.

    Source: eq. 12 of Zhou 2021; predicting transformations of normal rows, Golan 2018; by distances to centres, Bergman 2020, eq. 5.
    Deviation: joint with a variational autoencoder; learned centres and scale; only one version of each row is decoded.

    Examples
    --------
    >>> weights = {"alpha": 0.1, "contrast": 50.0}
    >>> objective = TransformSVDDObjective((6,), 2, Network(widths=(8,)), **weights, views=Views(), reading=VariationalReading())
    >>> sorted(objective(torch.zeros(4, 6), torch.Generator()))
    ['contrast', 'distance', 'kl', 'loss', 'reconstruction']
    """

    unit_mean: Tensor
    unit_spread: Tensor

    def __init__(
        self,
        input_shape: Sequence[int],
        latent_dim: int,
        network: Network,
        *,
        alpha: float,
        contrast: float,
        views: Views,
        reading: VariationalReading,
        similarity: float = 0.0,
    ) -> None:
        super().__init__(input_shape, latent_dim, network, likelihood=reading.likelihood)
        self.alpha, self.contrast, self.n_draws, self.similarity = alpha, contrast, reading.n_draws, similarity
        self.transformations = Transformations(input_shape, views.families(input_shape), views.n_projections)
        self.at_once = min(views.at_once, len(self.transformations))
        colour = in_colour(input_shape)
        self.mirror = (colour if views.mirror is None else views.mirror) and len(input_shape) == 3
        steps = min(input_shape[:2]) // (10 if colour else 30) if views.jitter is None else views.jitter
        self.jitter = steps if len(input_shape) == 3 else 0
        much = similarity > 0
        self.crop = ((_LEAST_CROP if much else 1.0) if views.crop is None else views.crop) if len(input_shape) == 3 else 1.0
        self.colour = (much if views.colour is None else views.colour) and len(input_shape) == 3
        if much:
            self.projector = nn.Sequential(nn.Linear(latent_dim, latent_dim), nn.LeakyReLU(0.1), nn.Linear(latent_dim, latent_dim))
        # As a layer, so that its weights are drawn with the others: rows are the learned centres c_T.
        self.centers = nn.Linear(latent_dim, len(self.transformations), bias=False)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("unit_mean", torch.zeros(2))
        self.register_buffer("unit_spread", torch.ones(2))
        self.kept, self.scored_by, self.distance_weight = tuple(range(len(self.transformations))), "both", 1.0
        self.spheres = nn.ModuleList()

    @property
    def stackable(self) -> bool:
        """Whether several can be trained as one: not these, as draws decide which rows go through which transformation."""
        return False

    def begin(self, x: Tensor) -> None:
        """Move the first centres apart, to a distance from zero that batch-normed codes have anyway."""
        self.centers.weight.mul_(_FIRST_RADIUS / self.centers.weight.norm(dim=1).mean())

    # Training.

    def forward(self, x: Tensor, generator: NoiseSource) -> dict[str, Tensor]:
        """Return the terms ``kl`` and ``reconstruction`` (nats per row), ``distance``, ``contrast`` (nats per row) and their ``loss``."""
        variations = [self._varied(x, generator) for _ in range(2 if self.similarity else 1)]
        versions, numbers, firsts, partners = self._versions(variations, generator)
        mu, logvar = self.posterior(versions)
        z = sample_code(mu, logvar, self.n_draws, generator)
        log_likelihood = self.log_likelihood(versions[firsts], z[:, firsts]).mean()
        kl = kl_to_standard_normal(mu, logvar).mean()
        distance = ((z - self.centers.weight[numbers]).square().sum(dim=2) + 1e-12).sqrt().mean()
        contrast = functional.cross_entropy(self.logits(mu), numbers)
        loss = self.alpha * (kl - log_likelihood) + distance + self.contrast * contrast
        terms = {"distance": distance, "contrast": contrast, "kl": kl, "reconstruction": -log_likelihood}
        if self.similarity:
            terms["similarity"] = pair_loss(self.projector(mu).float(), partners)
            loss = loss + self.similarity * terms["similarity"]
        return {"loss": loss, **terms}

    def logits(self, mu: Tensor) -> Tensor:
        """Return ``−scale/2 · ‖mu − c_T‖²`` of each code (n, latent_dim) and centre, shape (n, n_transformations)."""
        offsets = mu.unsqueeze(1) - self.centers.weight
        return -0.5 * self.log_scale.exp() * offsets.square().sum(dim=2)

    def _varied(self, x: Tensor, generator: NoiseSource) -> Tensor:
        """Return pictures mirrored and shifted a little, as other normal ones would be."""
        if not self.training:
            return x
        if self.mirror:
            x = mirrored(x, generator)
        if self.jitter and self.crop == 1:
            x = jittered(x, self.jitter, generator)
        if self.crop < 1:
            x = cropped(x, self.crop, generator)
        return coloured(x, generator) if self.colour else x

    def _versions(self, variations: Sequence[Tensor], generator: NoiseSource) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return transformed rows of each variation, and what is to be known of them.

        In this order: versions, the number of the transformation of each, the positions of one version of each row, and the position of
        each version's partner: the same row's, under the same transformation, in the next variation.
        """
        x, n = variations[0], len(self.transformations)
        numbers = standard_normal((len(x), n), generator, like=x).argsort(dim=1)[:, : self.at_once]
        taken = torch.zeros((len(x), n), dtype=torch.long, device=x.device).scatter_(1, numbers, 1)
        ends = (taken.sum(dim=0) * len(variations)).cumsum(dim=0)
        every = torch.arange(len(x), device=x.device)
        versions, labels, partners, n_before = [], [], [], 0
        for number in range(n):
            # Where all are taken, nothing depends on what was drawn, and the device is not waited for.
            rows = every if self.at_once == n else taken[:, number].nonzero().flatten()
            total = len(rows) * len(variations)
            if total:
                versions += [self.transformations(variation[rows], number) for variation in variations]
                labels.append(torch.full((total,), number, device=x.device))
                partners.append(n_before + (torch.arange(total, device=x.device) + len(rows)) % total)
                n_before += total
        joined = torch.cat(versions)
        if joined.ndim == 4:
            joined = joined.contiguous(memory_format=torch.channels_last)
        first = numbers[:, 0]
        places = functional.pad(ends, (1, 0))[first] + taken.cumsum(dim=0)[every, first] - 1
        return joined, torch.cat(labels), places.sort().values, torch.cat(partners)

    # Scoring.

    def codes_of_versions(self, x: Tensor, numbers: Sequence[int]) -> Tensor:
        """Return mu of each row under each of some transformations, shape (n_numbers, n, latent_dim)."""
        versions = torch.cat([self.transformations(x, number) for number in numbers])
        # Not len(x), which would fix the number of rows that an exported graph takes.
        return self.posterior(versions)[0].reshape(len(numbers), x.shape[0], -1)

    def terms(self, x: Tensor) -> Tensor:
        """Return what a row is scored by, shape (n, 2): the sums over the kept transformations of log-losses and of distances."""
        codes, kept = self.codes_of_versions(x, self.kept), list(self.kept)
        losses = [-self.logits(mu)[:, kept].log_softmax(dim=1)[:, place] for place, mu in enumerate(codes)]
        contrast = torch.stack(losses).sum(dim=0)
        distance = torch.zeros_like(contrast)
        if len(self.spheres):
            distance = torch.stack([sphere(mu) for sphere, mu in zip(self.spheres, codes, strict=True)]).sum(dim=0).float()
        return torch.stack([contrast, distance], dim=1)

    def score(self, x: Tensor) -> Tensor:
        """Return the terms in units of held-out normal rows, where both count their weighted sum; shape (n,)."""
        contrast, distance = ((self.terms(x) - self.unit_mean) / self.unit_spread).unbind(dim=1)
        if self.scored_by == "both":
            return contrast + self.distance_weight * distance
        return distance if self.scored_by == "distance" else contrast

    def settle(self, kept: Sequence[int], spheres: Sequence[AbstractSphere]) -> None:
        """Keep some of the transformations, number 0 first, with a sphere for each or none at all."""
        self.kept = tuple(kept)
        device = self.unit_mean.device
        self.spheres = nn.ModuleList(SphereGraph(sphere).to(device) for sphere in spheres)

    def take_units(self, mean: NDArray[np.float64], spread: NDArray[np.float64]) -> None:
        """Take the mean and the spread, above 0, of both terms over normal rows, each of shape (2,)."""
        self.unit_mean.copy_(torch.from_numpy(mean))
        self.unit_spread.copy_(torch.from_numpy(spread))


def pair_loss(codes: Tensor, partners: Tensor) -> Tensor:
    """Return how badly each code is told to belong to its partner among all others by the cosine between them, in nats; a mean.

    Source: Chen 2020 (SimCLR), eq. 1, with versions under other transformations among the others, as in Tack 2020 (CSI), eq. 5; their
    temperature of 0.5.

    Examples
    --------
    >>> codes = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    >>> round(pair_loss(codes, torch.tensor([1, 0, 3, 2])).item(), 3)
    0.036
    """
    unit = functional.normalize(codes, dim=1)
    cosines = unit @ unit.T / _TEMPERATURE
    own = torch.eye(len(codes), dtype=torch.bool, device=codes.device)
    return functional.cross_entropy(cosines.masked_fill(own, -torch.inf).float(), partners)
