"""Rows that people look at, over HTTP: which are drawn, what is said of them, and what the model makes of it."""

import base64
import io
import logging
import re
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import insphere
from insphere.cli import main
from insphere.decision.units import row_hashes
from insphere.decision.verdicts import are_drawn, row_id
from insphere.detectors.base import AbstractDetector
from insphere.detectors.classical import KNN
from insphere.errors import DataError, ParameterError
from insphere.serving import page
from insphere.verdict_database import VerdictDatabase
from insphere.verdict_files import read_verdicts
from serving.conftest import FEATURES, digits, serving

SENSORS = "/models/sensors/feedback"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "line.sqlite"


@pytest.fixture
def both(images: AbstractDetector, vectors: AbstractDetector, file: Path) -> Iterator[TestClient]:
    with serving({"digits": images, "sensors": vectors}, feedback=file, draw=0.2) as client:
        yield client


def rows(seed: int, count: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)) * 1.5


def score(client: TestClient, X: np.ndarray, **parameters: Any) -> list[dict[str, Any]]:
    answer = client.post("/models/sensors/score", json={"rows": X.tolist()}, params=parameters)
    assert answer.status_code == 200
    return list(answer.json()["results"])


def say(client: TestClient, *said: tuple[str, str | None], path: str = SENSORS) -> Any:
    return client.post(path, json={"verdicts": [{"row_id": row, "verdict": word} for row, word in said]})


def test_rows_are_drawn_as_the_command_line_draws_them(both: TestClient, vectors: AbstractDetector) -> None:
    X = rows(1)
    results = score(both, X)
    assert [row["row_id"] for row in results] == [row_id(value) for value in row_hashes(X).tolist()]
    expected = are_drawn(row_hashes(X), vectors.draw_key, 0.2)
    assert [row["drawn"] for row in results] == expected.tolist()
    told = both.get(SENSORS).json()
    assert (told["share"], told["n_drawn_unanswered"]) == (0.2, expected.sum())
    drawn = [row["row_id"] for row in told["queue"] if row["drawn"]]
    assert drawn == [row["row_id"] for row in results if row["drawn"]][:12]


def test_nothing_is_drawn_and_no_route_is_there_without_a_file(client: TestClient) -> None:
    assert "row_id" not in score(client, rows(1, 2))[0]
    assert client.get(SENSORS).status_code == client.get("/feedback").status_code == 404
    assert client.get("/models").json()["feedback"] is False


def test_rows_that_were_given_to_fit_are_not_drawn(both: TestClient) -> None:
    known = np.random.default_rng(0).normal(size=(120, 3))  # those of the fixture
    results = score(both, np.concatenate([known, rows(3)]))
    assert all(row["row_id"] is None and row["drawn"] is False for row in results[:120])
    assert both.get(SENSORS).json()["n_drawn_unanswered"] == sum(row["drawn"] for row in results[120:]) > 0


def test_the_queue_has_drawn_rows_first_then_the_uncertain_ones(both: TestClient) -> None:
    X = rows(4, 100)
    results = {row["row_id"]: row for row in score(both, X)}
    told = both.get(SENSORS, params={"limit": 50}).json()
    kinds = [row["drawn"] for row in told["queue"]]
    assert kinds == sorted(kinds, reverse=True) and not all(kinds)
    others = [row for row in told["queue"] if not row["drawn"]]
    distance = [abs(np.log(row["p_value"] / 0.05)) for row in others]
    assert distance == sorted(distance)
    assert all(row["is_anomaly"] or row["p_value"] <= 0.1 for row in others)
    for row in told["queue"]:
        assert {name: results[row["row_id"]][name] for name in ("anomaly_score", "p_value", "is_anomaly")}.items() <= row.items()
        assert [value["name"] for value in row["values"]] == FEATURES
        position = list(results).index(row["row_id"])
        assert [value["value"] for value in row["values"]] == X[position].tolist()
    for limit in ("51", "0", "-1", "ten", ""):
        assert both.get(SENSORS, params={"limit": limit}).status_code == 422


def test_a_row_scored_twice_is_kept_once(both: TestClient) -> None:
    score(both, rows(5))
    first = both.get(SENSORS).json()
    score(both, rows(5))
    assert both.get(SENSORS).json() == first


def test_pictures_come_with_their_names_and_as_the_model_sees_them(both: TestClient, images: AbstractDetector, tmp_path: Path) -> None:
    files = digits(60)
    answer = both.post("/models/digits/score", files=[("images", (f"{n}.png", data)) for n, data in enumerate(files)] + [("images", b"x")])
    results = answer.json()["results"]
    assert (results[-1]["row_id"], results[-1]["drawn"]) == (None, None)
    assert sum(row["drawn"] is True for row in results) > 0
    for number, data in enumerate(files):
        (tmp_path / f"{number:02}.png").write_bytes(data)
    X = images.open(str(tmp_path)).load().X
    told = both.get("/models/digits/feedback", params={"limit": 50}).json()["queue"]
    named = {row["row_id"]: row["name"] for row in results}
    for row in told:
        assert row["name"] == named[row["row_id"]]
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(row["image"].partition(",")[2]))))
        assert (shown[:, :, 0] == X[int(row["name"].removesuffix(".png"))][:, :, 0]).all()
        assert row["values"] is row["heatmap"] is None


def test_tensors_of_the_protocol_are_drawn_too(both: TestClient, vectors: AbstractDetector) -> None:
    X = rows(6)
    tensor = {"name": "x", "datatype": "FP64", "shape": list(X.shape), "data": X.ravel().tolist()}
    assert both.post("/v2/models/sensors/infer", json={"inputs": [tensor]}).status_code == 200
    assert both.get(SENSORS).json()["n_drawn_unanswered"] == are_drawn(row_hashes(X), vectors.draw_key, 0.2).sum()


def test_verdicts_are_noted_one_by_one_and_can_be_taken_back(both: TestClient) -> None:
    score(both, rows(7, 100))
    queue = both.get(SENSORS, params={"limit": 50}).json()["queue"]
    calm = [row["row_id"] for row in queue if not row["is_anomaly"]]
    flagged = next(row["row_id"] for row in queue if row["is_anomaly"])
    answer = say(both, (calm[0], "normal"), ("0" * 16, "normal"), (flagged, "missed"), (calm[1], "missed"), (flagged, "real"))
    errors = [entry["error"] for entry in answer.json()["results"]]
    assert (answer.status_code, answer.json()["n_errors"]) == (207, 2)
    assert "No row of this id" in errors[1] and "was flagged, so its verdict can't be 'missed'" in errors[2]
    assert [error is None for error in errors] == [True, False, False, True, True]
    assert answer.json()["summary"]["by_verdict"] == {"normal": 1, "false alarm": 0, "real": 1, "missed": 1, "unsure": 0}
    again = say(both, (calm[0], None), (calm[1], None), (flagged, None))
    assert (again.status_code, again.json()["summary"]["n_verdicts"]) == (200, 0)
    assert [row["row_id"] for row in both.get(SENSORS, params={"limit": 50}).json()["queue"]] == [row["row_id"] for row in queue]


def test_a_drawn_row_after_a_gap_waits(both: TestClient) -> None:
    score(both, rows(8, 100))
    drawn = [row for row in both.get(SENSORS, params={"limit": 50}).json()["queue"] if row["drawn"]]
    told = say(both, (drawn[1]["row_id"], "unsure"), (drawn[2]["row_id"], "unsure")).json()
    assert (told["n_drawn_held"], told["summary"]["n_waiting"], told["n_drawn_unanswered"]) == (2, 0, len(drawn) - 2)
    told = say(both, (drawn[0]["row_id"], "unsure")).json()
    assert (told["n_drawn_held"], told["summary"]["n_waiting"]) == (0, 3)
    before, after = (told["summary"][name] for name in ("expected", "expected_with_waiting"))
    assert after["high"] - after["low"] < before["high"] - before["low"]


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        ("{", 400, "no JSON"),
        ("[]", 422, "list of verdicts"),
        ('{"verdicts": []}', 422, "list of verdicts"),
        ('{"verdicts": [{"row_id": "0000000000000000", "verdict": "normal"}], "more": 1}', 422, "list of verdicts"),
        ('{"verdicts": [3]}', 422, "Item 0"),
        ('{"verdicts": [{"row_id": "0000000000000000"}]}', 422, "Item 0"),
        ('{"verdicts": [{"row_id": 3, "verdict": "normal"}]}', 422, "row_id of item 0"),
        ('{"verdicts": [{"row_id": "\' OR 1=1 --------", "verdict": "normal"}]}', 422, "row_id of item 0"),
        ('{"verdicts": [{"row_id": "0000000000000000\\n", "verdict": "normal"}]}', 422, "row_id of item 0"),
        ('{"verdicts": [{"row_id": "0000000000000000", "verdict": "norml"}]}', 422, "Did you mean 'normal'?"),
        ('{"verdicts": [{"row_id": "0000000000000000", "verdict": ["normal"]}]}', 422, "verdict of item 0"),
        ('{"verdicts": [' + ",".join(['{"row_id": "0000000000000000", "verdict": "normal"}'] * 1025) + "]}", 422, "1024"),
    ],
)
def test_bodies_that_are_no_verdicts(both: TestClient, body: str, status: int, why: str) -> None:
    answer = both.post(SENSORS, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, why in answer.json()["error"]) == (status, True), answer.text


def test_key_origin_and_size_are_checked_as_everywhere(vectors: AbstractDetector, file: Path) -> None:
    with serving({"sensors": vectors}, feedback=file, api_key="0123456789abcdef", max_body_bytes=2000) as client:
        assert client.get(SENSORS).status_code == say(client, ("0" * 16, "normal")).status_code == 401
        assert client.get("/feedback").status_code == 200
        client.headers["X-API-Key"] = "0123456789abcdef"
        assert client.get(SENSORS).status_code == 200
        assert say(client, *[("0" * 16, "normal")] * 60).status_code == 413
        assert client.post(SENSORS, data={"verdicts": "x"}).status_code == 415
        client.headers["Origin"] = "https://elsewhere.example"
        assert say(client, ("0" * 16, "normal")).status_code == 403
        assert client.get("/models/nothing/feedback").status_code == 404


def test_another_share_is_refused_with_the_remedy(vectors: AbstractDetector, file: Path) -> None:
    with serving({"sensors": vectors}, feedback=file, draw=0.2):
        pass
    with (
        pytest.raises(ParameterError, match=r"begun with --draw 0.2, got 0.1.*begin a new file"),
        serving({"a": vectors}, feedback=file, draw=0.1),
    ):
        pass
    with serving({"sensors": vectors}, feedback=file) as client:
        assert client.get(SENSORS).json()["share"] == 0.2


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"draw": 0.1}, "name one with --feedback"),
        ({"feedback": Path("a.csv")}, "must end in .sqlite"),
        ({"feedback": Path("a.sqlite"), "draw": 0.0}, "above 0"),
        ({"feedback": Path("a.sqlite"), "draw": 1.5}, "at most 1"),
    ],
)
def test_settings_that_make_no_sense(vectors: AbstractDetector, settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ParameterError, match=why), serving({"sensors": vectors}, **settings):
        pass


def test_a_file_of_another_kind_is_refused(vectors: AbstractDetector, file: Path) -> None:
    file.write_bytes(b"no database" * 100)
    with pytest.raises(DataError, match="cannot be read or written"), serving({"sensors": vectors}, feedback=file):
        pass


@pytest.mark.parametrize("trouble", ["damaged", "locked", "gone", "full disk"])
def test_scoring_goes_on_whatever_becomes_of_the_file(
    both: TestClient, file: Path, trouble: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("insphere.verdict_database._PATIENCE", 0.05)
    caplog.set_level(logging.INFO, "insphere.serving")
    score(both, rows(9))
    n_before = both.get(SENSORS).json()["n_drawn_unanswered"]
    whole = file.read_bytes()
    holder = sqlite3.connect(file, isolation_level=None)
    if trouble == "locked":
        holder.execute("BEGIN EXCLUSIVE")
    elif trouble == "full disk":
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole), hard))
    elif trouble == "damaged":
        file.write_bytes(b"x" * len(whole))
    else:
        file.unlink()
        file.mkdir()
    drawn = sum(row["drawn"] for row in score(both, rows(10, 500)))
    answers = both.get(SENSORS), say(both, ("0" * 16, "normal"))
    if trouble == "full disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert drawn > 0
    for answer in answers:
        assert (answer.status_code, "retry-after" in answer.headers, str(file) in answer.text) == (503, True, False)
    assert "file of verdicts in trouble; scoring goes on" in caplog.messages
    assert re.search(r"insphere_feedback_problems_total [1-9]", both.get("/metrics").text)
    if trouble == "gone":
        file.rmdir()
    if trouble in ("damaged", "gone"):
        file.write_bytes(whole)
    holder.close()
    # What was scored meanwhile has waited in memory.
    assert both.get(SENSORS).json()["n_drawn_unanswered"] == n_before + drawn
    assert "file of verdicts works again" in caplog.messages


def test_a_full_model_draws_no_more_and_says_so(both: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insphere.verdict_database.MOST_KEPT", 15)
    score(both, rows(11, 200))
    told = both.get(SENSORS).json()
    assert (told["is_full"], told["n_drawn_unanswered"]) == (True, 15)
    answer = both.post("/models/sensors/score", json={"rows": rows(12).tolist()}).json()
    assert not any(row["drawn"] for row in answer["results"])
    assert "No more rows are drawn" in answer["notices"][0]["text"]
    assert both.get(SENSORS).json() == told


def test_what_is_described_is_what_is_there(both: TestClient) -> None:
    document = both.get("/openapi.json").json()
    of_models = [f"/models/{place}/feedback" for place in ("digits", "digits/versions/1", "sensors", "sensors/versions/1")]
    assert {path for path in document["paths"] if "feedback" in path} == {"/feedback", *of_models}
    assert set(document["paths"][SENSORS]) == {"get", "post"}
    assert set(both.delete(SENSORS).headers["allow"].split(", ")) == {"GET", "POST"}
    operation = document["paths"][SENSORS]["post"]
    assert set(operation["responses"]) >= {"200", "207", "413", "415", "422", "503"}
    words = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]["verdicts"]["items"]["properties"]["verdict"]
    assert words["enum"] == ["normal", "false alarm", "real", "missed", "unsure", None]


def test_from_the_page_s_verdicts_into_the_model_file_and_back(vector_file: Path, file: Path, tmp_path: Path) -> None:
    model = tmp_path / "sensors.insphere"
    model.write_bytes(vector_file.read_bytes())
    command = ["feedback", str(model), str(file), "--recalibrate", "add"]
    with serving({"sensors": model}, feedback=file, draw=0.5) as client:
        score(client, rows(13, 100))
        drawn = [row for row in client.get(SENSORS, params={"limit": 50}).json()["queue"] if row["drawn"]]
        told = say(client, *[(row["row_id"], "false alarm" if row["is_anomaly"] else "normal") for row in drawn[:20]]).json()
        assert told["summary"]["n_waiting"] == 20
        before = insphere.load(model)
        assert main(command) == 0
        client.app.state.service.registry.reload()  # type: ignore[attr-defined]
        after = insphere.load(model)
        assert len(after.decision_) == len(before.decision_) + 20
        told = client.get(SENSORS, params={"limit": 50}).json()
        assert (told["summary"]["n_waiting"], told["summary"]["n_verdicts"]) == (0, 20)
        assert told["summary"]["expected"] == after.decision_.expected.to_json()  # type: ignore[union-attr]
        assert not {row["row_id"] for row in drawn[:20]} & {row["row_id"] for row in told["queue"]}
        # Used verdicts stay as they are, and count once.
        refused = say(client, (drawn[0]["row_id"], None))
        assert (refused.status_code, "stays as it is" in refused.json()["results"][0]["error"]) == (207, True)
        assert say(client, (drawn[20]["row_id"], "unsure")).json()["summary"]["n_waiting"] == 1
        assert main(command) == 0
        assert len(insphere.load(model).decision_) == len(before.decision_) + 21


def test_rows_of_another_fit_on_the_same_rows_are_kept_apart(file: Path) -> None:
    X = np.random.default_rng(0).normal(size=(200, 3))
    near, far = KNN(n_neighbors=1, random_state=0).fit(X), KNN(n_neighbors=20, random_state=0).fit(X)
    assert near.draw_key == far.draw_key and near.fit_key != far.fit_key
    with serving({"sensors": near, "far": far}, feedback=file, draw=0.5) as client:
        score(client, rows(14))
        assert client.get("/models/far/feedback").json()["queue"] == []
        assert client.get(SENSORS).json()["queue"] != []


def test_the_page_is_under_the_same_closed_policy(both: TestClient) -> None:
    answer = both.get("/feedback")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert not re.findall(r'(?:src|href|action)="(?!data:)', answer.text.partition("<script>")[0])
    assert not re.findall(r"\son\w+=|style=|javascript:|innerHTML|eval\(|https?:", answer.text)
    assert answer.text.count("<script>") == answer.text.count("<style>") == 1
    assert "/* common" not in answer.text + page.html() and policy != page.policy()
    assert both.get("/models").json()["feedback"] is True


def test_the_file_knows_nothing_of_a_model_that_never_scored(vectors: AbstractDetector, vector_file: Path, file: Path) -> None:
    VerdictDatabase(file)
    assert main(["feedback", str(vector_file), str(file)]) == 1
    assert main(["feedback", str(vector_file), str(file.with_name("none.sqlite"))]) == 1


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
def test_verdicts_over_http_keep_the_promise(tmp_path: Path) -> None:
    """Sixty draws: drawn normal rows enter whatever they score, flagged ones that were not drawn never; the rate stays what is promised."""
    rates, promised, of_flagged = [], [], []
    for number in range(60):
        rng = np.random.default_rng([60, number])
        detector = KNN(target_fpr=0.1, random_state=number).fit(rng.normal(size=(150, 2)))
        file = tmp_path / f"{number}.sqlite"
        with serving({"sensors": detector}, feedback=file, draw=0.3) as client:
            results = score(client, rng.normal(size=(300, 2)))
            said = [(row["row_id"], "normal") for row in results if row["drawn"] or row["is_anomaly"]]
            assert say(client, *said).status_code == 200
        verdicts, n_waiting = read_verdicts(file, detector.draw_key, detector.fit_key)
        drawn = {row["row_id"]: row["anomaly_score"] for row in results if row["drawn"]}
        assert ({entry.row for entry in verdicts if entry.enters}, n_waiting, len(verdicts)) == (drawn.keys(), 0, len(said))
        before = detector.decision_
        detector.take_verdicts(verdicts).recalibrate_by_verdicts()
        assert sorted(detector.conformal_.scores) == sorted([*before.calibration.scores, *drawn.values()])
        fresh = detector.anomaly_score(rng.normal(size=(2000, 2)))
        rates.append((fresh > detector.threshold_).mean())
        promised.append(detector.decision_.promised_fpr)
        # Had all that people looked at entered, the threshold would have risen: the check below can fail.
        flagged = [row["anomaly_score"] for row in results if row["drawn"] or row["is_anomaly"]]
        of_flagged.append((fresh > before.extended(np.array(flagged)).threshold).mean())
    difference = np.subtract(rates, promised)
    error = difference.std() / len(difference) ** 0.5
    assert abs(difference.mean()) < 3 * error < 0.015
    assert np.subtract(of_flagged, promised).mean() < -5 * error


def test_heat_maps_are_shown_of_rows_that_were_not_drawn(images: AbstractDetector, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def maps(detector: Any, X: np.ndarray) -> list[str]:
        asked.append(X)
        return [f"data:image/png;base64,{number}" for number in range(len(X))]

    monkeypatch.setattr(type(images), "has_maps", True)
    monkeypatch.setattr("insphere.serving.previews.own_maps", maps)
    with serving({"digits": images}, feedback=file, draw=0.2) as client:
        files = [("images", (f"{n}.png", data)) for n, data in enumerate(digits(60))]
        assert client.post("/score", files=files).status_code == 200
        queue = client.get("/models/digits/feedback", params={"limit": 50}).json()["queue"]
    assert {(row["drawn"], row["heatmap"] is None) for row in queue} == {(True, True), (False, False)}
    assert len(asked[0]) == sum(not row["drawn"] for row in queue)


def test_a_picture_that_is_gone_or_damaged_is_none(both: TestClient, file: Path) -> None:
    score(both, rows(15))
    both.get(SENSORS)
    with sqlite3.connect(file) as holder:
        holder.execute("UPDATE rows SET content = CASE number % 3 WHEN 0 THEN NULL WHEN 1 THEN x'00' ELSE content END")
    holder.close()
    values = [row["values"] for row in both.get(SENSORS).json()["queue"]]
    assert None in values and not all(value is None for value in values)
