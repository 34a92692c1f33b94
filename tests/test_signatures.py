"""A model that must be signed is opened at no door without a signature, with that of another file, or with that of another key."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer.main
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import contract
import insphere
from insphere.cli import main
from insphere.cli.app import app
from insphere.errors import ModelFileError, ParameterError
from insphere.export import export_onnx
from insphere.signatures import ENVIRONMENT, PASSWORD, SignatureError, check, sign, signature_path

pytest.importorskip("model_signing", reason="the extra insphere[sign] is not installed")


def make_key(folder: Path, name: str, password: bytes | None = None) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    how = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs of keys, two models of images and their graph, unsigned."""
    folder = tmp_path_factory.mktemp("signed")
    for name in ("ours", "theirs"):
        make_key(folder, name)
    for number in (1, 2):
        detector = contract.fit_quietly(insphere.KNN(random_state=number), contract.pictures(60, seed=number))
        detector.save(folder / f"{number}.insphere")
    export_onnx(detector, folder / "2.onnx", model_file=folder / "2.insphere")
    np.save(folder / "rows.npy", contract.pictures(40, seed=3))
    (folder / "inbox").mkdir()
    return folder


def no_signature(home: Path, path: Path) -> None:
    signature_path(path).unlink(missing_ok=True)


def of_another_key(home: Path, path: Path) -> None:
    sign(path, home / "theirs.pem")


def of_another_file(home: Path, path: Path) -> None:
    shutil.move(sign(home / "1.insphere", home / "ours.pem"), signature_path(path))


def of_what_it_was(home: Path, path: Path) -> None:
    sign(path, home / "ours.pem")
    data = path.read_bytes()
    path.write_bytes(bytes([data[0]]) + data[1:-1] + bytes([data[-1] ^ 1]))


def with_another_claim(home: Path, path: Path) -> None:
    """A signature of ours over another file, in which the digest is replaced by this file's."""
    import hashlib

    of_another_file(home, path)
    bundle = json.loads(signature_path(path).read_text())
    payload = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    digest = hashlib.sha256(path.read_bytes()).digest()
    payload["predicate"]["resources"][0]["digest"] = digest.hex()
    payload["subject"][0]["digest"]["sha256"] = hashlib.sha256(digest).hexdigest()
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    signature_path(path).write_text(json.dumps(bundle))


def empty(home: Path, path: Path) -> None:
    signature_path(path).write_bytes(b"")


BAD = [no_signature, of_another_key, of_another_file, of_what_it_was, with_another_claim, empty]

DOORS: dict[str, Callable[[Path, Path], list[object]]] = {
    "info": lambda home, model: [model],
    "score": lambda home, model: [model, home / "rows.npy", "-o", home / "s.csv"],
    "evaluate": lambda home, model: [model, home / "rows.npy"],
    "report": lambda home, model: [model, home / "rows.npy", "-o", home / "r.html"],
    "explain": lambda home, model: [model, home / "rows.npy", "-o", home / "why"],
    "card": lambda home, model: [model, "-o", home / "c.md"],
    "feedback": lambda home, model: [model, home / "verdicts.csv", "-o", home / "fed.insphere"],
    "recalibrate": lambda home, model: [model, "--target-fpr", "0.1", "-o", home / "again.insphere"],
    "export": lambda home, model: [model, "-o", home / "g.onnx"],
    "verify": lambda home, model: [home / "2.onnx", "--model", model],
    "watch": lambda home, model: [model, home / "inbox", "-o", home / "w.csv", "--once"],
    "audit": lambda home, model: [model, home / "rows.npy", "--repeats", "1", "-o", home / "a.md"],
    "serve": lambda home, model: [model, "--load-timeout", "0", "--port", "0"],
}
WRITTEN = ("fed.insphere", "c.md", "a.md", "s.csv", "r.html", "why", "again.insphere", "g.onnx", "w.csv")


@pytest.fixture
def model(home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(home / "2.insphere", tmp_path / "m.insphere"))


def test_every_command_that_opens_a_model_is_among_the_doors() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    files = ("MODEL", "MODEL...", "GRAPH.onnx", "ESTIMATOR")
    opening = {
        name
        for name, command in commands.items()
        if any(parameter.metavar in files and parameter.name != "output" for parameter in command.params)
    }
    assert opening == set(DOORS)
    assert all(any(parameter.name == "require_signature" for parameter in commands[name].params) for name in DOORS)


@pytest.mark.parametrize("spoil", BAD)
@pytest.mark.parametrize("door", DOORS)
def test_no_door_opens_without_the_right_signature(
    door: str,
    spoil: Callable[[Path, Path], None],
    home: Path,
    model: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("insphere.serving.logs.log_to", lambda: None)
    if door == "verify":
        sign(home / "2.onnx", home / "ours.pem")
    spoil(home, model)
    assert main([door, *map(str, DOORS[door](home, model)), "--require-signature", str(home / "ours.pub")]) == 1
    assert "is refused: a signature with the key" in capfd.readouterr().err
    assert not [name for name in WRITTEN if (home / name).exists()]


@pytest.mark.parametrize("spoil", BAD)
def test_neither_does_the_library_nor_the_graph(
    spoil: Callable[[Path, Path], None], home: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(home, model)
    with pytest.raises(SignatureError):
        insphere.load(model, require_signature=home / "ours.pub")
    monkeypatch.setenv(ENVIRONMENT, str(home / "ours.pub"))
    with pytest.raises(SignatureError):
        insphere.load(model)
    graph = Path(shutil.copy(home / "2.onnx", tmp_path / "g.onnx"))
    shutil.copy(home / "2.onnx.parity.json", tmp_path / "g.onnx.parity.json")
    spoil(home, graph)
    assert main(["verify", str(graph)]) == 1


@pytest.mark.parametrize("door", [door for door in DOORS if door not in ("serve", "audit")])
def test_what_is_signed_opens(door: str, home: Path, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path in (model, home / "2.onnx"):
        sign(path, home / "ours.pem")
    code = main([door, *map(str, DOORS[door](home, model)), "--require-signature", str(home / "ours.pub")])
    # The rows have no labels, and there are no verdicts, which these say once the model is open.
    assert (code == 0) == (door not in ("evaluate", "feedback"))
    assert "is refused" not in capfd.readouterr().err
    for name in WRITTEN:
        shutil.rmtree(home / name, ignore_errors=True) if (home / name).is_dir() else (home / name).unlink(missing_ok=True)


def test_a_service_takes_no_new_file_without_a_signature_and_goes_on(home: Path, model: Path) -> None:
    from serving.conftest import serving

    shutil.copy(home / "1.insphere", model)
    sign(model, home / "ours.pem")
    with serving({"m": model}, reload_seconds=0, require_signature=home / "ours.pub") as client:
        reload = client.app.state.service.registry.reload  # type: ignore[attr-defined]
        threshold = client.get("/models").json()["models"][0]["decision"]["threshold"]
        shutil.copy(home / "2.insphere", model)
        for spoil in BAD:
            if spoil is not of_what_it_was:
                spoil(home, model)
            reload()
            assert client.get("/models").json()["models"][0]["decision"]["threshold"] == threshold
            assert client.get("/v2/health/ready").status_code == 200
        sign(model, home / "ours.pem")  # only the signature changes
        reload()
        assert client.get("/models").json()["models"][0]["decision"]["threshold"] != threshold


def test_the_process_that_tries_models_asks_for_the_signature_too(home: Path, model: Path) -> None:
    from insphere.serving.models import ModelPlace
    from insphere.serving.trial import _try

    assert "is refused" in str(_try(ModelPlace("m", "1", model), str(home / "ours.pub"))["problem"])
    sign(model, home / "ours.pem")
    assert _try(ModelPlace("m", "1", model), str(home / "ours.pub"))["problem"] is None


def test_the_command_signs_and_the_tool_of_the_format_agrees(home: Path, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sign", str(model), "--key", str(home / "ours.pem"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["signature"] == str(signature_path(model))
    command = [sys.executable, "-m", "model_signing", "verify", "key", "--signature", str(signature_path(model))]
    for key, code in (("ours", True), ("theirs", False)):
        done = subprocess.run([*command, "--public_key", str(home / f"{key}.pub"), str(model)], capture_output=True, check=False)
        assert (done.returncode == 0) == code, done


def test_an_encrypted_key_needs_its_password(home: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = make_key(tmp_path, "locked", b"correct horse")
    with pytest.raises(ParameterError, match=PASSWORD):
        sign(model, private)
    monkeypatch.setenv(PASSWORD, "correct horse")
    sign(model, private)
    check(model.read_bytes(), model, public)


def test_keys_and_files_that_are_none_are_named(home: Path, model: Path) -> None:
    for key in (home / "none.pem", home / "ours.pub", model):
        with pytest.raises(ParameterError, match="cannot be used"):
            sign(model, key)
    sign(model, home / "ours.pem")
    for key in (home / "none.pub", home / "ours.pem", model):
        with pytest.raises(ParameterError, match="cannot be used"):
            insphere.load(model, require_signature=key)
    with pytest.raises(ModelFileError, match="is not a file"):
        sign(home, home / "ours.pem")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_change_of_a_signature_makes_it_that_of_another_file(home: Path, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"content")
    good = sign(path, home / "ours.pem").read_bytes()
    # A signature is not of the same length each time, and what is drawn must not depend on that.
    place, value = data.draw(st.integers(0, 2**20)) % len(good), data.draw(st.integers(0, 255))
    signature_path(path).write_bytes(good[:place] + bytes([value]) + good[place + 1 :])
    path.write_bytes(b"CONTENT")
    with pytest.raises(SignatureError):
        check(b"CONTENT", path, home / "ours.pub")
