"""Which models are served: names, versions and files, loaded aside and swapped when their files change."""

import dataclasses
import logging
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.images import ImageSpec
from insphere.data.rows import RowFacts
from insphere.data.sources import ArraySource, ImageSource
from insphere.data.stores import BytesStore
from insphere.detectors import catalog
from insphere.detectors.base import AbstractDetector
from insphere.drift import DriftMonitor
from insphere.errors import DataError, InsphereError, ModelFileError, ParameterError, did_you_mean
from insphere.serving.answers import Refusal
from insphere.serving.batching import Batcher, Scores
from insphere.serving.metrics import Metrics, ScoreHistogram
from insphere.serving.settings import Settings

SUFFIX = ".insphere"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_log = logging.getLogger("insphere.serving")

Signature = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class ModelPlace:
    """Where a served model is: its name, its version, and its file.

    Parameters
    ----------
    name, version : str
        Letters, digits and ``._-``, at most a hundred, the first a letter or digit.
    path : Path

    Raises
    ------
    ParameterError
        If name or version break the rule.

    Examples
    --------
    >>> ModelPlace.parse("tiles@2=line3/may.insphere")
    ModelPlace(name='tiles', version='2', path=PosixPath('line3/may.insphere'))
    >>> ModelPlace.parse("line3/tiles@7.insphere").version
    '7'
    """

    name: str
    version: str
    path: Path

    def __post_init__(self) -> None:
        """Check name and version."""
        for what, value in (("name", self.name), ("version", self.version)):
            if not _NAME.fullmatch(value):
                raise ParameterError(
                    f"The {what} of a served model must be letters, digits and ._- (at most 100, the first a letter or digit), got"
                    f" {value!r}; give one: NAME=PATH or NAME@VERSION=PATH."
                )

    @classmethod
    def parse(cls, text: str) -> "ModelPlace":
        """Return the place that ``PATH``, ``NAME=PATH`` or ``NAME@VERSION=PATH`` means; the name is the file's where none is given."""
        label, equals, path = text.partition("=")
        # A path may hold an equals sign: what stands before it must look like a name.
        if not equals or not path or "/" in label or os.sep in label:
            path = text
            label = Path(text).name.removesuffix(SUFFIX)
        name, _, version = label.partition("@")
        return cls(name, version or "1", Path(path).expanduser())


def find_models(words: Sequence[str]) -> list[ModelPlace]:
    """Return the places that the words of a command line mean; a folder stands for all ``*.insphere`` files in it.

    Raises
    ------
    ParameterError
        If two models have one name and version, a folder holds no model, or there is no word.
    """
    places: list[ModelPlace] = []
    for word in words:
        if os.path.isdir(word):
            found = sorted(Path(word).glob(f"*{SUFFIX}"))
            if not found:
                raise ParameterError(f"The folder {word} holds no file ending in {SUFFIX}; name a model file.")
            # Not parsed: the name of a folder may hold anything.
            places.extend(ModelPlace(*_label(path), path) for path in found)
        else:
            places.append(ModelPlace.parse(word))
    if not places:
        raise ParameterError("Name at least one model file to serve.")
    seen: dict[tuple[str, str], Path] = {}
    for place in places:
        other = seen.setdefault((place.name, place.version), place.path)
        if other is not place.path:
            raise ParameterError(
                f"Two models are called {place.name}@{place.version}: {other} and {place.path}; tell them apart with NAME@VERSION=PATH."
            )
    return places


def _label(path: Path) -> tuple[str, str]:
    name, _, version = path.name.removesuffix(SUFFIX).partition("@")
    return name, version or "1"


class ServedModel:
    """A fitted detector as it is served: what it takes, how it scores, and what it has seen.

    Parameters
    ----------
    name, version : str
    detector : AbstractDetector
        Fitted.
    """

    def __init__(self, name: str, version: str, detector: AbstractDetector) -> None:
        self.name, self.version, self.detector = name, version, detector
        self.loaded_at = time.time()
        self.image_spec: ImageSpec | None = detector.image_spec_
        self.input_shape: tuple[int, ...] = detector.input_shape_
        self.feature_names: list[str] | None = detector.feature_names_
        self.problem = _problem(detector)
        self.refuses_files = _refuses_files(detector)
        self.histogram = ScoreHistogram(detector.conformal_.scores)
        self.drift = DriftMonitor(detector.conformal_.scores)

    @property
    def is_image(self) -> bool:
        """Whether its rows are images."""
        return self.image_spec is not None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of its rows: that of its images, float64 for vectors."""
        return np.dtype(np.float64 if self.image_spec is None else self.image_spec.dtype)

    def score(self, X: NDArray[Any]) -> Scores:
        """Return the scores of rows, the very ones that `insphere score` gives; counts them for the metrics."""
        scores = Scores(np.full(len(X), np.nan), np.full(len(X), np.nan), np.zeros(len(X), np.bool_))
        for batch in self.detector.score_batches(ArraySource(X)):
            scores.anomaly_score[batch.index] = batch.anomaly_score
            scores.p_value[batch.index] = batch.p_value
            scores.is_anomaly[batch.index] = batch.is_anomaly
            self.histogram.add(batch.anomaly_score, batch.is_anomaly)
            self._watch_drift(batch.p_value)
        return scores

    def _watch_drift(self, p_values: NDArray[np.float64]) -> None:
        known = self.drift.state.drifted
        state = self.drift.update(p_values)
        if state.drifted and not known:
            facts = {"model": self.name, "version": self.version, "n_rows": state.n_rows, "direction": state.direction}
            _log.warning("drift: scores no longer look like those of the held-out normal rows", extra={"facts": facts})

    def describe(self) -> dict[str, Any]:
        """Return what a client may know, as a JSON-able dict: no path, no training data."""
        detector = self.detector
        takes: dict[str, Any] = {"kind": "image" if self.is_image else "vector", "shape": list(self.input_shape)}
        takes |= {"feature_names": self.feature_names, "datatype": _DATATYPES[self.dtype.name], "files": self.refuses_files is None}
        return {
            "name": self.name,
            "version": self.version,
            "ready": self.problem is None,
            "problem": self.problem,
            "detector": detector.name,
            "input": takes,
            "decision": {
                "by": detector.decision_,
                "threshold": detector.threshold_,
                "target_fpr": detector.target_fpr,
                "n_calibration": len(detector.conformal_),
            },
            "health": detector.health_.level,
            "created": detector.created_,
        }


_DATATYPES = {"uint8": "UINT8", "float32": "FP32", "float64": "FP64"}


def _problem(detector: AbstractDetector) -> str | None:
    if not detector.health_.collapsed:
        return None
    critical = next(finding for finding in detector.health_.findings if finding.level == "critical")
    return f"This model cannot score: {critical.text}"


def _refuses_files(detector: AbstractDetector) -> str | None:
    """Return why the detector takes no image files, or None if it does: asked of the detector itself, with no file."""
    if detector.image_spec_ is None:
        return "This model takes rows of numbers, not images; send JSON."
    try:
        detector.open(ImageSource("upload", BytesStore([b""]), RowFacts(), detector.image_spec_))
    except DataError as error:
        return str(error)
    return None if detector.image_spec_.channels in (1, 3) else "This model takes images with other than 1 or 3 channels; send tensors."


class Slot:
    """One name and version: the model that answers now, its queue, and the file it came from."""

    def __init__(self, place: ModelPlace | None, model: ServedModel, batcher: Batcher, signature: Signature | None) -> None:
        self.place, self.model, self.batcher, self.signature = place, model, batcher, signature

    @property
    def ready(self) -> bool:
        """Whether the model scores."""
        return self.model.problem is None


class Registry:
    """All models of a service.

    Parameters
    ----------
    models : sequence of ModelPlace, or mapping of name (or ``name@version``) to a fitted detector or path
    settings : Settings
    metrics : Metrics

    Raises
    ------
    ModelFileError
        If a file cannot be loaded: a service does not start with a model missing.
    """

    def __init__(
        self, models: Sequence[ModelPlace] | Mapping[str, AbstractDetector | str | os.PathLike[str]], settings: Settings, metrics: Metrics
    ) -> None:
        self._settings, self._metrics = settings, metrics
        self._slots: dict[str, dict[str, Slot]] = {}
        self._reloading = threading.Lock()
        for name, version, source in _entries(models):
            self._add(name, version, source)
        if not self._slots:
            raise ParameterError("Name at least one model to serve.")
        metrics.watch(self.slots)

    def slots(self) -> Iterator[Slot]:
        """Yield the slots, by name and version."""
        for name in sorted(self._slots):
            yield from (self._slots[name][version] for version in sorted(self._slots[name], key=_version_order))

    @property
    def names(self) -> list[str]:
        """Names of the models, sorted."""
        return sorted(self._slots)

    @property
    def ready(self) -> bool:
        """Whether every model scores."""
        return all(slot.ready for slot in self.slots())

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, the newest last."""
        return sorted(self._named(name), key=_version_order)

    def find(self, name: str | None, version: str | None = None) -> Slot:
        """Return the slot of a model; its newest version, and the only model there is, where none is named.

        Raises
        ------
        Refusal
            404 if there is no such model or version, 422 if none is named among several.
        """
        if name is None:
            if len(self._slots) > 1:
                raise Refusal(422, f"Several models are served; name one with ?model=NAME: {', '.join(self.names)}.")
            name = self.names[0]
        versions = self._named(name)
        if version is None:
            return versions[max(versions, key=_version_order)]
        if version not in versions:
            listed = ", ".join(self.versions(name))
            raise Refusal(404, f"Model {name} has no version {_shown(version)}; it has {listed}.{did_you_mean(version[:100], versions)}")
        return versions[version]

    def _named(self, name: str) -> dict[str, Slot]:
        if name not in self._slots:
            listed = ", ".join(self.names)
            raise Refusal(404, f"There is no model {_shown(name)}; served are {listed}.{did_you_mean(name[:100], self._slots)}")
        return self._slots[name]

    def _add(self, name: str, version: str, source: ModelPlace | AbstractDetector) -> None:
        if isinstance(source, ModelPlace):
            signature = _signature(source.path)
            place, detector = source, catalog.load(source.path)
        else:
            signature, place, detector = None, None, source
        batcher = Batcher(
            max_batch_rows=self._settings.max_batch_rows,
            max_queue_rows=self._settings.max_queue_rows,
            max_wait_ms=self._settings.max_wait_ms,
            on_batch=self._metrics.batch_observer(name, version),
        )
        slot = Slot(place, ServedModel(name, version, detector), batcher, signature)
        self._slots.setdefault(name, {})[version] = slot
        if slot.model.problem is not None:
            _log.error("model not ready", extra={"facts": {"model": name, "version": version, "problem": slot.model.problem}})

    # Reloading.

    def reload(self, *, force: bool = False) -> None:
        """Load the models whose files have changed (with `force`, all) and let each answer once it is sound; else the old one stays.

        Safe to call from any thread; scoring goes on meanwhile.
        """
        with self._reloading:
            for slot in list(self.slots()):
                self._reload(slot, force=force)

    def _reload(self, slot: Slot, *, force: bool) -> None:
        if slot.place is None:
            return
        signature = _signature(slot.place.path)
        if signature == slot.signature and not force:
            return
        # Remembered whether it is good or not, so that a bad file is tried, and complained of, once.
        slot.signature = signature
        facts: dict[str, Any] = {"model": slot.place.name, "version": slot.place.version}
        try:
            model = ServedModel(slot.place.name, slot.place.version, catalog.load(slot.place.path))
            if model.problem is not None:
                raise ModelFileError(model.problem)
        # Whatever a file does to its reader, the old model must go on answering.
        except Exception as error:
            reason = str(error) if isinstance(error, InsphereError) else type(error).__name__
            self._metrics.reloaded(slot.place.name, slot.place.version, "refused")
            _log.error("model file changed and is refused; the model loaded before goes on", extra={"facts": facts | {"problem": reason}})
            return
        slot.model = model
        self._metrics.reloaded(slot.place.name, slot.place.version, "loaded")
        _log.info("model reloaded", extra={"facts": facts})

    def close(self) -> None:
        """Answer what waits, then end the scoring threads."""
        for slot in self.slots():
            slot.batcher.close(self._settings.stop_seconds)


def _entries(
    models: Sequence[ModelPlace] | Mapping[str, AbstractDetector | str | os.PathLike[str]],
) -> Iterator[tuple[str, str, ModelPlace | AbstractDetector]]:
    if not isinstance(models, Mapping):
        yield from ((place.name, place.version, place) for place in models)
        return
    for label, source in models.items():
        name, _, version = label.partition("@")
        place = ModelPlace(name, version or "1", Path() if isinstance(source, AbstractDetector) else Path(source))
        yield name, place.version, source if isinstance(source, AbstractDetector) else place


def _signature(path: Path) -> Signature | None:
    """Return what changes when a file is written anew; None where there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _version_order(version: str) -> list[tuple[int, int, str]]:
    """Order versions as people do: 9 before 10, 1.9 before 1.10.

    >>> sorted(["10", "9", "1.10", "1.9"], key=_version_order)
    ['1.9', '1.10', '9', '10']
    """
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"[._-]", version)]


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:100]}…")
