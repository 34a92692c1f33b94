"""A fitted detector to an ONNX file: built, compared with the detector, described, and only then written."""

import dataclasses
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from insphere.detectors.base import AbstractDetector
from insphere.detectors.catalog import DETECTORS
from insphere.detectors.scoring import Rows
from insphere.errors import CollapseError, ExportError, ParameterError
from insphere.export.comparing import Asked, Comparison, check_equal, check_refused
from insphere.export.golden import golden_rows, pack, rows_of
from insphere.export.graph import OPSET, ScoringGraph, build, check_packages, input_name
from insphere.export.int8 import Bounds, QuantisationCost, check_int8, measure, quantise_guarded
from insphere.export.parity import certificate_path, certify, model_sha256
from insphere.output_file import check_writable, replacing
from insphere.runtime.sessions import session
from insphere.validation import check_choice

FORMAT_VERSION = 1
"""Version of the metadata in the files."""

VECTORS = ("auto", "float32", "float64")
"""Types in which a graph can take rows of features."""

_JPEG_DRAFT = "decoded at the smallest of 1/8, 1/4, 1/2 and all of its size that is not below shape, as Pillow's Image.draft(None, size)"
_MOST_BYTES = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What `export_onnx` wrote, and how it compares with the detector.

    Attributes
    ----------
    path : Path
    n_bytes : int
        Size of the file.
    opset : int
        Operator set of the graph.
    comparison : Comparison
        The graph against the library, before any quantisation.
    quantisation : QuantisationCost or None
        What int8 cost; None where it was not asked for.
    input_dtype : str
        Type in which the graph takes rows.
    certificate : Path
        The parity certificate next to the graph: see `insphere.export.verify`.
    """

    path: Path
    n_bytes: int
    opset: int
    comparison: Comparison
    quantisation: QuantisationCost | None
    input_dtype: str
    certificate: Path


def export_onnx(
    detector: AbstractDetector,
    path: str | os.PathLike[str],
    *,
    rows: Rows | None = None,
    int8: bool = False,
    vectors: str = "auto",
    model_file: str | os.PathLike[str] | None = None,
) -> ExportReport:
    """Write a fitted detector as one ONNX graph, from raw rows to decisions, if ONNX Runtime gives the detector's scores with it.

    The graph takes ``images``, uint8 of shape (batch, height, width, channels) at the model's size (float32 for detectors fitted on
    16-bit images), or ``x``, float32 or float64 of shape (batch, features); and ``threshold``, a float64 number that has the detector's
    threshold for a default. It gives ``anomaly_score`` and ``p_value`` (float64) and ``is_anomaly`` (bool), each of shape (batch,). A row
    with a value that is not finite is flagged, with the smallest p-value; where the detector imputes, missing features are filled.

    Of a detector that is calibrated by category (camera, product, shift) it also takes ``category``, int64 of shape (batch,): the position
    of a row's category in the metadata `categories`, or -1 where it is not known. ``threshold`` then has one number for each category and
    last that of all together. A row of another category is flagged as one that is not finite is.

    Next to the graph a certificate is written: the rows compared, both results, the largest difference, the runtime and its version.
    `insphere.export.verify` repeats it elsewhere.

    Parameters
    ----------
    detector : AbstractDetector
        Fitted, and healthy.
    path : path-like
        File to write; its name ends in .onnx.
    rows : array, source or path, optional
        Rows to compare the graph with the detector on, beside the made-up ones; at most 256 of them are read. Needed for `int8`.
    int8 : bool
        Whether the networks' weights and activations become 8-bit integers, which costs accuracy; what it costs is measured on `rows`.
        Rows with a feature beyond those of `rows` by more than a quarter of its range are flagged as if they were not finite.
    vectors : {"auto", "float32", "float64"}
        Type in which the graph takes vectors. "auto" is float32 where the answers to unrounded rows, made-up and given ones, are equal
        all the same, and float64 where they are not: where a feature lies far from zero (seconds since 1970), rounding changes scores.
    model_file : path-like, optional
        The file that the detector was loaded from: the certificate names it by its SHA-256.

    Returns
    -------
    ExportReport

    Raises
    ------
    CollapseError
        If the detector refuses to score.
    ExportError
        If no graph gives the detector's scores, for a reason that the message names, or the graph's answers differ from the library's.
    MissingDependencyError
        If ``insphere[export]`` is not installed.
    OutputError
        If the file cannot be written.
    ParameterError
        If the name does not end in .onnx, `int8` is asked for without `rows` or of a detector without networks, or `vectors` is unknown or
        asked for of a detector of images, or `model_file` holds another model.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from insphere import KNN
    >>> detector = KNN(random_state=0).fit(np.random.default_rng(0).normal(size=(60, 3)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = export_onnx(detector, Path(folder) / "knn.onnx")
    >>> report.comparison.largest_difference < 1e-4, report.comparison.n_labels
    (True, 0)
    """
    if Path(path).suffix.lower() != ".onnx":
        raise ParameterError(f"The graph's file must end in .onnx, got {os.fspath(path)!r}; for example {Path(path).stem or 'model'}.onnx.")
    if int8:
        check_int8(detector)
    if int8 and rows is None:
        raise ParameterError("int8 needs rows to choose its scales by and to measure its cost on; give normal rows, and anomalies too.")
    check_choice("vectors", vectors, VECTORS)
    check_packages()
    check_is_fitted(detector, "threshold_")
    if detector.health_.collapsed:
        raise CollapseError("A detector that cannot score is not exported; see its health report.")
    if vectors != "auto" and detector.image_spec_ is not None:
        raise ParameterError(
            "`vectors` is for detectors of rows of features; a graph of images takes them in the type of the training images."
        )
    check_writable(path)
    file_hash = None if model_file is None else model_sha256(model_file, detector)
    given = None if rows is None else rows_of(detector, rows)
    try:
        graph, content, golden, comparison = _built(detector, None if given is None else given[0], vectors)
        cost = None
        if given is not None and int8:
            plain, dtype = content, graph.input_dtype

            def write(within: Bounds | None) -> bytes:
                return plain if within is None else _serialised(build(detector, ScoringGraph(detector, dtype, within)))

            content = quantise_guarded(detector, given[0], dtype, write)
            cost = measure(detector, session(content), *given, dtype=graph.input_dtype)
        # Only made-up rows are stored: the file may go where the user's own images may not.
        content = _described(content, detector, graph, pack(detector, golden, graph.input_dtype, exact=cost is None), cost)
        written = session(content)  # what is written has been read by the runtime as it is
        check_refused(written, Asked.of(detector, graph.input_dtype))
    except ExportError as error:
        raise ExportError(f"{error} Nothing was written.") from error
    kept = None if given is None else given[0]
    record = certify(detector, written, content, graph.input_dtype, golden, kept, exact=cost is None, model_file=file_hash)
    with replacing(path) as handle, replacing(certificate_path(path)) as certificate:
        handle.write(content)
        certificate.write(json.dumps(record, indent=1, allow_nan=False).encode())
    return ExportReport(Path(path), len(content), OPSET, comparison, cost, graph.input_dtype, certificate_path(path))


def _built(detector: AbstractDetector, given: NDArray[Any] | None, vectors: str) -> tuple[ScoringGraph, bytes, NDArray[Any], Comparison]:
    """Return the graph, its file's content, the rows made up to compare it on, and how it compared."""
    tried = ("float32", "float64") if vectors == "auto" and detector.image_spec_ is None else (vectors,)
    for number, dtype in enumerate(tried):
        graph = ScoringGraph(detector, dtype)
        content, golden = _serialised(build(detector, graph)), golden_rows(detector, graph)
        runtime = session(content)
        try:
            comparison = check_equal(detector, runtime, golden, graph.input_dtype)
            if given is not None:
                comparison = _worst(comparison, check_equal(detector, runtime, given, graph.input_dtype))
        except ExportError:
            if number + 1 == len(tried):
                raise
        else:
            return graph, content, golden, comparison
    raise ExportError("No type of input was tried.")


def metadata(detector: AbstractDetector, graph: ScoringGraph) -> dict[str, Any]:
    """Return what a graph's file says of itself beside its golden rows; every value is text or JSON."""
    description = detector.describe()
    decision = description["decision"]
    return {
        "insphere_format": FORMAT_VERSION,
        "insphere_version": version("insphere"),
        "detector": detector.name,
        "summary": DETECTORS[detector.name].summary if detector.name in DETECTORS else type(detector).__name__,
        "created": description["created"],
        "input": _input_description(detector, graph.input_dtype),
        "remembered": dataclasses.replace(detector.input_, imputer=None).to_json(),
        "outputs": {
            "anomaly_score": "float64, higher = more anomalous, in the detector's own units",
            "p_value": "float64 in (0, 1]: share of normal rows that score at least as high",
            "is_anomaly": "bool: anomaly_score is above the input `threshold`",
        },
        "threshold": decision["threshold"],
        "threshold_by": decision["by"],
        "target_fpr": decision["target_fpr"],
        "promised_fpr": decision["promised_fpr"],
        "expected_false_alarm_rate": decision["expected"],
        "radius": decision["radius"],
        "n_calibration": decision["n_calibration"],
        "categories": decision["categories"],
        "health": description["health"]["level"],
    }


def _input_description(detector: AbstractDetector, dtype: str) -> dict[str, Any]:
    shape, spec = list(detector.input_.shape), detector.image_spec_
    common = {"name": input_name(detector), "dtype": dtype}
    if spec is None:
        names, imputer = detector.input_.table.feature_names, detector.input_.imputer
        missing = [] if imputer is None else list(imputer.columns)
        named = None if names is None else list(names)
        return common | {"axes": ["batch", "features"], "shape": shape, "feature_names": named, "may_be_missing": missing}
    colours = {1: "grey", 3: "rgb"}.get(spec.channels, f"{spec.channels} channels")
    units = "pixels in 0..255" if spec.dtype == "uint8" or detector.from_files_ else "as the training arrays"
    return common | {
        "axes": ["batch", "height", "width", "channels"],
        "shape": shape,
        "colours": colours,
        "units": units,
        "jpeg": _JPEG_DRAFT if spec.jpeg_draft else "decoded at full size",
        "resize": "bilinear with antialiasing, as Pillow's Image.resize(..., Image.Resampling.BILINEAR)",
    }


def _described(
    content: bytes, detector: AbstractDetector, graph: ScoringGraph, golden: dict[str, Any], cost: QuantisationCost | None
) -> bytes:
    import onnx

    model = onnx.load_model_from_string(content)
    entries = metadata(detector, graph) | {"golden": golden, "int8": None if cost is None else cost.to_json()}
    model.producer_name, model.producer_version = "insphere", version("insphere")
    onnx.helper.set_model_props(model, {name: value if isinstance(value, str) else json.dumps(value) for name, value in entries.items()})
    onnx.checker.check_model(model)
    return _serialised(model)


def _serialised(model: Any) -> bytes:
    size = model.ByteSize()
    if size > _MOST_BYTES:
        raise ExportError(f"The graph would have {size / 2**30:.1f} GiB, more than the 2 GiB of an ONNX file; keep fewer training rows.")
    content: bytes = model.SerializeToString()
    return content


def _worst(made_up: Comparison, given: Comparison) -> Comparison:
    return Comparison(
        made_up.n_rows + given.n_rows,
        made_up.n_flagged + given.n_flagged,
        max(made_up.largest_difference, given.largest_difference),
        made_up.n_labels + given.n_labels,
        made_up.n_p_values + given.n_p_values,
        made_up.n_near + given.n_near,
        made_up.n_near_that_differ + given.n_near_that_differ,
    )
