"""Can a detector see small marks? Synthetic defects on held-out normal pictures against the pictures as they are; no labels."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.synthetic import put_defects
from insphere.decision.health import Finding
from insphere.errors import DataError
from insphere.estimate import Estimate
from insphere.metrics import auroc

LEAST_AUROC = 0.65
"""AUROC of synthetic defects below which a detector counts as blind to small marks."""

SEEING = 0.9
"""AUROC from which a detector sees them well: where so few pictures were tried that it may be this one, it is not called blind."""

MOST_PICTURES = 64
"""Held-out pictures that are tried; of more, as many are drawn."""

FINDING = "synthetic defects"

_ADVICE = (
    "Take the detector photo (--detector photo), or larger pictures (--image-size, if marks are lost when pictures are shrunk); photograph"
    " with the same position, distance and light each time, or give more normal pictures."
)


@dataclasses.dataclass(frozen=True)
class SyntheticProbe:
    """How well a detector tells synthetic defects from held-out normal pictures.

    Attributes
    ----------
    auroc : Estimate
        In [0, 1], with its 95 % interval.
    n : int
        Held-out pictures, each scored as it is and with a defect.
    """

    auroc: Estimate
    n: int


def synthetic_auroc(normal_scores: NDArray[np.float64], synthetic_scores: NDArray[np.float64]) -> Estimate:
    """Estimate the probability that a picture with a synthetic defect scores higher than a held-out normal one.

    Parameters
    ----------
    normal_scores, synthetic_scores : ndarray of float64, shapes (n,) and (m,)
        Higher = more anomalous.

    Raises
    ------
    DataError
        If one is empty or a score is NaN.

    Notes
    -----
    The interval is that of `insphere.metrics.auroc`, for independent rows. With one defect on each of the same pictures the two scores of
    a picture rise and fall together, so that it is rather too wide.

    Examples
    --------
    >>> synthetic_auroc(np.array([1.0, 2.0, 3.0]), np.array([2.5, 3.5])).value
    0.8333333333333334
    """
    labels = np.repeat([0, 1], [len(normal_scores), len(synthetic_scores)])
    return auroc(labels, np.concatenate([normal_scores, synthetic_scores]))


def probe_synthetic(
    pictures: NDArray[Any],
    score: Callable[[NDArray[Any]], NDArray[np.float64]],
    rng: np.random.Generator,
    *,
    n_most: int = MOST_PICTURES,
) -> SyntheticProbe:
    """Put a synthetic defect on each of some held-out pictures and compare scores with and without.

    Parameters
    ----------
    pictures : ndarray, shape (n, height, width, channels)
        Normal pictures that the detector was not fitted on, as it takes them, pixels in 0..255.
    score : callable
        Gives the anomaly scores, shape (m,), of pictures, shape (m, height, width, channels).
    rng : numpy.random.Generator
        Draws the pictures and the defects.
    n_most : int
        Pictures to try at most: time is twice that of scoring them.

    Raises
    ------
    DataError
        If there is no picture, or a score is NaN.

    Examples
    --------
    >>> pictures = np.random.default_rng(0).integers(90, 110, (40, 64, 64, 1)).astype(np.uint8)
    >>> probe_synthetic(pictures, lambda X: X.std(axis=(1, 2, 3)), np.random.default_rng(0)).auroc.value > 0.9
    True
    """
    if not len(pictures):
        raise DataError("Synthetic defects need at least one held-out picture; give more normal pictures.")
    some = pictures if len(pictures) <= n_most else pictures[np.sort(rng.permutation(len(pictures))[:n_most])]
    defective, _ = put_defects(some, rng)
    return SyntheticProbe(synthetic_auroc(score(some), score(defective)), len(some))


def check_synthetic(probe: SyntheticProbe, *, advice: str = _ADVICE) -> Finding:
    """Warn where a detector cannot tell synthetic defects from held-out normal pictures, where enough were tried to say so.

    Parameters
    ----------
    probe : SyntheticProbe
        From `probe_synthetic`.
    advice : str
        What to do then: it depends on the detector.

    Examples
    --------
    >>> finding = check_synthetic(SyntheticProbe(Estimate(0.52, 0.41, 0.63), 40))
    >>> finding.level, finding.text[:95]
    ('warning', 'Of scratches, spots and patches put on 40 held-out pictures, 0.1 to 2 % of each, it sees next t')
    """
    value, low, high = (100 * number for number in (probe.auroc.value, probe.auroc.low, probe.auroc.high))
    measured = f"AUROC {value:.1f} % ({low:.1f}–{high:.1f}) against the same pictures without"
    where = f"put on {probe.n} held-out pictures, 0.1 to 2 % of each"
    if probe.auroc.value >= LEAST_AUROC or probe.auroc.high >= SEEING:
        return Finding(FINDING, "ok", probe.auroc.value, f"Scratches, spots and patches {where}: {measured}.")
    text = f"Of scratches, spots and patches {where}, it sees next to nothing: {measured}. Real marks as small will be missed too. {advice}"
    return Finding(FINDING, "warning", probe.auroc.value, text)
