"""The OpenAPI document, tried by schemathesis: what it says must be so."""

import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from insphere.detectors.base import AbstractDetector
from insphere.serving import Settings, make_app
from serving.conftest import Process, running


@pytest.mark.slow
def test_schemathesis_finds_nothing(process: Process, tmp_path: Path) -> None:
    """A real service under its whole engine: values at the limits, random ones, wrong ones, and requests that follow from answers."""
    _try_out(process, tmp_path)


@pytest.mark.slow
def test_schemathesis_finds_nothing_where_people_look_at_rows(image_file: Path, vector_file: Path, tmp_path: Path) -> None:
    words = (image_file, vector_file, "--read-timeout", "1.5", "--max-body", "1", "--feedback", tmp_path / "line.sqlite", "--draw", "0.5")
    with running(*words) as started:
        _try_out(started, tmp_path)


def _try_out(process: Process, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{process.url}/openapi.json", "--max-examples", "4", "--seed", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("has_feedback", [False, True])
def test_every_route_is_described(images: AbstractDetector, has_feedback: bool, tmp_path: Path) -> None:
    app = make_app({"digits": images}, Settings(feedback=tmp_path / "line.sqlite" if has_feedback else None))
    with TestClient(app) as client:
        paths = client.get("/openapi.json").json()["paths"]
    routes = {getattr(route, "path", "").replace("{name}", "digits").replace("{version}", "1") for route in app.routes}
    described = {path.replace("{name}", "digits").replace("{version}", "1") for path in paths}
    assert routes == described


def test_the_key_is_described_where_it_is_asked_for(images: AbstractDetector) -> None:
    with TestClient(make_app({"digits": images}, Settings(api_key="0123456789abcdef"))) as client:
        made = client.get("/openapi.json").json()
    assert set(made["components"]["securitySchemes"]) == {"key", "bearer"}
    for path, operations in made["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == ("401" in operation["responses"])
            assert ("security" in operation) == (path not in ("/", "/openapi.json", "/v2/health/live", "/v2/health/ready"))
