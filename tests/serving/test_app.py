"""What the service answers: scores, the protocol, errors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from insphere.decision.health import Finding, HealthReport
from insphere.detectors.base import AbstractDetector
from serving.conftest import FEATURES, digits, encoded, serving


def upload(client: TestClient, files: list[bytes], path: str = "/models/digits/score", **more: Any) -> Any:
    return client.post(path, files=[("images", (f"{number}.png", data)) for number, data in enumerate(files)], **more)


def tensor(detector: AbstractDetector, X: Any, **more: Any) -> dict[str, Any]:
    name, datatype = ("images", "UINT8") if detector.image_spec_ else ("x", "FP64")
    return {"inputs": [{"name": name, "datatype": datatype, "shape": list(X.shape), "data": X.ravel().tolist()}], **more}


def test_uploads_score_as_the_files_of_a_folder_do(client: TestClient, images: AbstractDetector, tmp_path: Path) -> None:
    files = digits(70)
    for number, data in enumerate(files):
        (tmp_path / f"{number:03}.png").write_bytes(data)
    answer = upload(client, files)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["anomaly_score"] for result in results] == images.anomaly_score(str(tmp_path)).tolist()
    assert [result["p_value"] for result in results] == images.p_value(str(tmp_path)).tolist()
    assert [result["is_anomaly"] for result in results] == (images.predict(str(tmp_path)) == -1).tolist()
    assert [result["name"] for result in results] == [f"{number}.png" for number in range(70)]


def test_one_image_may_be_the_whole_body(client: TestClient) -> None:
    (data,) = digits(1)
    expected = upload(client, [data]).json()["results"][0]["anomaly_score"]
    for kind in ("image/png", "application/octet-stream", "IMAGE/JPEG; x=y"):
        answer = client.post("/models/digits/score", content=data, headers={"Content-Type": kind})
        assert answer.json()["results"][0] == {**answer.json()["results"][0], "anomaly_score": expected, "name": None}


def test_rows_score_as_an_array_does(client: TestClient, vectors: AbstractDetector) -> None:
    X = np.random.default_rng(1).normal(size=(20, 3)) * 3
    expected = vectors.anomaly_score(X).tolist()
    listed = client.post("/models/sensors/score", json={"rows": X.tolist()})
    named = client.post("/models/sensors/score", json={"rows": [dict(zip(FEATURES, row, strict=True)) for row in X.tolist()]})
    for answer in (listed, named):
        assert answer.status_code == 200
        assert [result["anomaly_score"] for result in answer.json()["results"]] == expected
    assert 0 < listed.json()["n_anomalies"] < 20


@pytest.mark.parametrize("nested", [False, True])
def test_the_protocol_scores_tensors(client: TestClient, images: AbstractDetector, nested: bool) -> None:
    X = np.random.default_rng(2).integers(0, 256, (5, 8, 8, 1)).astype(np.uint8)
    body = tensor(images, X, id="seven")
    if nested:
        body["inputs"][0]["data"] = X.tolist()
    answer = client.post("/v2/models/digits/infer", json=body)
    assert answer.status_code == 200
    assert {key: answer.json()[key] for key in ("id", "model_name", "model_version")} == {
        "id": "seven",
        "model_name": "digits",
        "model_version": "10",
    }
    outputs = {output["name"]: output for output in answer.json()["outputs"]}
    assert outputs["anomaly_score"] == {
        "name": "anomaly_score",
        "datatype": "FP64",
        "shape": [5],
        "data": images.anomaly_score(X).tolist(),
    }
    assert outputs["p_value"]["data"] == images.p_value(X).tolist()
    assert outputs["is_anomaly"]["data"] == (images.predict(X) == -1).tolist()


def test_the_protocol_takes_vectors_and_gives_the_outputs_asked_for(client: TestClient, vectors: AbstractDetector) -> None:
    X = np.random.default_rng(3).normal(size=(4, 3))
    body = tensor(vectors, X, outputs=[{"name": "is_anomaly"}, {"name": "anomaly_score"}])
    answer = client.post("/v2/models/sensors/versions/1/infer", json=body).json()
    assert "id" not in answer
    assert [output["name"] for output in answer["outputs"]] == ["is_anomaly", "anomaly_score"]
    assert answer["outputs"][1]["data"] == vectors.anomaly_score(X).tolist()
    body["inputs"][0]["datatype"] = "FP32"
    rounded = client.post("/v2/models/sensors/infer", json=body).json()["outputs"][1]["data"]
    assert rounded == vectors.anomaly_score(X.astype(np.float32)).tolist()


def test_metadata_health_and_lists(client: TestClient) -> None:
    assert client.get("/v2").json()["name"] == "insphere"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True, "models": {"ready": 3, "unsound": 0, "loading": 0, "refused": 0}}
    assert client.get("/v2/models/digits").json() == {
        "name": "digits",
        "versions": ["9", "10"],
        "platform": "insphere",
        "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 8, 8, 1]}],
        "outputs": [
            {"name": "anomaly_score", "datatype": "FP64", "shape": [-1]},
            {"name": "p_value", "datatype": "FP64", "shape": [-1]},
            {"name": "is_anomaly", "datatype": "BOOL", "shape": [-1]},
        ],
    }
    assert client.get("/v2/models/digits/ready").json() == {"name": "digits", "ready": True}
    models = client.get("/models").json()["models"]
    assert [(model["name"], model["version"]) for model in models] == [("digits", "9"), ("digits", "10"), ("sensors", "1")]
    assert models[2]["input"] == {"kind": "vector", "shape": [3], "feature_names": FEATURES, "datatype": "FP64", "files": False}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/v2/models/digit", "Did you mean 'digits'?"),
        ("/v2/models/digits/versions/11", "it has 9, 10"),
        ("/v2/models/..%2f..%2fetc%2fpasswd", "nothing at this path"),
        ("/v2/models/..%5c..%5cpasswd", "There is no model"),
        ("/v2/models/" + "a" * 5000, "There is no model"),
        ("/nothing", "/openapi.json"),
    ],
)
def test_unknown_models_and_paths_are_404(client: TestClient, path: str, text: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert text in answer.json()["error"]
    assert len(answer.text) < 400


def test_a_model_need_not_be_named_where_there_is_one(client: TestClient, images: AbstractDetector) -> None:
    answer = upload(client, digits(1), "/score")
    assert (answer.status_code, "/models/NAME/score" in answer.json()["error"]) == (404, True)
    assert upload(client, digits(1), "/models/digits/versions/9/score").json()["version"] == "9"
    with serving({"only": images}) as alone:
        assert upload(alone, digits(1), "/score").json()["model"] == "only"


def test_other_methods_are_405_with_those_allowed(client: TestClient) -> None:
    answer = client.get("/score")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"].startswith("This path takes POST, not GET;")
    assert client.delete("/v2").headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (b"", "not an image"),
        (b"GIF89a", "not an image"),
        (digits(1)[0][:60], "decoded"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "not an image"),
        (b"P5 60000 60000 255 ", "pixels"),
        (b"P5 6000 6000 255 " + bytes(10), "limit of 25,000,000"),
    ],
)
def test_an_unreadable_image_says_why_and_stops_no_other(client: TestClient, broken: bytes, why: str) -> None:
    (good,) = digits(1)
    expected = upload(client, [good]).json()["results"][0]
    answer = upload(client, [good, broken, good])
    assert (answer.status_code, answer.json()["n_errors"]) == (207, 1)
    first, middle, last = answer.json()["results"]
    assert why in middle["error"]
    assert (middle["anomaly_score"], middle["p_value"], middle["is_anomaly"]) == (None, None, None)
    assert first == expected
    assert last["anomaly_score"] == expected["anomaly_score"]
    alone = client.post("/models/digits/score", content=broken, headers={"Content-Type": "image/png"})
    assert (alone.status_code, alone.json()["n_rows"]) == (207, 1)


def test_a_bomb_of_pixels_is_not_decoded(client: TestClient) -> None:
    bomb = encoded(np.zeros((5001, 5000), np.uint8))
    assert len(bomb) < 200_000
    answer = upload(client, [bomb])
    assert "more than this service's limit" in answer.json()["results"][0]["error"]


@pytest.mark.parametrize("name", ["a\r\nX-Evil: 1.png", "../../etc/passwd", "\x00\x1b[31m.png", "a" * 5000, 'q"uote;.png', "ü💥.png"])
def test_names_of_uploads_are_words_and_nothing_else(client: TestClient, name: str) -> None:
    answer = client.post("/models/digits/score", files={"images": (name, digits(1)[0])})
    assert answer.status_code in (200, 400)
    assert "x-evil" not in answer.headers
    if answer.status_code == 200:
        assert len(answer.json()["results"][0]["name"]) <= 255


BOUNDARY = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", BOUNDARY, 400),
        (b"no form", BOUNDARY, 400),
        (b"--x\r\n\r\nabc", BOUNDARY, 400),
        (b"--x--\r\n", BOUNDARY, 422),
        (b'--x\r\nContent-Disposition: form-data; name="images"\r\n\r\nabc\r\n--x--\r\n', BOUNDARY, 422),
        (b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc\r\n--x--\r\n', BOUNDARY, 422),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nabc\r\n--x', BOUNDARY, 400),
        (b"--x\r\nA: " + b"b" * 9000 + b"\r\n\r\nabc\r\n--x--\r\n", BOUNDARY, 400),
        (b"--x--", {"Content-Type": "multipart/form-data"}, 400),
        (b"{}", {"Content-Type": "application/json"}, 415),
        (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (b"a", {"Content-Type": "text/html"}, 415),
        (b"a", {"Content-Type": ""}, 415),
        (b"a", {"Content-Type": "image/png", "Content-Encoding": "gzip"}, 415),
    ],
)
def test_bodies_that_are_no_upload(client: TestClient, content: bytes, headers: dict[str, str], status: int) -> None:
    answer = client.post("/models/digits/score", content=content, headers=headers)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


def test_images_are_no_rows(client: TestClient) -> None:
    answer = upload(client, digits(1), "/models/sensors/score")
    assert (answer.status_code, answer.json()["error"]) == (415, "This model takes rows of numbers, not images; send JSON.")


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ("", 400, "no JSON"),
        ("{", 400, "no JSON"),
        ('{"rows": [[NaN, 0, 0]]}', 400, "NaN"),
        ('{"rows": [[-Infinity, 0, 0]]}', 400, "Infinity"),
        ("[" * 100_000, 400, "deeply"),
        ('{"rows": [[' + "9" * 5000 + ", 0, 0]]}", 400, "no JSON"),
        ("\udcff", 400, "no JSON"),
        ('{"rows": [[1e999, 0, 0]]}', 422, "finite"),
        ('{"rows": [[' + "9" * 400 + ", 0, 0]]}", 422, "finite"),
        ('{"rows": [[true, 0, 0]]}', 422, "feature 0"),
        ('{"rows": [["1", 0, 0]]}', 422, "got str"),
        ('{"rows": [[null, 0, 0]]}', 422, "NoneType"),
        ('{"rows": [[0, 0]]}', 422, "got 2 values"),
        ('{"rows": [0]}', 422, "Row 0"),
        ('{"rows": []}', 422, "list of rows"),
        ('{"rows": {}}', 422, "list of rows"),
        ("[]", 422, "list of rows"),
        ('{"rows": [[0, 0, 0]], "model": "x"}', 422, "'model'"),
        ('{"rows": [{"heat": 0, "hum": 0}]}', 422, "drift"),
        ('{"rows": [' + ",".join(["[0,0,0]"] * 1025) + "]}", 422, "1024"),
    ],
)
def test_json_that_is_no_rows(client: TestClient, body: str, status: int, text: str) -> None:
    content = body.encode("utf-8", "surrogateescape")
    answer = client.post("/models/sensors/score", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, text in answer.json()["error"]) == (status, True), answer.text


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"name": "x"}, 422, "called images"),
        ({"datatype": "FP32"}, 422, "UINT8"),
        ({"shape": [1, 8, 8]}, 422, "[n, 8, 8, 1]"),
        ({"shape": [0, 8, 8, 1]}, 422, "at least 1"),
        ({"shape": [True, 8, 8, 1]}, 422, "[n, 8, 8, 1]"),
        ({"shape": [10**18, 8, 8, 1]}, 422, "1024"),
        ({"shape": None}, 422, "shape"),
        ({"shape": []}, 422, "shape"),
        ({"data": [0] * 63}, 422, "64 values, got 63"),
        ({"data": []}, 422, "64 values, got 0"),
        ({"data": [256] * 64}, 422, "0..255"),
        ({"data": [-1] * 64}, 422, "0..255"),
        ({"data": [0.5] * 64}, 422, "0..255"),
        ({"data": [10**400] * 64}, 422, "0..255"),
        ({"data": [False] * 64}, 422, "number"),
        ({"data": ["0"] * 64}, 422, "number"),
        ({"data": [[[0] * 8] * 8]}, 422, "nested"),
        ({"data": {"0": 1}}, 422, "list"),
        ({"parameters": 3}, 422, "parameters"),
    ],
)
def test_tensors_that_do_not_fit(client: TestClient, images: AbstractDetector, change: dict[str, Any], status: int, text: str) -> None:
    body = tensor(images, np.zeros((1, 8, 8, 1), np.uint8))
    body["inputs"][0] |= change
    answer = client.post("/v2/models/digits/infer", json=body)
    assert (answer.status_code, text in answer.json()["error"]) == (status, True), answer.text


@pytest.mark.parametrize("change", [{"inputs": []}, {"inputs": None}, {"id": 3}, {"outputs": [{"name": "anomaly_scores"}]}, {"outputs": 1}])
def test_requests_that_do_not_fit_the_protocol(client: TestClient, images: AbstractDetector, change: dict[str, Any]) -> None:
    body = tensor(images, np.zeros((1, 8, 8, 1), np.uint8)) | change
    assert client.post("/v2/models/digits/infer", json=body).status_code == 422


def test_a_float_tensor_out_of_range_is_refused(client: TestClient, vectors: AbstractDetector) -> None:
    body = tensor(vectors, np.zeros((1, 3)))
    for data, datatype in (([1e300, 0, 0], "FP32"), ([10**400, 0, 0], "FP64")):
        body["inputs"][0] |= {"data": data, "datatype": datatype}
        answer = client.post("/v2/models/sensors/infer", json=body)
        assert (answer.status_code, "finite" in answer.text) == (422, True)


def test_a_model_of_critical_health_is_not_ready(images: AbstractDetector, image_file: Path) -> None:
    import insphere

    collapsed = insphere.load(image_file)
    collapsed.health_ = HealthReport((Finding("distinct scores", "critical", 0.0, "All rows score the same."),))
    with serving({"bad": collapsed, "good": images}) as client:
        answer = upload(client, digits(1), "/models/bad/score")
        assert (answer.status_code, answer.json()["error"]) == (503, "This model cannot score: All rows score the same.")
        assert "retry-after" in answer.headers
        assert client.get("/v2/models/bad/ready").status_code == 503
        assert client.get("/v2/health/ready").json() == {"ready": False, "models": {"ready": 1, "unsound": 1, "loading": 0, "refused": 0}}
        assert upload(client, digits(1), "/models/good/score").status_code == 200
        assert 'insphere_model_ready{model="bad",version="1"} 0.0' in client.get("/metrics").text


def test_errors_show_no_inside(images: AbstractDetector, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("/secret/path")

    with serving({"digits": images}) as client:
        monkeypatch.setattr(type(images), "score_batches", fail)
        answer = upload(client, digits(2))
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert answer.headers["x-request-id"] in answer.json()["error"]
        assert client.get("/v2/health/live").status_code == 200


@pytest.mark.parametrize("path", ["/models/sensors/score", "/v2/models/sensors/infer", "/score"])
@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("threshold=3", "The parameter 'threshold' is unknown"),
        ("Fdr=0.1", "The parameter 'Fdr' is unknown"),
        ("heatmaps=true", "The parameter 'heatmaps' is unknown"),
    ],
)
def test_parameters_that_would_not_be_looked_at_are_refused(client: TestClient, path: str, query: str, text: str) -> None:
    answer = client.post(f"{path}?{query}", json={"rows": [[0.0, 0.0, 0.0]]})
    assert answer.status_code == 422 and answer.json()["error"].startswith(text)
    if "infer" not in path:
        assert "category, fdr, heatmap" in answer.json()["error"]


def test_a_parameter_given_twice_is_refused_and_a_near_one_is_named(client: TestClient) -> None:
    rows = {"rows": [[0.0, 0.0, 0.0]]}
    twice = client.post("/models/sensors/score?fdr=0.5&fdr=0.1", json=rows)
    assert twice.status_code == 422 and "The parameter fdr is there 2 times" in twice.json()["error"]
    near = client.post("/models/sensors/score?heatmaps=true", json=rows)
    assert near.json()["error"].endswith("Did you mean 'heatmap'?")


@pytest.mark.parametrize(
    "body",
    ['{"rows": [[0, 0, 0]], "rows": [[9, 9, 9]]}', '{{"rows": [{{"{}": 1, "{}": 2, "{}": 3, "{}": 4}}]}}'.format(FEATURES[0], *FEATURES)],
)
def test_a_name_twice_in_an_object_is_refused(client: TestClient, body: str) -> None:
    answer = client.post("/models/sensors/score", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422 and "twice" in answer.json()["error"]


def test_a_request_id_comes_back_if_it_is_a_plain_word(client: TestClient) -> None:
    assert client.get("/v2", headers={"X-Request-ID": "line-3.7"}).headers["x-request-id"] == "line-3.7"
    for odd in ("a b", "é".encode(), "x" * 65, "<b>"):
        made = client.get("/v2", headers={"X-Request-ID": odd}).headers["x-request-id"]  # type: ignore[dict-item]
        assert len(made) == 32


def test_heat_maps_are_there_or_the_answer_says_why_not(client: TestClient) -> None:
    answer = upload(client, digits(2), "/models/digits/score?heatmap=true")
    assert answer.status_code == 200
    body = answer.json()
    maps = [result["heatmap"] for result in body["results"]]
    assert maps == [None, None] if body["heatmap_problem"] else all(text.startswith("data:image/png;base64,") for text in maps)
    assert upload(client, digits(1), "/models/digits/score?heatmap=perhaps").status_code == 422
    assert "heatmap" not in json.dumps(upload(client, digits(1)).json())
