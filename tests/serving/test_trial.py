"""Model files that are slow, endless or deadly to open: refused by name, while the other models answer and the service can be stopped."""

import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

import insphere
from insphere.detectors import catalog
from insphere.errors import ModelFileError
from insphere.serving import ModelPlace, Settings, find_models, make_app
from insphere.serving.trial import Trials, Verdict
from serving.conftest import fitted, running

# A detector of others whose files do to their reader what its parameter says, but where they were made.
HOSTILE = """
import os
import time

import insphere


class Hostile(insphere.KNN):
    name = "hostile"

    def _restore(self, model, arrays):
        if os.environ["HOSTILE_HOME"] != str(os.getpid()):
            time.sleep(1000) if self.n_neighbors == 7 else os._exit(9)
        super()._restore(model, arrays)
"""
ENDLESS, DEADLY = 7, 8
ROW = {"rows": [[0.0, 0.0, 0.0]]}


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, Path]]:
    (tmp_path / "hostile_detectors.py").write_text(HOSTILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("INSPHERE_DETECTORS", "hostile_detectors:Hostile")
    monkeypatch.setenv("HOSTILE_HOME", "nowhere")
    from hostile_detectors import Hostile  # type: ignore[import-not-found]

    paths = {}
    for kind in (ENDLESS, DEADLY):
        paths[kind] = tmp_path / f"{kind}.hostile"
        fitted(Hostile(n_neighbors=kind), np.random.default_rng(0).normal(size=(40, 3))).save(paths[kind])
    yield paths
    del sys.modules["hostile_detectors"]


def test_what_is_slow_or_deadly_is_named_and_the_files_behind_it_are_tried(hostile: dict[int, Path], vector_file: Path) -> None:
    paths = [hostile[ENDLESS], vector_file, hostile[DEADLY]]
    places = [ModelPlace(f"m{number}", "1", path) for number, path in enumerate(paths)]
    slow, good, deadly = Trials(seconds=5).of(places)
    assert "more than 5 seconds" in str(slow.problem)
    assert good.problem is None
    assert good.digest == catalog.read(vector_file).digest
    assert "ended without a word" in str(deadly.problem)
    assert [verdict.place for verdict in (slow, good, deadly)] == places


def test_a_service_names_the_model_that_it_does_not_start_with(vector_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Verdict(ModelPlace("odd", "2", vector_file), "", ModelFileError("It is endless."), 60.0)
    monkeypatch.setattr(Trials, "of", lambda self, places: iter([refused]))
    with pytest.raises(ModelFileError, match="Model odd@2 is refused. It is endless."):
        make_app({"odd@2": vector_file})


def test_what_changes_after_its_trial_is_not_taken_for_it(vector_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = Verdict(ModelPlace("m", "1", vector_file), "the checksum of another", None, 0.1)
    monkeypatch.setattr(Trials, "of", lambda self, places: iter([tried]))
    with pytest.raises(ModelFileError, match="changed while it was tried"):
        make_app({"m": vector_file})


def test_others_answer_while_an_endless_model_is_tried_and_readiness_tells_of_each(
    hostile: dict[int, Path], vector_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "served").mkdir()
    shutil.copy(vector_file, tmp_path / "served/a.insphere")
    shutil.copy(hostile[ENDLESS], tmp_path / "served/b.insphere")
    app = make_app(find_models([str(tmp_path / "served")]), Settings(load_seconds=8, reload_seconds=0))
    with TestClient(app) as client:
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").json()["ready"] is False
        assert client.post("/models/b/score", json=ROW).status_code == 503
        end = time.monotonic() + 120
        while client.post("/models/a/score", json=ROW).status_code != 200:
            assert time.monotonic() < end, "the good model waits for the endless one"
            time.sleep(0.05)
        assert client.get("/v2/models/a/ready").json() == {"name": "a", "ready": True}
        while (answer := client.get("/v2/health/ready")).status_code != 200:
            assert time.monotonic() < end, "the endless model is never refused"
            time.sleep(0.05)
        assert answer.json() == {"ready": True, "models": {"ready": 1, "unsound": 0, "loading": 0, "refused": 1}}
        assert client.get("/models").json()["waiting"] == [{"name": "b", "version": "1", "state": "refused"}]
        assert client.get("/v2/models/b/ready").status_code == client.get("/v2/models/b").status_code == 503
        assert 'insphere_model_ready{model="b",version="1"} 0.0' in client.get("/metrics").text
        shutil.copy(vector_file, tmp_path / "served/b.insphere")
        app.state.service.registry._trials = Trials(seconds=0)
        app.state.service.registry.reload()
        assert client.post("/models/b/score", json=ROW).status_code == 200
        assert client.get("/models").json()["waiting"] == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "alarm"), reason="signals as POSIX has them")
def test_a_service_that_tries_an_endless_model_stops_when_told_to(hostile: dict[int, Path], vector_file: Path, tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    shutil.copy(vector_file, tmp_path / "served/a.insphere")
    shutil.copy(hostile[ENDLESS], tmp_path / "served/b.insphere")
    environment = {"PYTHONPATH": f"{Path(insphere.__file__).parent.parent}:{tmp_path}"}
    with running(tmp_path / "served", "--load-timeout", "600", **environment) as started:
        end = time.monotonic() + 120
        while httpx.post(f"{started.url}/models/a/score", json=ROW, timeout=30).status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.1)
        began = time.monotonic()
        started.process.terminate()
        assert started.process.wait(30) == 0
        assert time.monotonic() - began < 15
    assert started.lines[-1]["event"] == "stopped"
