"""What all detectors without networks share: rows become scaled, optionally projected features; what is fitted sees only these."""

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from insphere.data.preprocess import Scaling, fit_preprocess
from insphere.decision.health import Finding
from insphere.detectors.base import AbstractDetector
from insphere.detectors.file_schema import restore_preprocess, stored
from insphere.detectors.fitting import CROSS_BELOW, FitContext
from insphere.fields import Share
from insphere.seeding import generator

Array = NDArray[np.float64]

IMAGE_VARIANCE = 0.95
"""Share of the variance that images keep by default (Ruff 2018, sec. 4.1; Zhou 2021, sec. 4.2)."""

_FEWEST_TO_CHOOSE_BY = 8
_CHUNK = 1024
_PROJECTION_VALUES = 2**26  # 512 MiB: of more rows than that, the projection is fitted to a random choice


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class AbstractShallowDetector(AbstractDetector):
    """A detector that scores scaled and projected rows with a classical model.

    A concrete class implements the four methods below.

    Parameters
    ----------
    scaling : {"auto", "none", "unit", "standard", "robust", "gcn", "gcn-unit", "whiten"}
        Preprocessing, fitted on the training rows: see `insphere.data.preprocess.fit_preprocess`.
    pca : "auto", "none" or float
        Share of the variance, in (0, 1], that the kept principal components have; "auto" is 0.95 for images and no projection for
        vectors.
    target_fpr, trim, calibration, random_state
        See `AbstractDetector`.
    """

    cross_below: ClassVar[int] = CROSS_BELOW
    _n_components: ClassVar[int | None] = None

    scaling: Scaling = "auto"
    pca: Literal["auto", "none"] | Share = "auto"

    @abstractmethod
    def _fit_features(self, features: Array) -> tuple[Array, list[Finding]]:
        """Fit on the training features (n, d); return their scores, none its own neighbour, and what is to be said of the fit."""

    @abstractmethod
    def _score_features(self, features: Array) -> Array:
        """Return the anomaly score of each row of features, each row computed alone."""

    @abstractmethod
    def _features_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return (JSON-able header, arrays) from which `_restore_features` rebuilds the fitted model."""

    @abstractmethod
    def _restore_features(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], n_features: int) -> None:
        """Rebuild the fitted model for features of `n_features` columns; the arrays come from a file and are to be checked."""

    def _collapse_advice(self) -> str:
        return "Every row may be like so many others that none stands out: leave out copies, give more columns, or take another detector."

    def _fit_model(self, X: NDArray[Any], context: FitContext) -> tuple[Array, list[Finding]]:
        self.preprocess_ = fit_preprocess(X, self.scaling)
        self.projection_: Projection | None = None
        share = self.pca if not isinstance(self.pca, str) else IMAGE_VARIANCE if self.pca == "auto" and X.ndim == 4 else None
        findings = []
        if share is not None:
            self.projection_ = self._project(self._scaled(self._rows_to_project(X)), share, context)
            n_kept, n_dims = self.projection_.components.shape
            text = f"{n_kept} of {n_dims} principal components keep {share:.0%} of the variance."
            findings.append(Finding("principal components", "ok", float(n_kept), text))
        self._first_of_unit = None if context.units is None else np.sort(np.unique(context.units, return_index=True)[1])
        scores, own_findings = self._fit_features(self._features(X))
        return scores, findings + own_findings

    def _project(self, rows: Array, share: float, context: FitContext) -> "Projection":
        """Fit the projection: with as many components as the models of folds can have too, and these with as many as that of all rows.

        Densities and distances grow with the number of dimensions, so that scores of models with different ones say nothing of each other.
        """
        if self._n_components is not None:
            return fit_projection(rows, 1.0, at_most=self._n_components)
        return fit_projection(rows, share, at_most=None if context.least_rows is None else context.least_rows - 1)

    def _settled(self) -> dict[str, Any]:
        return {} if self.projection_ is None else {"_n_components": len(self.projection_.components)}

    def _independent(self, features: Array) -> Array:
        """Return the features of one training row a unit, to choose parameters by: twins make every scale look too large."""
        first = self._first_of_unit
        return features if first is None or len(first) < _FEWEST_TO_CHOOSE_BY else features[first]

    def _score(self, X: NDArray[Any]) -> Array:
        return self._score_features(self._features(X))

    def _features(self, X: NDArray[Any]) -> Array:
        """Return the features of rows, float64, shape (n, d): in parts, since as float64 images take eight times their memory."""
        parts = []
        for start in range(0, max(1, len(X)), _CHUNK):
            scaled = self._scaled(X[start : start + _CHUNK])
            parts.append(scaled if self.projection_ is None else self.projection_.apply(scaled))
        return np.concatenate(parts)

    def _scaled(self, X: NDArray[Any]) -> Array:
        return np.ascontiguousarray(self.preprocess_.apply(X.astype(np.float64)).reshape(len(X), -1))

    def _rows_to_project(self, X: NDArray[Any]) -> NDArray[Any]:
        n_most = max(2, _PROJECTION_VALUES // X[0].size)
        return X if len(X) <= n_most else X[some_of(len(X), n_most, generator(self.seed_, "projection"))]

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        header, arrays = self._features_state()
        own: dict[str, NDArray[Any]] = {f"preprocess/{name}": array for name, array in self.preprocess_.arrays().items()}
        if self.projection_ is not None:
            own |= {"projection/mean": self.projection_.mean, "projection/components": self.projection_.components}
        return header | {"scaling": self.preprocess_.scaling, "projected": self.projection_ is not None}, arrays | own

    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self.preprocess_ = restore_preprocess(header, arrays, self.input_shape_)
        self.projection_, n_features = None, int(np.prod(self.input_shape_))
        if header["projected"]:
            mean = stored(arrays, "projection/mean", (n_features,))
            self.projection_ = Projection(mean, stored(arrays, "projection/components", (None, n_features)))
            n_features = len(self.projection_.components)
        self._restore_features(header, arrays, n_features)


@dataclasses.dataclass(frozen=True)
class Projection:
    """Coordinates of rows along the leading principal components.

    Attributes
    ----------
    mean : ndarray, shape (n_features,)
    components : ndarray, shape (n_components, n_features)
        Orthonormal rows.
    """

    mean: Array
    components: Array

    def apply(self, rows: Array) -> Array:
        """Return the coordinates, shape (n, n_components)."""
        # einsum without BLAS sums each row in the same order, however many rows there are.
        return np.asarray(np.einsum("nd,ed->ne", rows - self.mean, self.components, optimize=False))


def fit_projection(rows: Array, share: float, *, at_most: int | None = None) -> Projection:
    """Return the projection on the fewest principal components that keep at least `share` of the variance, or on the first `at_most`.

    Examples
    --------
    >>> fit_projection(np.array([[-3.0, 0.1], [3.0, -0.1], [3.0, 0.1], [-3.0, -0.1]]), 0.9).components.shape
    (1, 2)
    """
    mean = rows.mean(axis=0)
    if (rows == rows[:1]).all():  # no variance to share out; the scores' own check will say that nothing can be told apart
        return Projection(mean, np.eye(1, rows.shape[1]))
    solver = "covariance_eigh" if len(rows) >= rows.shape[1] else "full"  # whichever decomposes the smaller matrix
    fitted = PCA(n_components=share if share < 1 else None, svd_solver=solver).fit(rows)
    components = fitted.components_[: None if at_most is None else max(1, at_most)]
    return Projection(np.asarray(fitted.mean_, dtype=np.float64), np.ascontiguousarray(components, dtype=np.float64))


def some_of(n_rows: int, n_wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return `n_wanted` different positions among `n_rows` in increasing order, or all of them where there are no more.

    Examples
    --------
    >>> some_of(3, 5, np.random.default_rng(0))
    array([0, 1, 2])
    """
    if n_rows <= n_wanted:
        return np.arange(n_rows)
    return np.sort(rng.choice(n_rows, n_wanted, replace=False))


def below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Return the arrays whose name begins with `prefix`, without it.

    Examples
    --------
    >>> below({"trees/roots": np.zeros(1), "mean": np.zeros(1)}, "trees/")
    {'roots': array([0.])}
    """
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
