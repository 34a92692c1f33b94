"""An exported graph scores as its detector does, and without what its detector was learned with."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import insphere
from contract import blobs, fit_quietly, pictures
from insphere.data import ArraySource
from insphere.errors import DataError, ModelFileError

pytest.importorskip("onnx", reason="pip install 'insphere[export]'")
pytest.importorskip("onnxscript", reason="pip install 'insphere[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'insphere[runtime]'")

from insphere.export import export_onnx
from insphere.runtime import GraphModel, load_any, load_graph
from insphere.scoring import BulkOptions, score_in_bulk

NAMES = ("volt", "ampere", "rpm", "degree")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A model, its graph, and a folder of images, one of them cut off."""
    folder = tmp_path_factory.mktemp("images")
    detector = fit_quietly(insphere.KNN(random_state=0), pictures(80))
    detector.save(folder / "m.insphere")
    export_onnx(detector, folder / "m.onnx")
    (folder / "new").mkdir()
    for number, pixels in enumerate(pictures(20, seed=5)):
        Image.fromarray(pixels[:, :, 0]).save(folder / "new" / f"{number:02}.png")
    (folder / "new" / "cut.png").write_bytes((folder / "new" / "00.png").read_bytes()[:50])
    return folder / "m.insphere", folder / "m.onnx", folder / "new"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    X = blobs(90, seed=1)[:, :4]
    X[::9, 1] = np.nan
    detector = fit_quietly(insphere.IForest(random_state=0, missing="impute"), ArraySource(X, feature_names=NAMES, keep_missing=True))
    path = tmp_path_factory.mktemp("table") / "m.onnx"
    export_onnx(detector, path)
    return detector, path


def test_images_are_scored_as_the_detector_scores_them(images: tuple[Path, Path, Path]) -> None:
    model, graph_file, folder = images
    detector, graph = insphere.load(model), load_graph(graph_file)
    assert (graph.name, graph.image_spec_, graph.has_maps) == ("knn", detector.image_spec_, False)
    assert graph.threshold_ == detector.threshold_
    for name, value in graph.describe()["decision"].items():
        assert detector.describe()["decision"][name] == value
    [of_graph], [of_model] = graph.score_batches(folder), detector.score_batches(folder)
    np.testing.assert_array_equal(of_graph.index, of_model.index)
    np.testing.assert_allclose(of_graph.anomaly_score, of_model.anomaly_score, rtol=1e-4)
    np.testing.assert_array_equal(of_graph.p_value, of_model.p_value)
    np.testing.assert_array_equal(of_graph.is_anomaly, of_model.is_anomaly)
    assert of_graph.errors == of_model.errors
    blobs_ = [path.read_bytes() for path in sorted(folder.iterdir())]
    np.testing.assert_array_equal(graph.score_encoded(blobs_).anomaly_score, of_graph.anomaly_score)


def test_a_row_scores_the_same_bits_in_any_company(images: tuple[Path, Path, Path], table: tuple[Any, Path]) -> None:
    graph = load_graph(images[1])
    X = pictures(20, seed=5)
    alone = [graph.anomaly_score(X[row : row + 1])[0] for row in range(len(X))]
    assert graph.anomaly_score(X).tolist() == alone
    rows, of_table = blobs(300, seed=4)[:, :4], load_graph(table[1])
    together = of_table.anomaly_score(ArraySource(rows, feature_names=NAMES))
    assert of_table.anomaly_score(ArraySource(rows[250:251], feature_names=NAMES))[0] == together[250]


def test_tables_go_by_name_and_missing_values_are_filled(table: tuple[Any, Path], tmp_path: Path) -> None:
    detector, path = table
    graph = load_graph(path)
    order = [2, 0, 3, 1]
    X = blobs(30, seed=2)[:, :4]
    X[3, 1] = np.nan
    lines = [",".join(NAMES[column] for column in order)]
    lines += [",".join("" if np.isnan(row[column]) else repr(float(row[column])) for column in order) for row in X]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    found = graph.anomaly_score(tmp_path / "rows.csv")
    np.testing.assert_allclose(found, detector.anomaly_score(tmp_path / "rows.csv"), rtol=1e-4)
    assert np.isfinite(found).all()
    with pytest.raises(DataError, match="features"):
        graph.anomaly_score(X[:, :3])
    with pytest.raises(DataError, match="rows of features"):
        graph.score_encoded([b""])


def test_a_value_missing_where_none_was_in_training_is_an_error_for_graph_and_model_alike(table: tuple[Any, Path]) -> None:
    detector, path = table
    (filled,) = detector.input_.imputer.columns
    rows = np.zeros((4, detector.input_.shape[0]))
    rows[0, filled] = rows[1, filled - 1] = np.nan
    rows[2] = np.nan
    asked = insphere.data.ArraySource(rows, feature_names=detector.input_.table.feature_names)
    answers = [next(iter(model.score_batches(asked))) for model in (detector, load_graph(path))]
    assert [sorted(answer.errors) for answer in answers] == [[1, 2], [1, 2]]
    assert answers[0].errors == answers[1].errors and answers[0].index.tolist() == answers[1].index.tolist() == [0, 3]


def test_a_graph_remembers_what_the_fit_was_told_of_labels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{volt},{ampere},{'worn' if row % 8 == 0 else 'fine'}" for row, (volt, ampere) in enumerate(rng.normal(size=(80, 2)))]
    (tmp_path / "t.csv").write_text("\n".join(["volt,ampere,state", *lines]) + "\n")
    source = insphere.open_source(tmp_path / "t.csv", label_column="state", normal_label="fine", split="train")
    detector = fit_quietly(insphere.KNN(random_state=0), source)
    export_onnx(detector, tmp_path / "t.onnx")
    opened = load_graph(tmp_path / "t.onnx").open(str(tmp_path / "t.csv"))
    assert opened.labels is not None and opened.labels.tolist() == [int(row % 8 == 0) for row in range(80)]
    assert opened.feature_names == ("volt", "ampere") and not opened.notices


def test_what_is_not_such_a_graph_is_named(images: tuple[Path, Path, Path], tmp_path: Path) -> None:
    import onnx

    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ModelFileError, match="not an ONNX graph"):
        load_any(tmp_path / "text.onnx")
    with pytest.raises(ModelFileError, match="No such file"):
        load_any(tmp_path / "none.onnx")
    foreign = onnx.load(images[1])
    del foreign.metadata_props[:]
    with pytest.raises(ModelFileError, match="did not write"):
        GraphModel(foreign.SerializeToString(), "foreign.onnx")
    newer = onnx.load(images[1])
    for entry in newer.metadata_props:
        entry.value = "2" if entry.key == "insphere_format" else entry.value
    with pytest.raises(ModelFileError, match="upgrade"):
        GraphModel(newer.SerializeToString(), "newer.onnx")


def test_graphs_score_in_bulk_beside_models(images: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, graph, folder = images
    import pyarrow.parquet as pq

    other = tmp_path / "graph.onnx"
    other.write_bytes(graph.read_bytes())
    score_in_bulk([model, other], folder, tmp_path / "scores", BulkOptions(n_workers=0))
    rows = pq.read_table(tmp_path / "scores").to_pylist()
    assert len(rows) == 21
    for row in rows:
        assert (row["anomaly_score_m"] is None) == (row["error"] is not None)
        if row["error"] is None:
            assert row["anomaly_score_graph"] == pytest.approx(row["anomaly_score_m"], rel=1e-4)


WITHOUT = """
import sys


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "lightning_fabric", "sklearn", "scipy", "matplotlib", "joblib", "clarabel", "safetensors"}:
            raise ModuleNotFoundError(name, name=name)


sys.meta_path.insert(0, Absent())
from insphere.cli import main

sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "words", [["score", "-o", "scores.csv"], ["score", "-o", "scores.parquet"], ["score", "-o", "scores/", "--workers", "0"]]
)
def test_the_runtime_needs_none_of_what_trains(images: tuple[Path, Path, Path], tmp_path: Path, words: list[str]) -> None:
    command = [sys.executable, "-c", WITHOUT, words[0], str(images[1]), str(images[2]), *words[1:], "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_scored"] == 20
