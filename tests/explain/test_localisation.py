"""Pixel AUROC and per-region overlap against slow re-statements."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import label

from insphere.errors import DataError
from insphere.explain.localisation import pixel_auroc, region_overlap


def naive_region_overlap(masks: NDArray[Any], heatmaps: NDArray[Any], max_fpr: float) -> float:
    """Walk through all thresholds, and through all regions at each."""
    regions = []
    for image, mask in enumerate(masks):
        numbers, n_regions = label(mask, np.ones((3, 3)))
        regions += [(image, numbers == number) for number in range(1, n_regions + 1)]
    points = [(0.0, 0.0)]
    for threshold in sorted(set(heatmaps.ravel().tolist()), reverse=True):
        flagged = heatmaps >= threshold
        found = float(np.mean([flagged[image][region].mean() for image, region in regions]))
        points.append((float(flagged[~masks].mean()), found))
    area = 0.0
    for (left, low), (right, high) in itertools.pairwise(points):
        stop = min(right, max_fpr)
        if stop > left:
            end = low + (high - low) * (stop - left) / (right - left)
            area += (stop - left) * (low + end) / 2
    return area / max_fpr


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 1.0), st.sampled_from([2, 5, 1000]))
def test_region_overlap_equals_the_slow_one(seed: int, max_fpr: float, n_levels: int) -> None:
    random = np.random.default_rng(seed)
    masks = random.random((3, 7, 6)) < 0.25
    masks[0, 0, 0], masks[0, 0, 1] = True, False
    heatmaps = random.integers(0, n_levels, masks.shape).astype(float)
    assert region_overlap(masks, heatmaps, max_fpr=max_fpr) == pytest.approx(naive_region_overlap(masks, heatmaps, max_fpr))


def test_pixel_auroc_counts_pairs() -> None:
    random = np.random.default_rng(0)
    masks, heatmaps = random.random((2, 5, 5)) < 0.4, random.integers(0, 6, (2, 5, 5)).astype(float)
    hot, cold = heatmaps[masks][:, None], heatmaps[~masks][None]
    assert pixel_auroc(masks, heatmaps) == pytest.approx(float(((hot > cold) + 0.5 * (hot == cold)).mean()))


def test_small_regions_count_as_much_as_large_ones() -> None:
    masks = np.zeros((1, 10, 10), bool)
    masks[0, 0, 0] = masks[0, 5:, 5:] = True
    heatmaps = np.zeros((1, 10, 10))
    heatmaps[0, 5:, 5:] = 1.0
    # The large region is found without a false alarm; the small one only as every sound pixel is flagged too.
    assert region_overlap(masks, heatmaps) == pytest.approx(0.5 + 0.5 * 0.3 / 2)


@pytest.mark.parametrize(
    ("masks", "heatmaps"),
    [
        (np.zeros((1, 2, 2), bool), np.zeros((1, 2, 2))),
        (np.ones((1, 2, 2), bool), np.zeros((1, 2, 2))),
        (np.eye(2, dtype=bool)[None], np.full((1, 2, 2), np.nan)),
        (np.eye(2, dtype=bool)[None], np.zeros((1, 2, 3))),
    ],
)
def test_what_cannot_be_measured_is_refused(masks: NDArray[Any], heatmaps: NDArray[Any]) -> None:
    for measure in (pixel_auroc, region_overlap):
        with pytest.raises(DataError):
            measure(masks, heatmaps)
