"""The false-discovery rate of a request."""

import csv
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from insphere.cli import main
from insphere.decision.calibration import rows_needed
from insphere.detectors.base import AbstractDetector
from insphere.serving.discovering import least_rate
from insphere.serving.models import ServedModel
from serving.conftest import digits


def test_discoveries_are_those_of_the_command_line(
    client: TestClient, vectors: AbstractDetector, vector_file: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3)) + np.where(np.arange(40) % 4 == 0, 9.0, 0.0)[:, None]
    np.savetxt(tmp_path / "rows.csv", X, delimiter=",", header="heat,hum,drift", comments="", fmt="%.17g")
    scores = tmp_path / "scores.csv"
    assert main(["score", str(vector_file), str(tmp_path / "rows.csv"), "-o", str(scores), "--fdr", "0.2"]) == 0
    with scores.open(newline="") as file:
        expected = list(csv.DictReader(file))
    answer = client.post("/models/sensors/score", params={"fdr": "0.2"}, json={"rows": X.tolist()}).json()
    assert [row["adjusted_p_value"] for row in answer["results"]] == [float(row["adjusted_p_value"]) for row in expected]
    assert [row["is_discovery"] for row in answer["results"]] == [row["is_discovery"] == "true" for row in expected]
    assert answer["fdr"] == {"rate": 0.2, "n_discoveries": 10, "n_least": 8}
    assert "8 of the 40 rows must score above all" in answer["notices"][0]["text"]


def test_rows_without_a_score_are_none(client: TestClient) -> None:
    files = [("images", ("a.png", data)) for data in [*digits(2), b"broken"]]
    answer = client.post("/models/digits/score?fdr=0.3", files=files)
    last = answer.json()["results"][-1]
    assert (answer.status_code, last["adjusted_p_value"], last["is_discovery"]) == (207, None, None)
    assert "adjusted_p_value" not in client.post("/models/digits/score", files=files).json()["results"][0]


@pytest.mark.parametrize("rate", ["0", "1", "-0.1", "nan", "inf", "ten", "", "1e-9", "1e999"])
def test_a_rate_that_is_none_is_422(client: TestClient, rate: str) -> None:
    answer = client.post("/models/sensors/score", params={"fdr": rate}, json={"rows": [[0, 0, 0]]})
    assert (answer.status_code, "fdr" in answer.json()["error"]) == (422, True)


def test_the_smallest_rate_is_described_as_it_is(client: TestClient, vectors: AbstractDetector) -> None:
    least = least_rate(ServedModel("sensors", "1", vectors, max_rows=9))
    assert rows_needed(least) <= len(vectors.decision_.calibration) < rows_needed(least * 0.999)
    parameters = client.get("/openapi.json").json()["paths"]["/models/sensors/score"]["post"]["parameters"]
    (described,) = (entry["schema"] for entry in parameters if entry["name"] == "fdr")
    assert described == {"type": "number", "minimum": least, "exclusiveMaximum": 1}
    assert client.post("/models/sensors/score", params={"fdr": repr(least)}, json={"rows": [[0, 0, 0]]}).status_code == 200
