"""The detector chosen without labels: several are tried on a part of the normal rows, and the most promising one is fitted on all."""

import dataclasses
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data import AbstractSource, open_source
from insphere.data.outliers import synthetic_outliers
from insphere.decision.units import independent_units, row_hashes
from insphere.detectors.base import AbstractDetector
from insphere.detectors.catalog import detector_class, make
from insphere.detectors.fitting import MIN_ROWS, as_rows, groups_of
from insphere.detectors.fusion import Fusion
from insphere.detectors.inputs import keeping_missing
from insphere.detectors.neural import AbstractNeuralDetector
from insphere.detectors.scoring import Rows
from insphere.errors import DataError, InsphereError, SourceNotice, warn_user
from insphere.seeding import generator, resolve_seed
from insphere.selection.choosing import LARGER_THAN, PHOTOS, choose, size_of
from insphere.selection.criterion import Judgement, expected, judge
from insphere.training.options import default_epochs
from insphere.validation import check_number

MOST_FITTED, MOST_HELD_OUT = 1500, 500
"""Rows that a trial fits at most, and that it is judged on."""

_SHARE_HELD_OUT = 0.25
_MOST_LOOKED_AT = 8000
_TRIAL_STEPS = 250  # of a network's training, at most: half of what vae-svdd takes by itself
_SHARE_OF_TRIALS = 0.5  # of the time; the rest is for the fit on all rows


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A configuration that may be chosen.

    Attributes
    ----------
    name : str
        What it is called in what is told.
    detector : str
        Its name in the catalog.
    parameters : mapping
    """

    name: str
    detector: str
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)


CANDIDATES: Mapping[str, Sequence[Candidate]] = {
    "vectors": (
        Candidate("fusion", "fusion"),
        Candidate("knn", "knn"),
        Candidate("knn, whitened", "knn", {"scaling": "whiten"}),
        Candidate("iforest", "iforest"),
        Candidate("vae-svdd", "vae-svdd"),
        Candidate("vae-svdd, whitened", "vae-svdd", {"scaling": "whiten"}),
        Candidate("vae-svdd, robust", "vae-svdd", {"scaling": "robust"}),
        Candidate("transform-svdd", "transform-svdd"),
    ),
    "pictures": (
        Candidate("vae-svdd", "vae-svdd"),
        Candidate("knn", "knn"),
        Candidate("knn, whitened", "knn", {"scaling": "whiten"}),
        Candidate("vae-svdd, unit", "vae-svdd", {"scaling": "unit"}),
        Candidate("vae-svdd, standard", "vae-svdd", {"scaling": "standard"}),
        Candidate("transform-svdd", "transform-svdd"),
    ),
    "photos": (
        Candidate("photo", PHOTOS),
        Candidate("knn", "knn"),
        Candidate("vae-svdd", "vae-svdd"),
    ),
}
"""What is tried, by the kind of the rows, those first that take the least time for what they give.

"pictures" are up to `LARGER_THAN` pixels; of "photos", larger ones and those in colour that `choose` takes for photos, knn and vae-svdd see
what is left at the size to which vae-svdd brings them.
"""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One configuration that was tried, or why it was not.

    Attributes
    ----------
    candidate : Candidate
    judgement : Judgement, optional
        None where there is no outcome.
    expected : float
        Points of AUROC above the mean of all that are expected of it (`insphere.selection.criterion.expected`); −inf without an outcome.
    seconds : float
        That the trial took.
    whole_seconds : float
        That a fit of all rows would take, about.
    problem : str
        Why there is no outcome; empty where there is one.
    """

    candidate: Candidate
    judgement: Judgement | None
    expected: float
    seconds: float
    whole_seconds: float
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "name": self.candidate.name,
            "detector": self.candidate.detector,
            "parameters": dict(self.candidate.parameters),
            "expected": None if self.judgement is None else round(self.expected, 2),
            "families": {} if self.judgement is None else {name: round(value, 4) for name, value in self.judgement.families.items()},
            "seconds": round(self.seconds, 1),
            "problem": self.problem,
        }


@dataclasses.dataclass(frozen=True)
class Choice:
    """What was tried, in the order in which it was, and what was chosen.

    Attributes
    ----------
    trials : tuple of Trial
    chosen : Trial
    n_fitted, n_held_out : int
        Rows of each trial.
    parameters : dict
        Of the chosen detector: the candidate's, and the user's.
    """

    trials: tuple[Trial, ...]
    chosen: Trial
    n_fitted: int
    n_held_out: int
    parameters: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        trials = [trial.to_json() for trial in self.trials]
        return {"chosen": self.chosen.candidate.name, "n_fitted": self.n_fitted, "n_held_out": self.n_held_out, "trials": trials}


class _OutOfTimeError(Exception):
    """A trial has had its time."""


def fit_automatically(
    source: Rows,
    *,
    minutes: float = 10.0,
    on_trial: Callable[[Trial], None] | None = None,
    on_epoch: Callable[[Any], None] | None = None,
    on_rows: Callable[[int, int], None] | None = None,
    **parameters: Any,
) -> AbstractDetector:
    """Try several detectors on a part of the rows, and fit the most promising one on all of them; no labels are used.

    Each is fitted on at most 1,500 normal rows and judged on others: by how well it tells synthetic outliers of several families from them
    (`insphere.data.outliers`), and by how it did on other data sets (`insphere.selection.criterion`). What was tried is told in a
    `SourceNotice` and kept in ``data_["auto"]``.

    Parameters
    ----------
    source : array, source or path
        Normal rows.
    minutes : float
        About how long all may take, above 0. Trials that would take too long are left out, and that is told.
    on_trial : callable, optional
        Called with every `Trial`.
    on_epoch, on_rows : callable, optional
        Follow the last fit: see `AbstractDetector.fit`.
    **parameters : object
        Parameters that every detector gets (`target_fpr`, `random_state`, ...); one that lacks one of them is left out, and told.

    Returns
    -------
    AbstractDetector
        Fitted.

    Raises
    ------
    DataError, ParameterError
        As `AbstractDetector.fit` does; `DataError` too where there are fewer than 16 rows, or no detector could be fitted.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(120, 3))
    >>> import warnings; warnings.simplefilter("ignore")
    >>> fit_automatically(X, minutes=0.02, random_state=0).data_["auto"]["n_held_out"]
    30
    """
    started = time.monotonic()
    opened = open_source(source, split="train")
    choice = choose_automatically(opened, minutes=minutes, on_trial=on_trial, parameters=parameters)
    warn_user(told(choice), SourceNotice)
    made = make(choice.chosen.candidate.detector, choice.parameters)
    fitted = made.fit(made.open_to_fit(opened), on_epoch=on_epoch, on_rows=on_rows)
    note(fitted, choice, time.monotonic() - started)
    return fitted


def choose_automatically(
    source: AbstractSource,
    *,
    minutes: float = 10.0,
    on_trial: Callable[[Trial], None] | None = None,
    parameters: Mapping[str, Any] = MappingProxyType({}),
) -> Choice:
    """Return what was tried on the normal rows of a source, and the most promising of it; see `fit_automatically`.

    Raises
    ------
    DataError
        If there are too few rows, or none of the detectors could be fitted; the message says why.
    """
    deadline = time.monotonic() + 60 * check_number("minutes", minutes, above=0) * _SHARE_OF_TRIALS
    if source.doubt is not None:
        raise DataError(source.doubt)
    rng = generator(resolve_seed(parameters.get("random_state")), "rows to try detectors on")
    fitted, held_out, n_rows = parted(keeping_missing(source) if parameters.get("missing") == "impute" else source, rng)
    kind = kind_of(source, parameters)
    trials: list[Trial] = []
    for candidate in _candidates(kind, source, parameters):
        remaining, known = deadline - time.monotonic(), any(trial.judgement is not None for trial in trials)
        trial = _tried(candidate, source, (fitted, held_out), n_rows / len(fitted), kind, parameters, remaining if known else None)
        trials.append(trial)
        if on_trial is not None:
            on_trial(trial)
    sound = [trial for trial in trials if trial.judgement is not None]
    if not sound:
        problems = "; ".join(f"{trial.candidate.name}: {trial.problem}" for trial in trials)
        raise DataError(f"None of the detectors could be fitted to {source.name}: {problems}")
    left = deadline - time.monotonic() + 60 * minutes * (1 - _SHARE_OF_TRIALS)
    in_time = [trial for trial in sound if trial.whole_seconds <= max(left, 0.0)] or [min(sound, key=lambda trial: trial.whole_seconds)]
    chosen = max(in_time, key=lambda trial: trial.expected)
    return Choice(tuple(trials), chosen, len(fitted), len(held_out), {**chosen.candidate.parameters, **parameters})


def kind_of(source: AbstractSource, given: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Return the key of `CANDIDATES` for the rows of a source, with the parameters that the user sets."""
    size = size_of(source)
    return "vectors" if size is None else "photos" if max(size) > LARGER_THAN or choose(source, given).name == PHOTOS else "pictures"


def _candidates(kind: str, source: AbstractSource, given: Mapping[str, Any]) -> Sequence[Candidate]:
    """Return what is tried: of photos, with features that need no weights where none are installed."""
    suited = choose(source, given)
    return [
        dataclasses.replace(candidate, parameters=suited.parameters) if candidate.detector == suited.name == PHOTOS else candidate
        for candidate in CANDIDATES[kind]
        if not set(candidate.parameters) & set(given)  # with what the user sets, it would be another one of them
    ]


def told(choice: Choice, *, listing: bool = True) -> str:
    """Return what was tried and chosen, as sentences; with `listing`, what is expected of each."""
    tried = [trial for trial in choice.trials if trial.judgement is not None]
    listed = "; ".join(f"{trial.candidate.name} {trial.expected:+.1f}" for trial in sorted(tried, key=lambda trial: -trial.expected))
    left_out = [f"{trial.candidate.name} ({trial.problem})" for trial in choice.trials if trial.judgement is None]
    text = (
        f"{choice.chosen.candidate.name} was chosen without labels, of {len(tried)} that were fitted on {choice.n_fitted} rows and judged"
        f" on {choice.n_held_out} others and on outliers made of them."
    )
    if listing:
        text += f" Expected points of AUROC against their mean: {listed}."
    if tried and choice.chosen.expected < max(trial.expected for trial in tried):
        text += " More promising ones would have taken longer than there was time: give more minutes."
    return text + (f" Without an outcome: {'; '.join(left_out)}." if left_out else "")


def note(detector: AbstractDetector, choice: Choice, seconds: float) -> None:
    """Keep with a fitted detector how it was chosen, so that its file, card and report can say so."""
    detector.data_["auto"] = choice.to_json() | {"total_seconds": round(seconds, 1)}


def parted(source: AbstractSource, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return which rows to fit on and which to judge on, by whole units, and about how many readable rows there are.

    Of more than 8,000 rows as many drawn ones are looked at; the others are not even read.

    Returns
    -------
    fitted, held_out : ndarray of int64, shapes (n,) and (m,)
        Positions in the source, increasing; at most `MOST_FITTED` and `MOST_HELD_OUT`, no unit in both.
    n_rows : int

    Raises
    ------
    DataError
        If there are fewer than 16 readable rows, or fewer than four units.
    """
    every = np.arange(len(source))
    looked_at = every if len(every) <= _MOST_LOOKED_AT else np.sort(rng.permutation(every)[:_MOST_LOOKED_AT])
    drawn = source if len(looked_at) == len(every) else source.take(looked_at)
    loaded = drawn.load()
    if len(loaded.X) < 2 * MIN_ROWS:
        raise DataError(
            f"To try detectors takes at least {2 * MIN_ROWS} readable normal rows, got {len(loaded.X)} from {source.name}; give more,"
            " or name a detector."
        )
    named = groups_of(drawn, None)
    units = independent_units(row_hashes(as_rows(loaded.X)), None if named is None else [named[row] for row in loaded.index])
    units = np.arange(len(loaded.X)) if units is None else units
    n_units = int(units.max()) + 1
    if n_units < 4:
        raise DataError(
            f"To try detectors takes at least 4 independent normal rows or groups, got {n_units} from {source.name}; give more, or name a"
            " detector."
        )
    order = rng.permutation(n_units)
    n_held = max(1, round(_SHARE_HELD_OUT * n_units))
    held = np.flatnonzero(np.isin(units, order[:n_held]))
    others = np.flatnonzero(np.isin(units, order[n_held:]))
    chosen = [np.sort(rng.permutation(rows)[:most]) for rows, most in ((others, MOST_FITTED), (held, MOST_HELD_OUT))]
    index = looked_at[loaded.index]
    return index[chosen[0]], index[chosen[1]], round(len(loaded.X) / len(looked_at) * len(every))


def _tried(
    candidate: Candidate,
    source: AbstractSource,
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
    share: float,
    kind: str,
    given: Mapping[str, Any],
    seconds: float | None,
) -> Trial:
    """Return the outcome of one candidate, given so many seconds (None: as many as it takes)."""
    if seconds is not None and seconds <= 0:
        return Trial(candidate, None, -np.inf, 0.0, 0.0, "no time was left")
    started = time.monotonic()
    lacking = sorted(set(given) - set(detector_class(candidate.detector)._get_param_names()))
    if lacking:
        return Trial(candidate, None, -np.inf, 0.0, 0.0, f"it has no {', '.join(lacking)}")

    def stop_in_time(record: Any) -> None:
        if seconds is not None and time.monotonic() - started > seconds:
            raise _OutOfTimeError

    try:
        detector, whole = trial_detector(candidate, given, len(rows[0]))
        fit_rows, held_rows = (detector.open_to_fit(source).take(part) for part in rows)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the detector that is chosen will tell of itself when it is fitted on all rows
            detector.fit(fit_rows, on_epoch=stop_in_time)
        fit_seconds = time.monotonic() - started
        if detector.health_.collapsed:
            return Trial(candidate, None, -np.inf, fit_seconds, np.inf, "it gives every row the same score")
        judgement = judged(detector, held_rows, given)
    except _OutOfTimeError:
        return Trial(candidate, None, -np.inf, time.monotonic() - started, np.inf, "its time ran out")
    except InsphereError as error:
        return Trial(candidate, None, -np.inf, time.monotonic() - started, np.inf, str(error).partition(". ")[0])
    value = expected(kind, candidate.name, judgement)
    return Trial(candidate, judgement, value, time.monotonic() - started, fit_seconds * max(share, 1.0) * whole)


def judged(detector: AbstractDetector, held_out: AbstractSource, given: Mapping[str, Any]) -> Judgement:
    """Return what synthetic outliers made of held-out rows say; the same seed makes the same of them for every detector."""
    normal = as_rows(detector.open(held_out).load().X)
    rng = generator(resolve_seed(given.get("random_state")), "synthetic outliers")
    return judge(detector, normal, synthetic_outliers(normal, rng))


def trial_detector(candidate: Candidate, given: Mapping[str, Any], n_rows: int) -> tuple[AbstractDetector, float]:
    """Return the unfitted detector of a trial, and how many times as long its training would be if it were not shortened."""
    detector = make(candidate.detector, {**candidate.parameters, **given})
    if isinstance(detector, Fusion) and not isinstance(detector.detectors, str):
        parts = [trial_detector(Candidate(part, part), {}, n_rows) for part in detector.detectors]
        return detector.set_params(detectors=[part for part, _ in parts]), max(times for _, times in parts)
    if not isinstance(detector, AbstractNeuralDetector) or detector.epochs is not None:
        return detector, 1.0
    detector._check_parameters()
    n_batches = detector._options.batches_per_epoch(n_rows)
    epochs, whole = default_epochs(n_batches, _TRIAL_STEPS), default_epochs(n_batches, detector.default_steps)
    return detector.set_params(epochs=min(epochs, whole)), max(1.0, whole / epochs)
