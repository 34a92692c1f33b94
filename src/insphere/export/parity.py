"""The parity certificate: what a graph was compared with its detector on, kept next to the graph, to be repeated elsewhere."""

import dataclasses
import datetime
import hashlib
import json
import math
import os
import platform
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.detectors.base import AbstractDetector
from insphere.detectors.catalog import load
from insphere.detectors.scoring import Rows
from insphere.errors import ExportError, ParameterError
from insphere.export.comparing import TOLERANCE, Asked, check_equal, check_refused, differences
from insphere.export.golden import packed, rows_of, unpacked
from insphere.export.graph import OUTPUTS, category_codes, check_packages, feed, library_answers, spread
from insphere.runtime.sessions import session

FORMAT_VERSION = 1
"""Version of the certificate."""

SUFFIX = ".parity.json"
"""Added to the name of the graph's file."""

_MOST_BYTES = 1_000_000
_LEAST_ROWS = 8
_ANSWERS = ("anomaly_score", "p_value", "is_anomaly")


@dataclasses.dataclass(frozen=True)
class _Recorded:
    """What a certificate says of its rows: the rows, the answers to them, and how the graph is asked."""

    rows: NDArray[Any]
    scores: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    asked: Asked
    least_size: float
    threshold: float
    exported_with: str
    thresholds: NDArray[np.float64]

    @property
    def of_rows(self) -> NDArray[np.float64]:
        """The threshold of each row: that of its category."""
        codes = category_codes(self.asked.n_categories, np.arange(len(self.rows)))
        return np.full(len(self.rows), self.threshold) if codes is None else self.thresholds[codes]


@dataclasses.dataclass(frozen=True)
class Verification:
    """How a graph answers here, next to how it answered where it was exported.

    Attributes
    ----------
    n_rows : int
        Rows asked: those of the certificate, and those given.
    largest_difference : float
        Of a score here from the library's (from the graph's own at the export, for int8), relative to the score, or to the spread of
        the calibration scores where that is larger.
    n_labels : int
        Decisions that differ; a graph with any is refused.
    n_near, n_near_that_differ : int
        Decisions on rows that score on the threshold to within the tolerance, where rounding decides; and those of them that differ.
    runtime, exported_with : str
        Versions of ONNX Runtime here and at the export.
    """

    n_rows: int
    largest_difference: float
    n_labels: int
    n_near: int
    n_near_that_differ: int
    runtime: str
    exported_with: str


def certificate_path(graph: str | os.PathLike[str]) -> Path:
    """Return where the certificate of a graph lies.

    Examples
    --------
    >>> certificate_path("tiles.onnx").name
    'tiles.onnx.parity.json'
    """
    path = Path(graph)
    return path.with_name(path.name + SUFFIX)


def model_sha256(path: str | os.PathLike[str], detector: AbstractDetector) -> str:
    """Return the SHA-256 of the model file that a detector was loaded from, in hexadecimal digits.

    Raises
    ------
    ModelFileError
        If it is not a model file.
    ParameterError
        If it holds another model.
    """
    identity = _identity(detector)
    for field, value in _identity(load(path, detector=type(detector))).items():
        if value != identity[field]:
            raise ParameterError(
                f"`model_file` {os.fspath(path)} holds another model: its {field} is {value!r}, that of the detector {identity[field]!r};"
                " name the file that it was loaded from."
            )
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def certify(
    detector: AbstractDetector,
    session: Any,
    content: bytes,
    dtype: str,
    made_up: NDArray[Any],
    given: NDArray[Any] | None,
    *,
    exact: bool,
    model_file: str | None = None,
) -> dict[str, Any]:
    """Return the certificate of a graph as a JSON-able dict.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    content : bytes
        The graph's file.
    dtype : str
        Type that the graph takes rows in.
    made_up, given : ndarray
        Rows as the library takes them. Made-up ones are stored, as many as fit into a megabyte; of given ones, which may be the user's
        own photos, a fingerprint and the answers.
    exact : bool
        Whether the graph is to give the library's scores; not so for int8.
    model_file : str, optional
        SHA-256 of the file that the detector was loaded from.
    """
    n_most = max(_LEAST_ROWS, _MOST_BYTES // max(1, made_up[0].nbytes))
    stored = made_up[np.unique(np.linspace(0, len(made_up) - 1, min(n_most, len(made_up))).round().astype(np.int64))]
    return {
        "format_version": FORMAT_VERSION,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "graph_sha256": hashlib.sha256(content).hexdigest(),
        "model_sha256": model_file,
        **_identity(detector),
        "versions": {name: version(name) for name in ("insphere", "torch", "onnx", "onnxruntime", "numpy")},
        "provider": "CPUExecutionProvider",
        "machine": platform.machine(),
        "exact": exact,
        "tolerance": TOLERANCE,
        "spread": spread(detector),
        "thresholds": detector.decision_.thresholds_by_code().tolist(),
        "input": dataclasses.asdict(Asked.of(detector, dtype)),
        "rows": {"kind": "made up", **packed(stored), **_both(detector, session, stored, dtype, exact=exact)},
        "given": None
        if given is None
        else {"n_rows": len(given), "sha256": _sha256(given), **_both(detector, session, given, dtype, exact=exact)},
    }


def verify(
    graph: str | os.PathLike[str],
    *,
    detector: AbstractDetector | None = None,
    rows: Rows | None = None,
    model_file: str | os.PathLike[str] | None = None,
    certificate: str | os.PathLike[str] | None = None,
) -> Verification:
    """Repeat, with the runtime that is here, what a graph was compared on when it was exported.

    Parameters
    ----------
    graph : path-like
        The .onnx file.
    detector : AbstractDetector, optional
        The detector that it was exported from, which is checked: `rows` are then compared with it too.
    rows : array, source or path, optional
        What `detector` takes; at most 256 rows are read.
    model_file : path-like, optional
        The file that `detector` was loaded from: it must be the one that the certificate names, where it names one.
    certificate : path-like, optional
        The certificate where it does not lie next to the graph.

    Raises
    ------
    ExportError
        If a file is missing, damaged or does not belong to the other, the detector is another one, rows that are not numbers are not
        flagged, or answers differ: a score by more than the tolerance, or a decision.
    MissingDependencyError
        If ``insphere[export]`` is not installed.
    """
    check_packages()
    where = certificate_path(graph) if certificate is None else Path(certificate)
    content, record = _read(Path(graph), where)
    runtime = session(content)
    known = _recorded(record, where)
    check_refused(runtime, known.asked)
    scores, _, flagged = _run(runtime, known.asked, known.rows)
    difference, n_labels, n_near, n_near_that_differ = differences(
        scores, flagged, known.scores, known.flagged, least_size=known.least_size, threshold=known.of_rows
    )
    n_rows = len(known.rows)
    if detector is not None:
        _check_belongs(detector, model_file, record, where)
        if rows is not None:
            X, _ = rows_of(detector, rows)
            found = check_equal(detector, runtime, X, known.asked.dtype)
            n_rows, difference = n_rows + found.n_rows, max(difference, found.largest_difference)
            n_near, n_near_that_differ = n_near + found.n_near, n_near_that_differ + found.n_near_that_differ
    result = Verification(n_rows, difference, n_labels, n_near, n_near_that_differ, version("onnxruntime"), known.exported_with)
    if difference > TOLERANCE or n_labels:
        raise ExportError(
            f"{graph} does not answer here as where it was exported: on {n_rows} rows scores differ by up to {difference:.2g}"
            f" ({TOLERANCE:g} allowed) and {n_labels} decisions differ (ONNX Runtime {result.runtime} here,"
            f" {result.exported_with} there). Export it again with this runtime, or install the other."
        )
    return result


def _both(detector: AbstractDetector, session: Any, X: NDArray[Any], dtype: str, *, exact: bool) -> dict[str, Any]:
    batch, decision = library_answers(detector, X), detector.decision_
    scores, p_values, flagged = _run(session, Asked.of(detector, dtype), X)
    thresholds = decision.thresholds(len(X), batch.categories)
    found = differences(
        scores,
        flagged,
        batch.anomaly_score,
        batch.is_anomaly,
        least_size=spread(detector),
        threshold=thresholds,
        comparable=None if exact else np.isfinite(scores),  # an int8 graph refuses rows far out, which the library scores
    )
    return {
        "library": _listed([batch.anomaly_score, batch.p_value, batch.is_anomaly]),
        "graph": _listed([scores, p_values, flagged]),
        "largest_difference": found.largest,
        "n_decisions_that_flip": found.n_labels,
        "n_decisions_near_the_threshold": found.n_near,
        "n_of_those_that_flip": found.n_near_that_differ,
    }


def _run(session: Any, asked: Asked, X: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the graph's scores, p-values and decisions, of each row in the category of `category_codes`."""
    codes = category_codes(asked.n_categories, np.arange(len(X)))
    with np.errstate(over="ignore"):
        answers: list[NDArray[Any]] = session.run(list(OUTPUTS), feed(asked.name, X.astype(asked.dtype), codes))
    return answers


def _listed(answers: Sequence[NDArray[Any]]) -> dict[str, list[Any]]:
    """Return answers as JSON lists; null for a score that is not finite, as JSON has no infinity."""
    lists = [[value if math.isfinite(value) else None for value in answer.tolist()] for answer in answers]
    return dict(zip(_ANSWERS, lists, strict=True))


def _recorded(record: Mapping[str, Any], certificate: Path) -> _Recorded:
    """Return what a certificate says, checked: it may have been edited, or cut off on the way."""
    try:
        reference = record["rows"]["library" if record["exact"] else "graph"]
        found = _Recorded(
            rows=unpacked(record["rows"]),
            scores=np.array([math.inf if score is None else score for score in reference["anomaly_score"]], dtype=np.float64),
            flagged=np.array(reference["is_anomaly"], dtype=np.bool_),
            asked=Asked(
                **record["input"]
                | {
                    "shape": tuple(record["input"]["shape"]),
                    "dtype": str(np.dtype(record["input"]["dtype"])),
                    "fills": tuple(record["input"].get("fills", ())),
                }
            ),
            least_size=float(record["spread"]),
            threshold=float(record["threshold"]),
            exported_with=str(record["versions"]["onnxruntime"]),
            thresholds=np.array(record.get("thresholds", [record["threshold"]]), dtype=np.float64),
        )
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise ExportError(f"{certificate} is not a whole parity certificate ({error}); export the graph again.") from error
    n_rows = len(found.rows)
    if n_rows == 0 or found.scores.shape != (n_rows,) or found.flagged.shape != (n_rows,) or np.isnan(found.scores).any():
        raise ExportError(f"{certificate} must have one score and one decision for each of its {n_rows} rows; export the graph again.")
    if found.thresholds.shape != (found.asked.n_categories + 1,):
        raise ExportError(f"{certificate} must have a threshold for each of {found.asked.n_categories} categories; export the graph again.")
    if not np.isfinite([found.least_size, found.threshold, *found.thresholds]).all():
        raise ExportError(
            f"{certificate} must have a finite spread and threshold, got {found.least_size} and {found.threshold}; export the graph again."
        )
    return found


def _identity(detector: AbstractDetector) -> dict[str, Any]:
    """Return what tells a fitted detector from others."""
    description = detector.describe()
    facts = {"detector": detector.name, "model_created": description["created"], "data_fingerprint": description["data"]["fingerprint"]}
    return facts | {"threshold": detector.threshold_}


def _check_belongs(
    detector: AbstractDetector, model_file: str | os.PathLike[str] | None, record: Mapping[str, Any], certificate: Path
) -> None:
    """Raise `ExportError` unless the detector, and its file, are those that the graph was exported from."""
    own = _identity(detector)
    if model_file is not None and record.get("model_sha256") is not None:
        own["model_sha256"] = model_sha256(model_file, detector)
    for field, value in own.items():
        if record.get(field) != value:
            raise ExportError(
                f"{certificate} is of another model: its {field} is {record.get(field)!r}, that of this model {value!r}. Give the model"
                " that the graph was made from, or export the graph again."
            )


def _sha256(X: NDArray[Any]) -> str:
    return hashlib.sha256(f"{X.dtype}{X.shape}".encode() + np.ascontiguousarray(X).tobytes()).hexdigest()


def _read(graph: Path, certificate: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the graph's content and its certificate, which belong together."""
    try:
        content = graph.read_bytes()
        record = json.loads(certificate.read_text(encoding="utf-8"))
    except OSError as error:
        raise ExportError(
            f"{error.filename} cannot be read ({error.strerror}); insphere export writes a graph and its certificate."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{certificate} is not a parity certificate ({error}); export the graph again.") from error
    if not isinstance(record, dict) or record.get("format_version") != FORMAT_VERSION:
        raise ExportError(f"{certificate} is not a parity certificate of version {FORMAT_VERSION}; export the graph again.")
    if hashlib.sha256(content).hexdigest() != record["graph_sha256"]:
        raise ExportError(f"{certificate} is not that of {graph}: the graph was changed, or is another one; export it again.")
    return content, record
