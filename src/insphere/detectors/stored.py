"""What a model file holds of a fitted detector, whatever its kind: from the detector to header and arrays, and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from insphere import model_file
from insphere.decision import health
from insphere.decision.decision import Decision
from insphere.decision.verdicts import VerdictJournal
from insphere.detectors.file_schema import check_file
from insphere.detectors.inputs import InputContract
from insphere.errors import DataError, ModelFileError
from insphere.training.device import Device, is_available
from insphere.validation import plain


class Storable(Protocol):
    """What is stored of a detector: `AbstractDetector` as far as model files see it, so that no module imports the other in a circle."""

    name: ClassVar[str]
    missing: Any
    input_: InputContract
    seed_: int
    decision_: Decision
    data_: dict[str, Any]
    health_: health.HealthReport
    versions_: dict[str, str]
    created_: str
    row_hashes_: NDArray[np.uint64]
    training_errors_: dict[int, str]
    verdicts_: VerdictJournal

    def get_params(self, deep: bool = True) -> dict[str, Any]: ...
    def _parameters_to_json(self) -> dict[str, Any]: ...
    def _check_parameters(self) -> None: ...
    def _score(self, X: NDArray[Any]) -> NDArray[np.float64]: ...
    def _state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]: ...
    def _restore(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None: ...


Detector = TypeVar("Detector", bound=Storable)

KIND = "detector"
"""Kind of the model files that `AbstractDetector.save` writes."""

_CALIBRATION = "calibration/scores"
_PEAKS = "calibration/peaks"
_CATEGORIES = "calibration/categories"
_SEEN = "data/row_hashes"


def to_file(detector: Storable) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the JSON-able header and the arrays from which `restore` makes the same fitted detector."""
    model, arrays = detector._state()
    header = {
        "detector": detector.name,
        "parameters": detector._parameters_to_json(),
        "input": detector.input_.to_json(),
        "seed": detector.seed_,
        "decision": detector.decision_.to_json(),
        "data": detector.data_,
        "health": detector.health_.to_json(),
        "verdicts": detector.verdicts_.to_json(),
        "versions": detector.versions_,
        "created": detector.created_,
        "model": model,
    }
    decision = detector.decision_
    more: dict[str, NDArray[Any]] = {} if decision.peaks is None else {_PEAKS: decision.peaks.scores}
    if decision.categories is not None:
        more[_CATEGORIES] = decision.categories.codes
    return header, arrays | more | {_CALIBRATION: decision.calibration.scores, _SEEN: detector.row_hashes_}


def parameters_to_json(detector: Storable) -> dict[str, Any]:
    """Return the parameters of a fitted detector as what JSON can hold and its constructor takes."""
    parameters = {name: _to_json(value) for name, value in detector.get_params(deep=False).items()}
    state = parameters["random_state"]
    # A generator cannot be stored: the seed that was drawn from it gives the same detector.
    known = {"random_state": state if state is None or isinstance(state, int) else detector.seed_}
    # What was set after the fit is not a part of the fitted model: its decision was made for the target stored with it.
    decided = {"target_fpr": detector.decision_.target_fpr} if hasattr(detector, "decision_") else {}
    return parameters | known | decided


def _runnable_here(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with "auto" for a device that is not here: a model scores wherever it is loaded; those of its parts too."""
    found = {name: _runnable_here(value) if isinstance(value, Mapping) else value for name, value in parameters.items()}
    device = found.get("device")
    if isinstance(device, str) and device in get_args(Device) and not is_available(device):
        found["device"] = "auto"
    return found


def _to_json(value: Any) -> Any:
    """Return an option record as a mapping; a detector within a detector is described by the one that holds it."""
    is_record = dataclasses.is_dataclass(value) and not isinstance(value, type) and not hasattr(value, "get_params")
    return plain(dataclasses.asdict(value) if is_record else value)


def restore(kind: type[Detector], saved: model_file.ModelFile) -> Detector:
    """Return the fitted detector of class `kind` that `to_file` took apart.

    Raises
    ------
    ModelFileError
        If a part is missing or does not fit.
    """
    check_file(saved.header, saved.arrays)
    try:
        detector = _restored(kind, saved.header, saved.arrays)
        _try_out(detector)
        return detector
    except ModelFileError:
        raise
    except DataError as error:
        raise ModelFileError(f"The model file holds a record that breaks its rule: {error} Save the detector again.") from error
    # Whatever parts that do not belong together do to the code that puts them together, it is the file's fault.
    except (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise ModelFileError(f"The model file is incomplete or of another version: {error}. Save the detector again.") from error


def _try_out(detector: Storable) -> None:
    """Score one row of zeros: what cannot score is refused when it is loaded, not at the first row that somebody needs."""
    image = detector.input_.image
    row = np.zeros((1, *detector.input_.model_shape), dtype=np.float64 if image is None else image.dtype)
    with np.errstate(all="ignore"):
        score = detector._score(row)
    if np.shape(score) != (1,) or not np.isfinite(score).all():
        raise ModelFileError("The stored model gives a row of zeros no finite score; save the detector again.")


def _restored(kind: type[Detector], header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Detector:
    detector = kind(**_runnable_here(header["parameters"]))
    detector._check_parameters()
    detector.input_ = InputContract.from_json(header["input"])
    if detector.input_.imputer is not None and detector.missing != "impute":
        raise ModelFileError("The stored model fills missing values, but its parameter missing says 'refuse'; save the detector again.")
    detector.seed_, detector.data_ = header["seed"], header["data"]
    detector.health_ = health.HealthReport.from_json(header["health"])
    detector.versions_, detector.created_ = header["versions"], header["created"]
    detector.decision_ = Decision.from_json(header["decision"], arrays[_CALIBRATION], arrays.get(_PEAKS), arrays.get(_CATEGORIES))
    detector.row_hashes_ = arrays.get(_SEEN, np.empty(0, np.uint64))
    detector.verdicts_ = VerdictJournal.from_json(header.get("verdicts", ()))
    detector.training_errors_ = {}
    detector._restore(header["model"], arrays)
    return detector
