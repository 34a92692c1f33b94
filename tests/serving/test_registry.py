"""Names, versions, folders, and files that change while the service runs."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import insphere
from insphere.detectors.base import AbstractDetector
from insphere.errors import ModelFileError, ParameterError
from insphere.serving import ModelPlace, Settings, find_models, make_app
from serving.conftest import digits, fitted, serving


def newer(target: Path, source: Path) -> None:
    """Put another file in a place, as a deployment would."""
    shutil.copy(source, target.with_suffix(".part"))
    target.with_suffix(".part").replace(target)


@pytest.fixture(scope="module")
def other_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("other") / "other.insphere"
    fitted(insphere.DeepSVDDVAE(epochs=2, random_state=5), "digits:3").save(path)
    return path


def ready(client: TestClient) -> None:
    """Wait until the files that were there at the start are tried."""
    end = time.monotonic() + 120
    while client.get("/v2/health/ready").status_code != 200:
        assert time.monotonic() < end, "the models are never ready"
        time.sleep(0.02)


def score(client: TestClient, path: str = "/models/digits/score") -> Any:
    return client.post(path, files={"images": ("a.png", digits(1)[0])}).json()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a/tiles.insphere", ("tiles", "1", "a/tiles.insphere")),
        ("a/tiles@2.insphere", ("tiles", "2", "a/tiles@2.insphere")),
        ("line=a/tiles.insphere", ("line", "1", "a/tiles.insphere")),
        ("line@may=a/x=y.insphere", ("line", "may", "a/x=y.insphere")),
        ("./a=b/tiles.insphere", ("tiles", "1", "./a=b/tiles.insphere")),
    ],
)
def test_what_the_words_mean(text: str, place: tuple[str, str, str]) -> None:
    parsed = ModelPlace.parse(text)
    assert (parsed.name, parsed.version, parsed.path) == (place[0], place[1], Path(place[2]))


@pytest.mark.parametrize("text", ["a b.insphere", "-x=m.insphere", "x@=m.insphere", "é=m.insphere", f"{'a' * 101}=m.insphere"])
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(ParameterError, match="NAME=PATH"):
        ModelPlace.parse(text)


def test_a_folder_gives_all_its_models_and_those_that_come_later(image_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="holds no file"):
        find_models([str(tmp_path)])
    shutil.copy(image_file, tmp_path / "digits@9.insphere")
    app = make_app(find_models([str(tmp_path)]), Settings(reload_seconds=0, load_seconds=0))
    with TestClient(app) as client:
        registry = app.state.service.registry
        ready(client)
        assert registry.versions("digits") == ["9"]
        shutil.copy(image_file, tmp_path / "digits@10.insphere")
        (tmp_path / "bad.insphere").write_bytes(b"no model")
        (tmp_path / "no name.insphere").write_bytes(b"")
        registry.reload()
        assert registry.versions("digits") == ["9"]  # a name that is none: the folder is not read further
        (tmp_path / "no name.insphere").unlink()
        registry.reload()
        registry.reload()
        assert registry.versions("digits") == ["9", "10"]
        assert registry.names == ["digits"]
        assert score(client)["version"] == "10"
        assert 'insphere_model_reloads_total{model="bad",outcome="refused",version="1"} 1.0' in client.get("/metrics").text


def test_a_service_does_not_start_with_a_model_missing_or_named_twice(image_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist"):
        make_app({"digits": tmp_path / "missing.insphere"})
    with pytest.raises(ParameterError, match="Two models are called digits@1"):
        make_app(find_models([str(image_file), f"digits={image_file}"]))
    with pytest.raises(ParameterError, match="at least one"):
        make_app({})


def test_a_new_file_answers_once_it_is_sound_and_the_old_model_until_then(image_file: Path, other_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "digits.insphere"
    shutil.copy(image_file, path)
    with serving({"digits": path}, reload_seconds=0.02) as client:
        before = score(client)["results"][0]["anomaly_score"]
        metrics = 'insphere_model_reloads_total{model="digits",outcome="%s",version="1"} 1.0'
        for bad in (b"no model", path.read_bytes()[:-10], b""):
            path.write_bytes(bad)
            client.app.state.service.registry.reload()  # type: ignore[attr-defined]
            assert score(client)["results"][0]["anomaly_score"] == before
        path.unlink()
        client.app.state.service.registry.reload()  # type: ignore[attr-defined]
        assert score(client)["results"][0]["anomaly_score"] == before
        assert client.get("/v2/health/ready").status_code == 200
        newer(path, other_file)
        end = time.monotonic() + 60
        while metrics % "loaded" not in client.get("/metrics").text:
            assert time.monotonic() < end, "the changed file was not seen"
            time.sleep(0.02)
        after = score(client)["results"][0]["anomaly_score"]
    expected = insphere.load(other_file)
    (tmp_path / "a.png").write_bytes(digits(1)[0])
    assert after == expected.anomaly_score(str(tmp_path / "a.png"))[0] != before


def test_a_collapsed_model_does_not_replace_a_sound_one(image_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "digits.insphere"
    shutil.copy(image_file, path)
    with serving({"digits": path}, reload_seconds=0) as client:
        os.utime(path, ns=(1, 1))
        monkeypatch.setattr("insphere.decision.health.HealthReport.collapsed", property(lambda self: True))
        monkeypatch.setattr("insphere.serving.models._problem", lambda detector: "All rows score the same.")
        client.app.state.service.registry.reload()  # type: ignore[attr-defined]
        monkeypatch.undo()
        assert score(client)["n_errors"] == 0
        assert 'outcome="refused"' in client.get("/metrics").text


def test_the_newest_version_is_the_highest_number(images: AbstractDetector) -> None:
    with serving({f"digits@{version}": images for version in ("2", "10", "9")}) as client:
        assert score(client)["version"] == "10"
        assert client.get("/v2/models/digits").json()["versions"] == ["2", "9", "10"]


def test_a_changed_shape_is_in_the_document_at_once(image_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.insphere"
    shutil.copy(image_file, path)
    with serving({"m": path}, reload_seconds=0) as client:
        assert "multipart/form-data" in client.get("/openapi.json").json()["paths"]["/score"]["post"]["requestBody"]["content"]
        fitted(insphere.KNN(), np.random.default_rng(0).normal(size=(60, 2))).save(path)
        client.app.state.service.registry.reload()  # type: ignore[attr-defined]
        assert list(client.get("/openapi.json").json()["paths"]["/score"]["post"]["requestBody"]["content"]) == ["application/json"]
        assert client.post("/score", json={"rows": [[0.0, 0.0]]}).json()["results"][0]["is_anomaly"] is False
