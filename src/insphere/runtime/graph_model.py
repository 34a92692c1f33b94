"""A graph that `insphere export` wrote, with what a fitted detector offers to those who score; nothing here imports PyTorch."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from insphere.data import AbstractSource, ImageSource, ImageSpec, TableSpec
from insphere.data.rows import RowFacts
from insphere.data.stores import BytesStore
from insphere.decision.scored import ScoredRows
from insphere.detectors.inputs import InputContract, keeping_missing
from insphere.errors import DataError, ModelFileError
from insphere.runtime.sessions import session
from insphere.signatures import check_file, required_key

if TYPE_CHECKING:
    from insphere.detectors.base import AbstractDetector

_FORMAT = "1"
_OUTPUTS = ["anomaly_score", "p_value", "is_anomaly"]
_MAP = "anomaly_map"
_ROWS_AT_A_TIME = 256  # of features; images go one by one
_PIXELS = "pixels in 0..255"


class GraphModel:
    """An exported graph that scores rows, as its detector does to within the tolerance that the export has checked.

    The same row gives the same bits whatever rows come with it: images are scored one by one, rows of features in blocks of one size.

    Parameters
    ----------
    content : bytes
        The graph's file.
    name : str
        What messages call it.

    Attributes
    ----------
    name : str
        Name of the detector that the graph was made from.
    input_ : InputContract
        What may come in.
    image_spec_ : ImageSpec or None
        What image files are brought to; None where rows are features.
    has_maps : bool
        Whether it gives heat-maps.
    threshold_ : float
        Scores above it are anomalies.

    Raises
    ------
    ModelFileError
        If it is not a graph of insphere's, or of a version that is not known here.
    MissingDependencyError
        If ONNX Runtime is not installed.
    """

    def __init__(self, content: bytes, name: str) -> None:
        try:
            self._session = session(content)
        except ImportError:
            raise
        except Exception as error:  # the runtime has types of its own for what a damaged file does to it
            raise ModelFileError(f"{name} is not an ONNX graph that ONNX Runtime can read ({str(error).splitlines()[0][:200]}).") from error
        said = self._session.get_modelmeta().custom_metadata_map
        try:
            if said["insphere_format"] != _FORMAT:
                raise ModelFileError(f"{name} is of format {said['insphere_format']}, which this version does not read; upgrade insphere.")
            given = json.loads(said["input"])
            # What the detector remembers of tables and labels; graphs of older versions know the features alone.
            self.input_ = InputContract.from_json(json.loads(said["remembered"])) if "remembered" in said else _contract(given)
            self._may_be_missing = tuple(given.get("may_be_missing") or ())
            self._input_name, self._dtype = str(given["name"]), np.dtype(given["dtype"])
            self._facts = {key: _value(said[key]) for key in _DECISION}
        except (KeyError, ValueError, TypeError) as error:
            if isinstance(error, ModelFileError):
                raise
            raise ModelFileError(f"{name} is an ONNX graph that insphere export did not write: it does not say what it takes.") from error
        if "category" in {given.name for given in self._session.get_inputs()}:
            raise ModelFileError(
                f"{name} judges each row by its category, which only programs of your own can feed; use the model file here."
            )
        self.name = said.get("detector", "graph")
        self.image_spec_: ImageSpec | None = self.input_.image
        self.has_maps = _MAP in {output.name for output in self._session.get_outputs()}
        self.threshold_ = float(self._facts["threshold"])

    def describe(self) -> dict[str, Any]:
        """Return what the graph says of itself as a JSON-able dict; "decision" has the fields that a detector's has, as far as known."""
        return {"detector": self.name, "decision": {name: self._facts[key] for key, name in _DECISION.items()}}

    def open(self, X: Any, *, split: str = "all", **options: Any) -> AbstractSource:
        """Return `X` as a source whose rows have the shape and type that this graph takes: see `AbstractDetector.open`.

        Raises
        ------
        DataError
            If the rows do not fit.
        """
        source = self.input_.open(X, split=split, **options)
        return keeping_missing(source, self._may_be_missing) if self._may_be_missing else source

    def score_batches(self, X: Any, *, batch_size: int = 1024, maps: bool = False) -> Iterator[ScoredRows]:
        """Score the rows of `X` in order, `batch_size` at a time, each row exactly once as a score or as an error.

        Raises
        ------
        DataError
            If the rows do not fit.
        """
        for rows in self.open(X).batches(batch_size):
            scores, p_values, flagged, heat = self._answers(rows.X, maps=maps and self.has_maps)
            yield ScoredRows(rows.index, scores, p_values, flagged, rows.errors, maps=heat)

    def score_encoded(self, images: Sequence[bytes | None], *, maps: bool = False) -> ScoredRows:
        """Score encoded images: see `AbstractDetector.score_encoded`.

        Raises
        ------
        DataError
            If the graph takes no images, or there is not one.
        """
        if self.image_spec_ is None:
            raise DataError("This graph takes rows of features and no encoded images; give it rows.")
        source = ImageSource("encoded images", BytesStore(images), RowFacts(), self.image_spec_)
        return next(self.score_batches(source, batch_size=len(source), maps=maps))

    def anomaly_score(self, X: Any) -> NDArray[np.float64]:
        """Return the anomaly score of each row, float64, shape (n,), higher = more anomalous; NaN for rows that cannot be read."""
        source = self.open(X)
        scores = np.full(len(source), np.nan)
        for batch in self.score_batches(source):
            scores[batch.index] = batch.anomaly_score
        return scores

    def _answers(
        self, X: NDArray[Any], *, maps: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.float32] | None]:
        """Return scores, p-values, decisions and heat-maps of checked rows."""
        wanted = [*_OUTPUTS, *([_MAP] if maps else [])]
        at_a_time = 1 if self.image_spec_ is not None else _ROWS_AT_A_TIME
        blocks = []
        for start in range(0, len(X), at_a_time):
            block = X[start : start + at_a_time].astype(self._dtype, copy=False)
            n_short = at_a_time - len(block)
            if n_short:
                block = np.concatenate([block, np.repeat(block[-1:], n_short, axis=0)])
            answers = self._session.run(wanted, {self._input_name: np.ascontiguousarray(block)})
            blocks.append([answer[: at_a_time - n_short] for answer in answers])
        if not blocks:
            return np.empty(0), np.empty(0), np.empty(0, dtype=np.bool_), None
        scores, p_values, flagged, *heat = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        return scores, p_values, flagged, heat[0] if heat else None


# Entry of a graph's metadata -> field of `Decision.to_json`.
_DECISION = {
    "threshold": "threshold",
    "threshold_by": "by",
    "target_fpr": "target_fpr",
    "promised_fpr": "promised_fpr",
    "expected_false_alarm_rate": "expected",
    "radius": "radius",
    "n_calibration": "n_calibration",
}


def load_graph(path: str | os.PathLike[str], *, require_signature: str | os.PathLike[str] | None = None) -> GraphModel:
    """Return the graph that ``insphere export`` wrote to `path`.

    Parameters
    ----------
    path : path-like
    require_signature : path-like, optional
        Public key with whose private half the file must be signed; see `insphere.load`.

    Raises
    ------
    ModelFileError
        If it cannot be read, or is not such a graph.
    MissingDependencyError
        If ONNX Runtime is not installed.
    """
    if (key := required_key(require_signature)) is not None:
        return GraphModel(check_file(path, key), os.fspath(path))
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ModelFileError(f"{os.fspath(path)} cannot be read: {error.strerror or error}.") from error
    return GraphModel(content, os.fspath(path))


def load_any(path: str | os.PathLike[str], *, require_signature: str | os.PathLike[str] | None = None) -> "AbstractDetector | GraphModel":
    """Return what scores: the graph of an .onnx file, by ONNX Runtime alone, or else the detector of a model file.

    Parameters
    ----------
    path : path-like
    require_signature : path-like, optional
        Public key with whose private half the file must be signed; see `insphere.load`.

    Raises
    ------
    ModelFileError
        If the file is neither.
    MissingDependencyError
        If ONNX Runtime is needed and not installed.
    """
    if Path(path).suffix.lower() == ".onnx":
        return load_graph(path, require_signature=require_signature)
    from insphere.detectors import catalog

    return catalog.load(path, require_signature=require_signature)


def _contract(given: Mapping[str, Any]) -> InputContract:
    shape = tuple(int(size) for size in given["shape"])
    if given["axes"][1:] == ["height", "width", "channels"]:
        height, width, channels = shape
        spec = ImageSpec(height, width, channels, str(given["dtype"]), "draft" in given.get("jpeg", ""))
        return InputContract(shape, spec, given["units"] == _PIXELS)
    names = given["feature_names"]
    return InputContract(shape, table=TableSpec(None if names is None else tuple(names)))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
