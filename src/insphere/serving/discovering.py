"""The false-discovery rate of a request: which of its rows to call anomalies so that few of those called are false alarms."""

from typing import Any

import numpy as np
from fastapi import Request

from insphere.data.rows import Notice
from insphere.decision.discoveries import Discoveries, discover
from insphere.errors import ParameterError
from insphere.serving.answers import Refusal, finite
from insphere.serving.batching import Scores
from insphere.serving.models import ServedModel

PARAMETER = "fdr"
"""Query parameter that asks for it."""


def asked_rate(request: Request, model: ServedModel) -> float | None:
    """Return the rate that a request asks for, None where it asks for none; before its rows are scored.

    Raises
    ------
    Refusal
        422 if it is no rate, or the model's calibration rows are too few for it.
    """
    text = request.query_params.get(PARAMETER)
    if text is None:
        return None
    try:
        rate = float(text)
    except ValueError as error:
        raise Refusal(422, f"The parameter {PARAMETER} must be a number above 0 and below 1, such as 0.1.") from error
    try:
        discover(model.detector.decision_, np.empty(0), rate)
    except ParameterError as error:
        raise Refusal(422, str(error)) from error
    return rate


def least_rate(model: ServedModel) -> float:
    """Return the smallest rate at which any row can be a discovery, by the number of calibration rows."""
    decision = model.detector.decision_
    return 1 / (1 + max([len(decision.calibration), *(len(entry.calibration) for entry in decision.of_category.values())]))


def discovered(model: ServedModel, scores: Scores, rate: float) -> tuple[dict[str, list[Any]], dict[str, Any], list[Notice]]:
    """Return the columns of a false-discovery rate, what it says of all rows, and what makes its promise less than it seems."""
    found: Discoveries = discover(model.detector.decision_, scores.p_value, rate)
    columns = {
        "adjusted_p_value": [finite(value) for value in found.adjusted_p_value.tolist()],
        "is_discovery": found.is_discovery.tolist(),
    }
    told = {"rate": rate, "n_discoveries": found.n_discoveries, "n_least": found.n_least}
    return columns, told, [Notice("taken as", found.n_tested, note) for note in found.notes]
