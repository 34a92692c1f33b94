"""Metrics and log lines."""

import json
import logging

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from insphere.detectors.base import AbstractDetector
from insphere.serving.logs import JsonFormatter
from serving.conftest import digits, serving


def samples(client: TestClient) -> dict[tuple[str, str], float]:
    """Return the value of each sample by name and its labels' values, joined."""
    found = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            found[sample.name, " ".join(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


def test_requests_rows_and_batches_are_counted(images: AbstractDetector) -> None:
    with serving({"digits": images}) as client:
        client.post("/score", files=[("images", ("a.png", data)) for data in [*digits(5), b"broken"]])
        client.get("/v2/models/nothing")
        client.get("/made/up/path")
        client.request("BREW", "/score")
        found = samples(client)
    assert found["insphere_requests_total", "POST /score 207"] == 1
    assert found["insphere_requests_total", "GET /v2/models/{name} 404"] == 1
    assert found["insphere_requests_total", "GET unmatched 404"] == 1
    assert ("insphere_requests_total", "OTHER /score 405") in found
    assert found["insphere_request_seconds_count", "/score"] == 2
    assert found["insphere_batch_rows_sum", "digits 1"] == 5
    assert found["insphere_unreadable_rows_total", "digits 1"] == 1
    assert found["insphere_rows_total", "normal digits 1"] + found["insphere_rows_total", "anomaly digits 1"] == 5
    assert found["insphere_anomaly_score_count", "digits 1"] == 5
    assert found["insphere_model_ready", "digits 1"] == 1
    assert found["insphere_queue_rows", "digits 1"] == 0
    assert found["insphere_requests_in_flight", ""] == 1  # this very one


def test_drift_shows_when_scores_rise_and_not_before(vectors: AbstractDetector, caplog: pytest.LogCaptureFixture) -> None:
    normal = np.random.default_rng(1).normal(size=(200, 3))
    with serving({"sensors": vectors}) as client, caplog.at_level(logging.INFO, "insphere.serving"):
        client.post("/score", json={"rows": normal.tolist()})
        assert samples(client)["insphere_drift", "sensors 1"] == 0
        client.post("/score", json={"rows": (normal + 4).tolist()})
        found = samples(client)
    assert found["insphere_drift", "sensors 1"] == 1
    assert found["insphere_recent_p_value", "sensors 1"] < 0.2
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert json.loads(JsonFormatter().format(warning))["direction"] == "higher"


def test_each_request_is_one_line_without_secrets(images: AbstractDetector, caplog: pytest.LogCaptureFixture) -> None:
    key = "a-very-secret-key-1"
    with serving({"digits": images}, api_key=key) as client, caplog.at_level(logging.INFO, "insphere.serving"):
        caplog.clear()  # of the line that a model was loaded, which is there if a test before has left the log at this level
        headers = {"X-API-Key": key, "X-Request-ID": "seven", "Cookie": "cookie-text"}
        files = {"images": ("secret-name.png", digits(1)[0])}
        client.post("/score?heatmap=false", files=files, headers=headers)
        client.post("/score?word=query-text", files=files, headers=headers)
        client.get("/v2/models/%0a%1b[31mred", headers=headers)
    lines = [JsonFormatter().format(record) for record in caplog.records]
    assert len(lines) == 3
    first = json.loads(lines[0])
    assert {name: first[name] for name in ("event", "request_id", "method", "route", "status", "model", "version", "n_rows")} == {
        "event": "request",
        "request_id": "seven",
        "method": "POST",
        "route": "/score",
        "status": 200,
        "model": "digits",
        "version": "1",
        "n_rows": 1,
    }
    assert first["bytes_in"] > 100
    for line in lines:
        assert not [word for word in (key, "secret-name", "query-text", "cookie-text", "red", "\n", "\x1b") if word in line]
