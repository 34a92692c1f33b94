"""A category (camera, product, shift) of a request."""

import warnings

import numpy as np
import pytest
from fastapi.testclient import TestClient

from insphere.detectors.classical import KNN
from insphere.errors import DataNotice
from insphere.serving import make_app


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
def test_a_request_is_judged_by_its_camera():
    rng = np.random.default_rng(0)
    camera = rng.choice(["left", "right"], 400)
    detector = KNN(random_state=0).fit(rng.normal(size=(400, 2)) * np.where(camera == "right", 3.0, 1.0)[:, None], categories=camera)
    X = rng.normal(size=(20, 2)) * 2
    with TestClient(make_app({"line": detector}), base_url="http://127.0.0.1") as client:
        for name in ("left", "right"):
            answer = client.post("/score", params={"category": name}, json={"rows": X.tolist()}).json()
            assert [row["p_value"] for row in answer["results"]] == detector.p_value(X, categories=[name] * 20).tolist()
            assert [row["is_anomaly"] for row in answer["results"]] == (detector.predict(X, categories=[name] * 20) == -1).tolist()
            assert answer["decision"]["threshold"] == detector.decision_.of_category[name].threshold
        pooled = client.post("/score", json={"rows": X.tolist()}).json()
        assert "20 of 20 rows have no category" in pooled["notices"][0]["text"]
        refused = client.post("/score", params={"category": "middle"}, json={"rows": X.tolist()})
        assert refused.status_code == 422
        assert "'middle', for which the model is not calibrated" in refused.json()["error"]
        described = client.get("/openapi.json").json()["paths"]["/score"]["post"]["parameters"]
        assert {entry["name"]: entry["schema"].get("enum") for entry in described} == {
            "heatmap": None,
            "fdr": None,
            "category": ["left", "right"],
        }


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
def test_a_request_of_the_protocol_may_name_its_camera_too():
    rng = np.random.default_rng(1)
    camera = rng.choice(["left", "right"], 400)
    detector = KNN(random_state=0).fit(rng.normal(size=(400, 2)) * np.where(camera == "right", 3.0, 1.0)[:, None], categories=camera)
    X = rng.normal(size=(20, 2)) * 2
    tensor = {"name": "x", "datatype": "FP64", "shape": [20, 2], "data": X.ravel().tolist()}
    with TestClient(make_app({"line": detector}), base_url="http://127.0.0.1") as client:

        def infer(**parameters):
            return client.post("/v2/models/line/infer", json={"inputs": [tensor], "parameters": parameters})

        for given, categories in (({"category": "left"}, ["left"] * 20), ({"category": "right"}, ["right"] * 20), ({"other": 1}, None)):
            outputs = {output["name"]: output["data"] for output in infer(**given).json()["outputs"]}
            of = [None] * 20 if categories is None else categories
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataNotice)
                assert outputs["p_value"] == detector.p_value(X, categories=of).tolist()
                assert outputs["is_anomaly"] == (detector.predict(X, categories=of) == -1).tolist()
        for wrong, why in (("middle", "'middle', for which the model is not calibrated"), (3, "must be a text"), (None, "must be a text")):
            refused = infer(category=wrong)
            assert (refused.status_code, why in refused.json()["error"]) == (422, True)
        described = client.get("/openapi.json").json()["paths"]["/v2/models/line/infer"]["post"]["requestBody"]
        schema = described["content"]["application/json"]["schema"]["properties"]["parameters"]
        assert schema["properties"]["category"]["enum"] == ["left", "right"]
