"""Which models are served: names, versions and files, loaded aside and swapped when their files change."""

import dataclasses
import functools
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.data.images import ImageSpec
from insphere.data.rows import Notice, RowFacts
from insphere.data.sources import ArraySource, ImageSource
from insphere.data.stores import BytesStore
from insphere.decision.categories import pooled_text, unknown_text
from insphere.decision.online import OnlineDiscoveries
from insphere.detectors.base import AbstractDetector
from insphere.drift import DriftMonitor
from insphere.errors import DataError, ParameterError
from insphere.serving.answers import Refusal
from insphere.serving.batching import Scores
from insphere.serving.score_histogram import ScoreHistogram
from insphere.signatures import signature_path

SUFFIX = ".insphere"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_log = logging.getLogger("insphere.serving")

FileVersion = tuple[tuple[int, int, int] | None, ...]
Sources = Sequence["ModelPlace | ModelFolder"] | Mapping[str, AbstractDetector | str | os.PathLike[str]]


def file_version(path: Path) -> FileVersion | None:
    """Return what changes when a file, or the signature beside it, is written again; None where there is no file."""
    found = tuple(map(_status, (path, signature_path(path))))
    return None if found[0] is None else found


def _status(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


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
        return cls(*split_label(label), Path(path).expanduser())


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """A folder whose model files, those there now and those put there later, are served under their names.

    Parameters
    ----------
    path : Path
    """

    path: Path

    def places(self) -> list[ModelPlace]:
        """Return the places of its model files (``NAME.insphere`` or ``NAME@VERSION.insphere``), sorted.

        Raises
        ------
        ParameterError
            If the name of a file breaks the rule of names.
        """
        return [ModelPlace(*split_label(path.name.removesuffix(SUFFIX)), path) for path in sorted(self.path.glob(f"*{SUFFIX}"))]


def find_models(words: Sequence[str]) -> list[ModelPlace | ModelFolder]:
    """Return what the words of a command line mean: folders of models, and files with their names.

    Raises
    ------
    ParameterError
        If a folder holds no model, or a name breaks the rule.

    Examples
    --------
    >>> [found.name for found in find_models(["may.insphere", "tiles=june.insphere"])]
    ['may', 'tiles']
    """
    found: list[ModelPlace | ModelFolder] = []
    for word in words:
        path = Path(word).expanduser()
        if not path.is_dir():
            found.append(ModelPlace.parse(word))
        elif ModelFolder(path).places():
            found.append(ModelFolder(path))
        else:
            raise ParameterError(f"The folder {word} holds no file ending in {SUFFIX}; name a model file.")
    return found


def split_label(label: str) -> tuple[str, str]:
    """Return name and version of ``NAME`` or ``NAME@VERSION``; the version of a bare name is 1.

    Examples
    --------
    >>> split_label("tiles"), split_label("tiles@may")
    (('tiles', '1'), ('tiles', 'may'))
    """
    name, at, version = label.partition("@")
    return name, version if at else "1"


class ServedModel:
    """A fitted detector as it is served: what it takes, how it scores, and what it has seen.

    Parameters
    ----------
    name, version : str
    detector : AbstractDetector
        Fitted.
    max_rows : int
        Rows of one request at most.
    fdr : float, optional
        Share of false ones among the alarms of a window, at most; None raises none.
    fdr_window : int
        Rows of a window.

    Raises
    ------
    ParameterError
        If the calibration rows are too few for an alarm in such a window.
    """

    def __init__(
        self, name: str, version: str, detector: AbstractDetector, *, max_rows: int, fdr: float | None = None, fdr_window: int = 100
    ) -> None:
        self.name, self.version, self.detector, self.max_rows = name, version, detector, max_rows
        self.loaded_at = time.time()
        self.image_spec: ImageSpec | None = detector.image_spec_
        self.input_shape: tuple[int, ...] = detector.input_.shape
        names = detector.input_.table.feature_names
        self.feature_names: list[str] | None = None if names is None else list(names)
        self.one_hot = detector.input_.table.one_hot
        imputer = detector.input_.imputer
        self.may_be_missing: frozenset[int] = frozenset(() if imputer is None else imputer.columns)
        told = ("by", "method", "threshold", "target_fpr", "promised_fpr", "expected", "n_calibration")
        decision = detector.decision_.to_json()
        self.decision: dict[str, Any] = {name: decision[name] for name in told}
        self.problem = _problem(detector)
        self.refuses_files = _refuses_files(detector)
        self.histogram = ScoreHistogram(detector.conformal_.scores)
        self.drift = DriftMonitor(detector.conformal_.scores)
        self.alarms = None if fdr is None else OnlineDiscoveries(detector.decision_, fdr=fdr, window=fdr_window)

    @functools.cached_property
    def fit_key(self) -> str:
        """What tells the fit from others on the same rows."""
        return self.detector.fit_key

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
        n_rows = len(X)
        judged = (np.full(n_rows, np.nan), np.full(n_rows, np.nan), np.zeros(n_rows, np.bool_))
        hashes, seen = np.zeros(n_rows, np.uint64), np.zeros(n_rows, np.bool_)
        scores = Scores(*judged, hashes, seen)
        for batch in self.detector.score_batches(ArraySource(X)):
            if batch.hashes is not None and batch.seen is not None:
                hashes[batch.index], seen[batch.index] = batch.hashes, batch.seen
            scores.anomaly_score[batch.index] = batch.anomaly_score
            scores.p_value[batch.index] = batch.p_value
            scores.is_anomaly[batch.index] = batch.is_anomaly
            self.histogram.add(batch.anomaly_score, batch.is_anomaly)
            self._watch_drift(batch.p_value)
        return scores

    def warm_up(self) -> None:
        """Score one row: the first one takes long, and a model that cannot must be found out before it answers for another.

        Not under `COMPUTING`, because no other model must wait for it.
        """
        for _ in self.detector.score_batches(ArraySource(np.zeros((1, *self.input_shape), self.dtype))):
            pass

    def check_category(self, category: str | None) -> None:
        """Refuse, before rows are scored, a category that the model does not have.

        Raises
        ------
        Refusal
            422 if it has no such category.
        """
        known = self.detector.decision_.categories
        names = () if known is None else known.names
        if category is not None and category not in names:
            what = unknown_text(category[:100], names) if names else "is given a category, but this model has none; leave it out"
            raise Refusal(422, f"The request {what}.")

    def judged(self, scores: Scores, category: str | None) -> tuple[Scores, dict[str, Any], list[Notice]]:
        """Return scores judged by a category (camera, product, shift), how it is decided, and what is to be told.

        Raises
        ------
        Refusal
            422 if the model has no such category.
        """
        decision, known = self.detector.decision_, self.detector.decision_.categories
        if category is None:
            n_rows = len(scores.anomaly_score)
            told = [] if known is None or not n_rows else [Notice("taken as", n_rows, pooled_text(n_rows, n_rows))]
            return scores, self.decision, told
        self.check_category(category)
        names = () if known is None else known.names
        scored = ~np.isnan(scores.anomaly_score)
        codes = np.full(int(scored.sum()), names.index(category))
        p_values, flagged = scores.p_value.copy(), scores.is_anomaly.copy()
        p_values[scored] = decision.p_value(scores.anomaly_score[scored], codes)
        flagged[scored] = decision.is_anomaly(scores.anomaly_score[scored], codes)
        entry = next(entry for entry in decision.to_json()["categories"] if entry["name"] == category)
        of_it = {name: entry[name] for name in ("threshold", "promised_fpr", "expected", "n_calibration")}
        return dataclasses.replace(scores, p_value=p_values, is_anomaly=flagged), self.decision | of_it, []

    def _watch_drift(self, p_values: NDArray[np.float64]) -> None:
        known = self.drift.state.drifted
        state = self.drift.update(p_values)
        if state.drifted and not known:
            facts = {"model": self.name, "version": self.version, "n_rows": state.n_rows, "direction": state.direction}
            _log.warning("drift: scores no longer look like those of the held-out normal rows", extra={"facts": facts})

    def describe(self) -> dict[str, Any]:
        """Return what a client may know, as a JSON-able dict: no path, no training data."""
        detector, drift = self.detector, self.drift.state
        takes: dict[str, Any] = {"kind": "image" if self.is_image else "vector", "shape": list(self.input_shape)}
        takes |= {"feature_names": self.feature_names, "datatype": DATATYPES[self.dtype.name], "files": self.refuses_files is None}
        return {
            "name": self.name,
            "version": self.version,
            "ready": self.problem is None,
            "problem": self.problem,
            "detector": detector.name,
            "input": takes,
            "decision": self.decision,
            "health": detector.health_.level,
            "drift": {"drifted": drift.drifted, "direction": drift.direction, "advice": drift.advice},
            "alarms": None if self.alarms is None else self.alarms.to_json(),
            "created": detector.created_,
        }


DATATYPES = {"uint8": "UINT8", "float32": "FP32", "float64": "FP64"}


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
