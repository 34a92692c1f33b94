"""Scores of every kind of detector as PyTorch modules that can be exported: the formulas of `detectors/` without their loops and trees.

What the library computes in float64 is computed in float64 here too. Where it compares a row with many points one pair at a time, these
modules multiply matrices; the graph is then checked against the library.
"""

import copy
import math
from functools import singledispatch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from insphere.data.preprocess import Preprocess
from insphere.detectors.base import AbstractDetector
from insphere.detectors.classical import KDE, KNN, OCSVM, IForest
from insphere.detectors.fusion import LEAST, Fusion, Units
from insphere.detectors.hybrid import Hybrid
from insphere.detectors.kernel_svdd import SVDD
from insphere.detectors.neural import AbstractNeuralDetector
from insphere.detectors.patch_knn import PatchKNN
from insphere.detectors.photo import PhotoSpheres
from insphere.detectors.shallow import AbstractShallowDetector, Projection
from insphere.detectors.vae_svdd import DeepSVDDVAE, DeepSVDDVAEObjective
from insphere.errors import ExportError
from insphere.scores.graph import NearestDistance, RelativeDistance, SphereGraph, has_graph, number, squared_distances, tensor
from insphere.scores.isolation import IsolationTrees
from insphere.scores.kernels import KernelExpansion
from insphere.scores.photo_graph import PatchGraph, PictureGraph
from insphere.scores.sphere import AbstractSphere
from insphere.training.feed import as_network_input


@singledispatch
def scorer(detector: AbstractDetector) -> nn.Module:
    """Return the module that maps raw rows of a fitted detector to its anomaly scores, float64, shape (n,).

    Raises
    ------
    ExportError
        If no graph is known that gives the detector's scores; the message says why.
    """
    raise ExportError(
        f"{detector.name} cannot be exported: no graph is known for {type(detector).__name__}. Neural detectors can be exported as they"
        " are; for others register a module with `insphere.export.scorers.scorer.register`."
    )


@scorer.register
def _(detector: AbstractNeuralDetector) -> nn.Module:
    return NeuralScorer(detector)


@scorer.register
def _(detector: DeepSVDDVAE) -> nn.Module:
    objective = detector.objective_
    if isinstance(objective, DeepSVDDVAEObjective) and objective.reading.score_of == "sample":
        raise ExportError(
            "vae-svdd with reading.score_of='sample' cannot be exported: it scores by drawn codes, whose noise depends on a row's position"
            " in its batch. Fit it with reading.score_of='mean', the default."
        )
    return NeuralScorer(detector)


@scorer.register
def _(detector: AbstractShallowDetector) -> nn.Module:
    return ShallowScorer(detector)


@scorer.register
def _(detector: Hybrid) -> nn.Module:
    return HybridScorer(detector)


@scorer.register
def _(detector: Fusion) -> nn.Module:
    return FusionScorer(detector)


@scorer.register
def _(detector: PhotoSpheres) -> nn.Module:
    return PhotoScorer(detector)


@scorer.register
def _(detector: PatchKNN) -> nn.Module:
    return PatchScorer(detector)


class NeuralScorer(nn.Module):
    """Scores by a trained objective, or by the distance of its codes to a sphere; networks in float32, distances in float64."""

    def __init__(self, detector: AbstractNeuralDetector) -> None:
        super().__init__()
        self.codes = Codes(detector)
        self.distance = None if detector.sphere_ is None else sphere_distance(detector.sphere_)

    def forward(self, rows: Tensor) -> Tensor:
        """Map raw rows (n, height, width, channels) or (n, features) to scores, float64, shape (n,)."""
        if self.distance is None:
            return self.codes.objective.score(self.codes.prepared(rows)).double()
        distances: Tensor = self.distance(self.codes(rows))
        return distances


class Codes(nn.Module):
    """Codes of raw rows under a neural detector."""

    def __init__(self, detector: AbstractNeuralDetector) -> None:
        super().__init__()
        self.objective = copy.deepcopy(detector.objective_).cpu().eval()
        self._preprocess: Preprocess = detector.preprocess_

    def prepared(self, rows: Tensor) -> Tensor:
        """Return what the network takes."""
        # Vectors are scaled in float64 as in `AbstractDetector.score_batches`, images in the type that they come in.
        return as_network_input(rows if rows.ndim == 4 else rows.double(), self._preprocess.apply)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the codes, float64, shape (n, latent_dim)."""
        return self.objective.code(self.prepared(rows)).double()


class PhotoScorer(nn.Module):
    """Scores and heat-maps of photos: see `PhotoSpheres`."""

    def __init__(self, detector: PhotoSpheres) -> None:
        super().__init__()
        self.features = copy.deepcopy(detector.features_).cpu().eval()
        self.look_for = detector.settled_.look_for
        self.spheres = nn.ModuleList(PictureGraph(own) for own in detector.spheres_)
        self.n_highest = max(1, round(self.features.grid[0] * self.features.grid[1] * (detector.top_share / self.features.n_tiles)))
        self.map_level = detector.decision_.map_level

    def forward(self, rows: Tensor) -> Tensor:
        """Map raw rows to scores."""
        return self.with_map(rows)[0]

    def with_map(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Map raw rows (n, height, width, channels) to scores, float64, and heat-maps (n, map height, map width), float32."""
        at_places, vectors = self.features(as_network_input(rows, lambda pixels: pixels))
        found = [own(at_places, vectors, self.n_highest, self.look_for) for own in self.spheres]
        score, heat = found[0]
        for by_own, at_own in found[1:]:
            nearer = by_own < score
            score, heat = torch.where(nearer, by_own, score), torch.where(nearer[:, None, None], at_own, heat)
        return score, heat / self.map_level


class PatchScorer(nn.Module):
    """Scores and heat-maps of photos by a memory of patches: see `PatchKNN`."""

    def __init__(self, detector: PatchKNN) -> None:
        super().__init__()
        self.features = copy.deepcopy(detector.features_).cpu().eval()
        self.memory = PatchGraph(detector.memory_)
        self.n_highest = max(1, round(self.features.grid[0] * self.features.grid[1] * (detector.top_share / self.features.n_tiles)))
        self.map_level = detector.decision_.map_level

    def forward(self, rows: Tensor) -> Tensor:
        """Map raw rows to scores."""
        return self.with_map(rows)[0]

    def with_map(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Map raw rows (n, height, width, channels) to scores, float64, and heat-maps (n, map height, map width), float32."""
        heat = self.memory(self.features(as_network_input(rows, lambda pixels: pixels))[0])
        return torch.topk(heat.flatten(1), self.n_highest, dim=1).values.double().mean(dim=1), heat / self.map_level


class HybridScorer(nn.Module):
    """A shallow detector's scores of a neural detector's codes."""

    def __init__(self, detector: Hybrid) -> None:
        super().__init__()
        self.codes = Codes(detector.encoder_)
        self.scores = ShallowScorer(detector.detector_)
        self.center: Tensor
        self.scale: Tensor
        self.register_buffer("center", tensor(detector.center_))
        self.register_buffer("scale", number(detector.scale_))

    def forward(self, rows: Tensor) -> Tensor:
        """Map raw rows to scores."""
        scores: Tensor = self.scores((self.codes(rows) - self.center) / self.scale)
        return scores


class FusionScorer(nn.Module):
    """The weighted mean of several scores in units of normal rows."""

    def __init__(self, detector: Fusion) -> None:
        super().__init__()
        counting = [number for number, units in enumerate(detector.units_) if units is not None]
        self.parts = nn.ModuleList(scorer(detector.detectors_[number]) for number in counting)
        self.units = nn.ModuleList(InUnits(detector.units_[number], detector.shares_[number]) for number in counting)  # type: ignore[arg-type]

    def forward(self, rows: Tensor) -> Tensor:
        """Map raw rows to scores."""
        return torch.stack([units(part(rows)) for part, units in zip(self.parts, self.units, strict=True)]).sum(dim=0)


class InUnits(nn.Module):
    """Scores in units of normal rows, times a weight: see `insphere.detectors.fusion.Units`."""

    def __init__(self, units: Units, share: float) -> None:
        super().__init__()
        self.of_distances = units.floor is not None
        values = {"mean": units.mean, "spread": units.spread, "floor": units.floor or 0.0, "share": share, "least": LEAST}
        for name, value in values.items():
            self.register_buffer(name, number(value))
        self.mean: Tensor
        self.spread: Tensor
        self.floor: Tensor
        self.share: Tensor
        self.least: Tensor

    def forward(self, scores: Tensor) -> Tensor:
        """Map scores (n,) to their part of the mean (n,)."""
        if self.of_distances:
            units = (torch.log(torch.relu(scores) + self.floor) - self.mean) / self.spread
        else:
            standard = (scores - self.mean) / self.spread
            units = standard.sign() * torch.log(1 + standard.abs())
        return self.share * torch.maximum(units, self.least)


class ShallowScorer(nn.Module):
    """Scaling, projection and a classical model, all in float64."""

    def __init__(self, detector: AbstractShallowDetector) -> None:
        super().__init__()
        self._preprocess: Preprocess = detector.preprocess_
        self.project = nn.Identity() if detector.projection_ is None else Projected(detector.projection_)
        self.scores = features_scorer(detector)

    def forward(self, rows: Tensor) -> Tensor:
        """Map raw rows to scores."""
        scaled = self._preprocess.apply(rows.double()).flatten(1)
        scores: Tensor = self.scores(self.project(scaled))
        return scores


class Projected(nn.Module):
    """Coordinates along principal components."""

    def __init__(self, projection: Projection) -> None:
        super().__init__()
        self.mean: Tensor
        self.components: Tensor
        self.register_buffer("mean", tensor(projection.mean))
        self.register_buffer("components", tensor(projection.components))

    def forward(self, rows: Tensor) -> Tensor:
        """Map scaled rows (n, values) to features (n, n_components)."""
        return (rows - self.mean) @ self.components.T


def sphere_distance(sphere: AbstractSphere) -> SphereGraph:
    """Return the module that maps codes to their distances.

    Raises
    ------
    ExportError
        If the geometry is not known.
    """
    if not has_graph(sphere):
        raise ExportError(
            f"The geometry {sphere.kind!r} cannot be exported; fit with geometry 'local', 'angular', 'mahalanobis' or 'euclidean'."
        )
    return SphereGraph(sphere)


@singledispatch
def features_scorer(detector: AbstractShallowDetector) -> nn.Module:
    """Return the module that maps a shallow detector's features to scores.

    Raises
    ------
    ExportError
        If none is known.
    """
    raise ExportError(
        f"{detector.name} cannot be exported: no graph is known for the scores of {type(detector).__name__}; register a module with"
        " `insphere.export.scorers.features_scorer.register`."
    )


@features_scorer.register
def _(detector: KNN) -> nn.Module:
    points, k, exclude_self = detector.neighbours_.references, detector.n_neighbors, detector.exclude_self
    if detector.spread_ is not None:
        return RelativeDistance(points, k, detector.spread_, exclude_self=exclude_self)
    return NearestDistance(points, k, aggregation=detector.aggregation, exclude_self=exclude_self)


@features_scorer.register
def _(detector: KDE) -> nn.Module:
    density = detector.density_
    return NegativeLogDensity(density.points, density.weights, density.bandwidth)


@features_scorer.register
def _(detector: OCSVM) -> nn.Module:
    return BeyondHyperplane(detector.expansion_, detector.rho_)


@features_scorer.register
def _(detector: SVDD) -> nn.Module:
    sphere = detector.sphere_
    return KernelSphereScore(sphere.center, sphere.squared_norm - sphere.squared_radius)


@features_scorer.register
def _(detector: IForest) -> nn.Module:
    return ForestScore(detector.trees_)


class NegativeLogDensity(nn.Module):
    """Negative log-density of a mixture of Gaussians of one width, in nats (see `insphere.scores.density.GaussianDensity`)."""

    def __init__(self, points: NDArray[np.float64], weights: NDArray[np.float64], bandwidth: float) -> None:
        super().__init__()
        self.points: Tensor
        self.log_weights: Tensor
        self.divisor: Tensor
        self.constant: Tensor
        self.register_buffer("points", tensor(points))
        self.register_buffer("log_weights", tensor(np.log(weights)))
        self.register_buffer("divisor", number(2 * bandwidth**2))
        self.register_buffer("constant", number(points.shape[1] / 2 * math.log(2 * math.pi * bandwidth**2)))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n, d) to nats (n,)."""
        exponents = self.log_weights - squared_distances(features, self.points) / self.divisor
        return self.constant - torch.logsumexp(exponents, dim=1)


class Expansion(nn.Module):
    """A sum of kernels (see `insphere.scores.kernels.KernelExpansion`)."""

    def __init__(self, expansion: KernelExpansion) -> None:
        super().__init__()
        self.kernel, self.degree = expansion.kernel.name, expansion.kernel.degree
        self.points: Tensor
        self.weights: Tensor
        self.gamma: Tensor
        self.coef0: Tensor
        self.register_buffer("points", tensor(expansion.points))
        self.register_buffer("weights", tensor(expansion.weights))
        self.register_buffer("gamma", number(expansion.kernel.gamma))
        self.register_buffer("coef0", number(expansion.kernel.coef0))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n, d) to values (n,)."""
        if self.kernel == "rbf":
            values = torch.exp(-self.gamma * squared_distances(features, self.points))
        else:
            values = self._of_products(features @ self.points.T)
        return values @ self.weights

    def diagonal(self, features: Tensor) -> Tensor:
        """Return the kernel of each row with itself, shape (n,)."""
        squares = features.square().sum(dim=1)
        return torch.ones_like(squares) if self.kernel == "rbf" else self._of_products(squares)

    def _of_products(self, products: Tensor) -> Tensor:
        return products if self.kernel == "linear" else (self.gamma * products + self.coef0).pow(self.degree)


class BeyondHyperplane(nn.Module):
    """Score of the one-class support vector machine."""

    def __init__(self, expansion: KernelExpansion, rho: float) -> None:
        super().__init__()
        self.expansion = Expansion(expansion)
        self.rho: Tensor
        self.register_buffer("rho", number(rho))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n, d) to scores (n,)."""
        scores: Tensor = self.rho - self.expansion(features)
        return scores


class KernelSphereScore(nn.Module):
    """Squared distance to a centre in a kernel's feature space, and a constant."""

    def __init__(self, center: KernelExpansion, constant: float) -> None:
        super().__init__()
        self.center = Expansion(center)
        self.constant: Tensor
        self.register_buffer("constant", number(constant))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n, d) to scores (n,)."""
        scores: Tensor = self.center.diagonal(features) - 2 * self.center(features) + self.constant
        return scores


class ForestScore(nn.Module):
    """Scores of an isolation forest: all trees are walked at once, a level at a time."""

    def __init__(self, trees: IsolationTrees) -> None:
        super().__init__()
        self.n_levels = _depth(trees)
        self.divisor: Tensor
        self.register_buffer("divisor", number(len(trees.roots) * trees.normaliser))
        # A leaf leads back to itself whatever it compares, so it may compare the first feature.
        arrays = {"features": trees.features.clip(0), "left": trees.left, "right": trees.right, "roots": trees.roots}
        for name, array in {**arrays, "thresholds": trees.thresholds, "path_lengths": trees.path_lengths}.items():
            self.register_buffer(name, tensor(array))
        self.features: Tensor
        self.left: Tensor
        self.right: Tensor
        self.roots: Tensor
        self.thresholds: Tensor
        self.path_lengths: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n, d) to scores (n,)."""
        values = features.float().double()  # compared in single precision, as they were when the trees grew
        nodes = self.roots.expand(features.shape[0], -1)  # not len(), which the exporter would take for a constant
        for _ in range(self.n_levels):
            goes_left = values.gather(1, self.features[nodes]) <= self.thresholds[nodes]
            nodes = torch.where(goes_left, self.left[nodes], self.right[nodes])
        return torch.exp2(-(self.path_lengths[nodes].sum(dim=1) / self.divisor))


def _depth(trees: IsolationTrees) -> int:
    """Return the edges from a root to the deepest leaf."""
    level, depth = trees.roots, 0
    while True:
        level = level[trees.features[level] >= 0]
        if not len(level):
            return depth
        level, depth = np.concatenate([trees.left[level], trees.right[level]]), depth + 1
