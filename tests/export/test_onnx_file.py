"""ONNX Runtime gives what the library gives, for every detector and kind of row; and what does not is not written."""

import base64
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import export_models
from contract import fit_quietly
from export_models import KINDS, NAMES_AND_KINDS, fitted, rows_of_kind
from insphere.decision.health import Finding, HealthReport
from insphere.detectors.catalog import DETECTORS, detector_class, make
from insphere.detectors.deep_svdd import DeepSVDDReading
from insphere.detectors.vae_svdd import Reading
from insphere.errors import CollapseError, DataError, ExportError, MissingDependencyError, ParameterError
from insphere.export import export_onnx, graph, onnx_file
from insphere.output_file import OutputError

# Of each detector one kind of row in the quick suite, all in the full one: an export takes seconds.
QUICK = {name: KINDS[number % 3] if detector_class(name).takes_vectors else "rgb" for number, name in enumerate(DETECTORS)}


def cases() -> list[Any]:
    found = [pytest.param(name, kind, {}, marks=[] if QUICK[name] == kind else pytest.mark.slow) for name, kind in NAMES_AND_KINDS]
    several = [
        pytest.param("vae-svdd", "vectors", {"geometry": "mahalanobis", "reading": Reading(n_centers=3)}),
        pytest.param("deep-svdd", "grey", {"reading": DeepSVDDReading(n_centers=3)}),
    ]
    return [*found, *several, pytest.param("photo", "grey", {"backbone": "scratch"})]


def answers(path: Path, X: NDArray[Any], **feeds: Any) -> list[NDArray[Any]]:
    session = onnx_file.session(path.read_bytes())
    return session.run(list(graph.OUTPUTS), {session.get_inputs()[0].name: X, **feeds})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "grey.onnx"
    export_models.exported(path, "vae-svdd", "grey")
    return path


@pytest.mark.parametrize(("name", "kind", "parameters"), cases())
def test_onnx_runtime_gives_the_librarys_scores_p_values_and_decisions(
    name: str, kind: str, parameters: dict[str, Any], tmp_path: Path
) -> None:
    detector, path = fitted(name, kind, **parameters), tmp_path / "model.onnx"
    report = export_onnx(detector, path) if parameters else export_models.exported(path, name, kind)
    assert report.comparison.n_labels == 0 and report.comparison.largest_difference <= 1e-4
    assert report.n_bytes == path.stat().st_size
    new = rows_of_kind(kind, 30, seed=5)
    scores, p_values, flagged = answers(path, new)
    # Relative to the score or, where scores lie around zero, to the spread of the held-out ones: the rule that the export keeps.
    np.testing.assert_allclose(scores, detector.anomaly_score(new), rtol=1e-4, atol=1e-4 * detector.conformal_.scores.std())
    np.testing.assert_allclose(p_values, detector.p_value(new), atol=1.5 / (len(detector.conformal_) + 1))
    np.testing.assert_array_equal(flagged, detector.predict(new) == -1)
    # Any batch, alone or in company: the same answers.
    np.testing.assert_allclose(answers(path, new[:1])[0], scores[:1], rtol=1e-5, atol=1e-6)
    assert (scores.dtype, p_values.dtype, flagged.dtype) == (np.float64, np.float64, np.bool_)


def test_the_threshold_can_be_given_with_each_run_and_has_the_models_for_a_default(exported: Path) -> None:
    detector, new = fitted("vae-svdd", "grey"), rows_of_kind("grey", seed=5)
    scores, p_values, flagged = answers(exported, new, threshold=np.array(-1.0))
    assert flagged.all()
    middle = float(np.median(scores))
    again = answers(exported, new, threshold=np.array(middle))
    np.testing.assert_array_equal(again[2], scores > middle)
    np.testing.assert_array_equal(again[1], p_values)
    np.testing.assert_array_equal(answers(exported, new)[2], scores > detector.threshold_)


def test_the_file_describes_itself_and_holds_rows_to_check_it_by(exported: Path) -> None:
    import onnx

    detector, model = fitted("vae-svdd", "grey"), onnx.load(exported)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert float(facts["threshold"]) == detector.threshold_ and float(facts["target_fpr"]) == 0.05
    assert (facts["detector"], facts["insphere_version"]) == ("vae-svdd", model.producer_version)
    expected = {"name": "images", "dtype": "uint8", "shape": [9, 7, 1], "colours": "grey", "units": "pixels in 0..255"}
    assert expected.items() <= json.loads(facts["input"]).items()
    golden = json.loads(facts["golden"])
    rows = np.frombuffer(zlib.decompress(base64.b64decode(golden["rows"])), golden["dtype"]).reshape(golden["shape"])
    scores, _, flagged = answers(exported, rows)
    np.testing.assert_allclose(scores, golden["anomaly_score"], rtol=golden["tolerance"])
    assert flagged.tolist() == golden["is_anomaly"] and len(set(golden["is_anomaly"])) == 2
    np.testing.assert_array_equal(golden["anomaly_score"], detector.anomaly_score(rows))


def test_nothing_of_the_machine_is_in_the_file(exported: Path) -> None:
    content = exported.read_bytes()
    for text in ("site-packages", "scorers.py", str(Path.home()), str(Path(onnx_file.__file__).parent)):
        assert text.encode() not in content


def test_vectors_know_their_columns(tmp_path: Path) -> None:
    import onnx
    import pyarrow as pa
    import pyarrow.parquet as pq

    from insphere import KNN

    pq.write_table(pa.table({name: np.random.default_rng(0).normal(size=60) for name in ("volt", "ampere")}), tmp_path / "rows.parquet")
    detector = KNN(random_state=0).fit(tmp_path / "rows.parquet")
    export_onnx(detector, tmp_path / "knn.onnx", rows=tmp_path / "rows.parquet")
    facts = {entry.key: entry.value for entry in onnx.load(tmp_path / "knn.onnx").metadata_props}
    assert json.loads(facts["input"])["feature_names"] == ["volt", "ampere"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_images_come_as_they_are(dtype: type, tmp_path: Path) -> None:
    from insphere import IForest

    X = (rows_of_kind("grey") / 255.0).astype(dtype)
    detector = IForest(random_state=0).fit(X)
    report = export_onnx(detector, tmp_path / "f.onnx", rows=X)
    assert report.comparison.n_flagged < report.comparison.n_rows
    np.testing.assert_allclose(answers(tmp_path / "f.onnx", X)[0], detector.anomaly_score(X))


def test_exporting_says_nothing_and_leaves_the_loggers_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import logging

    before = logging.getLogger("torch.onnx").level
    export_onnx(fitted("knn", "vectors"), tmp_path / "k.onnx")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "") and logging.getLogger("torch.onnx").level == before


@pytest.mark.parametrize("what", ["score", "decision", "not finite"])
def test_a_graph_that_differs_is_not_written(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        def __init__(self, right: Any) -> None:
            self.right = right

        def run(self, *arguments: Any) -> list[NDArray[Any]]:
            scores, p_values, flagged = self.right.run(*arguments)
            if what == "score":
                return [scores * (1 + 2e-4), p_values, flagged]
            return [scores if what == "decision" else scores + np.nan, p_values, ~flagged]

    right = onnx_file.session
    monkeypatch.setattr(onnx_file, "session", lambda content: Wrong(right(content)))
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the old graph")
    with pytest.raises(ExportError, match="Nothing was written"):
        export_onnx(fitted("knn", "vectors"), path)
    assert path.read_bytes() == b"the old graph" and list(tmp_path.iterdir()) == [path]


def test_a_collapsed_detector_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = fitted("knn", "vectors")
    monkeypatch.setattr(detector, "health_", HealthReport((Finding("distinct scores", "critical", 1.0, "All rows score the same."),)))
    with pytest.raises(CollapseError, match="health report"):
        export_onnx(detector, tmp_path / "m.onnx")


def test_bad_arguments_are_refused_before_the_work(tmp_path: Path) -> None:
    detector = fitted("knn", "vectors")
    with pytest.raises(ParameterError, match="must end in .onnx"):
        export_onnx(detector, tmp_path / "m.pt")
    with pytest.raises(ParameterError, match="int8 needs rows"):
        export_onnx(detector, tmp_path / "m.onnx", int8=True)
    with pytest.raises(OutputError, match="does not exist"):
        export_onnx(detector, tmp_path / "no" / "m.onnx")
    with pytest.raises(DataError):
        export_onnx(detector, tmp_path / "m.onnx", rows=rows_of_kind("grey"))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingDependencyError, match=r"onnxscript.*pip install 'insphere\[export\]'"):
        export_onnx(fitted("knn", "vectors"), tmp_path / "m.onnx")


def test_what_the_exporter_cannot_translate_is_an_export_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such operator\nand a page of text")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ExportError, match=r"cannot translate its network \(no such operator\)"):
        export_onnx(fitted("knn", "vectors"), tmp_path / "m.onnx")


def test_a_graph_beyond_the_formats_limit_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx_file, "_MOST_BYTES", 1000)
    with pytest.raises(ExportError, match="2 GiB"):
        export_onnx(fitted("knn", "vectors"), tmp_path / "m.onnx")


def test_int8_is_measured_and_its_cost_stored(tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    detector, X = fitted("vae-svdd", "rgb"), rows_of_kind("rgb", seed=3)
    exact = export_onnx(detector, tmp_path / "exact.onnx")
    report = export_onnx(detector, tmp_path / "int8.onnx", rows=X, int8=True)
    cost = report.quantisation
    assert cost is not None and cost.n_rows == 80 and 0.9 < cost.rank_correlation < 1 and cost.auroc is None
    assert 0 < cost.median_difference < cost.largest_difference and report.n_bytes < exact.n_bytes
    facts = {entry.key: entry.value for entry in onnx.load(tmp_path / "int8.onnx").metadata_props}
    assert json.loads(facts["int8"]) == cost.to_json() and json.loads(facts["golden"])["tolerance"] is None
    # Two products of 8 bits by more than 7 overflow the 16 bits in which processors without VNNI add them.
    weights = [
        numpy_helper.to_array(value)
        for value in onnx.load(tmp_path / "int8.onnx").graph.initializer
        if value.data_type == onnx.TensorProto.INT8
    ]
    weights = [values for values in weights if values.ndim > 1]
    assert weights and max(int(np.abs(values.astype(int)).max()) for values in weights) == 64
    assert answers(tmp_path / "int8.onnx", X, threshold=np.array(1e9))[2].sum() == 0


@pytest.mark.slow
def test_int8_of_labelled_rows_tells_the_areas_and_of_a_shallow_detector_is_refused(tmp_path: Path) -> None:
    from contract import fit_quietly
    from insphere import CAE

    detector = fit_quietly(CAE(epochs=2, device="cpu", random_state=0), "digits:3")
    cost = export_onnx(detector, tmp_path / "int8.onnx", rows="digits:3", int8=True).quantisation
    assert cost is not None and cost.auroc is not None and cost.auroc_int8 == pytest.approx(cost.auroc, abs=0.05)
    with pytest.raises(ParameterError, match="knn has none"):
        export_onnx(fitted("knn", "vectors"), tmp_path / "k.onnx", rows=rows_of_kind("vectors"), int8=True)


def test_the_exporters_noise_is_kept_and_its_levels_restored(capsys: pytest.CaptureFixture[str]) -> None:
    import warnings

    with graph.quiet():
        sys.stdout.write("progress")
        warnings.warn("chatter", stacklevel=1)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["cae", "vae-svdd"])
def test_int8_flags_what_the_library_flags_up_to_the_edges_of_what_it_answers_to(name: str, tmp_path: Path) -> None:
    detector, X = fitted(name, "vectors"), rows_of_kind("vectors", 200)
    X[:, 0] = X[0, 0]  # the same in all rows that the scales are chosen by
    export_onnx(detector, tmp_path / "int8.onnx", rows=X, int8=True)
    width, middle = np.ptp(X, axis=0), np.median(X, axis=0)
    rows = []
    for feature in range(1, X.shape[1]):
        for beyond in (0.0, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 10.0):
            for edge, side in ((X.min(axis=0), -1), (X.max(axis=0), 1)):
                row = middle.copy()
                row[feature] = edge[feature] + side * beyond * width[feature]
                rows.append(row)
    far = np.array(rows, dtype=np.float32)
    missed = (detector.predict(far) == -1) & ~answers(tmp_path / "int8.onnx", far)[2]
    assert missed.mean() <= 0.02, far[missed]
    near = np.array(X[:20])
    near[:, 0] += 0.1 * rows_of_kind("vectors", 200)[:, 0].std()
    assert np.isfinite(answers(tmp_path / "int8.onnx", near)[0]).all()  # scored, not refused for another value than the only one


@pytest.mark.parametrize("name", ["vae-svdd", "deep-svdd"])
def test_int8_flags_rows_far_out(name: str, tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
    detector = fit_quietly(make(name, {"random_state": 0, "epochs": 5, "device": "cpu"}), X)
    export_onnx(detector, tmp_path / "int8.onnx", rows=X, int8=True)
    sizes = np.array([20, -20, 100, -100, 1e4, -1e4, 1e30, -1e30], dtype=np.float32)
    far = (np.eye(6, dtype=np.float32)[None] * sizes[:, None, None]).reshape(-1, 6)
    scores, p_values, flagged = answers(tmp_path / "int8.onnx", far)
    assert flagged.all() and np.isinf(scores).all() and p_values.max() == pytest.approx(1 / (len(detector.decision_) + 1))
    assert np.isfinite(answers(tmp_path / "int8.onnx", X)[0]).all()
