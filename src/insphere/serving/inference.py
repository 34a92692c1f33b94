"""Open Inference Protocol, version 2: tensors as JSON, in and out.

The protocol: https://github.com/kserve/open-inference-protocol (its REST part, without the binary extension).
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insphere.errors import did_you_mean
from insphere.serving.answers import Refusal, finite
from insphere.serving.batching import Scores
from insphere.serving.models import DATATYPES, ServedModel
from insphere.serving.uploads import as_number, read_json

OUTPUTS = {"anomaly_score": "FP64", "p_value": "FP64", "is_anomaly": "BOOL"}
"""Name of each output tensor and its datatype; all have shape [rows]."""


LARGEST = {"FP32": float(np.finfo(np.float32).max), "FP64": float(np.finfo(np.float64).max)}
"""Largest value of each floating datatype."""


def input_name(model: ServedModel) -> str:
    """Return the name of the input tensor: "images", or "x" for vectors."""
    return "images" if model.is_image else "x"


def datatypes(model: ServedModel) -> tuple[str, ...]:
    """Return the datatypes that the input tensor may have."""
    return ("UINT8",) if model.dtype == np.uint8 else ("FP32", "FP64")


def metadata(model: ServedModel, versions: list[str]) -> dict[str, Any]:
    """Return a model's metadata: its tensors, with -1 for the number of rows."""
    datatype = DATATYPES[model.dtype.name]
    return {
        "name": model.name,
        "versions": versions,
        "platform": "insphere",
        "inputs": [{"name": input_name(model), "datatype": datatype, "shape": [-1, *model.input_shape]}],
        "outputs": [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in OUTPUTS.items()],
    }


class InferRequest:
    """A checked request: rows of the model's shape and type, its id, the category they are from, and the outputs that it asks for.

    Parameters
    ----------
    body : bytes
    model : ServedModel

    Raises
    ------
    Refusal
        400 if the body is no JSON, 422 if it does not fit the protocol or the model.
    """

    def __init__(self, body: bytes, model: ServedModel) -> None:
        content = read_json(body)
        if not isinstance(content, dict):
            raise Refusal(422, "The body must be an object with the field inputs.")
        self.id = content.get("id")
        if self.id is not None and not isinstance(self.id, str):
            raise Refusal(422, "The field id must be text.")
        parameters = content.get("parameters", {})
        if not isinstance(parameters, dict):
            raise Refusal(422, "The field parameters must be an object.")
        if not isinstance(parameters.get("category", ""), str):
            raise Refusal(422, 'The parameter category must be a text: {"parameters": {"category": "cam1"}}.')
        self.category: str | None = parameters.get("category")
        self.outputs = _wanted(content.get("outputs"))
        self.X = _tensor(content.get("inputs"), model)

    def answer(self, model: ServedModel, scores: Scores) -> dict[str, Any]:
        """Return the response: the wanted outputs in the order asked for."""
        data = {
            "anomaly_score": [finite(value) for value in scores.anomaly_score.tolist()],
            "p_value": [finite(value) for value in scores.p_value.tolist()],
            "is_anomaly": scores.is_anomaly.tolist(),
        }
        shape = [len(scores.anomaly_score)]
        outputs = [{"name": name, "datatype": OUTPUTS[name], "shape": shape, "data": data[name]} for name in self.outputs]
        answer = {"model_name": model.name, "model_version": model.version, "outputs": outputs}
        return answer if self.id is None else {"id": self.id, **answer}


def _wanted(outputs: Any) -> list[str]:
    if outputs is None or outputs == []:
        return list(OUTPUTS)
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise Refusal(422, "The field outputs must be a list of objects with a name.")
    if not all(isinstance(output.get("parameters", {}), dict) for output in outputs):
        raise Refusal(422, "The field parameters of an output must be an object.")
    names = [output.get("name") for output in outputs]
    for name in names:
        if not isinstance(name, str) or name not in OUTPUTS:
            hint = did_you_mean(name[:100], OUTPUTS) if isinstance(name, str) else ""
            raise Refusal(422, f"The outputs are {', '.join(OUTPUTS)}; one asked for is none of them.{hint}")
    return list(dict.fromkeys(names))


def _tensor(inputs: Any, model: ServedModel) -> NDArray[Any]:
    name = input_name(model)
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Refusal(422, f"The field inputs must be a list of one tensor, called {name}.")
    tensor = inputs[0]
    if tensor.get("name") != name:
        raise Refusal(422, f"The input tensor must be called {name}.")
    if tensor.get("datatype") not in datatypes(model):
        raise Refusal(422, f"The datatype of {name} must be {' or '.join(datatypes(model))}.")
    if not isinstance(tensor.get("parameters", {}), dict):
        raise Refusal(422, f"The field parameters of {name} must be an object.")
    shape = _shape(tensor.get("shape"), name, model)
    data = tensor.get("data")
    if not isinstance(data, list):
        raise Refusal(422, f"The field data of {name} must be a list.")
    values = list(_flat(data, shape, name))
    if len(values) != math.prod(shape):
        raise Refusal(422, f"The tensor {name} of shape {shape} must have {math.prod(shape)} values, got {len(values)}.")
    return _array(values, model, name, tensor["datatype"]).reshape(shape)


def _shape(shape: Any, name: str, model: ServedModel) -> list[int]:
    expected = ", ".join(map(str, ("n", *model.input_shape)))
    if not isinstance(shape, list) or not all(type(size) is int for size in shape) or tuple(shape[1:]) != model.input_shape or shape[0] < 1:
        raise Refusal(422, f"The shape of {name} must be [{expected}], with n at least 1.")
    if shape[0] > model.max_rows:
        raise Refusal(422, f"The tensor has more than the limit of {model.max_rows} rows; send them in several requests.")
    return shape


def _flat(data: list[Any], shape: list[int], name: str) -> Iterator[Any]:
    """Return the values in row-major order: given flat, or nested exactly as `shape` says."""
    if not data or not isinstance(data[0], list):
        return iter(data)
    values: list[Any] = data
    if len(values) != shape[0]:
        raise Refusal(422, f"The data of {name} must be flat, or nested as its shape says.")
    for size in shape[1:]:
        if not all(isinstance(value, list) and len(value) == size for value in values):
            raise Refusal(422, f"The data of {name} must be flat, or nested as its shape says.")
        values = list(itertools.chain.from_iterable(values))
    return iter(values)


def _array(values: list[Any], model: ServedModel, name: str, datatype: str) -> NDArray[Any]:
    # The types are looked at all at once, because NumPy would read true as 1 and "3" as 3.
    if not set(map(type, values)) <= {int, float}:
        odd = next(position for position, value in enumerate(values) if type(value) not in (int, float))
        as_number(values[odd], f"position {odd} of {name}")
    if model.dtype == np.uint8:
        if not all(0 <= value <= 255 and value == int(value) for value in values):
            raise Refusal(422, f"The values of {name} must be whole numbers in 0..255.")
        return np.array(values, dtype=np.uint8)
    try:
        array = np.array(values, dtype=np.float64)
    except OverflowError:
        array = np.full(len(values), np.inf)
    within = np.abs(array) <= LARGEST[datatype]
    if not within.all():
        raise Refusal(422, f"The values of {name} must be finite and within {datatype}; position {int((~within).argmax())} is not.")
    # FP32 is what the client holds: its values are rounded as it would round them.
    return array.astype(np.float32 if datatype == "FP32" else np.float64).astype(model.dtype)
