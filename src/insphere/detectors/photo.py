"""Defects in photos, and foreign objects: spheres in the feature space of a frozen network, at every place and around the whole picture."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from insphere.decision.calibration import fold_rows
from insphere.decision.health import Finding
from insphere.decision.units import row_hashes
from insphere.detectors.base import AbstractDetector
from insphere.detectors.fitting import FitContext, Fitting
from insphere.detectors.scoring import Rows
from insphere.errors import DataError, ModelFileError
from insphere.nets.backbones import BACKBONES, build, published_weights
from insphere.nets.photo_features import WHOLE, PhotoFeatures
from insphere.scores.places import PlaceMoments, PlaceSpheres, highest_mean
from insphere.scores.whitened import WhitenedSphere
from insphere.seeding import generator
from insphere.training.device import resolve_device
from insphere.training.loop import map_batches
from insphere.validation import check_choice, check_integer, check_number

Array = NDArray[np.float64]

LOOK_FOR = ("auto", "defects", "objects")

_STEP = 16  # pixels that sides are multiples of, so that blocks of places come out even
_SMALL = 64  # pixels: pictures whose longer side is no longer are enlarged
_ENLARGED = {"defects": 2, "objects": 4}
_LEAST_SIDE = 64
_MIXED = 1.25  # mean spread of the deepest stage's features from which normal pictures count as showing different things
_N_FOLDS = 4
_PROBED = 64
_MAP_BYTES = 2**29  # of features at places that are kept for fitting; of more pictures a random choice is
_CHUNK = 32
_FEW = 40


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class PhotoSpheres(AbstractDetector):
    """Local spheres for photos: how far each place, and the whole picture, lies from what is normal there.

    A frozen network gives each picture a vector at every place and one of the whole. Around the normal vectors of each place lies an
    ellipsoid; the distances to their centres are the picture's heat-map. The vector of the whole is whitened by a shrunk covariance, and
    its distance to the centre is the second score. Looking for defects, the score is the mean of the logarithms of both (of the map: of
    the mean of its highest places), in units of normal pictures that were left out of the spheres for it. Looking for objects it is the
    logarithm of the second alone. Nothing is trained by gradients; a fit takes seconds.

    Parameters
    ----------
    backbone : {"efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"}
        The frozen network, trained on ImageNet. Its weights come with a package and go into the model file.
    look_for : {"auto", "defects", "objects"}
        What makes a picture anomalous: small marks on what always shows the same, or another kind of thing. "auto" looks at how much
        normal pictures differ in what they show, and says what it chose; no labels are used.
    side : int
        Pixels: pictures that are larger are brought to the area of a square of this side, with their own aspect; at least 64.
    top_share : float
        Share of the places, in (0, 1], whose mean is the score of the map.
    shrinkage : float
        Share of the common covariance in that of each block of places, in [0, 1].
    device : {"auto", "cpu", "cuda", "mps"}
        Where the network computes.
    target_fpr, trim, calibration, random_state
        See `AbstractDetector`.

    Source: distance to a centre as the score, eq. 13 of Zhou 2021; an ellipsoid at each place as in PaDiM (Defard 2021); a whitened vector
    of the whole as in Rippel 2021. Deviation: blocks of places with two shrinkage targets, moments of the whole, the fusion, calibration.
    """

    name: ClassVar[str] = "photo"
    quick: ClassVar[bool] = True
    takes_vectors: ClassVar[bool] = False
    has_maps: ClassVar[bool] = True

    backbone: str = "efficientnet-lite0"
    look_for: str = "auto"
    side: int = 256
    top_share: float = 0.01
    shrinkage: float = 0.1
    device: str = "auto"

    def wanted_size(self, height: float, width: float) -> tuple[int, int]:
        """Return the size that large pictures are brought to; small ones stay as they are, and are enlarged inside the model."""
        self._check_parameters()
        if height * width <= self.side**2:
            return max(1, round(height)), max(1, round(width))
        scale = self.side / math.sqrt(height * width)
        return _stepped(height * scale), _stepped(width * scale)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_choice("backbone", self.backbone, tuple(BACKBONES))
        check_choice("look_for", self.look_for, LOOK_FOR)
        check_integer("side", self.side, at_least=_LEAST_SIDE)
        check_number("top_share", self.top_share, above=0, at_most=1)
        check_number("shrinkage", self.shrinkage, at_least=0, at_most=1)
        self._device = resolve_device(self.device)

    def _collapse_advice(self) -> str:
        return "All pictures look alike to the network: check that they are not blank, and that they are not much smaller than 24 pixels."

    # Fitting.

    def _prepare(self, X: Rows, y: Any = None, groups: Any = None) -> Fitting:
        self._kept: _Settled | None = None
        fitting = super()._prepare(X, y, groups)
        # Models of folds see the same pictures again: their features are computed once.
        self._memo: dict[int, NDArray[np.float32]] | None = None if fitting.folds is None else {}
        return fitting

    def _conclude(self, fitting: Fitting, fitted: Any) -> None:
        super()._conclude(fitting, fitted)
        self._memo = None

    def _settled(self) -> Mapping[str, Any]:
        return {"_kept": self.settled_}

    def _fit_model(self, X: NDArray[Any], context: FitContext) -> tuple[Array, list[Finding]]:
        _check_pictures(X, self.input_.from_files)
        findings: list[Finding] = []
        kept = self._kept
        if kept is None:
            weights = published_weights(self.backbone)
            look_for, findings = self._choose(X, weights)
            self._build(look_for, _inner_size(X.shape[1:3], look_for), weights)
        rng = generator(self.seed_, "pictures of the map")
        places, whole, mapped = self._fitting_features(X, rng)
        n_folds = _N_FOLDS if kept is None else 0
        folds = fold_rows(len(X), max(1, n_folds), units=context.units, rng=generator(self.seed_, "folds of the scales"))
        moments = [PlaceMoments.of(places[folds[mapped] == fold]) for fold in range(int(folds.max()) + 1)]
        total = sum(moments[1:], moments[0])
        self.places_ = PlaceSpheres.fit(total, shrinkage=self.shrinkage)
        self.whole_ = WhitenedSphere.fit(whole)
        if kept is not None:
            self.settled_ = kept
            return self._fused(np.ones(len(X)), self.whole_.distance(whole)), findings
        highest, distances = self._left_out(places, whole, mapped, folds, moments)
        self.settled_ = _Settled.of(self.settled_, highest[mapped], distances)
        findings += [_about_pictures(len(X), len(mapped))]
        return self._fused(highest, distances), findings

    def _choose(self, X: NDArray[Any], weights: Mapping[str, Tensor]) -> tuple[str, list[Finding]]:
        """Return what to look for, and what is to be said of it."""
        if self.look_for != "auto":
            return self.look_for, []
        features = self._features_with("objects", _inner_size(X.shape[1:3], "objects"), weights)
        some = X[:: -(-len(X) // _PROBED)]
        shown = features.parted(map_batches(features.flat, some, _as_it_is, device=self._device, each_alone=True))[1]
        deepest = shown[:, -features.network.architecture.filters[-1] :]
        spread = float(deepest.std(axis=0).mean())
        found = "objects" if spread > _MIXED else "defects"
        text = (
            f"Normal pictures differ {'much' if found == 'objects' else 'little'} in what they show ({spread:.2f}, divided at {_MIXED}), so"
            f" the score looks for {'other kinds of things' if found == 'objects' else 'marks and changes on the same thing'}; look_for=… "
            "says otherwise."
        )
        return found, [Finding("what to look for", "ok", spread, text)]

    def _build(self, look_for: str, size: tuple[int, int], weights: Mapping[str, Tensor]) -> None:
        self.features_ = self._features_with(look_for, size, weights)
        self.settled_ = _Settled(look_for, size)

    def _features_with(self, look_for: str, size: tuple[int, int], weights: Mapping[str, Tensor]) -> PhotoFeatures:
        whole = "shown" if look_for == "objects" else "texture"
        features = PhotoFeatures(build(self.backbone, max(WHOLE[whole]), weights), size, whole)
        return features.requires_grad_(False).eval().to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def _fitting_features(
        self, X: NDArray[Any], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
        """Return the vectors at places of some pictures, the vectors of the whole of all, and which pictures the former are of."""
        features = self.features_
        n_most = max(2, _MAP_BYTES // (4 * math.prod(features.grid) * features.n_values))
        mapped = np.sort(rng.permutation(len(X))[:n_most])
        places = np.empty((len(mapped), *features.grid, features.n_values), dtype=np.float32)
        whole = np.empty((len(X), features.n_whole), dtype=np.float32)
        for start in range(0, len(X), _CHUNK):
            at_places, whole[start : start + _CHUNK] = features.parted(self._flat(features, X[start : start + _CHUNK]))
            inside = (mapped >= start) & (mapped < start + _CHUNK)
            places[inside] = at_places[mapped[inside] - start]
        return places, whole, mapped

    def _left_out(
        self,
        places: NDArray[np.float32],
        whole: NDArray[np.float32],
        mapped: NDArray[np.int64],
        folds: NDArray[np.int64],
        moments: list[PlaceMoments],
    ) -> tuple[Array, Array]:
        """Return both distances of each picture to spheres that were fitted without its fold; NaN where a map was not kept."""
        highest, distances = np.full(len(whole), np.nan), np.empty(len(whole))
        total = sum(moments[1:], moments[0])
        for fold, own in enumerate(moments):
            others = total - own if len(moments) > 1 else total
            sphere = PlaceSpheres.fit(others, shrinkage=self.shrinkage)
            inside = folds == fold
            highest[mapped[inside[mapped]]] = highest_mean(sphere.distance(places[inside[mapped]]), self.top_share)
            distances[inside] = WhitenedSphere.fit(whole[~inside] if len(moments) > 1 else whole).distance(whole[inside])
        return highest, distances

    # Scoring.

    def _score(self, X: NDArray[Any]) -> Array:
        return self._score_maps(X)[0]

    def _score_maps(self, X: NDArray[Any]) -> tuple[Array, NDArray[np.float32]]:
        _check_pictures(X, self.input_.from_files)
        scores, maps = np.empty(len(X)), np.empty((len(X), *self.features_.grid), dtype=np.float32)
        for start in range(0, len(X), _CHUNK):
            part = slice(start, start + _CHUNK)
            places, whole = self.features_.parted(self._flat(self.features_, X[part]))
            maps[part] = self.places_.distance(places)
            scores[part] = self._fused(highest_mean(maps[part], self.top_share), self.whole_.distance(whole))
        return scores, maps

    def _flat(self, features: PhotoFeatures, X: NDArray[Any]) -> NDArray[np.float32]:
        """Return the features of pictures, one vector each; a picture's depend on it alone."""
        memo = self._memo
        if memo is None or features is not self.features_:
            return map_batches(features.flat, X, _as_it_is, device=self._device, each_alone=True)
        keys = row_hashes(X).tolist()
        new = [row for row, key in enumerate(keys) if key not in memo]
        if new:
            found = map_batches(features.flat, X[new], _as_it_is, device=self._device, each_alone=True)
            memo |= {keys[row]: values for row, values in zip(new, found, strict=True)}
        return np.stack([memo[key] for key in keys])

    def _fused(self, highest: Array, distances: Array) -> Array:
        """Return the score: the mean of the log distances in units of normal pictures; of the whole's alone where there is no map's."""
        settled = self.settled_
        whole = (_log(distances) - settled.whole_mean) / settled.whole_spread
        if settled.look_for == "objects":
            return whole
        from_map = (_log(highest) - settled.map_mean) / settled.map_spread
        return np.where(np.isnan(from_map), whole, (from_map + whole) / 2)

    # Saving.

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        network = self.features_.network.state_dict().items()
        arrays = {f"network/{name}": value.cpu().contiguous().numpy().astype(np.float16) for name, value in network}
        arrays |= {f"places/{name}": array for name, array in self.places_.arrays().items()}
        arrays |= {f"whole/{name}": array for name, array in self.whole_.arrays().items()}
        return dataclasses.asdict(self.settled_), arrays

    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        settled = _Settled(**header)
        check_choice("look_for", settled.look_for, LOOK_FOR[1:])
        for field in ("map_mean", "map_spread", "whole_mean", "whole_spread"):
            check_number(field, getattr(settled, field))
        size = tuple(check_integer("size", side, at_least=1, at_most=2**14) for side in settled.size)
        weights = {name.removeprefix("network/"): array for name, array in arrays.items() if name.startswith("network/")}
        try:
            tensors = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
            self._build(settled.look_for, (size[0], size[1]), tensors)
        except RuntimeError as error:
            raise ModelFileError(f"The stored weights do not fit the stored architecture: {error}") from error
        self.settled_ = dataclasses.replace(settled, size=(size[0], size[1]))
        self.places_ = PlaceSpheres.restore(_below(arrays, "places/"), self.features_.grid)
        self.whole_ = WhitenedSphere.restore(_below(arrays, "whole/"), self.features_.n_whole)
        if self.places_.scale.size != self.features_.n_values:
            raise ModelFileError("The stored spheres do not fit the stored network; save the detector again.")
        self._memo = None


@dataclasses.dataclass(frozen=True)
class _Settled:
    """What a fit chose: what to look for, the size inside the model, and mean and spread of both log distances of normal pictures."""

    look_for: str
    size: tuple[int, int]
    map_mean: float = 0.0
    map_spread: float = 1.0
    whole_mean: float = 0.0
    whole_spread: float = 1.0

    @classmethod
    def of(cls, chosen: "_Settled", highest: Array, distances: Array) -> "_Settled":
        """Return the record with the units of distances of pictures that the spheres were fitted without."""
        map_logs, whole_logs = _log(highest), _log(distances)
        units = [float(value) for value in (map_logs.mean(), _spread(map_logs), whole_logs.mean(), _spread(whole_logs))]
        return cls(chosen.look_for, chosen.size, *units)


def _log(distances: Array) -> Array:
    return np.log(np.maximum(distances, 1e-12))


def _spread(logs: Array) -> float:
    spread = float(logs.std())
    return spread if spread > 1e-9 else 1.0


def _as_it_is(rows: Tensor) -> Tensor:
    return rows


def _stepped(side: float) -> int:
    return max(_LEAST_SIDE, round(side / _STEP) * _STEP)


def _inner_size(size: tuple[int, ...], look_for: str) -> tuple[int, int]:
    """Return what pictures are brought to inside the model: enlarged where they are small, in steps of 16 pixels.

    Examples
    --------
    >>> _inner_size((40, 24), "defects"), _inner_size((32, 32), "objects"), _inner_size((256, 256), "defects")
    ((80, 48), (128, 128), (256, 256))
    """
    longer = max(size)
    factor = max(_ENLARGED[look_for], _LEAST_SIDE / longer) if longer <= _SMALL else 1
    height, width = (max(2 * _STEP, round(side * factor / _STEP) * _STEP) for side in size)
    return height, width


def _check_pictures(X: NDArray[Any], from_files: bool) -> None:
    if X.ndim != 4:
        raise DataError("The detector photo takes pictures, and these rows are vectors; take vae-svdd, knn or another one for them.")
    if X.shape[3] not in (1, 3):
        raise DataError(f"The detector photo takes pictures with 1 or 3 channels, got {X.shape[3]}; give three of them, or one.")
    if X.dtype != np.uint8 and not from_files and len(X) and (X.max() <= 1 or X.min() < 0 or X.max() > 255):
        raise DataError(
            f"The detector photo takes pixels 0..255, as image files have them, got {X.dtype} values from {X.min():.4g} to {X.max():.4g};"
            " bring them to 0..255, for example `(255 * X).astype('uint8')`."
        )


def _about_pictures(n: int, n_mapped: int) -> Finding:
    """Say how many pictures the spheres were fitted to."""
    if n < _FEW:
        text = f"{n} pictures are few for spheres at every place; from about {_FEW}, better 100, they are much surer. Give more if you can."
        return Finding("pictures", "warning", float(n), text)
    kept = "" if n_mapped == n else f", those at places to {n_mapped} of them drawn at random, as memory is bounded"
    return Finding("pictures", "ok", float(n), f"The spheres are fitted to {n} pictures{kept}.")


def _below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
