"""Maps of scored rows against the masks of their source: what counts as what, and what is left out."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import naive
from insphere.data import ArraySource, ImageSource, ImageSpec, RowFacts
from insphere.data.stores import BytesStore, MaskImages
from insphere.decision.scored import ScoredRows
from insphere.errors import DataError
from insphere.localising import LONGEST_SIDE, LocalisedRows, Localiser, localiser_for

MASK = np.zeros((12, 8), bool)
MASK[2:5, 1:4] = True


def encoded(pixels: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def source_of(masks: Sequence[NDArray[np.bool_] | None], labels: Sequence[int] | None, types: Sequence[str] | None = None) -> ImageSource:
    names = tuple(None if mask is None else f"mask {row}" for row, mask in enumerate(masks))
    pictures = [encoded(np.zeros((12, 8), np.uint8)) for _ in masks]
    blobs = [b"" if mask is None else encoded(np.uint8(255) * mask) for mask in masks]
    facts = RowFacts(None, None if labels is None else np.array(labels), types, masks=names)
    place = {f"mask {row}": row for row in range(len(masks))}
    return ImageSource("tiles", BytesStore(pictures), facts, ImageSpec(6, 4, 1), masks=MaskImages(BytesStore(blobs), place))


def batch_of(maps: NDArray[Any] | None, index: Sequence[int]) -> ScoredRows:
    scores = np.zeros(len(index))
    return ScoredRows(np.array(index), scores, scores, scores > 0, {}, maps=None if maps is None else maps.astype(np.float32))


def localised(source: ImageSource, maps: NDArray[Any]) -> LocalisedRows:
    localiser = Localiser(source)
    for start in range(0, len(maps), 2):
        localiser.add(batch_of(maps[start : start + 2], range(start, min(start + 2, len(maps)))))
    return localiser.result()


def test_figures_are_those_of_the_maps_at_the_masks_size() -> None:
    maps = 2.0 ** np.random.default_rng(0).integers(0, 4, (3, 12, 8))  # of the masks' size, so that nothing is resampled
    result = localised(source_of([MASK, MASK[::-1], MASK], [1, 1, 1], ["crack", "crack", "dent"]), maps)
    masks = [MASK.tolist(), MASK[::-1].tolist(), MASK.tolist()]
    assert result.figures.pixel_auroc.value == pytest.approx(naive.pixel_auroc(masks, maps.tolist()))
    assert result.figures.per_type["crack"].n == 2 and result.figures.n_regions == 3
    assert (result.n_without_mask, result.errors, result.left_out()) == (0, {}, [])


def test_coarse_maps_find_coarse_places() -> None:
    heatmap = np.zeros((1, 6, 4))
    heatmap[0, 1:3, 0:2] = 1.0
    result = localised(source_of([MASK], [1]), heatmap)
    assert 0.9 < result.figures.pixel_auroc.value < 1.0


def test_normal_pictures_are_sound_all_over() -> None:
    result = localised(source_of([None, MASK, None], [0, 1, 0]), np.zeros((3, 6, 4)))
    assert (result.figures.n_sound, result.figures.n_defective, result.n_without_mask) == (2, 1, 0)
    assert result.figures.pixel_auroc.value == 0.5


@pytest.mark.parametrize("labels", [[1, 1, 1], None])
def test_what_has_no_usable_mask_is_left_out_and_told(labels: list[int] | None) -> None:
    result = localised(source_of([None, np.zeros_like(MASK), MASK], labels), np.zeros((3, 6, 4)))
    assert (result.figures.n_sound, result.figures.n_defective, result.n_without_mask) == (0, 1, 2)
    assert result.left_out()[0].endswith("of places: 2.") and result.to_json()["n_without_mask"] == 2


def test_masks_of_another_size_are_left_out_and_told() -> None:
    result = localised(source_of([MASK.T, MASK], [1, 1]), np.zeros((2, 6, 4)))
    assert list(result.errors) == [0] and result.figures.n_defective == 1 and result.to_json()["n_mask_errors"] == 1
    assert "of places: 1. The first: The mask" in result.left_out()[0] and "12 × 8 pixels" in result.left_out()[0]


def test_large_masks_are_made_smaller() -> None:
    mask = np.zeros((3, 2 * LONGEST_SIDE), bool)
    mask[1, 7] = True
    source = source_of([mask], [1])
    picture = BytesStore([encoded(np.zeros(mask.shape, np.uint8))])
    source = ImageSource("long", picture, source.facts, ImageSpec(1, 9, 1), masks=source._masks)
    assert localised(source, np.zeros((1, 1, 9))).figures.n_regions == 1


def test_rows_without_maps_are_refused() -> None:
    localiser = Localiser(source_of([MASK], [1]))
    localiser.add(batch_of(None, []))
    with pytest.raises(DataError, match="without heat-maps"):
        localiser.add(batch_of(None, [0]))


def test_only_sources_with_masks_are_compared() -> None:
    assert localiser_for(source_of([MASK, None], [1, 0])) is not None
    assert localiser_for(source_of([None, None], [1, 0])) is None
    assert localiser_for(ArraySource(np.zeros((3, 4, 4, 1)), masks=["a", None, None])) is None
