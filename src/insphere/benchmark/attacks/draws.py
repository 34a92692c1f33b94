"""Test sets drawn from clean and attacked images, and what they give."""

import numpy as np
from numpy.typing import NDArray

from insphere.benchmark.attacks.settings import AttackSettings
from insphere.seeding import generator


def draws(settings: AttackSettings, n_candidates: int, epsilon: int) -> NDArray[np.int64]:
    """Return the attacked images of every test set, shape (n_draws, n_attacked): positions among those that could be attacked.

    Examples
    --------
    >>> draws(AttackSettings("digits", "3", n_attacked=2, n_draws=3), 9, 8).shape
    (3, 2)
    """
    rng = generator(settings.seed, f"draws of attacked images at {epsilon}")
    order = rng.random((settings.n_draws, n_candidates)).argsort(axis=1)[:, : settings.n_attacked]
    return np.asarray(order, dtype=np.int64)


def draw_areas(clean: NDArray[np.float64], attacked: NDArray[np.float64], settings: AttackSettings, epsilon: int) -> NDArray[np.float64]:
    """Return the AUROC of every drawn test set, shape (n_draws,), in [0, 1].

    Parameters
    ----------
    clean, attacked : ndarray
        Anomaly scores; the draws are of `attacked`, without replacement, and the same for every detector.
    settings : AttackSettings
    epsilon : int
        Chooses the draws, beside the seed.

    Notes
    -----
    The AUROC is the mean over anomalies of the share of clean images below each, a tie counting one half; so those shares are computed
    once, and a draw costs a mean.

    Examples
    --------
    >>> settings = AttackSettings("digits", "3", n_attacked=1, n_draws=4)
    >>> draw_areas(np.array([1.0, 2.0]), np.array([1.0]), settings, 8).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    ordered = np.sort(clean)
    below = (np.searchsorted(ordered, attacked, "left") + np.searchsorted(ordered, attacked, "right")) / (2 * len(ordered))
    return np.asarray(below[draws(settings, len(attacked), epsilon)].mean(axis=1), dtype=np.float64)


def summarise_areas(areas: NDArray[np.float64]) -> dict[str, float]:
    """Return mean and standard deviation over draws, and the interval that holds 95 % of them.

    Examples
    --------
    >>> summarise_areas(np.array([0.5, 0.7]))["auroc"]
    0.6
    """
    low, high = np.quantile(areas, [0.025, 0.975])
    deviation = float(areas.std(ddof=1)) if len(areas) > 1 else 0.0
    return {"auroc": float(areas.mean()), "auroc_deviation": deviation, "auroc_low": float(low), "auroc_high": float(high)}
