"""Graphs are compared on what users feed them; the certificate says on what, and is repeated elsewhere."""

import base64
import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import insphere
from contract import fit_quietly
from export_models import KINDS, exported, fitted, rows_of_kind
from insphere.detectors.catalog import DETECTORS, detector_class
from insphere.errors import ExportError, ParameterError
from insphere.export import export_onnx, graph, parity, verify
from insphere.export.comparing import differences
from insphere.export.parity import certificate_path

VECTORS = np.random.default_rng(0).normal(size=(300, 3))


def answers(path: Path, X: NDArray[Any]) -> list[NDArray[Any]]:
    session = graph.session(path.read_bytes())
    dtype = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(uint8)": np.uint8}[session.get_inputs()[0].type]
    with np.errstate(over="ignore"):
        return session.run(None, {session.get_inputs()[0].name: X.astype(dtype)})


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("knn", "iforest", "vae-svdd") else pytest.mark.slow)
        for name in DETECTORS
        if detector_class(name).takes_vectors
    ],
)
def test_rows_that_are_not_numbers_are_flagged_with_the_smallest_p_value(name: str, tmp_path: Path) -> None:
    detector = fitted(name, "vectors")
    exported(tmp_path / "m.onnx", name, "vectors")
    rows = rows_of_kind("vectors", seed=5)[:5].astype(np.float64)
    rows[0, 0], rows[1, -1], rows[2, 1], rows[3] = np.nan, np.inf, -np.inf, 1e300  # past the largest number of single precision
    scores, p_values, flagged = answers(tmp_path / "m.onnx", rows)
    smallest = 1 / (len(detector.conformal_) + 1)
    assert flagged[:4].all() and p_values[:4] == pytest.approx(smallest) and (scores[:4] == np.inf).all()
    np.testing.assert_allclose(scores[4:], detector.anomaly_score(rows[4:]), rtol=1e-4, atol=1e-4 * detector.conformal_.scores.std())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "vectors"])
def test_int8_graphs_of_float_images_flag_them_too(kind: str, tmp_path: Path) -> None:
    X = (rows_of_kind(kind) / 255.0).astype(np.float32)
    detector = fit_quietly(insphere.VAE(epochs=1, random_state=0), X)
    export_onnx(detector, tmp_path / "m.onnx", rows=X, int8=True)
    X = X[:3].copy()
    X[0, 0, 0, 0], X[1] = np.nan, np.inf
    _, p_values, flagged = answers(tmp_path / "m.onnx", X)
    assert flagged[:2].all() and p_values[:2] == pytest.approx(1 / (len(detector.conformal_) + 1))


@pytest.mark.parametrize("make", [insphere.KNN, insphere.OCSVM, insphere.KDE, insphere.SVDD])
def test_rows_far_from_zero_need_double_precision(make: Any, tmp_path: Path) -> None:
    offset = np.array([1.7e9, 0, 0])
    detector = fit_quietly(make(random_state=0), VECTORS + offset)
    new = np.random.default_rng(1).normal(size=(400, 3)) * 2 + offset
    report = export_onnx(detector, tmp_path / "m.onnx", rows=new)
    assert report.input_dtype == "float64"
    np.testing.assert_array_equal(answers(tmp_path / "m.onnx", new)[2], detector.predict(new) == -1)
    with pytest.raises(ExportError, match="--vectors float64"):
        export_onnx(detector, tmp_path / "n.onnx", rows=new, vectors="float32")
    assert not (tmp_path / "n.onnx").exists() and not certificate_path(tmp_path / "n.onnx").exists()


def test_a_graph_fills_missing_values_as_its_detector_does(tmp_path: Path) -> None:
    X = VECTORS.copy()
    X[::7, 1] = np.nan
    detector = insphere.KNN(missing="impute", random_state=0).fit(X)
    export_onnx(detector, tmp_path / "m.onnx", rows=X)
    np.testing.assert_allclose(answers(tmp_path / "m.onnx", X)[0], detector.anomaly_score(X), rtol=1e-4, atol=1e-6)
    bad = np.array([[np.nan, 0.0, 0.0], [np.nan] * 3, [0.0, np.inf, 0.0]])
    assert answers(tmp_path / "m.onnx", bad)[2].all()


@pytest.mark.parametrize("vectors", ["float32", "float64"])
def test_golden_rows_in_the_file_are_of_the_type_that_the_graph_takes(vectors: str, tmp_path: Path) -> None:
    export_onnx(fitted("knn", "vectors"), tmp_path / "m.onnx", vectors=vectors)
    session = graph.session((tmp_path / "m.onnx").read_bytes())
    golden = json.loads(session.get_modelmeta().custom_metadata_map["golden"])
    rows = np.frombuffer(zlib.decompress(base64.b64decode(golden["rows"])), golden["dtype"]).reshape(golden["shape"])
    scores, p_values, flagged = session.run(None, {"x": rows})  # as docs/command-line.md has it
    np.testing.assert_allclose(scores, golden["anomaly_score"], rtol=1e-4)
    assert rows.dtype == vectors and p_values.tolist() == golden["p_value"] and flagged.tolist() == golden["is_anomaly"]


def test_a_type_of_vectors_is_refused_for_images(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="`vectors` is for detectors of rows of features"):
        export_onnx(fitted("vae-svdd", "grey"), tmp_path / "m.onnx", vectors="float64")


def test_decisions_that_rounding_makes_are_counted_apart() -> None:
    scores = np.array([0.5, 1.00005, 1.00005, 2.0, 3.0, np.inf])
    flagged = np.array([False, True, False, True, False, True])
    found = differences(scores, ~flagged, scores, flagged, least_size=0.1, threshold=1.0)
    assert found == (0.0, 4, 2, 2)
    found = differences(scores * 1.001, flagged, scores, flagged, least_size=0.1, threshold=1.0)
    assert found[1:] == (0, 2, 0) and found.largest == pytest.approx(1e-3)


class TestCertificate:
    @pytest.fixture
    def graph_file(self, tmp_path: Path) -> Path:
        exported(tmp_path / "m.onnx", "knn", "vectors", rows=80)
        return tmp_path / "m.onnx"

    def test_it_says_what_was_compared(self, graph_file: Path) -> None:
        record = json.loads(certificate_path(graph_file).read_text())
        assert record["exact"] and record["versions"]["onnxruntime"] and record["detector"] == "knn"
        for part in (record["rows"], record["given"]):
            assert part["n_decisions_that_flip"] == 0 and part["largest_difference"] < 1e-4
            assert len(part["library"]["anomaly_score"]) == len(part["graph"]["is_anomaly"]) > 8
        assert "rows" not in record["given"]  # the user's own rows stay with the user

    def test_it_is_repeated(self, graph_file: Path) -> None:
        alone = verify(graph_file)
        both = verify(graph_file, detector=fitted("knn", "vectors"), rows=rows_of_kind("vectors", seed=9))
        assert alone.n_labels == both.n_labels == 0 and both.n_rows == alone.n_rows + len(rows_of_kind("vectors", seed=9))

    def test_int8_is_compared_with_itself(self, tmp_path: Path) -> None:
        export_onnx(fitted("vae-svdd", "rgb"), tmp_path / "m.onnx", rows=rows_of_kind("rgb"), int8=True)
        assert verify(tmp_path / "m.onnx").largest_difference < 1e-4

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda graph: certificate_path(graph).unlink(), "cannot be read"),
            (lambda graph: certificate_path(graph).write_text("{"), "is not a parity certificate"),
            (lambda graph: certificate_path(graph).write_text("[]"), "of version 1"),
            (lambda graph: graph.write_bytes(graph.read_bytes() + b" "), "the graph was changed"),
        ],
    )
    def test_what_does_not_belong_together_is_refused(self, graph_file: Path, spoil: Any, words: str) -> None:
        spoil(graph_file)
        with pytest.raises(ExportError, match=words):
            verify(graph_file)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda record: record.pop("rows"),
            lambda record: record.pop("versions"),
            lambda record: record.update(rows=[]),
            lambda record: record.update(spread="wide"),
            lambda record: record.update(threshold=float("inf")),
            lambda record: record["input"].update(dtype="float65"),
            lambda record: record["rows"].update(rows="xx"),
            lambda record: record["rows"].update(rows="eno="),
            lambda record: record["rows"].update(shape=[1, 2]),
            lambda record: record["rows"]["library"]["anomaly_score"].pop(),
            lambda record: record["rows"]["library"].update(is_anomaly=[True]),
        ],
    )
    def test_a_damaged_certificate_is_refused(self, graph_file: Path, spoil: Any) -> None:
        record = json.loads(certificate_path(graph_file).read_text())
        spoil(record)
        certificate_path(graph_file).write_text(json.dumps(record))
        with pytest.raises(ExportError, match="export the graph again"):
            verify(graph_file)

    def test_the_certificate_does_not_say_how_much_may_differ(self, graph_file: Path) -> None:
        record = json.loads(certificate_path(graph_file).read_text())
        record["rows"]["library"]["anomaly_score"][2] *= 1.5
        certificate_path(graph_file).write_text(json.dumps(record | {"tolerance": 1e9}))
        with pytest.raises(ExportError, match="does not answer here"):
            verify(graph_file)

    def test_scores_that_are_not_numbers_are_not_the_same(self, graph_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*arguments: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
            scores, p_values, flagged = asked(*arguments)
            return np.where(flagged, scores, np.nan), p_values, flagged

        asked = parity._run
        monkeypatch.setattr(parity, "_run", broken)
        with pytest.raises(ExportError, match="differ by up to inf"):
            verify(graph_file)

    def test_rows_that_are_not_numbers_are_tried_again(self, graph_file: Path) -> None:
        record = json.loads(certificate_path(graph_file).read_text())
        record["input"]["n_calibration"] += 1000  # as if smaller p-values were to be had
        certificate_path(graph_file).write_text(json.dumps(record))
        with pytest.raises(ExportError, match="must flag rows with values that are not finite"):
            verify(graph_file)

    def test_another_model_is_refused(self, graph_file: Path) -> None:
        other = fit_quietly(insphere.KNN(random_state=1), rows_of_kind("vectors", seed=2))
        with pytest.raises(ExportError, match="is of another model: its"):
            verify(graph_file, detector=other, rows=rows_of_kind("vectors"))

    def test_it_names_the_model_file(self, tmp_path: Path) -> None:
        detector, rows = fitted("knn", "vectors"), rows_of_kind("vectors")
        detector.save(tmp_path / "m.insphere")
        export_onnx(detector, tmp_path / "m.onnx", model_file=tmp_path / "m.insphere")
        record = json.loads(certificate_path(tmp_path / "m.onnx").read_text())
        assert record["model_sha256"] == hashlib.sha256((tmp_path / "m.insphere").read_bytes()).hexdigest()
        verify(tmp_path / "m.onnx", detector=detector, model_file=tmp_path / "m.insphere")
        changed = insphere.load(tmp_path / "m.insphere")
        changed.data_["source"] = "renamed"  # which nothing else of the certificate shows
        changed.save(tmp_path / "changed.insphere")
        with pytest.raises(ExportError, match="is of another model: its model_sha256"):
            verify(tmp_path / "m.onnx", detector=changed, model_file=tmp_path / "changed.insphere")
        other = fit_quietly(insphere.KNN(random_state=1), rows + 1)
        with pytest.raises(ParameterError, match="`model_file`.*holds another model"):
            export_onnx(other, tmp_path / "n.onnx", model_file=tmp_path / "m.insphere")
        assert not (tmp_path / "n.onnx").exists()

    def test_without_a_model_file_it_names_none(self, graph_file: Path, tmp_path: Path) -> None:
        assert json.loads(certificate_path(graph_file).read_text())["model_sha256"] is None
        fitted("knn", "vectors").save(tmp_path / "m.insphere")
        verify(graph_file, detector=fitted("knn", "vectors"), model_file=tmp_path / "m.insphere")

    def test_the_certificate_of_another_graph_is_refused(self, graph_file: Path, tmp_path: Path) -> None:
        exported(tmp_path / "other.onnx", "iforest", "vectors")
        with pytest.raises(ExportError, match="is not that of .*m.onnx: the graph was changed, or is another one"):
            verify(graph_file, certificate=certificate_path(tmp_path / "other.onnx"))

    def test_another_model_is_refused_without_rows_too(self, graph_file: Path) -> None:
        other = fit_quietly(insphere.KNN(random_state=1), rows_of_kind("vectors", seed=2))
        with pytest.raises(ExportError, match="is of another model"):
            verify(graph_file, detector=other)

    def test_decisions_on_the_threshold_are_counted(self, tmp_path: Path) -> None:
        rows = rows_of_kind("vectors")
        detector = fit_quietly(insphere.KNN(random_state=0, calibration={"method": "split"}), rows)  # one of them is the threshold
        expected = int((np.abs(detector.anomaly_score(rows) - detector.threshold_) <= 1e-4 * detector.threshold_).sum())
        report = export_onnx(detector, tmp_path / "m.onnx", rows=rows)
        given = json.loads(certificate_path(tmp_path / "m.onnx").read_text())["given"]
        assert report.comparison.n_near >= given["n_decisions_near_the_threshold"] == expected >= 1
        assert report.comparison.n_near_that_differ == given["n_of_those_that_flip"] == 0
        assert verify(tmp_path / "m.onnx", detector=detector, rows=rows).n_near >= expected

    @pytest.mark.parametrize("field", ["anomaly_score", "is_anomaly"])
    def test_other_answers_are_refused(self, graph_file: Path, field: str) -> None:
        record = json.loads(certificate_path(graph_file).read_text())
        values = record["rows"]["library"][field]
        values[2] = not values[2] if field == "is_anomaly" else values[2] * 1.001
        certificate_path(graph_file).write_text(json.dumps(record))
        with pytest.raises(ExportError, match="does not answer here"):
            verify(graph_file)
