"""One detector as one ONNX graph: rows in, score, p-value and decision out, the threshold an input with a default."""

import contextlib
import importlib
import io
import logging
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from insphere.data import Imputer
from insphere.decision.scored import ScoredRows
from insphere.detectors.base import AbstractDetector
from insphere.detectors.fusion import Fusion
from insphere.detectors.shallow import AbstractShallowDetector
from insphere.errors import ExportError, MissingDependencyError
from insphere.export.scorers import scorer
from insphere.runtime.sessions import session as session

OPSET = 18
"""Operator set of the graphs: the one that PyTorch's exporter is written in, so that nothing is converted afterwards."""

IR_VERSION = 8
"""File format version that belongs to `OPSET`; newer ones would only shut out older runtimes."""

OUTPUTS = ("anomaly_score", "p_value", "is_anomaly")
"""Names of the graph's outputs, in order."""

CATEGORY_INPUT = "category"
"""Name of one more input, where each camera, product or shift has a threshold of its own: int64, shape (batch,), -1 for not known."""

MAP_OUTPUT = "anomaly_map"
"""Name of one more output, after them, where the detector has heat-maps."""

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class ScoringGraph(nn.Module):
    """All that a fitted detector does to rows, as one module.

    A score that differs from the threshold, or from a held-out row's score, by no more than rounding counts as equal to it, as it would
    be in the library: the threshold *is* the score of a held-out row. A row with a value that is not a finite number, or whose score is
    none, scores infinity: it is flagged, with the smallest p-value. Values that the detector's imputer fills may be missing. So does a row
    of a category that the detector does not have: a graph has no errors.

    Parameters
    ----------
    detector : AbstractDetector
        Fitted.
    vectors : {"float32", "float64"}
        Type of the input where rows are vectors; images come in the type that they were fitted in.
    within : tuple of ndarray of float64, shape (features,), optional
        Lowest and highest value of each feature; a row with one outside is treated as one that is not finite. For int8, which gives what
        lies outside the rows that its scales were chosen by the answers of the nearest that it can express.

    Raises
    ------
    ExportError
        If no graph is known that gives the detector's scores.
    """

    def __init__(
        self,
        detector: AbstractDetector,
        vectors: str = "float32",
        within: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    ) -> None:
        super().__init__()
        self.is_bounded = within is not None
        self.lowest: Tensor
        self.highest: Tensor
        if within is not None:
            self.register_buffer("lowest", torch.from_numpy(within[0]))
            self.register_buffer("highest", torch.from_numpy(within[1]))
        self.input_dtype = vectors if detector.image_spec_ is None else detector.image_spec_.dtype
        self.imputed = None if detector.input_.imputer is None else Imputed(detector.input_.imputer)
        self.score_rows = scorer(detector).requires_grad_(False)
        self.has_maps = detector.has_maps
        self.rounding = 1e-9 if isinstance(detector, AbstractShallowDetector) else 1e-5  # what runs in float32 rounds more
        self.spread = spread(detector)
        self.calibration_scores: Tensor
        self.register_buffer("calibration_scores", torch.from_numpy(detector.conformal_.scores.copy()))
        known = detector.decision_.categories
        self.n_categories = detector.decision_.n_categories
        self.calibration_codes: Tensor
        self.category_sizes: Tensor
        if known is not None:
            self.register_buffer("calibration_codes", torch.from_numpy(known.codes.copy()))
            self.register_buffer("category_sizes", torch.tensor([*known.sizes.values(), len(known.codes)], dtype=torch.float64))
        self.eval()

    def forward(self, rows: Tensor, threshold: Tensor, category: Tensor | None = None) -> tuple[Tensor, ...]:
        """Map raw rows and a threshold to scores and p-values (float64) and decisions (bool), each of shape (n,).

        With categories there is a threshold for each, and last that of all together, and `category` says which one a row is of.

        Of a detector with heat-maps these come last: float32, shape (n, map height, map width), in units of held-out normal rows.
        """
        scores, known, heat = self._scores(rows)
        lowered = (scores - self.rounding * scores.abs().clamp(min=self.spread)).masked_fill(~known, math.inf)
        above = self.calibration_scores >= lowered.unsqueeze(1)
        if category is None:
            p_values = (1 + above.double().sum(dim=1)) / (len(self.calibration_scores) + 1)
        else:
            # Without a category, -1, all scores count; one that is not known is as a row that is not finite.
            is_known = (category >= -1) & (category < self.n_categories)
            known = known & is_known
            code = torch.where((category >= 0) & is_known, category, torch.full_like(category, self.n_categories))
            counts = above & ((self.calibration_codes == category.unsqueeze(1)) | (code == self.n_categories).unsqueeze(1))
            p_values = (1 + counts.double().sum(dim=1)) / (self.category_sizes[code] + 1)
            p_values = torch.where(is_known, p_values, 1 / (self.category_sizes[-1] + 1))
            threshold = threshold[code]
            lowered = lowered.masked_fill(~known, math.inf)
        answers = scores.masked_fill(~known, math.inf), p_values, lowered > threshold
        return answers if heat is None else (*answers, heat.masked_fill(~known.reshape(-1, 1, 1), math.inf))

    def _scores(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the scores, which of them are known (those of finite rows that are finite themselves), and the heat-maps if there are."""
        if not rows.dtype.is_floating_point:
            scores, heat = self._answers(rows)
            return scores, torch.isfinite(scores), heat
        inside = None
        if self.is_bounded:  # before missing values are filled: comparisons with them are false
            values = rows.double()
            inside = ~((values < self.lowest) | (values > self.highest)).any(dim=1)
        if self.imputed is not None:
            rows = self.imputed(rows)
        finite = torch.isfinite(rows).flatten(1).all(dim=1)
        if inside is not None:
            finite = finite & inside
        # Scored as zeros, so that no operator, of int8 networks too, makes something ordinary of what is not a number.
        scores, heat = self._answers(torch.where(finite.reshape(-1, *[1] * (rows.ndim - 1)), rows, torch.zeros_like(rows)))
        return scores, finite & torch.isfinite(scores), heat

    def _answers(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self.has_maps:
            return self.score_rows(rows), None
        scores, heat = self.score_rows.with_map(rows)  # type: ignore[operator]
        return scores, heat


class Imputed(nn.Module):
    """Missing features filled, and an indicator for each that may be missing (see `insphere.data.Imputer`)."""

    def __init__(self, imputer: Imputer) -> None:
        super().__init__()
        self.columns: Tensor
        self.medians: Tensor
        self.register_buffer("columns", torch.tensor(imputer.columns, dtype=torch.int64))
        self.register_buffer("medians", torch.tensor(imputer.medians, dtype=torch.float64))

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows (n, features), NaN where a value is missing, to (n, features + indicators), float64."""
        rows = rows.double()
        if not len(self.columns):
            return rows
        empty = torch.isnan(rows).all(dim=1, keepdim=True)
        values = rows[:, self.columns]
        missing = torch.isnan(values) & ~empty
        filled = rows.index_copy(1, self.columns, torch.where(missing, self.medians, values))
        return torch.cat([filled, missing.double()], dim=1)


def spread(detector: AbstractDetector) -> float:
    """Return the standard deviation of the held-out scores: the size of a difference that matters where scores lie around zero."""
    scores = detector.conformal_.scores
    return float(scores.std()) if len(scores) > 1 else 0.0


def default_thresholds(detector: AbstractDetector) -> NDArray[np.float64]:
    """Return what the input `threshold` is where it is not fed: one number, or one for each category and one for all together."""
    decision = detector.decision_
    return decision.thresholds_by_code() if decision.n_categories else np.array(decision.threshold)


def category_codes(n_categories: int, positions: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return the categories that rows at these positions are compared in: each in turn, and none (-1); None where there are none."""
    return positions % (n_categories + 1) - 1 if n_categories else None


def feed(name: str, rows: NDArray[Any], codes: NDArray[np.int64] | None) -> dict[str, NDArray[Any]]:
    """Return what a graph is fed."""
    return {name: rows} if codes is None else {name: rows, CATEGORY_INPUT: codes}


def library_answers(detector: AbstractDetector, X: NDArray[Any]) -> ScoredRows:
    """Return the library's answers to rows, each in the category of `category_codes`."""
    codes = category_codes(detector.decision_.n_categories, np.arange(len(X)))
    known = detector.decision_.categories
    names = None if codes is None or known is None else [known.names[code] if code >= 0 else None for code in codes.tolist()]
    return next(iter(detector.score_batches(X, batch_size=len(X), categories=names)))


def input_name(detector: AbstractDetector) -> str:
    """Return the name of the graph's input: "images", or "x" for vectors."""
    return "x" if detector.image_spec_ is None else "images"


def check_packages() -> None:
    """Raise `MissingDependencyError` where the exporter or the runtime is not installed."""
    for name in _PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingDependencyError(
                f"Exporting needs the package {name}, which is not installed; install it with `pip install 'insphere[export]'`."
            ) from error


def build(detector: AbstractDetector, graph: ScoringGraph) -> Any:
    """Return the ONNX model of a graph, an `onnx.ModelProto` without metadata.

    Raises
    ------
    ExportError
        If PyTorch's exporter cannot translate it.
    """
    import onnx

    name, defaults = input_name(detector), default_thresholds(detector)
    example = torch.zeros((2, *detector.input_.shape), dtype=getattr(torch, graph.input_dtype))
    batch = torch.export.Dim("batch")
    examples: list[Any] = [example, torch.from_numpy(defaults)]
    shapes: dict[str, Any] = {"rows": {0: batch}, "threshold": None}
    if graph.n_categories:
        examples.append(torch.tensor([0, -1]))
        shapes["category"] = {0: batch}
    try:
        with quiet():
            program = torch.onnx.export(
                graph,
                tuple(examples),
                dynamo=True,
                verbose=False,
                input_names=[name, "threshold", *([CATEGORY_INPUT] if graph.n_categories else [])],
                output_names=[*OUTPUTS, *([MAP_OUTPUT] if graph.has_maps else [])],
                dynamic_shapes=shapes,
                opset_version=OPSET,
                # The exporter's optimiser (onnxscript 0.7) loses a node that several parts share; the runtime's own does not.
                optimize=not isinstance(detector, Fusion),
            )
    # The exporter raises errors of PyTorch's tracer, of its decompositions and its own; all mean the same here.
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExportError(f"{detector.name} cannot be exported: PyTorch's ONNX exporter cannot translate its network ({first}).") from error
    if program is None:
        raise ExportError(f"{detector.name} cannot be exported: PyTorch's ONNX exporter gave no model.")
    model = program.model_proto
    _strip(model)
    model.ir_version = IR_VERSION
    # An input that is also an initialiser has a default: the runtime takes a value where one is fed, else the stored one.
    model.graph.initializer.append(onnx.numpy_helper.from_array(defaults, "threshold"))
    return model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's progress, warnings and log lines to itself; what matters of them comes as an exception."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _strip(model: Any) -> None:
    """Remove the exporter's notes on each node: stack traces, with the paths of the machine that they were made on."""
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.graph.metadata_props[:], model.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
