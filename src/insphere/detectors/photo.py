"""Defects in photos, and foreign objects: spheres in the feature space of a frozen network, at every place and around the whole picture."""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from insphere.data.synthetic import LEAST_SIDE
from insphere.decision.calibration import fold_rows
from insphere.decision.health import Finding
from insphere.decision.synthetic_probe import check_synthetic, probe_synthetic
from insphere.detectors.fitting import FitContext, Fitting
from insphere.detectors.photo_base import CHUNK, SMALL, AbstractPhotoDetector, Array, Maps, at_once, below, check_pictures
from insphere.detectors.scoring import Rows
from insphere.detectors.tiling import MOST
from insphere.errors import ModelFileError
from insphere.fields import Declared, Share
from insphere.nets.backbones import SCRATCH
from insphere.nets.staged import Whole
from insphere.scores.places import BLOCK, PlaceMoments, PlaceSpheres, block_for, highest_mean
from insphere.scores.whitened import WhitenedSphere
from insphere.seeding import generator
from insphere.validation import Within

Found = Literal["defects", "objects"]
_Windows = Annotated[int, Within(at_least=1, at_most=MOST)]

_ENLARGED = {"defects": 2, "objects": 4}
_N_FOLDS = 4
_PROBED = 64
_TRIED = 32
_FEW = 40
_CHOSEN = "what to look for"

_ADVICE = (
    "Take larger pictures (--image-size), photograph with the same position, distance and light each time, or give more normal pictures."
)


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class PhotoSpheres(AbstractPhotoDetector):
    """Local spheres for photos: how far each place, and the whole picture, lies from what is normal there.

    A frozen network, or filters from scratch, give each picture a vector at every place and one of the whole. Around the normal vectors
    of each place lies an ellipsoid; the distances to their centres are the picture's heat-map. The vector of the whole is whitened by a
    shrunk covariance, and its distance to the centre is the second score. Looking for defects, the score is the mean of the logarithms
    of both, in units of normal pictures that were left out of the spheres for it: of the map it is the mean of its highest places, and
    the whole counts twice. Looking for objects it is the logarithm of the second alone. Nothing is trained by gradients; a fit takes
    seconds.

    Parameters
    ----------
    look_for : {"auto", "defects", "objects"}
        What makes a picture anomalous: small marks on what always shows the same, or another kind of thing. "auto" looks at how much
        normal pictures differ in what they show, and says what it chose, without labels; from scratch it is the former.
    top_share : float
        Share of the places, in (0, 1], whose mean is the score of the map; of those of one window where pictures are cut (`tiles`).
    shrinkage : float
        Share of the common covariance in that of each block of places, in [0, 1].
    backbone, side, tiles, roi, device, target_fpr, trim, calibration, random_state
        See `AbstractPhotoDetector` and `AbstractDetector`.

    Source: distance to a centre as the score, eq. 13 of Zhou 2021; an ellipsoid at each place as in PaDiM (Defard 2021); a whitened vector
    of the whole as in Rippel 2021. Deviation: blocks of places with two shrinkage targets, moments of the whole, the fusion, calibration.
    """

    name: ClassVar[str] = "photo"
    look_for: Literal["auto"] | Found = "auto"
    top_share: Share = 0.01
    shrinkage: Annotated[float, Within(at_least=0, at_most=1)] = 0.1

    # Fitting.

    def _prepare(self, X: Rows, y: Any = None, groups: Any = None, categories: Any = None) -> Fitting:
        self._kept: _Settled | None = None
        return super()._prepare(X, y, groups, categories)

    def _settled(self) -> Mapping[str, Any]:
        return {"_kept": self.settled_}

    def _fit_model(self, X: NDArray[Any], context: FitContext) -> tuple[Array, list[Finding]]:
        check_pictures(X, self.name, from_files=self.input_.from_files)
        kept = self._kept
        findings: list[Finding] = []
        if kept is None:
            self.features_ = None  # type: ignore[assignment]
            look_for, findings = self._choose(X)
            size, tiles = self._laid_out(X.shape[1:3], _ENLARGED[look_for])
            self.settled_ = _Settled(look_for, _whole_of(look_for, X.shape[1:3]), size, tiles=tiles)
            self.features_ = self._see_with(self.settled_.whole, size, tiles)
        places, whole, mapped = self._fitting_features(X, generator(self.seed_, "pictures of the map"), context.on_rows)
        folds = fold_rows(len(X), _N_FOLDS, units=context.units, rng=generator(self.seed_, "folds of the scales"))
        if kept is not None:
            folds[:] = 0  # the units are those of the fit of all rows
        block = self._block()
        moments = [PlaceMoments.of(places[folds[mapped] == fold], block) for fold in range(int(folds.max()) + 1)]
        self.places_ = PlaceSpheres.fit(sum(moments[1:], moments[0]), shrinkage=self.shrinkage)
        self.whole_ = WhitenedSphere.fit(whole)
        if kept is not None:
            return self._fused(np.full(len(X), np.nan), self.whole_.distance(whole)), findings
        highest, distances = self._left_out(places, whole, mapped, folds, moments)
        self.settled_ = _Settled.of(self.settled_, highest[mapped], distances)
        if self.settled_.look_for == "defects" and len(moments) > 1 and min(X.shape[1:3]) >= LEAST_SIDE:
            findings.append(self._probe(X, whole, folds, sum(moments[2:], moments[1])))
        return self._fused(highest, distances), [*findings, _about_pictures(len(X), len(mapped))]

    def _block(self) -> int:
        """Return the side of blocks of places: more on the larger maps of pictures in windows, so that they take no more memory."""
        features = self.features_
        return BLOCK if features.n_tiles == 1 else block_for(features.grid, features.network.most_places // BLOCK**2)

    def _share(self) -> float:
        """Return the share of the places whose mean is the score of the map: of as many as one window has."""
        return self.top_share / self.features_.n_tiles

    def _choose(self, X: NDArray[Any]) -> tuple[Found, list[Finding]]:
        """Return what to look for, and what is to be said of it."""
        if self.look_for != "auto":
            return self.look_for, []
        if self.backbone == SCRATCH:
            text = (
                "Features from scratch do not tell kinds of things apart, so the score looks for marks and changes on the same thing; a"
                " trained backbone chooses by what normal pictures show, and the parameter look_for says otherwise."
            )
            return "defects", [Finding(_CHOSEN, "ok", 0.0, text)]
        features = self._see_with("shown", at_once(*self._laid_out(X.shape[1:3], _ENLARGED["objects"]), self.side))
        limit = features.network.mixed_from
        if limit is None:
            text = (
                f"How far normal pictures of different things lie apart under the backbone {self.backbone} is not known, so the score looks"
                " for marks and changes on the same thing; the parameter look_for says otherwise."
            )
            return "defects", [Finding(_CHOSEN, "ok", 0.0, text)]
        shown = features.parted(self._flat(features, X[:: -(-len(X) // _PROBED)]))[1]
        spread = float(shown[:, -features.last_of_whole :].std(axis=0).mean())
        found: Found = "objects" if spread > limit else "defects"
        text = (
            f"Normal pictures differ {'much' if found == 'objects' else 'little'} in what they show ({spread:.2f}, divided at {limit}), so"
            f" the score looks for {'other kinds of things' if found == 'objects' else 'marks and changes on the same thing'};"
            " the parameter look_for says otherwise."
        )
        return found, [Finding(_CHOSEN, "ok", spread, text)]

    def _left_out(
        self,
        places: Maps,
        whole: Maps,
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
            highest[mapped[inside[mapped]]] = highest_mean(sphere.distance(places[inside[mapped]]), self._share())
            distances[inside] = WhitenedSphere.fit(whole[~inside] if len(moments) > 1 else whole).distance(whole[inside])
        return highest, distances

    def _probe(self, X: NDArray[Any], whole: Maps, folds: NDArray[np.int64], moments: PlaceMoments) -> Finding:
        """Say whether synthetic defects on the pictures of one fold are told from them by spheres that were fitted without it."""
        without = copy.copy(self)
        without.places_ = PlaceSpheres.fit(moments, shrinkage=self.shrinkage)
        without.whole_ = WhitenedSphere.fit(whole[folds != 0])
        without._memo = None
        rng = generator(self.seed_, "synthetic defects")
        return check_synthetic(probe_synthetic(X[folds == 0], without._score, rng, n_most=_TRIED), advice=_ADVICE)

    # Scoring.

    def _score(self, X: NDArray[Any]) -> Array:
        return self._score_maps(X)[0]

    def _score_maps(self, X: NDArray[Any]) -> tuple[Array, Maps]:
        check_pictures(X, self.name, from_files=self.input_.from_files)
        scores, maps = np.empty(len(X)), np.empty((len(X), *self.features_.grid), dtype=np.float32)
        for start in range(0, len(X), CHUNK):
            part = slice(start, start + CHUNK)
            places, whole = self.features_.parted(self._flat(self.features_, X[part]))
            maps[part] = self.places_.distance(places)
            scores[part] = self._fused(highest_mean(maps[part], self._share()), self.whole_.distance(whole))
        return scores, maps

    def _fused(self, highest: Array, distances: Array) -> Array:
        """Return the score: the mean of the log distances in units of normal pictures, of the whole's alone where there is no map's.

        The whole's counts twice: the better on the three sets that settings were chosen on (benchmarks/photos.py).
        """
        settled = self.settled_
        whole = (_log(distances) - settled.whole_mean) / settled.whole_spread
        if settled.look_for == "objects":
            return whole
        from_map = (_log(highest) - settled.map_mean) / settled.map_spread
        return np.where(np.isnan(from_map), whole, (from_map + 2 * whole) / 3)

    # Saving.

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        arrays = {f"places/{name}": array for name, array in self.places_.arrays().items()}
        arrays |= {f"whole/{name}": array for name, array in self.whole_.arrays().items()}
        return dataclasses.asdict(self.settled_) | {"network": dict(self.network_)}, self._network_arrays() | arrays

    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        settled = _Settled(**{name: value for name, value in header.items() if name != "network"})
        size, tiles = self._restore_network(settled.whole, settled.size, header, arrays)
        self.settled_ = dataclasses.replace(settled, size=size, tiles=tiles)
        self.places_ = PlaceSpheres.restore(below(arrays, "places/"), self.features_.grid, self._block())
        self.whole_ = WhitenedSphere.restore(below(arrays, "whole/"), self.features_.n_whole)
        if self.places_.scale.size != self.features_.n_values:
            raise ModelFileError("The stored spheres do not fit the stored network; save the detector again.")


@dataclasses.dataclass(frozen=True)
class _Settled(Declared):
    """What a fit chose: what to look for, by which vector of the whole, at which size, in which windows, and the units of log distances."""

    look_for: Found
    whole: Whole
    size: tuple[int, int]
    map_mean: float = 0.0
    map_spread: float = 1.0
    whole_mean: float = 0.0
    whole_spread: float = 1.0
    tiles: tuple[_Windows, _Windows] = (1, 1)

    @classmethod
    def of(cls, chosen: "_Settled", highest: Array, distances: Array) -> "_Settled":
        """Return the record with the units of distances of pictures that the spheres were fitted without."""
        map_logs, whole_logs = _log(highest), _log(distances)
        return dataclasses.replace(
            chosen,
            map_mean=float(map_logs.mean()),
            map_spread=_spread(map_logs),
            whole_mean=float(whole_logs.mean()),
            whole_spread=_spread(whole_logs),
        )


def _whole_of(look_for: Found, size: tuple[int, ...]) -> Whole:
    """Return which vector of the whole picture is looked at."""
    return "shown" if look_for == "objects" else "fine" if max(size) <= SMALL else "texture"


def _log(distances: Array) -> Array:
    return np.log(np.maximum(distances, 1e-12))


def _spread(logs: Array) -> float:
    spread = float(logs.std())
    return spread if spread > 1e-9 else 1.0


def _about_pictures(n: int, n_mapped: int) -> Finding:
    """Say how many pictures the spheres were fitted to."""
    if n < _FEW:
        text = f"{n} pictures are few for spheres at every place; from about {_FEW}, better 100, they are much surer. Give more if you can."
        return Finding("pictures", "warning", float(n), text)
    kept = "" if n_mapped == n else f", those at places to {n_mapped} of them drawn at random, as memory is bounded"
    return Finding("pictures", "ok", float(n), f"The spheres are fitted to {n} pictures{kept}.")
