"""How well the heat-maps of a detector find the places that masks mark: scored rows meet the masks of their source."""

import dataclasses
from collections.abc import Mapping
from typing import Any, final

from insphere.data import AbstractSource, ImageSource
from insphere.decision.scored import ScoredRows
from insphere.errors import DataError
from insphere.explain.maps import at_size
from insphere.localisation_metrics import Localisation, LocalisationMeter

LONGEST_SIDE = 1024
"""Pixels of the longer side above which a mask is made smaller before it is compared with a map."""

_SOUND_SIDE = 256


@dataclasses.dataclass(frozen=True)
class LocalisedRows:
    """How well heat-maps find the places that masks mark, and what was left out.

    Parameters
    ----------
    figures : Localisation
        Of the normal rows, which are sound all over, and the anomalies with a mask.
    n_without_mask : int
        Anomalies, or rows of unknown label, that have no mask or one that marks nothing; they are left out.
    errors : mapping of int to str
        Positions of rows whose mask cannot be used, and why; they are left out.

    Examples
    --------
    >>> LocalisedRows(LocalisationMeter().result(), 2, {}).left_out()
    ['Anomalies without a mask, or with one that marks nothing, are left out of the figures of places: 2.']
    """

    figures: Localisation
    n_without_mask: int
    errors: Mapping[int, str]

    def left_out(self) -> list[str]:
        """Return what was left out, in sentences."""
        told = []
        if self.n_without_mask:
            told.append(
                f"Anomalies without a mask, or with one that marks nothing, are left out of the figures of places: {self.n_without_mask}."
            )
        if self.errors:
            first = next(iter(self.errors.values()))
            told.append(f"Pictures whose mask cannot be used are left out of the figures of places: {len(self.errors)}. The first: {first}")
        return told

    def to_json(self) -> dict[str, Any]:
        """Return nested dicts of plain numbers, ready for JSON."""
        return {**self.figures.to_json(), "n_without_mask": self.n_without_mask, "n_mask_errors": len(self.errors)}


@final
class Localiser:
    """Compares the maps of scored rows with the masks of their source, batch after batch.

    A map is brought to the size of its mask, straight between the middles of its places; masks whose longer side has more than
    `LONGEST_SIDE` pixels are made smaller, so that no mark vanishes.

    Parameters
    ----------
    source : ImageSource
        The rows that are scored.

    Examples
    --------
    >>> import numpy as np
    >>> from insphere.data import ImageSpec, RowFacts
    >>> from insphere.data.stores import BytesStore, MaskImages
    >>> facts = RowFacts(labels=np.array([1]), masks=("mask",))
    >>> masks = MaskImages(BytesStore([b"P5 2 1 255 " + bytes([0, 9])]), {"mask": 0})
    >>> source = ImageSource("one", BytesStore([b"P5 2 1 255 " + bytes(2)]), facts, ImageSpec(1, 2, 1), masks=masks)
    >>> localiser = Localiser(source)
    >>> one = np.ones(1)
    >>> localiser.add(ScoredRows(np.array([0]), one, one, one > 0, {}, maps=np.array([[[0.1, 0.9]]], np.float32)))
    >>> localiser.result().figures.pixel_auroc.value
    1.0
    """

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self._meter = LocalisationMeter()
        self._n_without_mask = 0
        self._errors: dict[int, str] = {}

    def add(self, batch: ScoredRows) -> None:
        """Compare the maps of some scored rows.

        Raises
        ------
        DataError
            If the rows have no maps.
        """
        if batch.maps is None:
            if len(batch.index):
                raise DataError("These rows were scored without heat-maps; take a detector that has them (photo).")
            return
        facts = self._source.facts
        with self._source.opened_masks(longest_side=LONGEST_SIDE) as mask_of:
            for position, heatmap in zip(batch.index.tolist(), batch.maps, strict=True):
                if facts.labels is not None and not facts.labels[position]:
                    self._meter.add(at_size(heatmap, _SOUND_SIDE, _SOUND_SIDE), None)
                    continue
                try:
                    mask = mask_of(position)
                except DataError as error:
                    self._errors[position] = str(error)
                    continue
                if mask is None or not mask.any():
                    self._n_without_mask += 1
                    continue
                kind = "" if facts.types is None else facts.types[position]
                self._meter.add(at_size(heatmap, *mask.shape), mask, kind=kind)

    def result(self, *, seed: int = 0) -> LocalisedRows:
        """Return the figures of all rows so far; `seed` is that of the intervals."""
        return LocalisedRows(self._meter.result(seed=seed), self._n_without_mask, dict(self._errors))


def localiser_for(source: AbstractSource) -> Localiser | None:
    """Return what compares maps with the masks of a source, None where it has no masks."""
    return Localiser(source) if isinstance(source, ImageSource) and source.n_masks else None
