"""The shallow detectors that the paper compares with, and the nearest neighbours that every table should show: scikit-learn inside."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from insphere.decision.health import Finding
from insphere.detectors.file_schema import stored, stored_weights
from insphere.detectors.one_class_svm import NUS, choose_parameters, fit_exact, fit_nystroem
from insphere.detectors.shallow import AbstractShallowDetector, Array, below, some_of
from insphere.errors import ModelFileError
from insphere.fields import AtLeastOne, AtLeastTwo, Positive, Share
from insphere.scores.density import GaussianDensity, cross_validated_bandwidth, reduced_density
from insphere.scores.isolation import grow_forest, restore_forest
from insphere.scores.kernels import Kernel, KernelExpansion, scale_gamma
from insphere.scores.neighbours import Neighbours
from insphere.seeding import derive_seed, generator
from insphere.validation import Within, check_number

Approximation = Literal["auto", "none", "nystroem"]
"""Whether a kernel detector keeps all rows or some landmarks: "auto" takes landmarks beyond `MANY_ROWS` training rows."""

MANY_ROWS = 10_000
"""Training rows beyond which "auto" approximates, and which nearest neighbours keep as references by default."""

_LEAST_SPREAD = 1e-3
_BANDWIDTH_ROWS = 2000  # rows on which the bandwidth is chosen at most; time grows with their square


@dataclasses.dataclass(eq=False, repr=False)
class OCSVM(AbstractShallowDetector):
    """One-class support vector machine with an RBF kernel: the score is the distance beyond the hyperplane that holds the normal rows.

    Parameters
    ----------
    gamma : "auto", "scale" or float
        Kernel scale in exp(−gamma·‖x − y‖²), above 0. "auto" chooses from the paper's grid without labels (see
        `insphere.detectors.one_class_svm.select_parameters`), "scale" is 1 / (n_features · variance).
    nu : "auto" or float
        Share of training rows outside at most and of support vectors at least, in (0, 1]. "auto" chooses from 0.1 and 0.01 together
        with gamma, and is 0.1 where gamma is given.
    approximation : {"auto", "none", "nystroem"}
        "nystroem" trains on inner products with landmarks, in memory n · n_landmarks; "auto" does so beyond 10,000 rows.
    n_landmarks : int
        Rows that stand for all under "nystroem".
    scaling : {"auto", "none", "unit", "standard", "robust", "gcn", "gcn-unit", "whiten"}
        See `insphere.data.preprocess.fit_preprocess`.
    pca : "auto", "none" or float
        Share of the variance that the kept principal components have; "auto" is 0.95 for images and no projection for vectors.
    target_fpr : float
        Share of normal rows that may be flagged, in (0, 1).
    trim : float
        Share of the training rows, the most suspicious ones, that are left out, in [0, 0.5): see `AbstractDetector`.
    calibration : Calibration or mapping, optional
    random_state : int, RandomState, Generator or None
        Seed of the held-out split, of the choice of parameters and of the landmarks.

    Source: Schölkopf 2001; Zhou 2021, sec. 4.2. Deviation: gamma and nu without labels.

    Attributes
    ----------
    gamma_, nu_ : float
        The values that were used.

    Examples
    --------
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(200, 3))
    >>> detector = OCSVM(random_state=0).fit(X)
    >>> detector.predict(np.array([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]]))
    array([ 1, -1])
    """

    name = "ocsvm"

    gamma: Literal["auto", "scale"] | Positive = "auto"
    nu: Literal["auto"] | Share = "auto"
    _: dataclasses.KW_ONLY
    approximation: Approximation = "auto"
    n_landmarks: AtLeastTwo = 1000

    def _fit_features(self, features: Array) -> tuple[Array, list[Finding]]:
        findings = self._choose(features)
        if approximates(self.approximation, len(features)):
            seed = derive_seed(self.seed_, "landmarks") % 2**32
            self.expansion_, self.rho_ = fit_nystroem(features, self.gamma_, self.nu_, self.n_landmarks, seed)
            findings.append(_landmark_finding(len(self.expansion_.points), len(features)))
        else:
            weights, self.rho_ = fit_exact(features, self.gamma_, self.nu_)
            support = weights > 0
            self.expansion_ = KernelExpansion(Kernel("rbf", self.gamma_), features[support], weights[support])
        return self._score_features(features), findings

    def _choose(self, features: Array) -> list[Finding]:
        """Settle gamma and nu; say how well they told normal rows from artificial outliers where that was asked."""
        self.nu_ = 0.1 if isinstance(self.nu, str) else float(self.nu)
        if self.gamma != "auto":
            self.gamma_ = scale_gamma(self._independent(features)) if isinstance(self.gamma, str) else float(self.gamma)
            return []
        nus = NUS if isinstance(self.nu, str) else (self.nu_,)
        rng = generator(self.seed_, "kernel parameters")
        self.gamma_, self.nu_, finding = choose_parameters(self._independent(features), rng, nus)
        return [finding]

    def _score_features(self, features: Array) -> Array:
        return self.rho_ - self.expansion_(features)

    def _settled(self) -> dict[str, Any]:
        return super()._settled() | {"gamma": self.gamma_, "nu": self.nu_}

    def _features_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        header = {"gamma": self.gamma_, "nu": self.nu_, "rho": self.rho_}
        return header, {"kernel/points": self.expansion_.points, "kernel/weights": self.expansion_.weights}

    def _restore_features(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], n_features: int) -> None:
        self.gamma_, self.nu_, self.rho_ = (check_number(name, header[name]) for name in ("gamma", "nu", "rho"))
        points = stored(arrays, "kernel/points", (None, n_features))
        self.expansion_ = KernelExpansion(Kernel("rbf", self.gamma_), points, stored(arrays, "kernel/weights", (len(points),)))


@dataclasses.dataclass(eq=False, repr=False)
class KDE(AbstractShallowDetector):
    """Gaussian kernel density estimate: the score is the negative log-density, in nats.

    Parameters
    ----------
    bandwidth : "auto" or float
        Standard deviation of each kernel in units of the scaled features, above 0. "auto" chooses by five-fold likelihood over the
        paper's grid 2^0.5 to 2^5, which goes on where the best lies at its end.
    approximation : {"auto", "none", "nystroem"}
        "nystroem" keeps landmarks, weighted so that their density comes closest to that of all rows; "auto" does so beyond 10,000 rows.
    n_landmarks : int
        Rows that stand for all under "nystroem".
    scaling, pca, target_fpr, trim, calibration, random_state
        As in `OCSVM`.

    Source: Parzen 1962; Zhou 2021, sec. 4.2. Deviation: none.

    Attributes
    ----------
    bandwidth_ : float
        The bandwidth that was used.

    Examples
    --------
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(200, 3))
    >>> detector = KDE(random_state=0).fit(X)
    >>> detector.predict(np.array([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]]))
    array([ 1, -1])
    """

    name = "kde"

    bandwidth: Literal["auto"] | Positive = "auto"
    _: dataclasses.KW_ONLY
    approximation: Approximation = "auto"
    n_landmarks: AtLeastTwo = 1000

    def _fit_features(self, features: Array) -> tuple[Array, list[Finding]]:
        rng = generator(self.seed_, "bandwidth")
        n_rows, apart = len(features), self._independent(features)
        chosen = apart[some_of(len(apart), _BANDWIDTH_ROWS, rng)]
        self.bandwidth_ = cross_validated_bandwidth(chosen, rng) if isinstance(self.bandwidth, str) else float(self.bandwidth)
        findings = [Finding("bandwidth", "ok", self.bandwidth_, f"The kernels' width is {self.bandwidth_:.4g} in units of the features.")]
        if approximates(self.approximation, n_rows):
            landmarks = features[some_of(n_rows, self.n_landmarks, generator(self.seed_, "landmarks"))]
            self.density_ = reduced_density(features, landmarks, self.bandwidth_)
            return self._score_features(features), [*findings, _landmark_finding(len(self.density_.points), n_rows)]
        self.density_ = GaussianDensity(features, np.full(n_rows, 1 / n_rows), self.bandwidth_)
        return -self.density_.log_density(features, own=np.arange(n_rows)), findings

    def _score_features(self, features: Array) -> Array:
        return -self.density_.log_density(features)

    def _settled(self) -> dict[str, Any]:
        return super()._settled() | {"bandwidth": self.bandwidth_}

    def _features_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {"bandwidth": self.bandwidth_}, {"density/points": self.density_.points, "density/weights": self.density_.weights}

    def _restore_features(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], n_features: int) -> None:
        self.bandwidth_ = check_number("bandwidth", header["bandwidth"], above=0)
        points = stored(arrays, "density/points", (None, n_features))
        weights = stored_weights(arrays, "density/weights", len(points))
        self.density_ = GaussianDensity(points, weights, self.bandwidth_)


@dataclasses.dataclass(eq=False, repr=False)
class IForest(AbstractShallowDetector):
    """Isolation forest: the score says how few random cuts separate a row from the others, in (0, 1).

    Parameters
    ----------
    n_estimators : int
        Trees.
    max_samples : int
        Rows that each tree is grown on; all where there are fewer.
    scaling, pca, target_fpr, trim, calibration, random_state
        As in `OCSVM`; the seed also grows the trees.

    Source: Liu 2008 (100 trees, 256 rows each); Zhou 2021, sec. 4.2. Deviation: none.

    Examples
    --------
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(200, 3))
    >>> detector = IForest(random_state=0).fit(X)
    >>> detector.predict(np.array([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]]))
    array([ 1, -1])
    """

    name = "iforest"

    n_estimators: Annotated[int, Within(at_least=1, at_most=100_000)] = 100
    _: dataclasses.KW_ONLY
    max_samples: AtLeastTwo = 256

    def _fit_features(self, features: Array) -> tuple[Array, list[Finding]]:
        seed = derive_seed(self.seed_, "trees") % 2**32
        self.trees_ = grow_forest(features, self.n_estimators, self.max_samples, seed)
        return self._score_features(features), []

    def _score_features(self, features: Array) -> Array:
        return self.trees_.score(features)

    def _features_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {"normaliser": self.trees_.normaliser}, {f"trees/{name}": array for name, array in self.trees_.arrays().items()}

    def _restore_features(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], n_features: int) -> None:
        normaliser = check_number("normaliser", header["normaliser"], above=0)
        self.trees_ = restore_forest(below(arrays, "trees/"), normaliser, n_features)
        if len(self.trees_.roots) != self.n_estimators:
            raise ModelFileError(f"The file holds {len(self.trees_.roots)} trees instead of {self.n_estimators}; save the detector again.")


@dataclasses.dataclass(eq=False, repr=False)
class KNN(AbstractShallowDetector):
    """Nearest neighbours: the score is the distance to the nearest training rows.

    Nothing is learned, so what does not beat it is not worth its training: show it in every table.

    Parameters
    ----------
    n_neighbors : int
        Neighbours looked at; where there are fewer rows it is all of them, and the health report warns.
    aggregation : {"mean", "largest", "relative"}
        Mean distance to them, distance to the furthest of them, or the mean distance in units of the neighbours' own: the mean of theirs to
        their nearest. The last one finds rows between or beside dense groups, and misses groups of anomalies.
    max_references : int
        Training rows that are kept at most; of more, a random choice.
    exclude_self : bool
        Whether a row that equals a training row is not its own neighbour, so that training rows score as new ones do.
    scaling, pca, target_fpr, trim, calibration, random_state
        As in `OCSVM`; ``scaling="unit", pca="none"`` compares raw pixels.

    Source: Ramaswamy 2000 ("largest"), Angiulli 2002 ("mean"), Breunig 2000 ("relative": the local outlier factor, with mean distances in
    place of mean reachability). Deviation: none but that.

    Examples
    --------
    >>> X = np.random.default_rng(0).uniform(-1, 1, size=(200, 3))
    >>> detector = KNN(random_state=0).fit(X)
    >>> detector.predict(np.array([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]]))
    array([ 1, -1])
    """

    name = "knn"
    scores_distances = True

    n_neighbors: AtLeastOne = 5
    _: dataclasses.KW_ONLY
    aggregation: Literal["mean", "largest", "relative"] = "mean"
    max_references: AtLeastTwo = MANY_ROWS
    exclude_self: bool = False

    def _fit_features(self, features: Array) -> tuple[Array, list[Finding]]:
        kept = some_of(len(features), self.max_references, generator(self.seed_, "references"))
        self.neighbours_ = Neighbours(features[kept])
        own = np.full(len(features), -1)
        own[kept] = np.arange(len(kept))
        findings = [_landmark_finding(len(kept), len(features))] if len(kept) < len(features) else []
        if self.n_neighbors > (most := len(kept) - 1):
            text = (
                f"There are {most} other rows, so that each has {most} neighbours and not {self.n_neighbors}; take a smaller n_neighbors."
            )
            findings.append(Finding("neighbours", "warning", float(most), text))
        self.spread_: Array | None = None
        if self.aggregation != "relative":
            return self._of_distances(self.neighbours_.distances(features, self.n_neighbors, own)), findings
        spread = self.neighbours_.distances(features[kept], self.n_neighbors, np.arange(len(kept))).mean(axis=1)
        # Copies of each other have no distance; whatever lies beside them would be infinitely far in units of it. Where there is nothing
        # but copies, distances are as they are.
        self.spread_ = np.maximum(spread, _LEAST_SPREAD * float(spread.mean()) or 1.0)
        return self._relative(features, own), findings

    def _score_features(self, features: Array) -> Array:
        own = self.neighbours_.places(features) if self.exclude_self else None
        if self.aggregation == "relative":
            return self._relative(features, own)
        return self._of_distances(self.neighbours_.distances(features, self.n_neighbors, own))

    def _of_distances(self, distances: Array) -> Array:
        return np.asarray(distances[:, -1] if self.aggregation == "largest" else distances.mean(axis=1))

    def _relative(self, features: Array, own: NDArray[np.int64] | None = None) -> Array:
        mean, of_neighbours = self.neighbours_.means(features, self.n_neighbors, np.asarray(self.spread_), own)
        return np.asarray(mean / of_neighbours)

    def _features_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        own = {} if self.spread_ is None else {"spread": self.spread_}
        return {}, {"references": self.neighbours_.references} | own

    def _restore_features(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], n_features: int) -> None:
        self.neighbours_, self.spread_ = Neighbours(stored(arrays, "references", (None, n_features))), None
        if self.aggregation == "relative":
            self.spread_ = stored(arrays, "spread", (len(self.neighbours_.references),))
            if not (self.spread_ > 0).all():
                raise ModelFileError("The stored 'spread' has values that are not above 0; save the detector again.")


def approximates(approximation: str, n_rows: int) -> bool:
    """Tell whether a kernel detector of `n_rows` training rows keeps landmarks only.

    Examples
    --------
    >>> approximates("auto", 50_000), approximates("none", 50_000)
    (True, False)
    """
    return approximation == "nystroem" or (approximation == "auto" and n_rows > MANY_ROWS)


def _landmark_finding(n_landmarks: int, n_rows: int) -> Finding:
    return Finding("landmarks", "ok", float(n_landmarks), f"{n_landmarks} of {n_rows} training rows stand for all in the stored model.")
