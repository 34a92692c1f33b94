"""The example scores images where neither insphere nor PyTorch can be imported."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract import fit_quietly, pictures
from export_models import rows_of_kind
from insphere import KNN, PhotoSpheres, open_source
from insphere.export import export_onnx

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "score_onnx.py"
ALONE = """
import runpy, sys
for name in ("insphere", "torch", "sklearn", "scipy", "onnx"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("kind", ["grey", "rgb"])
def test_the_example_gives_the_librarys_scores_without_insphere(kind: str, tmp_path: Path) -> None:
    for number, pixels in enumerate(rows_of_kind(kind)):
        # Larger than the model's size, so that the example must resize as the library does.
        Image.fromarray(pixels.squeeze()).resize((14, 20)).save(tmp_path / f"{number:02}.png")
    detector = fit_quietly(KNN(random_state=0), insphere_source(tmp_path))
    export_onnx(detector, tmp_path / "m.onnx")
    paths = sorted(tmp_path.glob("*.png"))[:20]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, EXAMPLE, tmp_path / "m.onnx", *paths], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    scores = detector.anomaly_score(tmp_path)[:20]
    assert [line[0] for line in lines] == list(map(str, paths))
    np.testing.assert_allclose([float(line[1]) for line in lines], scores, rtol=1e-5)
    np.testing.assert_allclose([float(line[2]) for line in lines], detector.p_value(tmp_path)[:20], rtol=1e-3)
    assert [line[3] == "anomaly" for line in lines] == (scores > detector.threshold_).tolist()
    assert done.stderr == ""


def test_photos_of_any_size_and_turn_get_the_librarys_decision(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number, pixels in enumerate(pictures(24, (60, 90, 3))):
        photo = Image.fromarray(pixels).resize([(180, 120), (200, 133), (90, 60)][number % 3])
        if number % 4 == 0:  # as a camera held upright stores it
            exif = Image.Exif()
            exif[0x0112] = 6
            photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / f"{number:02}.jpg", exif=exif, quality=95)
        else:
            photo.save(tmp_path / f"{number:02}.jpg", quality=int(rng.integers(80, 95)))
    detector = fit_quietly(
        PhotoSpheres(random_state=0, look_for="defects", calibration={"method": "split"}), open_source(tmp_path, image_size=(60, 90))
    )
    export_onnx(detector, tmp_path / "m.onnx")
    paths = sorted(tmp_path.glob("*.jpg"))[:12]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, EXAMPLE, tmp_path / "m.onnx", *paths], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    scores = detector.anomaly_score(tmp_path)[:12]
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    np.testing.assert_allclose([float(line[1]) for line in lines], scores, rtol=1e-3, atol=1e-4)
    assert [line[3] == "anomaly" for line in lines] == (scores > detector.threshold_).tolist()


def insphere_source(folder: Path) -> object:
    import insphere

    return insphere.open_source(folder, image_size=(9, 7))


def test_the_example_has_twenty_lines() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 21
