"""The picture of the extremes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from insphere.errors import DataError, ParameterError
from insphere.gallery import choose_rows, write_gallery
from insphere.output_file import OutputError

GREEN, RED = (42, 157, 143), (209, 73, 91)


def colors(path: Path) -> set[tuple[int, ...]]:
    with Image.open(path) as picture:
        return {color for _, color in picture.convert("RGB").getcolors(1 << 24)}


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), st.floats(-10, 10), st.integers(1, 12))
def test_strips_hold_the_extremes_in_order(values: list[float], threshold: float, n_columns: int) -> None:
    scores = np.array(values)
    strips = choose_rows(scores, threshold, n_columns)
    ordered = sorted(values)
    n_shown = min(n_columns, len(values))
    assert scores[strips["most normal"]].tolist() == ordered[:n_shown]
    assert scores[strips["most anomalous"]].tolist() == ordered[::-1][:n_shown]
    distances = np.abs(scores - threshold)
    assert np.sort(distances[strips["nearest to the threshold"]]).tolist() == np.sort(distances)[:n_shown].tolist()


def test_without_a_finite_threshold_there_is_nothing_near_it() -> None:
    assert list(choose_rows(np.arange(3.0), np.inf, 2)) == ["most normal", "most anomalous"]


@pytest.mark.parametrize("shape", [(8, 8, 1), (24, 40, 3), (5, 4, 7), (1, 1, 1), (64, 2, 3)])
def test_every_kind_of_image_gives_a_picture(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, *shape)).astype(np.uint8)
    write_gallery(tmp_path / "g.png", images, np.arange(12.0), threshold=5.0, title="t")
    with Image.open(tmp_path / "g.png") as picture:
        assert min(picture.size) > 200


def test_frames_tell_normal_from_anomaly(tmp_path: Path) -> None:
    images, scores = np.zeros((4, 8, 8, 1), np.uint8), np.arange(4.0)
    write_gallery(tmp_path / "both.png", images, scores, threshold=2.0, labels=np.array([0, 0, 1, 1]), types=list("aabb"))
    write_gallery(tmp_path / "unknown.png", images, scores, threshold=2.0)
    assert {GREEN, RED} <= colors(tmp_path / "both.png")
    assert {GREEN, RED}.isdisjoint(colors(tmp_path / "unknown.png"))


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    for name in ("a.png", "b.png"):
        write_gallery(tmp_path / name, images, np.arange(5.0), threshold=1.0)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs a limit on file sizes")
    program = f"""
import resource, signal
import numpy as np
from insphere.gallery import write_gallery
from insphere.output_file import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, {resource.RLIM_INFINITY}))
try:
    write_gallery({str(tmp_path / "g.png")!r}, np.random.default_rng(0).random((9, 8, 8, 1)) * 255, np.arange(9.0), threshold=5.0)
except OutputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Cannot write" in done.stdout and "File too large" in done.stdout
    assert done.stderr == ""
    assert os.listdir(tmp_path) == []


def test_wrong_input_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    images = np.zeros((3, 8, 8, 1), np.uint8)
    path = tmp_path / "g.png"
    with pytest.raises(DataError, match=r"got shape \(0, 8, 8, 1\)"):
        write_gallery(path, images[:0], np.empty(0), threshold=0.0)
    with pytest.raises(DataError, match=r"got shape \(3, 8\)"):
        write_gallery(path, images[:, :, 0, 0], np.zeros(3), threshold=0.0)
    with pytest.raises(DataError, match="`scores` must have one entry per image: 3 images, but 2"):
        write_gallery(path, images, np.zeros(2), threshold=0.0)
    with pytest.raises(DataError, match="`types`"):
        write_gallery(path, images, np.zeros(3), threshold=0.0, types=["a"])
    with pytest.raises(ParameterError, match="n_columns"):
        write_gallery(path, images, np.zeros(3), threshold=0.0, n_columns=0)
    with pytest.raises(OutputError):
        write_gallery(tmp_path / "missing" / "g.png", images, np.zeros(3), threshold=0.0)
    assert os.listdir(tmp_path) == []
