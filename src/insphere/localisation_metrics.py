"""How well heat-maps find the pixels of defects: pixel AUROC and AUPRO, each with its 95 % interval over pictures.

Everywhere: a mask is True where a pixel is defective; a higher value of a heat-map is more anomalous; figures are in [0, 1]. Pictures are
added one by one, and of each only a histogram is kept, so that memory stays at some ten kilobytes a picture whatever its size.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.sparse import csr_array

from insphere.errors import DataError
from insphere.estimate import CONFIDENCE, Estimate
from insphere.seeding import generator
from insphere.validation import check_integer

__all__ = ["MAX_FPR", "Localisation", "LocalisationMeter", "TypeLocalisation", "localisation"]

MAX_FPR = 0.3
"""Share of the sound pixels up to which the AUPRO is integrated, as in the published figures."""

FloatArray = NDArray[np.float64]

_TOUCHING = np.ones((3, 3), dtype=np.int64)  # pixels that touch at a corner belong to one region
# Values are compared by their upper 17 bits (sign, exponent, 8 of 23 digits), which keeps their order: two that differ by more than
# 0.4 % are told apart, whatever the range of a map, which nobody knows before the last picture.
_DROPPED_BITS = 15
_TAIL = (1 - CONFIDENCE) / 2
_RESAMPLES = 1000
_MIN_RESAMPLES = 200
_MAX_ADDITIONS = 200_000_000  # of all resamples together, some seconds; beyond it there are fewer, whose interval is narrow anyway
_CHUNK_VALUES = 2_000_000


@dataclasses.dataclass(frozen=True)
class TypeLocalisation:
    """How well the places of one type of defect are found.

    Parameters
    ----------
    n : int
        Pictures of this type with a mask.
    n_regions : int
        Connected regions in their masks.
    pixel_auroc, aupro : Estimate
        As in `Localisation`, of these pictures together with those that are sound all over.

    Examples
    --------
    >>> TypeLocalisation(4, 5, Estimate(0.9, 0.8, 0.95), Estimate(0.5, 0.15, 0.85)).to_json()["n_regions"]
    5
    """

    n: int
    n_regions: int
    pixel_auroc: Estimate
    aupro: Estimate

    def to_json(self) -> dict[str, Any]:
        """Return nested dicts of plain numbers, ready for JSON."""
        return {"n": self.n, "n_regions": self.n_regions, "pixel_auroc": self.pixel_auroc.to_json(), "aupro": self.aupro.to_json()}


@dataclasses.dataclass(frozen=True)
class Localisation:
    """How well heat-maps find the places of defects.

    Parameters
    ----------
    n_sound, n_defective : int
        Pictures without a defective pixel, and with.
    n_regions : int
        Connected regions of defective pixels; such as touch at a corner are one.
    pixel_auroc : Estimate
        How often a defective pixel is hotter than a sound one, a tie counting one half. Undefined unless both occur.
    aupro : Estimate
        Share of each region that is found, averaged over regions, integrated over the share of sound pixels that are flagged, up to
        `MAX_FPR`, and divided by it: 1 is perfect, `MAX_FPR` / 2 is chance. Undefined as above.
    per_type : Mapping[str, TypeLocalisation]
        The same for each type of defect, sorted by name.

    Examples
    --------
    >>> meter = LocalisationMeter()
    >>> meter.add(np.array([[0.1, 0.9]]), np.array([[False, True]]), kind="crack")
    >>> meter.result().pixel_auroc.value, list(meter.result().per_type)
    (1.0, ['crack'])
    """

    n_sound: int
    n_defective: int
    n_regions: int
    pixel_auroc: Estimate
    aupro: Estimate
    per_type: Mapping[str, TypeLocalisation]

    def to_json(self) -> dict[str, Any]:
        """Return nested dicts of plain numbers, ready for JSON; every figure is ``{"value", "low", "high"}``."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "per_type"}
        json = {name: entry.to_json() if isinstance(entry, Estimate) else entry for name, entry in fields.items()}
        return {**json, "per_type": {name: entry.to_json() for name, entry in self.per_type.items()}}


class _Picture(NamedTuple):
    """Histograms of one picture.

    The levels of its values; what share of the picture is sound, and defective, at each; and by how much flagging a level raises the sum
    of the shares found of its regions.
    """

    kind: str
    level: NDArray[np.int32]
    sound: FloatArray
    defective: FloatArray
    found: FloatArray
    n_regions: int


@final
class LocalisationMeter:
    """Takes heat-maps with their masks, one picture after the other, and tells how well they agree.

    Every picture counts the same, whatever its size: a pixel weighs one over the number of pixels of its picture. Of pictures of one
    size these are the figures as published elsewhere.

    The intervals are percentile bootstraps that resample pictures, those with a defect and those without each on their own: 1,000 times,
    down to 200 where there are many pictures. With a single picture with a defect the interval is [0, 1]; it has no width where all
    pictures agree entirely, because resampling cannot show what they do not hold.

    Source: Bergmann 2021 (MVTec AD), sec. 5.2. Deviation: pictures weigh the same; regions that touch at a corner are one; values that
    differ by less than 0.4 % count as equal.

    Examples
    --------
    >>> meter = LocalisationMeter()
    >>> meter.add(np.array([[0.1, 0.2], [0.3, 0.9]]), np.array([[False, False], [True, True]]))
    >>> meter.add(np.array([[0.1, 0.5], [0.2, 0.1]]), None)
    >>> round(meter.result().pixel_auroc.value, 3)
    0.917
    """

    def __init__(self) -> None:
        self._pictures: list[_Picture] = []

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self._pictures)

    def add(self, heatmap: NDArray[Any], mask: NDArray[np.bool_] | None, *, kind: str = "") -> None:
        """Count one picture.

        Parameters
        ----------
        heatmap : ndarray of shape (height, width)
            Higher is more anomalous.
        mask : ndarray of bool, shape (height, width), or None
            True where the pixel is defective; None for a picture that is sound all over.
        kind : str
            Type of its defect ("crack"); of no account where no pixel is defective.

        Raises
        ------
        DataError
            If the shapes differ or a value is not a finite number.
        """
        values = np.asarray(heatmap, dtype=np.float32)
        if values.ndim != 2 or not values.size or (mask is not None and mask.shape != values.shape):
            shapes = f"{values.shape}" if mask is None else f"{values.shape} and {mask.shape}"
            raise DataError(f"A heat-map and its mask must have one shape (height, width), got {shapes}; bring one to the other's size.")
        if not np.isfinite(values).all():
            raise DataError("A heat-map must have finite values only, got some that are not; leave out pictures without a score.")
        self._pictures.append(_counted(values, mask, kind))

    def result(self, *, seed: int = 0) -> Localisation:
        """Return the figures of all pictures so far.

        Parameters
        ----------
        seed : int
            Seed of the bootstrap intervals.
        """
        check_integer("seed", seed, at_least=0)
        counts = _Counts.of(self._pictures)
        is_sound = counts.n_regions == 0
        auroc, aupro = _figures(counts, seed)
        kinds = sorted({picture.kind for picture in self._pictures if picture.n_regions and picture.kind})
        per_type = {}
        for kind in kinds:
            own = np.array([picture.kind == kind for picture in self._pictures]) & ~is_sound
            part = counts.take(np.flatnonzero(own | is_sound))
            per_type[kind] = TypeLocalisation(int(own.sum()), int(part.n_regions.sum()), *_figures(part, seed))
        return Localisation(int(is_sound.sum()), int((~is_sound).sum()), int(counts.n_regions.sum()), auroc, aupro, per_type)


def localisation(
    heatmaps: Sequence[NDArray[Any]] | NDArray[Any], masks: Sequence[NDArray[np.bool_] | None] | NDArray[np.bool_], *, seed: int = 0
) -> Localisation:
    """Return how well heat-maps agree with their masks, of one kind of defect: `LocalisationMeter` for pictures that are all there.

    Raises
    ------
    DataError
        If there are not as many masks as heat-maps, and as `LocalisationMeter.add`.

    Examples
    --------
    >>> localisation(np.array([[[0.1, 0.9]]]), np.array([[[False, True]]])).aupro.value
    1.0
    """
    if len(heatmaps) != len(masks):
        raise DataError(f"There must be one mask for each heat-map, got {len(masks)} for {len(heatmaps)}; None stands for a sound picture.")
    meter = LocalisationMeter()
    for heatmap, mask in zip(heatmaps, masks, strict=True):
        meter.add(heatmap, mask)
    return meter.result(seed=seed)


def _counted(values: NDArray[np.float32], mask: NDArray[np.bool_] | None, kind: str) -> _Picture:
    levels = _levels(values)
    lowest = int(levels.min())
    place = levels - lowest  # at most 2**17 of them, so that counting is cheaper than sorting
    everything = np.bincount(place.ravel())
    used, size = np.flatnonzero(everything), values.size
    level = (used + lowest).astype(np.int32)
    if mask is None or not mask.any():
        nothing = np.zeros(0)
        return _Picture(kind, level, everything[used] / size, nothing, nothing, 0)
    regions, n_regions = label(mask, _TOUCHING)
    sizes, inside = np.bincount(regions.ravel()), place[mask]
    defective = np.bincount(inside, minlength=len(everything))[used]
    found: FloatArray = np.bincount(inside, weights=1.0 / sizes[regions[mask]], minlength=len(everything))[used].astype(np.float64)
    return _Picture(kind, level, (everything[used] - defective) / size, defective / size, found, int(n_regions))


def _levels(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return whole numbers that order as the values do, equal where these hardly differ."""
    bits = np.ascontiguousarray(values + np.float32(0)).view(np.int32)  # plus 0, because -0 has other bits
    # A negative number has the larger bits the smaller it is.
    return np.asarray(np.where(bits < 0, np.int32(-(2**31)) - bits, bits) >> _DROPPED_BITS, dtype=np.int32)


@dataclasses.dataclass(frozen=True)
class _Counts:
    """Histograms of many pictures over their common levels, hottest first; the matrices have the shape (pictures, levels)."""

    sound: Any
    defective: Any
    found: Any
    n_regions: NDArray[np.int64]

    @classmethod
    def of(cls, pictures: Sequence[_Picture]) -> "_Counts":
        """Return the histograms of the pictures together."""
        levels = np.unique(np.concatenate([np.empty(0, np.int32), *(picture.level for picture in pictures)]))
        columns = [len(levels) - 1 - np.searchsorted(levels, picture.level) for picture in pictures]

        def matrix(field: str) -> Any:
            values = [getattr(picture, field) for picture in pictures]
            kept = [column[: len(value)] for column, value in zip(columns, values, strict=True)]
            starts = np.concatenate([[0], np.cumsum([len(value) for value in values], dtype=np.int64)])
            flat = [np.concatenate([np.empty(0, dtype), *parts]) for dtype, parts in ((np.float64, values), (np.int64, kept))]
            return csr_array((flat[0], flat[1], starts), shape=(len(pictures), len(levels)))

        n_regions = np.array([picture.n_regions for picture in pictures], dtype=np.int64)
        return cls(matrix("sound"), matrix("defective"), matrix("found"), n_regions)

    def take(self, rows: NDArray[np.int64]) -> "_Counts":
        """Return the histograms of some of the pictures."""
        return _Counts(self.sound[rows], self.defective[rows], self.found[rows], self.n_regions[rows])

    def weighted(self, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return pixel AUROC and AUPRO for each row of weights of the pictures, shape (n, pictures); NaN where there is none."""
        sound, defective, found = (np.asarray((matrix.T @ weights.T).T) for matrix in (self.sound, self.defective, self.found))
        with np.errstate(invalid="ignore"):  # 0 / 0, where one kind of pixel does not occur
            return np.minimum(_auroc(sound, defective), 1.0), np.minimum(_aupro(sound, found / (weights @ self.n_regions)[:, None]), 1.0)


def _auroc(sound: FloatArray, defective: FloatArray) -> FloatArray:
    """Return the area under the ROC curve of each row of histograms, hottest level first."""
    total = sound.sum(axis=1)
    cooler = total[:, None] - np.cumsum(sound, axis=1) + sound / 2
    return np.asarray((defective * cooler).sum(axis=1) / (total * defective.sum(axis=1)))


def _aupro(sound: FloatArray, gain: FloatArray) -> FloatArray:
    """Return the area under each curve of regions found against sound pixels flagged, up to `MAX_FPR`, divided by it."""
    flagged = np.cumsum(sound, axis=1) / sound.sum(axis=1, keepdims=True)
    found = np.cumsum(gain, axis=1)
    left, low = flagged - sound / sound.sum(axis=1, keepdims=True), found - gain
    width = np.clip(MAX_FPR - left, 0, flagged - left)
    share = np.divide(width, flagged - left, out=np.zeros_like(width), where=flagged > left)  # of the step, where the limit cuts it
    return np.asarray((width * (low + share * gain / 2)).sum(axis=1) / MAX_FPR)


def _figures(counts: _Counts, seed: int) -> tuple[Estimate, Estimate]:
    """Return pixel AUROC and AUPRO with their intervals."""
    n = len(counts.n_regions)
    if not n or not counts.n_regions.any() or not counts.sound.sum():
        return Estimate.undefined(), Estimate.undefined()
    values = [float(figure[0]) for figure in counts.weighted(np.ones((1, n)))]
    if np.count_nonzero(counts.n_regions) < 2:
        return Estimate(values[0], 0.0, 1.0), Estimate(values[1], 0.0, 1.0)
    drawn = [np.concatenate(figures) for figures in zip(*_resampled(counts, seed), strict=True)]
    return _spanned(values[0], drawn[0]), _spanned(values[1], drawn[1])


def _resampled(counts: _Counts, seed: int) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield the figures of resamples of the pictures, a few resamples at a time."""
    n = len(counts.n_regions)
    additions = counts.sound.nnz + counts.defective.nnz + counts.found.nnz
    n_resamples = min(_RESAMPLES, max(_MIN_RESAMPLES, _MAX_ADDITIONS // max(1, additions)))
    size = max(1, _CHUNK_VALUES // max(n, counts.sound.shape[1]))
    strata = [rows for rows in (np.flatnonzero(counts.n_regions > 0), np.flatnonzero(counts.n_regions == 0)) if len(rows)]
    random = generator(seed, "localisation bootstrap")
    for start in range(0, n_resamples, size):
        weights = np.zeros((min(size, n_resamples - start), n))
        for rows in strata:
            weights[:, rows] = random.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=len(weights))
        yield counts.weighted(weights)


def _spanned(value: float, drawn: FloatArray) -> Estimate:
    """Return the estimate with the interval of the resamples, which holds the value; such as have no sound pixel tell nothing."""
    known = drawn[np.isfinite(drawn)]
    low, high = np.quantile(known, [_TAIL, 1 - _TAIL]) if len(known) else (0.0, 1.0)
    return Estimate(value, min(float(low), value), max(float(high), value))
