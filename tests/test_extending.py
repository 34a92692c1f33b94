"""Data sets and decoders of others: the files of the documentation, in a folder of their own, used from the command line."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from insphere.data import own_sets
from insphere.data.decoders import decoded, decoders
from insphere.data.sources import check_there, open_source
from insphere.detectors import catalog
from insphere.errors import DataError, ParameterError
from insphere.extensions import imported, is_module

DOCS = Path(__file__).parent.parent / "docs"


def code_of(page: str, holding: str = "") -> str:
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    (code,) = (block for block in blocks if holding in block)
    return code


def insphere(folder: Path, *words: str, told: bool = False, **environment: str) -> str:
    """Run a command line in a folder, as the console script does (it is not on Python's path); return its output, or what it told."""
    program = "import sys; from insphere.cli import main; sys.exit(main(sys.argv[1:]))"
    source = str(Path(__file__).parent.parent / "src")
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": source, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stderr if told else done.stdout


@pytest.fixture
def pump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pump.py").write_text(code_of("adding-a-data-set.md"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "pump", raising=False)
    return tmp_path


def test_a_data_set_from_the_command_line(pump: Path) -> None:
    import json

    insphere(pump, "fit", "pump:windows", "-o", "pump.insphere", "--detector", "knn")
    found = json.loads(insphere(pump, "evaluate", "pump.insphere", "pump:windows", "--json"))
    assert found["n_normal"] == 300 and found["n_anomaly"] == 60 and found["auroc"]["value"] > 0.95
    assert found["n_seen"] == 300


def test_a_data_set_in_a_plan(pump: Path) -> None:
    (pump / "plan.toml").write_text('[datasets.pump]\nsource = "pump:windows"\n[methods.near]\ndetector = "knn"\n', encoding="utf-8")
    insphere(pump, "benchmark", "plan.toml", "-o", "bench")
    assert len(list((pump / "bench").rglob("*.json"))) >= 1


def test_a_detector_in_one_file_from_the_command_line_in_a_plan_and_back_from_its_file(pump: Path) -> None:
    import json

    (pump / "denoising.py").write_text(code_of("adding-a-detector.md", "class DenoisingCAE"), encoding="utf-8")
    (pump / "medians.py").write_text(code_of("adding-a-detector.md", "class MedianDistance"), encoding="utf-8")
    named, shallow = "denoising:DenoisingCAE", "medians:MedianDistance"
    insphere(pump, "detectors", named)
    said = insphere(pump, "fit", "pump:windows", "-o", "m.insphere", "--detector", named, "--epochs", "3", "--set", "noise=0.2", told=True)
    assert f"Next: INSPHERE_DETECTORS={named} insphere score m.insphere" in " ".join(said.split())
    told = json.loads(insphere(pump, "score", "m.insphere", "pump:windows", "-o", "s.csv", "--json", INSPHERE_DETECTORS=named))
    assert told["n_scored"] == 360
    plan = f'[datasets.pump]\nsource = "pump:windows"\n[methods.denoise]\ndetector = "{named}"\nepochs = 1\n[methods.knn]\n'
    plan += f'[methods.median]\ndetector = "{shallow}"\npower = 1.5\n'
    (pump / "plan.toml").write_text(plan, encoding="utf-8")
    insphere(pump, "benchmark", "plan.toml", "-o", "bench")
    results = (pump / "bench" / "results.csv").read_text(encoding="utf-8")
    assert "denoise" in results and "knn" in results and "median" in results


def test_a_data_set_in_python(pump: Path) -> None:
    check_there("pump:windows")
    source = open_source("pump:windows", split="train")
    assert len(source) == 300 and source.row_shape == (32,) and set(source.types) == {"normal"}


def test_a_data_set_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_set.py").write_text("def rows():\n    raise OSError('no such camera')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="the data set broken_set:rows fails: OSError: no such camera"):
        open_source("broken_set:rows")
    with pytest.raises(DataError, match="cannot be imported"):
        open_source("broken_set:missing")
    with pytest.raises(ParameterError, match="Nor is there a module 'digts'.*Did you mean 'digits'"):
        open_source("digts:3")


def test_rows_with_labels_as_a_pair_are_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pair_set.py").write_text("import numpy as np\ndef rows():\n    return np.eye(9), np.zeros(9)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"pair_set:rows gives a pair.*ArraySource\(X, labels=y\)"):
        open_source("pair_set:rows")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("name = 'knn'", "has the name 'knn', which is that of a detector of insphere"),
        ("pass", "needs a `name`"),
    ],
)
def test_own_classes_without_a_name_of_their_own_are_refused(
    body: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"own_{len(body)}"
    text = f"from insphere.detectors.shallow import AbstractShallowDetector\nclass Own(AbstractShallowDetector):\n    {body}\n"
    (tmp_path / f"{module}.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=message):
        catalog.detector_class(f"{module}:Own")


def test_named_data_sets_win_over_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits.py").write_text("raise RuntimeError('run')\n", encoding="utf-8")
    (tmp_path / "numpy.py").write_text("raise RuntimeError('run')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert len(open_source("digits:3", split="train")) == 122
    assert imported("numpy:pi") == np.pi and not is_module("no_module_of_this_name")


def test_offered_data_sets_go_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_sets, "installed", lambda group: {"pumps": "math:pi"} if group == "insphere.data" else {})
    assert own_sets.target_of("pumps") == "math:pi" and own_sets.target_of("pump") is None


def frame(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(90, 110, (6, 9)).astype(np.uint8)
    return b"LINE" + struct.pack("<HH", 6, 9) + pixels.tobytes()


def test_a_decoder_from_the_command_line(tmp_path: Path) -> None:
    import json

    (tmp_path / "line_camera.py").write_text(code_of("adding-a-decoder.md"), encoding="utf-8")
    (tmp_path / "frames").mkdir()
    for number in range(40):
        (tmp_path / "frames" / f"{number}.line").write_bytes(frame(number))
    (tmp_path / "frames" / "torn.line").write_bytes(frame(0)[:20])
    named = {"INSPHERE_DECODERS": ".line=line_camera:decode"}
    insphere(tmp_path, "fit", "frames", "-o", "m.insphere", "--detector", "knn", **named)
    told = json.loads(insphere(tmp_path, "score", "m.insphere", "frames", "-o", "scores.csv", "--json", **named))
    assert told["n_rows"] == 41 and told["n_scored"] == 40
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    torn = next(line for line in lines if line.startswith("torn"))
    assert "is not an image" in torn and "line_camera:decode: the frame is cut off" in torn


def test_decoders_are_asked_by_suffix_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def good(data):\n    import numpy as np\n    return np.full((2, 3), data[0], np.uint16)\n\n\ndef bad(data):\n    return [1.5]\n"
    (tmp_path / "two_decoders.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INSPHERE_DECODERS", "dots=two_decoders:good, .x=two_decoders:bad")
    assert decoders() == {".dots": "two_decoders:good", ".x": "two_decoders:bad"}
    image, _ = decoded(b"\x07")
    assert image is not None and image.size == (3, 2) and image.getpixel((0, 0)) == 7
    monkeypatch.setenv("INSPHERE_DECODERS", ".x=two_decoders:bad")
    with pytest.raises(DataError, match="returned float64 of shape"):
        decoded(b"\x07")
    for wrong in ("two_decoders:bad", ".x", "=two_decoders:bad", ".x=two_decoders"):
        monkeypatch.setenv("INSPHERE_DECODERS", wrong)
        with pytest.raises(ParameterError, match="must be SUFFIX=module:function"):
            decoders()
    monkeypatch.delenv("INSPHERE_DECODERS")
    assert decoded(b"\x07") == (None, "")
