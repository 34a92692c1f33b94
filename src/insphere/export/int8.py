"""Networks in 8-bit integers: smaller and on many processors faster, at a cost in accuracy that is measured."""

import dataclasses
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from insphere.detectors.base import AbstractDetector
from insphere.errors import ParameterError
from insphere.export.graph import OUTPUTS, category_codes, default_thresholds, feed, input_name, library_answers, quiet
from insphere.export.graph import session as open_session
from insphere.metrics import auroc

Bounds = tuple[NDArray[np.float64], NDArray[np.float64]]
"""The lowest and the highest value of each feature."""

_NETWORK_OPERATORS = ("Conv", "Gemm", "MatMul")
_CALIBRATION_ROWS = 128
MARGINS = (0.25, 0.1, 0.0)
"""Of a feature's range, beyond it on each side, what a graph answers to: new normal rows exceed the range itself often."""

_FEATURES_TRIED = 64
_CONSTANT_WIDTH = 4.0  # in units of the training rows' scale, what counts as the range of a feature that is the same in all rows
_INSIDE = 1e-6


@dataclasses.dataclass(frozen=True)
class QuantisationCost:
    """What 8-bit integers cost on some rows.

    Attributes
    ----------
    n_rows : int
        Rows measured on.
    rank_correlation : float
        Spearman's, between the library's scores and the quantised graph's; in [-1, 1], NaN where all scores are equal.
    median_difference, largest_difference : float
        Of scores, relative to the library's.
    n_labels : int
        Rows whose decision changed.
    auroc, auroc_int8 : float or None
        Of the library's scores and the quantised graph's, in [0, 1], where the rows are labelled with both kinds.
    """

    n_rows: int
    rank_correlation: float
    median_difference: float
    largest_difference: float
    n_labels: int
    auroc: float | None
    auroc_int8: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON-able dict."""
        return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in vars(self).items()}


def check_int8(detector: AbstractDetector) -> None:
    """Refuse what 8-bit integers would make useless, before anything is built.

    Raises
    ------
    ParameterError
        If the detector is one of photos. Their distances are taken along directions in which normal features hardly vary, and 8 bits lose
        just these: measured on 60 made-up pictures, scores of `photo` kept a rank correlation of 0.16, and all were flagged.
    """
    if detector.has_maps:
        raise ParameterError(
            f"int8 is not for {detector.name}: its distances are taken along directions in which normal features hardly vary, and 8 bits"
            " lose just these (measured on 60 made-up pictures: rank correlation of the scores 0.16, all flagged). Export it without int8."
        )


def quantise_guarded(detector: AbstractDetector, X: NDArray[Any], dtype: str, write: Callable[[Bounds | None], bytes]) -> bytes:
    """Return a quantised graph that flags rows far out: of `MARGINS` the first at whose edges it flags all that the library flags.

    Parameters
    ----------
    X : ndarray
        Rows by whose activations the scales are chosen.
    dtype : str
        Type of the graph's input.
    write : callable
        Gives the graph's file for `bounds`.
    """
    fed = X.astype(dtype)
    content = b""
    for margin in MARGINS:
        within = bounds(detector, fed, margin)
        content = quantise(write(within), detector, fed)
        if within is None or not n_missed(detector, content, fed, within, dtype):
            break
    return content


def n_missed(detector: AbstractDetector, content: bytes, X: NDArray[Any], within: Bounds, dtype: str) -> int:
    """Return how many rows at the edges of what a graph answers to the library flags and the graph doesn't.

    They are made up: the middle of the rows, with one feature at an edge, all features at one side, or each at a side drawn for it.
    """
    middle = np.nanmedian(X.astype(np.float64), axis=0)
    low, high = (np.where(np.isfinite(edge), edge, middle) for edge in within)
    low, high = low + _INSIDE * (high - low), high - _INSIDE * (high - low)
    chosen = np.unique(np.linspace(0, len(middle) - 1, min(len(middle), _FEATURES_TRIED)).round().astype(np.int64))
    rows = np.tile(middle, (2 * len(chosen), 1))
    for number, feature in enumerate(chosen):
        rows[2 * number, feature], rows[2 * number + 1, feature] = low[feature], high[feature]
    sides = np.random.default_rng(0).random((_FEATURES_TRIED, len(middle))) < 0.5
    rows = np.concatenate([rows, low[np.newaxis], high[np.newaxis], np.where(sides, low, high)]).astype(dtype)
    codes = category_codes(detector.decision_.n_categories, np.arange(len(rows)))
    _, _, flagged = open_session(content).run(list(OUTPUTS), feed(input_name(detector), rows, codes))
    return int((library_answers(detector, rows).is_anomaly & ~flagged).sum())


def bounds(detector: AbstractDetector, X: NDArray[Any], margin: float) -> Bounds | None:
    """Return the lowest and highest value of each feature that a quantised graph answers to; None for images, whose values are bounded.

    8-bit activations saturate: beyond the rows that their scales were chosen by, every row looks like the nearest that they can express,
    and may look normal. So such rows are flagged without being scored.

    Parameters
    ----------
    X : ndarray
        Rows by whose activations the scales are chosen; NaN where a value is missing.
    margin : float
        In units of a feature's range; of one that is the same in all rows, of the scale that it had in training.
    """
    if detector.image_spec_ is not None or X.ndim != 2:
        return None
    values = X.astype(np.float64)
    known = ~np.isnan(values)
    lowest = np.where(known, values, np.inf).min(axis=0)
    highest = np.where(known, values, -np.inf).max(axis=0)
    seen = known.any(axis=0)
    width = np.where(seen, highest, 0.0) - np.where(seen, lowest, 0.0)
    preprocess = getattr(detector, "preprocess_", None)
    scale = np.ones(1) if preprocess is None else np.ravel(preprocess.scale)
    constant = _CONSTANT_WIDTH * (scale[: X.shape[1]] if scale.size >= X.shape[1] else np.broadcast_to(scale[:1], X.shape[1:]))
    beyond = np.where(width > 0, margin * width, constant)
    return np.where(seen, lowest - beyond, -np.inf), np.where(seen, highest + beyond, np.inf)


def quantise(content: bytes, detector: AbstractDetector, X: NDArray[Any]) -> bytes:
    """Return the graph with the networks' products of matrices in 8-bit integers; distances and p-values stay in float64.

    Parameters
    ----------
    content : bytes
        The graph.
    X : ndarray
        Rows by whose activations the scales are chosen; those beyond their `bounds` the graph flags by itself.

    Raises
    ------
    ParameterError
        If the graph has no float32 network.
    """
    import onnx
    from onnxruntime import quantization

    model = onnx.load_model_from_string(content)
    nodes = _network_nodes(model)
    if not nodes:
        raise ParameterError(f"int8 is for the networks of neural detectors, and {detector.name} has none; export it without int8.")
    # The quantiser leaves its threshold alone only where it is a plain input: the default is put back afterwards.
    kept = [value for value in model.graph.initializer if value.name == "threshold"]
    model.graph.initializer.remove(kept[0])
    root = logging.getLogger()
    level = root.level
    with tempfile.TemporaryDirectory(prefix="insphere-") as folder, quiet():
        before, after = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        before.write_bytes(model.SerializeToString())
        try:
            root.setLevel(logging.CRITICAL)  # the quantiser logs its advice through the root logger
            quantization.quantize_static(
                before,
                after,
                _Reader(input_name(detector), detector, X[:: max(1, len(X) // _CALIBRATION_ROWS)]),
                nodes_to_quantize=nodes,
                op_types_to_quantize=list(_NETWORK_OPERATORS),
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                # Without VNNI processors add two products in 16 bits, which full weights overflow.
                reduce_range=True,
            )
        finally:
            root.setLevel(level)
        quantised = onnx.load(after)
    quantised.graph.initializer.append(kept[0])
    result: bytes = quantised.SerializeToString()
    return result


def measure(detector: AbstractDetector, session: Any, X: NDArray[Any], labels: NDArray[np.int64] | None, *, dtype: str) -> QuantisationCost:
    """Compare a quantised graph, which takes `dtype`, with the library on rows, with labels (0 normal, 1 anomaly) where they are known."""
    batch = library_answers(detector, X)
    codes = category_codes(detector.decision_.n_categories, np.arange(len(X)))
    scores, _, flagged = session.run(list(OUTPUTS), feed(input_name(detector), X.astype(dtype), codes))
    expected = batch.anomaly_score
    differences = np.abs(scores - expected) / np.maximum(np.abs(expected), np.finfo(np.float64).tiny)
    varied = np.ptp(scores) > 0 and np.ptp(expected) > 0
    areas: tuple[float | None, float | None] = (None, None)
    if labels is not None and 0 < labels.sum() < len(labels):
        areas = auroc(labels, expected).value, auroc(labels, scores).value
    return QuantisationCost(
        n_rows=len(X),
        rank_correlation=float(spearmanr(expected, scores).statistic) if varied else float("nan"),
        median_difference=float(np.median(differences)),
        largest_difference=float(differences.max()),
        n_labels=int((flagged != batch.is_anomaly).sum()),
        auroc=areas[0],
        auroc_int8=areas[1],
    )


def _network_nodes(model: Any) -> list[str]:
    """Return the names of the products of matrices in float32: those of the networks, which have a float32 weight."""
    from onnx import TensorProto

    weights = {value.name for value in model.graph.initializer if value.data_type == TensorProto.FLOAT}
    return [node.name for node in model.graph.node if node.op_type in _NETWORK_OPERATORS and node.input[1] in weights]


class _Reader:
    """Gives the quantiser one row after the other, as its `CalibrationDataReader` does."""

    def __init__(self, name: str, detector: AbstractDetector, X: NDArray[Any]) -> None:
        thresholds, n_categories = default_thresholds(detector), detector.decision_.n_categories
        rows = (feed(name, X[row : row + 1], category_codes(n_categories, np.array([row]))) for row in range(len(X)))
        self._rows = iter([{**fed, "threshold": thresholds} for fed in rows])

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return the next feed, None after the last."""
        return next(self._rows, None)
