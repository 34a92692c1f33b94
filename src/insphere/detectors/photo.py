"""Defects in photos, and foreign objects: spheres in the feature space of a frozen network, at every place and around the whole picture."""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from insphere.data.synthetic import LEAST_SIDE
from insphere.decision.calibration import fold_rows
from insphere.decision.categories import RowCategories
from insphere.decision.health import Finding
from insphere.decision.synthetic_probe import check_synthetic, probe_synthetic
from insphere.detectors.fitting import FitContext, Fitting
from insphere.detectors.photo_base import CHUNK, SMALL, AbstractPhotoDetector, Array, Maps, at_once, below, check_pictures
from insphere.detectors.scoring import Rows
from insphere.detectors.tiling import MOST
from insphere.errors import ModelFileError, ParameterError
from insphere.fields import Declared, Share
from insphere.nets.backbones import SCRATCH
from insphere.nets.staged import Whole
from insphere.scores.pictures import Enclosed, PictureSpheres, PictureUnits, PictureVectors
from insphere.scores.places import BLOCK, PlaceSpheres, block_for, highest_mean
from insphere.scores.whitened import WhitenedSphere
from insphere.seeding import generator
from insphere.validation import Within, check_number

Found = Literal["defects", "objects"]
_Windows = Annotated[int, Within(at_least=1, at_most=MOST)]

_ENLARGED = {"defects": 2, "objects": 4}
_N_FOLDS = 4
_PROBED = 64
_TRIED = 32
_FEW = 40
_FEWEST_OF_OWN = 8
_MOST_OF_OWN = 16
_CHOSEN = "what to look for"

TOLD = 0.9
"""Share of normal pictures that must be nearest to the spheres of their own category, so that each category keeps its own."""

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

    Pictures of several products (`fit`'s `categories`) can have spheres each of their own. A picture's score and map are then those by
    the nearest ones, so that it need not say which product it shows.

    Parameters
    ----------
    look_for : {"auto", "defects", "objects"}
        What makes a picture anomalous: small marks on what always shows the same, or another kind of thing. "auto" looks at how much
        normal pictures differ in what they show, and says what it chose, without labels; from scratch it is the former.
    top_share : float
        Share of the places, in (0, 1], whose mean is the score of the map; of those of one window where pictures are cut (`tiles`).
    shrinkage : float
        Share of the common covariance in that of each block of places, in [0, 1].
    spheres : {"auto", "common", "own"}
        Whether all pictures have spheres in common, or each category its own. "auto" gives each its own where there are at most sixteen,
        with forty independent pictures to train on at least, and nine of ten normal pictures are nearest to those of their category: what
        several cameras see of one product stays in common. "own" needs eight independent pictures of each.
    backbone, side, tiles, roi, device, target_fpr, trim, calibration, random_state
        See `AbstractPhotoDetector` and `AbstractDetector`.

    Source: distance to a centre as the score, eq. 13 of Zhou 2021; an ellipsoid at each place as in PaDiM (Defard 2021); a whitened vector
    of the whole as in Rippel 2021. Deviation: blocks of places with two shrinkage targets, moments of the whole, the fusion, calibration.
    """

    name: ClassVar[str] = "photo"
    look_for: Literal["auto"] | Found = "auto"
    top_share: Share = 0.01
    shrinkage: Annotated[float, Within(at_least=0, at_most=1)] = 0.1
    spheres: Literal["auto", "common", "own"] = "auto"

    # Fitting.

    def _prepare(self, X: Rows, y: Any = None, groups: Any = None, categories: Any = None) -> Fitting:
        self._kept: tuple[_Settled, tuple[PictureUnits, ...]] | None = None
        return super()._prepare(X, y, groups, categories)

    def _settled(self) -> Mapping[str, Any]:
        return {"_kept": (self.settled_, tuple(own.units for own in self.spheres_))}

    def _fit_model(self, X: NDArray[Any], context: FitContext) -> tuple[Array, list[Finding]]:
        check_pictures(X, self.name, from_files=self.input_.from_files)
        if self._kept is not None:
            return self._fit_as_before(X, context, self._kept[1])
        self.features_ = None  # type: ignore[assignment]
        products, findings = self._products(len(X), context)
        look_for, chosen = self._choose(X, _kinds(len(X), context.categories))
        size, tiles = self._laid_out(X.shape[1:3], _ENLARGED[look_for])
        self.settled_ = _Settled(look_for, _whole_of(look_for, X.shape[1:3]), size, tiles)
        self.features_ = self._see_with(self.settled_.whole, size, tiles)
        vectors = self._vectors(X, context)
        if products.any() and np.bincount(products[vectors.mapped], minlength=int(products.max()) + 1).min() < _FEWEST_OF_OWN:
            findings = [_about_common(["memory holds the maps of too few pictures of each"])]
            products = np.zeros_like(products)
        folds = fold_rows(len(X), _N_FOLDS, units=context.units, rng=generator(self.seed_, "folds of the scales"))
        enclosed = self._enclosed(vectors, folds, products)
        if len(enclosed) > 1 and self.spheres == "auto":
            share = _share_at_home(enclosed, vectors.whole, products)
            findings = [_about_products(len(enclosed), share)]
            if share < TOLD:
                products = np.zeros_like(products)
                enclosed = self._enclosed(vectors, folds, products)
        self.spheres_ = tuple(own.spheres for own in enclosed)
        scores = np.empty(len(X))
        for number, own in enumerate(enclosed):
            scores[products == number] = self._fused(own.highest, own.distances, own.spheres.units)
        if look_for == "defects" and folds.max() > 0 and min(X.shape[1:3]) >= LEAST_SIDE:
            findings.append(self._probe(X[folds == 0], tuple(own.without_first for own in enclosed)))
        return scores, [*chosen, *findings, _about_pictures(len(X), len(vectors.mapped))]

    def _fit_as_before(self, X: NDArray[Any], context: FitContext, units: tuple[PictureUnits, ...]) -> tuple[Array, list[Finding]]:
        """Fit to fewer pictures with everything else as the fit of all chose it."""
        vectors, products = self._vectors(X, context), np.zeros(len(X), np.int64)
        if len(units) > 1 and context.categories is not None:
            products = context.categories.codes
        block, spheres, scores = self._block(len(units)), [], np.empty(len(X))
        for number, own_units in enumerate(units):
            inside = products == number
            spheres.append(PictureSpheres.fit(vectors.of(inside), own_units, block=block, shrinkage=self.shrinkage))
            scores[inside] = own_units.of_whole(spheres[-1].whole.distance(vectors.whole[inside]))
        self.spheres_ = tuple(spheres)
        return scores, []

    def _vectors(self, X: NDArray[Any], context: FitContext) -> PictureVectors:
        return PictureVectors(*self._fitting_features(X, generator(self.seed_, "pictures of the map"), context.on_rows))

    def _enclosed(self, vectors: PictureVectors, folds: NDArray[np.int64], products: NDArray[np.int64]) -> list[Enclosed]:
        """Return the spheres of each product, and how its pictures lie to spheres that were fitted without them."""
        n_products = int(products.max()) + 1
        block, found = self._block(n_products), []
        for number in range(n_products):
            inside = products == number
            own_folds = np.unique(folds[inside], return_inverse=True)[1]  # those of a few units may be in some of the folds only
            found.append(Enclosed.of(vectors.of(inside), own_folds, block=block, shrinkage=self.shrinkage, share=self._share()))
        return found

    def _block(self, n_products: int) -> int:
        """Return the side of blocks of places: more of pictures in windows and of several products, so that they take no more memory."""
        features = self.features_
        if features.n_tiles == n_products == 1:
            return BLOCK
        return block_for(features.grid, max(1, features.network.most_places // BLOCK**2 // n_products))

    def _products(self, n: int, context: FitContext) -> tuple[NDArray[np.int64], list[Finding]]:
        """Return the number of the product that each picture may have own spheres with, 0 for all where they are in common."""
        categories, units = context.categories, np.arange(n) if context.units is None else context.units
        if categories is None and self.spheres == "own":
            raise ParameterError("spheres='own' needs the categories of the pictures: fit(..., categories=) or --category-by folder.")
        if categories is None or self.spheres == "common" or len(categories.names) < 2:
            return np.zeros(n, np.int64), []
        reasons = _against_own(categories, units, _FEW if self.spheres == "auto" else _FEWEST_OF_OWN)
        if reasons and self.spheres == "own":
            raise ParameterError(f"spheres='own' is not possible: {'; '.join(reasons)}. Give more pictures, or take spheres='common'.")
        if reasons:
            return np.zeros(n, np.int64), [_about_common(reasons)]
        return categories.codes, [_about_products(len(categories.names), None)]

    def _share(self) -> float:
        """Return the share of the places whose mean is the score of the map: of as many as one window has."""
        return self.top_share / self.features_.n_tiles

    def _choose(self, X: NDArray[Any], kinds: NDArray[np.int64]) -> tuple[Found, list[Finding]]:
        """Return what to look for, and what is to be said of it, by how much pictures of one kind differ."""
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
        probed = slice(None, None, -(-len(X) // _PROBED))
        shown = features.parted(self._flat(features, X[probed]))[1][:, -features.last_of_whole :]
        spread = _spread_within(shown, kinds[probed])
        found: Found = "objects" if spread > limit else "defects"
        text = (
            f"Normal pictures differ {'much' if found == 'objects' else 'little'} in what they show ({spread:.2f}, divided at {limit}), so"
            f" the score looks for {'other kinds of things' if found == 'objects' else 'marks and changes on the same thing'};"
            " the parameter look_for says otherwise."
        )
        return found, [Finding(_CHOSEN, "ok", spread, text)]

    def _probe(self, X: NDArray[Any], spheres: tuple[PictureSpheres, ...]) -> Finding:
        """Say whether synthetic defects on pictures are told from them by spheres that were fitted without these."""
        without = copy.copy(self)
        without.spheres_, without._memo = spheres, None
        rng = generator(self.seed_, "synthetic defects")
        return check_synthetic(probe_synthetic(X, without._score, rng, n_most=_TRIED), advice=_ADVICE)

    # Scoring.

    def _score(self, X: NDArray[Any]) -> Array:
        return self._score_maps(X)[0]

    def _score_maps(self, X: NDArray[Any]) -> tuple[Array, Maps]:
        check_pictures(X, self.name, from_files=self.input_.from_files)
        scores, maps = np.empty(len(X)), np.empty((len(X), *self.features_.grid), dtype=np.float32)
        for start in range(0, len(X), CHUNK):
            part = slice(start, start + CHUNK)
            scores[part], maps[part] = self._nearest(*self.features_.parted(self._flat(self.features_, X[part])))
        return scores, maps

    def _nearest(self, places: Maps, whole: Maps) -> tuple[Array, Maps]:
        """Return score and map of each picture by the spheres that it is nearest to."""
        scores, maps = np.full(len(whole), np.inf), np.empty(places.shape[:3], dtype=np.float32)
        for own in self.spheres_:
            at_places = own.places.distance(places)
            by_own = self._fused(highest_mean(at_places, self._share()), own.whole.distance(whole), own.units)
            nearer = by_own < scores
            scores[nearer], maps[nearer] = by_own[nearer], at_places[nearer]
        return scores, maps

    def _fused(self, highest: Array, distances: Array, units: PictureUnits) -> Array:
        return units.of_whole(distances) if self.settled_.look_for == "objects" else units.of_both(highest, distances)

    # Saving.

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        first, *further = self.spheres_
        arrays = first.arrays()
        for number, own in enumerate(further, start=1):
            arrays |= {f"product-{number}/{name}": array for name, array in own.arrays().items()}
        header = dataclasses.asdict(self.settled_) | first.units._asdict() | {"network": dict(self.network_)}
        if further:
            header["further"] = [own.units._asdict() for own in further]
        return header, self._network_arrays() | arrays

    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        units = [_stored_units(stored) for stored in (header, *header.get("further", ()))]  # older files have no further ones
        settled = _Settled(**{field.name: header[field.name] for field in dataclasses.fields(_Settled) if field.name in header})
        size, tiles = self._restore_network(settled.whole, settled.size, header, arrays)
        self.settled_ = dataclasses.replace(settled, size=size, tiles=tiles)
        block, spheres = self._block(len(units)), []
        for number, own_units in enumerate(units):
            own = arrays if number == 0 else below(arrays, f"product-{number}/")
            places = PlaceSpheres.restore(below(own, "places/"), self.features_.grid, block)
            if places.scale.size != self.features_.n_values:
                raise ModelFileError("The stored spheres do not fit the stored network; save the detector again.")
            spheres.append(PictureSpheres(places, WhitenedSphere.restore(below(own, "whole/"), self.features_.n_whole), own_units))
        self.spheres_ = tuple(spheres)


@dataclasses.dataclass(frozen=True)
class _Settled(Declared):
    """What a fit chose: what to look for, by which vector of the whole, at which size, in which windows."""

    look_for: Found
    whole: Whole
    size: tuple[int, int]
    tiles: tuple[_Windows, _Windows] = (1, 1)


def _stored_units(stored: Mapping[str, Any]) -> PictureUnits:
    means = {name: check_number(f"units.{name}", stored[name]) for name in ("map_mean", "whole_mean")}
    return PictureUnits(**means, **{name: check_number(f"units.{name}", stored[name], above=0) for name in ("map_spread", "whole_spread")})


def _kinds(n: int, categories: RowCategories | None) -> NDArray[np.int64]:
    """Return which pictures are of one kind, as far as categories say so."""
    return np.zeros(n, np.int64) if categories is None or len(categories.names) > _MOST_OF_OWN else categories.codes


def _spread_within(vectors: Maps, kinds: NDArray[np.int64]) -> float:
    """Return the spread of vectors (n, d) about the mean of their own kind, a mean over values."""
    away, numbers = np.empty(vectors.shape, dtype=vectors.dtype), np.unique(kinds)
    for number in numbers:
        own = vectors[kinds == number]
        away[kinds == number] = own - own.mean(axis=0)
    return float(np.sqrt(np.square(away).sum(axis=0) / max(1, len(vectors) - len(numbers) + 1)).mean())


def _share_at_home(enclosed: Sequence[Enclosed], whole: Maps, products: NDArray[np.int64]) -> float:
    """Return the share of normal pictures that are nearer to spheres of their own product, fitted without them, than to any other's.

    All spheres lack a fold: those of more pictures have other distances.
    """
    n_nearer = 0
    for number, own in enumerate(enclosed):
        vectors = whole[products == number]
        others = [other.without_first for n, other in enumerate(enclosed) if n != number]
        nearest = np.min([other.units.of_whole(other.whole.distance(vectors)) for other in others], axis=0)
        n_nearer += int((own.spheres.units.of_whole(own.distances) < nearest).sum())
    return n_nearer / len(whole)


def _against_own(categories: RowCategories, units: NDArray[np.int64], least: int) -> list[str]:
    """Say what keeps categories from having spheres each of their own."""
    sizes = [len(np.unique(units[categories.codes == code])) for code in range(len(categories.names))]
    few = [f"{name} ({size})" for name, size in zip(categories.names, sizes, strict=True) if size < least]
    n_without, reasons = int((categories.codes < 0).sum()), []
    if few:
        reasons.append(
            f"fewer than {least} independent pictures to train on are of {', '.join(few[:5])}{' and others' if len(few) > 5 else ''}"
        )
    if n_without:
        reasons.append(f"pictures without a category: {n_without}")
    if len(categories.names) > _MOST_OF_OWN:
        reasons.append(f"there are {len(categories.names)} categories, more than {_MOST_OF_OWN}")
    return reasons


def _whole_of(look_for: Found, size: tuple[int, ...]) -> Whole:
    """Return which vector of the whole picture is looked at."""
    return "shown" if look_for == "objects" else "fine" if max(size) <= SMALL else "texture"


def _about_common(reasons: Sequence[str]) -> Finding:
    return Finding("products", "ok", 1.0, f"All categories have their spheres in common: {'; '.join(reasons)}.")


def _about_products(n: int, share: float | None) -> Finding:
    """Say that each of `n` categories has spheres of its own, or that too small a share of pictures is nearest to those."""
    if share is None:
        return Finding("products", "ok", float(n), f"Each of {n} categories has spheres of its own, as the parameter spheres says.")
    told = f"{share:.0%} of the normal pictures are nearest to those of their own category"
    if share >= TOLD:
        return Finding("products", "ok", float(n), f"Each of {n} categories has spheres of its own: {told}.")
    return Finding("products", "ok", 1.0, f"All {n} categories have their spheres in common, as they look alike: only {told}.")


def _about_pictures(n: int, n_mapped: int) -> Finding:
    """Say how many pictures the spheres were fitted to."""
    if n < _FEW:
        text = f"{n} pictures are few for spheres at every place; from about {_FEW}, better 100, they are much surer. Give more if you can."
        return Finding("pictures", "warning", float(n), text)
    kept = "" if n_mapped == n else f", those at places to {n_mapped} of them drawn at random, as memory is bounded"
    return Finding("pictures", "ok", float(n), f"The spheres are fitted to {n} pictures{kept}.")
