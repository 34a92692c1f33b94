"""Alarms on the rows of a service, and what it says after a drift."""

import numpy as np
import pytest

import insphere
from insphere.decision.online import OnlineDiscoveries
from insphere.detectors.base import AbstractDetector
from insphere.errors import ParameterError
from insphere.serving import make_app
from insphere.serving.settings import Settings
from serving.conftest import digits, serving

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def many() -> AbstractDetector:
    return insphere.KNN(random_state=0).fit(RNG.normal(size=(1000, 3)))


def test_alarms_are_those_of_the_procedure_over_requests(many: AbstractDetector) -> None:
    X = RNG.normal(size=(90, 3)) + 9.0 * (RNG.uniform(size=90) < 0.2)[:, None]
    expected = OnlineDiscoveries(many.decision_, fdr=0.2, window=30).update(many.p_value(X))
    with serving({"sensors": many}, fdr=0.2, fdr_window=30) as client:
        answers = [client.post("/score", json={"rows": X[start : start + 9].tolist()}).json() for start in range(0, 90, 9)]
        assert [row["is_alarm"] for answer in answers for row in answer["results"]] == expected and sum(expected) > 5
        assert answers[-1]["alarms"] == client.get("/models").json()["models"][0]["alarms"]
    assert (answers[0]["alarms"]["n_rows"], answers[3]["alarms"]["n_rows"]) == (9, 6)
    assert "at most 20 % are false on average" in answers[0]["alarms"]["promise"]


def test_a_picture_without_a_score_counts_for_nothing(images: AbstractDetector) -> None:
    with serving({"digits": images}, fdr=0.5, fdr_window=10) as client:
        answer = client.post("/score", files=[("images", ("a.png", data)) for data in (b"broken", *digits(2))]).json()
    assert answer["results"][0]["is_alarm"] is None and answer["alarms"]["n_rows"] == 2


def test_too_few_calibration_rows_are_said_before_anything_is_served(vectors: AbstractDetector) -> None:
    with pytest.raises(ParameterError, match="calibration rows for its first alarm"):
        make_app({"sensors": vectors}, Settings(fdr=0.01))
    with pytest.raises(ParameterError, match="fdr"):
        Settings(fdr=1.5)


def test_without_it_nothing_is_said_of_alarms(vectors: AbstractDetector) -> None:
    with serving({"sensors": vectors}) as client:
        answer = client.post("/score", json={"rows": [[0, 0, 0]]}).json()
        assert "alarms" not in answer and "is_alarm" not in answer["results"][0]


def test_after_a_drift_the_service_says_what_to_do(many: AbstractDetector) -> None:
    with serving({"sensors": many}) as client:
        quiet = client.get("/models").json()["models"][0]["drift"]
        assert quiet == {"drifted": False, "direction": None, "advice": None}
        client.post("/score", json={"rows": (RNG.normal(size=(200, 3)) + 3).tolist()})
        found = client.get("/models").json()["models"][0]["drift"]
    assert (found["drifted"], found["direction"]) == (True, "higher")
    assert "insphere recalibrate MODEL ROWS" in found["advice"]
