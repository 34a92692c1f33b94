"""What an explanation is made of, and what can be asked of it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.explain.neighbours import Neighbours
from insphere.validation import check_choice, check_integer, check_number

Array = NDArray[np.float64]

METHODS = (
    "auto",
    "map",
    "difference",
    "reconstruction",
    "reconstruction-smooth",
    "neighbours",
    "integrated-gradients",
    "gradient-difference",
    "occlusion",
)
"""Names of the methods of `explain`."""

BASELINES = ("auto", "reconstruction", "neighbour", "blur", "typical")
"""Names of what a row is compared with: see `insphere.explain.baselines`."""

_BRIGHTEST = 0.995


@dataclasses.dataclass(frozen=True)
class ExplainOptions:
    """How to explain; the defaults are measured in ``benchmarks/reports/explanations.md``.

    Parameters
    ----------
    method : str
        One of `METHODS`; see `insphere.explain.explain`.
    baseline : {"auto", "reconstruction", "neighbour", "blur", "typical"}
        What integrated gradients start from and what occlusion puts in a patch's place.
    n_neighbors : int
        Nearest normal examples of each row.
    n_steps : int
        Points on the way from the baseline to the row at which integrated gradients are taken.
    smoothing : float, optional
        Standard deviation, in pixels, of the Gaussian that heat-maps are smoothed with; 0 for none. None is a 40th of the longer side,
        and none for "reconstruction", which stays the plain error, and for "map".
    patch : int, optional
        Side of the patches, in pixels, that "occlusion" replaces; None is an eighth of the longer side.

    Raises
    ------
    ParameterError
        If a value breaks its rule.

    Examples
    --------
    >>> ExplainOptions(method="occlusion").n_neighbors
    5
    """

    method: str = "auto"
    baseline: str = "auto"
    n_neighbors: int = 5
    n_steps: int = 32
    smoothing: float | None = None
    patch: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("method", self.method, METHODS)
        check_choice("baseline", self.baseline, BASELINES)
        check_integer("n_neighbors", self.n_neighbors, at_least=1, at_most=1000)
        check_integer("n_steps", self.n_steps, at_least=1, at_most=10_000)
        if self.smoothing is not None:
            check_number("smoothing", self.smoothing, at_least=0, at_most=1000)
        if self.patch is not None:
            check_integer("patch", self.patch, at_least=1, at_most=10_000)


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Why each of n rows scores as it does; what does not apply to the rows or the detector is None.

    Attributes
    ----------
    method : str
        The method that made heat-maps or feature contributions, "auto" resolved.
    source : str
        Name of the source of the rows.
    ids : tuple of str, length n
        Name of each row in its source; a number where rows have no names.
    rows : ndarray, shape (n, height, width, channels) or (n, features)
        The rows themselves, as the detector takes them.
    anomaly_score, p_value : ndarray of float64, shape (n,)
        As from `score_batches`.
    is_anomaly : ndarray of bool, shape (n,)
    heatmaps : ndarray of float32, shape (n, height, width), at least 0
        How much each pixel speaks for an anomaly, in units that all rows of one detector and method share; those of "map" are the same
        everywhere: 1 is what the highest place of a normal image exceeds with a probability of `target_fpr` at most. Images only.
    feature_contributions : ndarray of float64, shape (n, features)
        What each feature adds to the score, in the score's units; negative ones speak for normality. Vectors only.
    feature_names : tuple of str, optional
    attributions : ndarray of float64, shaped as `rows`
        Signed shares of the score of which the two above are made, by the methods that have them; those of integrated gradients sum
        to `anomaly_score` less `baseline_score`.
    baseline_score : ndarray of float64, shape (n,)
        Score of what each row was compared with, by the methods that do.
    reconstructions : ndarray of float64, shaped as `rows`
        What the decoder makes of the row's code, in the units of `rows`.
    latent_contributions : ndarray of float64, shape (n, latent_dim)
        What each dimension of the code adds to the distance from the sphere; at least 0, with `anomaly_score` for their sum.
    neighbours : Neighbours, optional
        The nearest normal examples.
    errors : mapping of str to str
        Names of the rows that could not be read, and why; they are left out of everything above.
    """

    method: str
    source: str
    ids: Sequence[str]
    rows: NDArray[Any]
    anomaly_score: Array
    p_value: Array
    is_anomaly: NDArray[np.bool_]
    heatmaps: NDArray[np.float32] | None = None
    feature_contributions: Array | None = None
    feature_names: Sequence[str] | None = None
    attributions: Array | None = None
    baseline_score: Array | None = None
    reconstructions: Array | None = None
    latent_contributions: Array | None = None
    neighbours: Neighbours | None = None
    errors: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of rows explained."""
        return len(self.rows)

    @property
    def heat_limit(self) -> float:
        """Heat that pictures of these rows show brightest, so that a calm row looks calm beside a striking one; 0 without heat-maps."""
        return float(np.quantile(self.heatmaps, _BRIGHTEST)) if self.heatmaps is not None and self.heatmaps.size else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the numbers, pixels left out, as a JSON-able dict."""
        return {
            "method": self.method,
            "rows": [self._row_to_json(row) for row in range(len(self))],
            "errors": dict(self.errors),
        }

    def _row_to_json(self, row: int) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "source": self.source,
            "id": self.ids[row],
            "anomaly_score": float(self.anomaly_score[row]),
            "p_value": float(self.p_value[row]),
            "is_anomaly": bool(self.is_anomaly[row]),
        }
        if self.baseline_score is not None:
            facts["baseline_score"] = float(self.baseline_score[row])
        if self.heatmaps is not None:
            heat = self.heatmaps[row]
            top, left = np.unravel_index(int(heat.argmax()), heat.shape)
            facts |= {"hottest_pixel": {"row": int(top), "column": int(left)}, "highest_heat": float(heat.max())}
        if self.feature_contributions is not None:
            names = self.feature_names or [str(feature) for feature in range(self.feature_contributions.shape[1])]
            facts["feature_contributions"] = dict(zip(names, self.feature_contributions[row].tolist(), strict=True))
        if self.latent_contributions is not None:
            facts["latent_contributions"] = self.latent_contributions[row].tolist()
        if self.neighbours is not None:
            facts["neighbours"] = self.neighbours.row_to_json(row)
        return facts
