"""How well heat-maps find the pixels of a defect: pixel AUROC, and per-region overlap integrated over false alarms."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from sklearn.metrics import roc_auc_score

from insphere.errors import DataError
from insphere.validation import check_number

_TOUCHING = np.ones((3, 3), dtype=np.int64)  # diagonal neighbours belong to one region


def pixel_auroc(masks: NDArray[np.bool_], heatmaps: NDArray[np.floating]) -> float:
    """Return how often a defective pixel is hotter than a sound one, over the pixels of all images together; in [0, 1].

    Parameters
    ----------
    masks : ndarray of bool, shape (n, height, width)
        True where the pixel is defective.
    heatmaps : ndarray, shape (n, height, width)

    Raises
    ------
    DataError
        If the shapes differ, a value is not finite, or there is no pixel of one kind.

    Examples
    --------
    >>> pixel_auroc(np.array([[[True, False]]]), np.array([[[2.0, 1.0]]]))
    1.0
    """
    _check(masks, heatmaps)
    return float(roc_auc_score(masks.ravel(), heatmaps.ravel()))


def region_overlap(masks: NDArray[np.bool_], heatmaps: NDArray[np.floating], *, max_fpr: float = 0.3) -> float:
    """Return the AUPRO: the share of each defective region that is found, averaged over regions, integrated over false alarms.

    Every connected region counts the same, whatever its size. The curve of the mean share found against the share of all sound
    pixels that are flagged is integrated up to `max_fpr` and divided by it, so 1 is perfect and `max_fpr` / 2 is chance.

    Parameters
    ----------
    masks : ndarray of bool, shape (n, height, width)
    heatmaps : ndarray, shape (n, height, width)
    max_fpr : float
        In (0, 1].

    Raises
    ------
    DataError
        As `pixel_auroc`.

    Source: Bergmann 2021 (MVTec AD), sec. 5.2. Deviation: regions that touch at a corner are one.

    Examples
    --------
    >>> region_overlap(np.array([[[True, False]]]), np.array([[[2.0, 1.0]]]))
    1.0
    """
    check_number("max_fpr", max_fpr, above=0, at_most=1)
    _check(masks, heatmaps)
    # A pixel found adds one over its region's size to the sum over regions; a sound one adds one over their number to the false alarms.
    gain, n_regions = np.zeros(masks.shape), 0
    for weights, mask in zip(gain, masks, strict=True):
        regions, n_found = label(mask, _TOUCHING)
        sizes = np.bincount(regions.ravel())
        weights[mask] = 1.0 / sizes[regions[mask]]
        n_regions += n_found
    order = np.argsort(-heatmaps.ravel(), kind="stable")
    heats = heatmaps.ravel()[order]
    # Pixels of equal heat are flagged together: the curve has one point for each distinct heat.
    last = np.append(np.flatnonzero(np.diff(heats)), len(heats) - 1)
    found = np.concatenate([[0.0], np.cumsum(gain.ravel()[order])[last] / n_regions])
    flagged = np.concatenate([[0.0], np.cumsum(~masks.ravel()[order])[last] / np.count_nonzero(~masks)])
    inside = flagged <= max_fpr
    x = np.append(flagged[inside], max_fpr)
    y = np.append(found[inside], np.interp(max_fpr, flagged, found))
    return float(np.trapezoid(y, x) / max_fpr)


def _check(masks: NDArray[np.bool_], heatmaps: NDArray[np.floating]) -> None:
    if masks.shape != heatmaps.shape or masks.ndim != 3:
        raise DataError(f"Masks and heat-maps must both have the shape (n, height, width), got {masks.shape} and {heatmaps.shape}.")
    if not np.isfinite(heatmaps).all():
        raise DataError("Heat-maps must be finite numbers, got some that are not.")
    if masks.all() or not masks.any():
        raise DataError("The masks must have both defective and sound pixels, got one kind only.")
