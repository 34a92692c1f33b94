"""Several detectors fitted in one call, those that differ in their seeds or rows only trained as one batched model."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from insphere.data.preprocess import Preprocess
from insphere.detectors.base import AbstractDetector
from insphere.detectors.fitting import FitContext, Fitted, Fitting
from insphere.detectors.neural import AbstractNeuralDetector
from insphere.detectors.scoring import Rows
from insphere.errors import ParameterError
from insphere.nets.build import with_widths
from insphere.training.history import EpochRecord
from insphere.training.loop import train_together
from insphere.training.processes import Processes
from insphere.training.trainee import Trainee
from insphere.validation import check_choice, check_integer

TOGETHER = ("auto", "always")
"""When `fit_many` trains detectors as one that can be: where it is faster, or whenever there are two."""

_CACHED_VALUES = 100_000
_MOST_VALUES = 50_000_000  # of the copies of the rows that seeds of one detector are trained on at a time: 200 MB in single precision

# What a fit does with these comes before and after the training.
_NOT_OF_THE_TRAINING = {field.name for field in dataclasses.fields(AbstractDetector)}

OnEpoch = Callable[[int, EpochRecord], None]


def fit_many(
    detectors: Sequence[AbstractDetector],
    X: Rows | Sequence[Rows],
    *,
    strict: bool = True,
    together: str = "auto",
    at_most: int | None = None,
    on_epoch: OnEpoch | None = None,
) -> list[AbstractDetector]:
    """Fit several detectors, training those as one batched model that differ in their seeds or rows only.

    Each detector becomes what its own `fit` would have made of it, but for rounding: split, first weights, order of rows, noise, early
    stopping, history and health are its own. Neural detectors can be trained as one if they are of one class and agree in all
    parameters but `random_state`, `target_fpr`, `trim` and `calibration`, and if their training rows are equally many and of one shape
    and type. (Batches of unequal sizes would need batch norms and losses that skip rows.) Detectors of several such kinds are grouped.
    They train in float32: one that trains in bfloat16 is fitted alone, or refused.

    Parameters
    ----------
    detectors : sequence of AbstractDetector
        They are fitted in place.
    X : array, source or path, or a list or tuple of as many of these as there are detectors
        Normal rows for all detectors, or for each its own; see `AbstractDetector.fit`. A list is always one for each.
    strict : bool
        Whether to refuse, before anything is trained, a detector that can be trained together with no other. False fits such ones
        alone.
    together : {"auto", "always"}
        "auto" trains as one on a GPU, and on the CPU where batches are so small that it is faster (see Notes). "always" does so
        wherever it can.
    at_most : int, optional
        Detectors that are trained as one at a time, for where memory is short: their rows and activations are in memory together.
    on_epoch : callable, optional
        Called with the position of a detector and each of its finished `EpochRecord`.

    Returns
    -------
    list of AbstractDetector
        The detectors, fitted, in their order.

    Raises
    ------
    ParameterError
        If there are no detectors, one is given twice, or with `strict` one cannot be trained with another.
    DataError
        As `AbstractDetector.fit`; a note names the detector.
    TrainingError
        If a loss is not finite; the message names the detector. None is fitted then.

    Notes
    -----
    There are no checkpoints: a training of many that was cut off starts again.

    Scores agree with those of single fits as well as these agree with themselves when every first weight is moved by a unit in the last
    place: nearly always to five digits of their correlation, now and then less (``benchmarks/reports/batched-rounding.md``).

    On the CPU many small operations are as slow as their number, and become one; large ones are as slow as their work, and stacked they
    leave the cache. What decides is the largest layer's output for one batch of one model: up to 100,000 values, detectors are trained
    as one (``benchmarks/reports/batched-training.md``). The rule looks at sizes, never at a clock.

    Examples
    --------
    >>> import numpy as np
    >>> from insphere import DeepSVDDVAE
    >>> X = np.random.default_rng(0).normal(size=(200, 2)) @ np.array([[1.0, 0.5, -1.0, 0.0], [0.0, 1.0, 1.0, -0.5]])
    >>> detectors = fit_many([DeepSVDDVAE(epochs=20, random_state=seed) for seed in range(3)], X)
    >>> [detector.seed_ for detector in detectors]
    [0, 1, 2]
    """
    detectors = _checked(detectors)
    check_choice("together", together, TOGETHER)
    if at_most is not None:
        check_integer("at_most", at_most, at_least=1)
    fittings: list[Fitting] = []
    for number, source in enumerate(_one_each(X, len(detectors))):
        with _noted(number):
            fittings.append(detectors[number]._prepare(source))
    groups = _groups(detectors, fittings, range(len(detectors)))
    if strict:
        _refuse_lonely(detectors, groups)
    fit_groups = functools.partial(_fit_groups, detectors, fittings, together=together, at_most=at_most, on_epoch=on_epoch)
    fitted = fit_groups(groups)
    trimmed = [number for number, detector in enumerate(detectors) if detector._trims(fitted[number])]
    for number in trimmed:
        fittings[number].leave_out(fitted[number][0], detectors[number].trim)
    fitted |= fit_groups(_groups(detectors, fittings, trimmed))
    for number, detector in enumerate(detectors):
        with _noted(number):
            detector._conclude(fittings[number], fitted[number])
    for detector in detectors:
        detector.health_.warn()
    return detectors


def _checked(detectors: Sequence[AbstractDetector]) -> list[AbstractDetector]:
    found = list(detectors)
    for number, detector in enumerate(found):
        if not isinstance(detector, AbstractDetector):
            raise ParameterError(f"`detectors` must be detectors, but detectors[{number}] is {type(detector).__name__}.")
        if any(detector is other for other in found[:number]):
            raise ParameterError(f"detectors[{number}] is in `detectors` twice; give as many of its own as seeds, for example by `clone`.")
    if not found:
        raise ParameterError("`detectors` must hold at least one detector.")
    return found


def _one_each(X: Rows | Sequence[Rows], n_detectors: int) -> Sequence[Any]:
    if not isinstance(X, list | tuple):
        return [X] * n_detectors
    if len(X) != n_detectors:
        raise ParameterError(
            f"`X` as a list must hold rows for each detector: {n_detectors} detectors, {len(X)} entries."
            " Rows for all of them are given as an array, for example np.asarray(X)."
        )
    return X


def _groups(detectors: Sequence[AbstractDetector], fittings: Sequence[Fitting], numbers: Iterable[int]) -> list[list[int]]:
    """Return the positions of the detectors in lists of those that can be trained as one."""
    groups: dict[object, list[int]] = {}
    for number in numbers:
        detector, fitting = detectors[number], fittings[number]
        rows = fitting.rows
        kind = _kind(detector)
        alike: object = number if kind is None else (*kind, len(fitting.train_index), rows.shape[1:], rows.dtype)
        groups.setdefault(alike, []).append(number)
    return list(groups.values())


def _kind(detector: AbstractDetector) -> tuple[type, str] | None:
    """Return what detectors share that can be trained as one on rows of one shape, or None where this one is trained alone."""
    if not isinstance(detector, AbstractNeuralDetector) or detector._obstacle_to_stacking() is not None:
        return None
    parameters = {key: value for key, value in detector._parameters_to_json().items() if key not in _NOT_OF_THE_TRAINING}
    return type(detector), json.dumps(parameters, sort_keys=True, default=repr)


def _refuse_lonely(detectors: Sequence[AbstractDetector], groups: Sequence[Sequence[int]]) -> None:
    lonely = [group[0] for group in groups if len(group) == 1]
    if len(detectors) == 1 or not lonely:
        return
    number = lonely[0]
    detector = detectors[number]
    why: str | None = f"{type(detector).__name__} is not a neural detector"
    if isinstance(detector, AbstractNeuralDetector):
        why = detector._obstacle_to_stacking()
    if why is None:
        why = f"it shares its class, its parameters and its number of training rows ({detector.data_['n_train']}) with none of them"
    raise ParameterError(
        f"detectors[{number}] cannot be trained as one with any other: {why}."
        " Leave it out, or have it fitted alone in the same call with strict=False."
    )


def _fit_groups(
    detectors: Sequence[AbstractDetector],
    fittings: Sequence[Fitting],
    groups: Iterable[Sequence[int]],
    *,
    together: str,
    at_most: int | None,
    on_epoch: OnEpoch | None,
) -> dict[int, Fitted]:
    """Fit the models of all groups and return scores and findings of each detector."""
    fitted: dict[int, Fitted] = {}
    for group in groups:
        several = len(group) > 1  # which only neural detectors are
        pays = several and (together == "always" or _pays(detectors[group[0]], len(fittings[group[0]].train_index)))
        step = at_most or len(group)
        for part in (group[start : start + step] for start in range(0, len(group), step)):
            fit = _fit_as_one if pays and len(part) > 1 else _fit_alone
            fitted |= fit(detectors, fittings, part, on_epoch)
    return fitted


def _fit_alone(detectors: Sequence[Any], fittings: Sequence[Fitting], group: Sequence[int], on_epoch: OnEpoch | None) -> dict[int, Fitted]:
    fitted = {}
    for number in group:
        context = FitContext(on_epoch=None if on_epoch is None else functools.partial(on_epoch, number))
        with _noted(number):
            fitted[number] = detectors[number]._fit_model(fittings[number].training_rows, fittings[number].context(context))
    return fitted


def _fit_as_one(detectors: Sequence[Any], fittings: Sequence[Fitting], group: Sequence[int], on_epoch: OnEpoch | None) -> dict[int, Fitted]:
    return _train_as_one({number: (detectors[number], fittings[number].training_rows) for number in group}, on_epoch)


def fit_seeds(detectors: Sequence[Any], X: NDArray[Any], on_epoch: Callable[[EpochRecord], None] | None = None) -> dict[int, Fitted]:
    """Train those of several checked detectors of the same rows as one that differ in their seeds only, where that is faster.

    As many at a time as have `_MOST_VALUES` of rows together, each of which has a copy; none where several processes train together.
    `on_epoch` is told of the first one of those that are trained together.

    Returns
    -------
    dict of int to (scores, findings)
        What each of them became, by its position; the others are left as they were.
    """
    at_most = _MOST_VALUES // max(1, math.prod(X.shape))
    if Processes.here().several or at_most < 2:
        return {}
    kinds: dict[object, list[int]] = {}
    for number, detector in enumerate(detectors):
        kinds.setdefault(_kind(detector) or number, []).append(number)
    fitted: dict[int, Fitted] = {}
    for group in (members for members in kinds.values() if len(members) > 1 and _pays(detectors[members[0]], len(X))):
        for part in (group[start : start + at_most] for start in range(0, len(group), at_most)):
            told = None if on_epoch is None else lambda number, record, first=part[0]: on_epoch(record) if number == first else None
            fitted |= _train_as_one({number: (detectors[number], X) for number in part}, told)
    return fitted


def _train_as_one(members: Mapping[int, tuple[Any, NDArray[Any]]], on_epoch: OnEpoch | None) -> dict[int, Fitted]:
    """Train detectors, by their numbers, each on its rows, as one batched model."""
    trainees = [dataclasses.replace(detector._trainee(own), name=f"detectors[{number}]") for number, (detector, own) in members.items()]
    trainees = _with_shared_preprocessing([detector.preprocess_ for detector, _ in members.values()], trainees)
    numbers = list(members)
    told = None if on_epoch is None else lambda position, record: on_epoch(numbers[position], record)
    device = next(iter(members.values()))[0]._device
    fitted = {}
    for (number, (detector, own)), history in zip(members.items(), train_together(trainees, device=device, on_epoch=told), strict=True):
        detector.history_ = history
        with _noted(number):
            fitted[number] = detector._after_training(own)
    return fitted


def _with_shared_preprocessing(fits: Sequence[Preprocess], trainees: Sequence[Trainee]) -> list[Trainee]:
    """Let all trainees use the first one's preprocessing where theirs is equal to it, so that one call serves a batch of all models."""
    if not all(fits[0].equals(fit) for fit in fits):
        return list(trainees)
    return [dataclasses.replace(trainee, transform=fits[0].apply) for trainee in trainees]


def _pays(detector: Any, n_rows: int) -> bool:
    """Return whether training as one is faster on the detector's device than training one by one."""
    if detector._device.type != "cpu":
        return True
    n_positions = math.prod(detector.input_shape_[:-1])  # of an image's pixels; 1 for vectors
    widest = max(with_widths(detector._network, detector.input_shape_).widths or ())
    n_batch = -(-n_rows // detector._options.batches_per_epoch(n_rows))
    return bool(n_batch * n_positions * widest <= _CACHED_VALUES)


@contextmanager
def _noted(number: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"This was detectors[{number}].")
        raise
