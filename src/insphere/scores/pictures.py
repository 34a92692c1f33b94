"""The spheres of one product: at every place of its pictures, around the whole of them, and the units that both are measured in."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from insphere.scores.places import PlaceMoments, PlaceSpheres, highest_mean
from insphere.scores.whitened import WhitenedSphere

Array = NDArray[np.float64]
Maps = NDArray[np.float32]

_LEAST_DISTANCE = 1e-12


class PictureVectors(NamedTuple):
    """What a network says of pictures.

    Attributes
    ----------
    places : ndarray of float32, shape (m, height, width, d)
        Vectors at the places of some of them.
    whole : ndarray of float32, shape (n, d)
        Vectors of all of them as a whole.
    mapped : ndarray of int64, shape (m,)
        Which ones the former are of, increasing.
    """

    places: Maps
    whole: Maps
    mapped: NDArray[np.int64]

    def of(self, chosen: NDArray[np.bool_]) -> "PictureVectors":
        """Return those of some pictures, shape (n,)."""
        if chosen.all():
            return self
        numbers = np.cumsum(chosen) - 1
        kept = chosen[self.mapped]
        return PictureVectors(self.places[kept], self.whole[chosen], numbers[self.mapped[kept]])


class PictureUnits(NamedTuple):
    """Mean and spread of the logarithms of both distances of normal pictures that the spheres were fitted without.

    Attributes
    ----------
    map_mean, map_spread : float
        Of the mean distance of a picture's highest places.
    whole_mean, whole_spread : float
        Of the distance of the whole.

    Examples
    --------
    >>> PictureUnits.of(np.exp([1.0, 3.0]), np.exp([0.0, 0.0]))
    PictureUnits(map_mean=2.0, map_spread=1.0, whole_mean=0.0, whole_spread=1.0)
    """

    map_mean: float = 0.0
    map_spread: float = 1.0
    whole_mean: float = 0.0
    whole_spread: float = 1.0

    @classmethod
    def of(cls, highest: Array, distances: Array) -> Self:
        """Return the units of distances by the map and of the whole."""
        of_map, of_whole = _log(highest), _log(distances)
        return cls(float(of_map.mean()), _spread(of_map), float(of_whole.mean()), _spread(of_whole))

    def of_whole(self, distances: Array) -> Array:
        """Return distances of the whole in these units."""
        return (_log(distances) - self.whole_mean) / self.whole_spread

    def of_both(self, highest: Array, distances: Array) -> Array:
        """Return the mean of both distances in these units, of the whole's alone where there is no map's.

        The whole's counts twice: the better on the three sets that settings were chosen on (benchmarks/photos.py).
        """
        of_map, of_whole = (_log(highest) - self.map_mean) / self.map_spread, self.of_whole(distances)
        return np.where(np.isnan(of_map), of_whole, (of_map + 2 * of_whole) / 3)


@dataclasses.dataclass(frozen=True, eq=False)
class PictureSpheres:
    """Spheres at the places and around the whole of one product's pictures.

    Parameters
    ----------
    places : PlaceSpheres
    whole : WhitenedSphere
    units : PictureUnits
        What distances to both are measured in.

    Source: distances to centres, eq. 13 of Zhou 2021; the sum of both in units of normal pictures is ours.
    """

    places: PlaceSpheres
    whole: WhitenedSphere
    units: PictureUnits

    @classmethod
    def fit(cls, vectors: PictureVectors, units: PictureUnits, *, block: int, shrinkage: float) -> Self:
        """Return the spheres of pictures, in units that are known; see `PlaceSpheres.fit`."""
        moments = PlaceMoments.of(vectors.places, block)
        return cls(PlaceSpheres.fit(moments, shrinkage=shrinkage), WhitenedSphere.fit(vectors.whole), units)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what a model file holds beside the units."""
        parts: Mapping[str, PlaceSpheres | WhitenedSphere] = {"places": self.places, "whole": self.whole}
        return {f"{part}/{name}": array for part, spheres in parts.items() for name, array in spheres.arrays().items()}


class Enclosed(NamedTuple):
    """Spheres around pictures, and what these are by spheres that were fitted without them.

    Attributes
    ----------
    spheres : PictureSpheres
        With units by the distances below.
    highest : ndarray of float64, shape (n,)
        Mean distance of each picture's highest places; NaN where its map was not kept.
    distances : ndarray of float64, shape (n,)
        Of the whole.
    without_first : PictureSpheres
        Fitted without the first fold, in the same units.
    """

    spheres: PictureSpheres
    highest: Array
    distances: Array
    without_first: PictureSpheres

    @classmethod
    def of(cls, vectors: PictureVectors, folds: NDArray[np.int64], *, block: int, shrinkage: float, share: float) -> Self:
        """Fit spheres to all pictures, and without each fold in turn.

        Parameters
        ----------
        vectors : PictureVectors
        folds : ndarray of int64, shape (n,)
            Fold of each picture, from 0; where there is one only, nothing is left out.
        block, shrinkage, share
            See `PlaceSpheres.fit` and `highest_mean`.
        """
        places, whole, mapped = vectors
        moments = [PlaceMoments.of(places[folds[mapped] == fold], block) for fold in range(int(folds.max()) + 1)]
        total, alone = sum(moments[1:], moments[0]), len(moments) == 1
        highest, distances = np.full(len(whole), np.nan), np.empty(len(whole))
        for fold, own in enumerate(moments):
            inside = folds == fold
            at_places = PlaceSpheres.fit(total if alone else total - own, shrinkage=shrinkage)
            around = WhitenedSphere.fit(whole if alone else whole[~inside])
            if own.n:
                highest[mapped[inside[mapped]]] = highest_mean(at_places.distance(places[inside[mapped]]), share)
            distances[inside] = around.distance(whole[inside])
            if fold == 0:
                without_first = at_places, around
        units = PictureUnits.of(highest[mapped], distances)
        spheres = PictureSpheres(PlaceSpheres.fit(total, shrinkage=shrinkage), WhitenedSphere.fit(whole), units)
        return cls(spheres, highest, distances, PictureSpheres(*without_first, units))


def _log(distances: Array) -> Array:
    return np.log(np.maximum(distances, _LEAST_DISTANCE))


def _spread(logs: Array) -> float:
    spread = float(logs.std())
    return spread if spread > 1e-9 else 1.0
