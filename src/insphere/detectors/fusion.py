"""Fusion: the weighted mean of several detectors' scores, each brought to the same units."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from insphere.decision.health import Finding
from insphere.detectors.base import AbstractDetector
from insphere.detectors.classical import KNN
from insphere.detectors.fitting import FitContext, Fitted
from insphere.detectors.parts import make_part
from insphere.detectors.shallow import Array, below
from insphere.errors import ModelFileError, ParameterError
from insphere.fields import Length, Positive
from insphere.seeding import derive_seed, resolve_seed
from insphere.validation import check_number

NEIGHBOURS: tuple[tuple[Mapping[str, Any], float], ...] = (
    ({"name": "knn", "exclude_self": True, "n_neighbors": 5}, 1.0),
    ({"name": "knn", "exclude_self": True, "n_neighbors": 1}, 1.0),
    ({"name": "knn", "exclude_self": True, "n_neighbors": 5, "scaling": "robust"}, 1.0),
    ({"name": "knn", "exclude_self": True, "n_neighbors": 1, "scaling": "whiten"}, 0.5),
    ({"name": "knn", "exclude_self": True, "n_neighbors": 10, "aggregation": "relative"}, 0.5),
)
"""What "auto" fuses for vectors, and the weight of each.

Members and weights were chosen on ADBench's eighteen tables, labels looked at (``benchmarks/adbench.py``); no table has its own.
"""

LEAST = -3.0
"""Units below which no part goes: so that none vouches for a row that it lies on top of, a copy of a training row, against all others."""

PICTURES: tuple[tuple[Mapping[str, Any], float], ...] = (({"name": "transform-svdd"}, 1.0), ({"name": "vae-svdd"}, 1.0))
"""What "auto" fuses for pictures: see ``benchmarks/reports/digits.md``; the pair was chosen on MNIST's digit 8, labels looked at."""

_FLOOR_SHARE = 0.1  # of the median distance above 0: copies lie at no distance, and that is not infinitely less than a small one
_LEAST_SPREAD = 1e-9
_CROSS_DISTANCES_BELOW = 5000  # independent rows: five more fits that only keep rows, and scores of them all, take seconds


class Units(NamedTuple):
    """From a detector's scores to units of normal rows: ``(f(score) − mean) / spread``.

    Of distances f is the logarithm of ``score + floor``. Of other scores, ``floor`` None, the units come first and f is
    ``sign(u)·log(1 + |u|)``, so that one very large score does not outvote all others. No value is below −3.

    Attributes
    ----------
    mean, spread : float
        Over the training rows, none its own neighbour; spread above 0.
    floor : float, optional
        Above 0.
    """

    mean: float
    spread: float
    floor: float | None

    @classmethod
    def of(cls, scores: Array, *, distances: bool) -> Self | None:
        """Return the units of which these scores are the normal ones, or None where they are all equal.

        Equal distances (in a table of few different rows each lies on copies of itself) are no reason not to count: farther rows stand out
        all the same, in units of the floor.

        Examples
        --------
        >>> Units.of(np.array([1.0, 1.0]), distances=False) is None
        True
        >>> Units.of(np.array([0.0, 0.0]), distances=True)
        Units(mean=0.0, spread=1.0, floor=1.0)
        """
        floor = None
        if distances:
            above = scores[scores > 0]
            floor = max(_FLOOR_SHARE * float(np.median(above)) if len(above) else 1.0, float(np.finfo(np.float64).tiny))
            scores = np.log(scores + floor)
        mean, spread = float(scores.mean()), float(scores.std())
        if spread > _LEAST_SPREAD * max(1.0, abs(mean)):
            return cls(mean, spread, floor)
        return cls(mean, 1.0, floor) if distances else None

    def __call__(self, scores: Array) -> Array:
        """Return scores in these units."""
        if self.floor is not None:
            units = (np.log(np.maximum(scores, 0.0) + self.floor) - self.mean) / self.spread
        else:
            standard = (scores - self.mean) / self.spread
            units = np.sign(standard) * np.log1p(np.abs(standard))
        return np.asarray(np.maximum(units, LEAST))


@dataclasses.dataclass(eq=False, repr=False)
class Fusion(AbstractDetector):
    """The weighted mean of several detectors' scores in units of normal rows: no scale of any of them decides.

    Each detector is fitted on the same rows. Its scores are brought to units of the training rows' own, none of which is its own
    neighbour: of distances their logarithms (see `Units`). One anomaly is far by one measure and not by another; the mean finds both, and
    is steadier than any of its parts.

    Parameters
    ----------
    detectors : "auto" or sequence of str, mapping or detector
        What is fused: names in the catalog, mappings with that ``name`` and parameters, or unfitted detectors. "auto" fuses for vectors
        the distances to the nearest rows, to one and to five of them, as they are, with heavy tails drawn in, whitened, and in units of
        the neighbours' own distances (`NEIGHBOURS`); for pictures `transform-svdd` and `vae-svdd`, which takes minutes. Parts that differ
        in their seeds only (``["vae-svdd"] * 5``: each draws its own) are trained as one batched model where that is faster (`fit_many`),
        unless a checkpoint is kept.
    weights : sequence of float, optional
        One for each of the detectors, above 0; None weighs all alike ("auto" has its own).
    target_fpr : float
        Share of normal rows that may be flagged, in (0, 1).
    trim : float
        Share of the training rows, the most suspicious ones, that are left out, in [0, 0.5): see `AbstractDetector`.
    calibration : Calibration or mapping, optional
    random_state : int, RandomState, Generator or None
        Seed of the held-out split and of the detectors that have none of their own.

    Attributes
    ----------
    detectors_ : tuple of AbstractDetector
        The fitted parts. They neither hold out rows nor decide: their own `target_fpr`, `trim` and `calibration` are not used.
    units_ : tuple of Units
        Of each part; None for one that gave all training rows the same score, which then does not count.
    shares_ : tuple of float
        Weight of each part in the mean.
    history_ : list of EpochRecord
        Of all trainings, one after the other.

    Source: sum of standardised scores (Aggarwal and Sathe 2017, ch. 5); logarithms and units are ours.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> detector = Fusion(random_state=0).fit(X)
    >>> detector.predict(np.array([[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]]))
    array([ 1, -1])
    """

    name = "fusion"

    detectors: Literal["auto"] | Sequence[Any] = "auto"
    _: dataclasses.KW_ONLY
    weights: Annotated[Sequence[Positive], Length(1, 100)] | None = None

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if isinstance(self.detectors, str):
            if self.detectors != "auto":
                raise ParameterError(f'`detectors` must be "auto" or a list of detectors, got {self.detectors!r}.')
            if self.weights is not None:
                raise ParameterError('`weights` belong to `detectors` that are named; detectors="auto" has its own.')
            self.detectors_: tuple[AbstractDetector, ...] = ()
        else:
            if not isinstance(self.detectors, Sequence) or not self.detectors:
                raise ParameterError(f'`detectors` must be "auto" or a list of at least one detector, got {self.detectors!r}.')
            if self.weights is not None and len(self.weights) != len(self.detectors):
                raise ParameterError(
                    f"`weights` must have one number for each of the {len(self.detectors)} detectors, got {len(self.weights)}."
                )
            self._make_parts(self.detectors, self.weights)

    def _make_parts(self, given: Sequence[Any], weights: Sequence[float] | None) -> None:
        self.detectors_ = tuple(
            make_part(f"detectors[{number}]", part, AbstractDetector, "")  # type: ignore[type-abstract]
            for number, part in enumerate(given)
        )
        self._weights = [1.0] * len(given) if weights is None else [float(weight) for weight in weights]
        for number, part in enumerate(self.detectors_):
            if part.has_maps or isinstance(part, Fusion):
                why = "has heat-maps, which cannot be fused" if part.has_maps else "is a fusion itself: name its parts here"
                raise ParameterError(f"`detectors[{number}]` {part.name} {why}.")
            if part.missing != "refuse":
                raise ParameterError(f"`detectors[{number}]` fills no missing values by itself: set `missing` of the fusion instead.")
            part._check_parameters()

    def _folds_below(self) -> int:
        """Return the least of the parts', as folds are dear where one of them is; up to 5,000 rows where all are mere distances."""
        parts = self._known_parts()
        return _CROSS_DISTANCES_BELOW if all(isinstance(part, KNN) for part in parts) else min(part._folds_below() for part in parts)

    def _known_parts(self) -> tuple[AbstractDetector, ...]:
        """Return the parts, which for "auto" follow from what the rows are."""
        if not self.detectors_:
            chosen = NEIGHBOURS if len(self.input_shape_) == 1 else PICTURES
            self._make_parts([part for part, _ in chosen], [weight for _, weight in chosen])
        return self.detectors_

    # Fitting.

    def _fit_model(self, X: NDArray[Any], context: FitContext) -> tuple[Array, list[Finding]]:
        self._prepare_parts()
        findings: list[Finding] = []
        units, unscaled = [], []
        together = self._fit_seeds(X, context)
        for number, part in enumerate(self.detectors_):
            scores, own = together[number] if number in together else part._fit_model(X, self._context_of(number, context))
            units.append(Units.of(scores, distances=part.scores_distances))
            findings += [_of_part(number, part, finding) for finding in own if finding.level != "ok"]
            unscaled.append(scores)
        self.units_ = tuple(units)
        self._forget_checkpoints(context)
        self.history_ = [record for part in self.detectors_ for record in getattr(part, "history_", ())]
        return self._fused(unscaled), [self._about_parts(), *findings]

    def _fit_seeds(self, X: NDArray[Any], context: FitContext) -> dict[int, Fitted]:
        """Return what became of the parts that were trained as one batched model, which has no checkpoints."""
        networks = collections.Counter(type(part) for part in self.detectors_ if hasattr(part, "_trainee"))
        if context.checkpoint is not None or all(n == 1 for n in networks.values()):
            return {}
        from insphere.detectors.batched import fit_seeds  # here, as it imports PyTorch, which distances need not

        return fit_seeds(self.detectors_, X, context.on_epoch)

    def _prepare_parts(self) -> None:
        settled = getattr(self, "_settled_parts", None)
        for number, part in enumerate(self._known_parts()):
            part.input_ = self.input_
            part.data_ = self.data_ if hasattr(self, "data_") else {}  # whose fingerprint says whether a checkpoint is of these rows
            own = part.random_state
            part.seed_ = derive_seed(self.seed_, f"part {number}") % 2**31 if own is None else resolve_seed(own)
            if settled is not None:
                for name, value in settled[number].items():
                    setattr(part, name, value)
                part._check_parameters()

    def _context_of(self, number: int, context: FitContext) -> FitContext:
        """Return the context of a part, each of which has a checkpoint of its own."""
        path = context.checkpoint
        return dataclasses.replace(context, checkpoint=None if path is None else path.with_name(f"{path.name}.{number}"))

    def _forget_checkpoints(self, context: FitContext) -> None:
        for number in range(len(self.detectors_)):
            path = self._context_of(number, context).checkpoint
            if path is not None:
                path.unlink(missing_ok=True)

    def _settled(self) -> dict[str, Any]:
        return {"_settled_parts": [dict(part._settled()) for part in self.detectors_]}

    def _collapse_advice(self) -> str:
        return "Every row may be like so many others that none stands out: leave out copies, give more columns, or take another detector."

    def _about_parts(self) -> Finding:
        idle = [f"{part.name} (part {n})" for n, part in enumerate(self.detectors_) if self.units_[n] is None]
        n_counting = len(self.detectors_) - len(idle)
        names = collections.Counter(part.name for part in self.detectors_)
        listed = ", ".join(name if n == 1 else f"{n} × {name}" for name, n in names.items())
        text = f"{n_counting} of {len(self.detectors_)} detectors count: {listed}."
        if idle:
            text += f" All training rows have the same score by {', '.join(idle)}, which therefore says nothing; leave it out."
        return Finding("fusion", "warning" if idle else "ok", float(n_counting), text)

    # Scoring.

    def _score(self, X: NDArray[Any]) -> Array:
        return self._fused([part._score(X) for part in self.detectors_])

    def _fused(self, scores: Sequence[Array]) -> Array:
        """Return the weighted mean of the parts' scores in their units."""
        total = np.zeros(len(scores[0]))
        for own, share, units in zip(scores, self.shares_, self.units_, strict=True):
            if units is not None:
                total += share * units(own)
        return total

    @property
    def shares_(self) -> tuple[float, ...]:
        """Weight of each part; those of the parts that count sum to 1."""
        largest = max(self._weights)  # first, so that no sum overflows
        counting = [0.0 if units is None else weight / largest for weight, units in zip(self._weights, self.units_, strict=True)]
        return tuple(weight / (sum(counting) or 1.0) for weight in counting)

    # Saving.

    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        header: dict[str, Any] = {"parts": [], "units": [None if units is None else list(units) for units in self.units_]}
        arrays: dict[str, NDArray[Any]] = {}
        for number, part in enumerate(self.detectors_):
            own_header, own = part._state()
            header["parts"].append(own_header)
            arrays |= {f"part-{number}/{name}": array for name, array in own.items()}
        return header, arrays

    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self._prepare_parts()
        if not len(self.detectors_) == len(header["parts"]) == len(header["units"]):
            raise ModelFileError("The stored parts do not fit the detectors that are named; save the detector again.")
        for number, part in enumerate(self.detectors_):
            part._restore(header["parts"][number], below(arrays, f"part-{number}/"))
        self.units_ = tuple(_stored_units(stored) for stored in header["units"])
        self.history_ = [record for part in self.detectors_ for record in getattr(part, "history_", ())]

    def _parameters_to_json(self) -> dict[str, Any]:
        if isinstance(self.detectors, str):
            return super()._parameters_to_json()
        # The parts as they were built: mappings that give the same parts again.
        return super()._parameters_to_json() | {"detectors": [{"name": part.name} | part._parameters_to_json() for part in self.detectors_]}


def _stored_units(stored: Any) -> Units | None:
    if stored is None:
        return None
    mean, spread, floor = stored
    known = None if floor is None else check_number("units.floor", floor, above=0)
    return Units(check_number("units.mean", mean), check_number("units.spread", spread, above=0), known)


def _of_part(number: int, part: AbstractDetector, finding: Finding) -> Finding:
    """Return what is said of a part as said of the whole: no part's collapse keeps the others from scoring."""
    level = "warning" if finding.level == "critical" else finding.level
    return dataclasses.replace(finding, name=f"{finding.name}, part {number}", level=level, text=f"{part.name}: {finding.text}")
