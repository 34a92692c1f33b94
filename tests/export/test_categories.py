"""Graphs of detectors that have a threshold for each camera, product or shift."""

import json

import numpy as np
import pytest

from insphere.detectors.classical import KNN
from insphere.errors import ExportError
from insphere.export import export_onnx, verify
from insphere.export.graph import session
from insphere.export.parity import certificate_path

pytestmark = pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    rng = np.random.default_rng(0)
    camera = rng.choice(["left", "new", "right"], 400, p=[0.6, 0.02, 0.38])
    X = rng.normal(size=(400, 3)) * np.where(camera == "right", 3.0, 1.0)[:, None]
    detector = KNN(random_state=0).fit(X, categories=camera)
    path = tmp_path_factory.mktemp("graph") / "line.onnx"
    export_onnx(detector, path, vectors="float64")
    return detector, path


def test_the_graph_judges_each_row_by_its_own_camera(exported):
    detector, path = exported
    runtime = session(path.read_bytes())
    X = np.random.default_rng(1).normal(size=(600, 3)) * 2
    codes = np.arange(600) % 4 - 1
    names = detector.decision_.categories.names
    batch = next(iter(detector.score_batches(X, categories=[names[code] if code >= 0 else None for code in codes])))
    _, p_values, flagged = runtime.run(None, {"x": X, "category": codes})
    assert (p_values == batch.p_value).all()
    assert (flagged == batch.is_anomaly).all()
    assert 0 < flagged[codes == 0].mean() != flagged[codes == 2].mean()


def test_thresholds_can_be_given_for_each_camera(exported):
    detector, path = exported
    runtime = session(path.read_bytes())
    X, codes = np.random.default_rng(1).normal(size=(40, 3)) * 2, np.arange(40) % 4 - 1
    thresholds = detector.decision_.thresholds_by_code()
    thresholds[1] = -1.0
    flagged = runtime.run(None, {"x": X, "category": codes, "threshold": thresholds})[2]
    assert flagged[codes == 1].all()
    assert not flagged[codes == 2].all()


def test_a_camera_that_the_model_does_not_have_is_flagged(exported):
    runtime = session(exported[1].read_bytes())
    scores, p_values, flagged = runtime.run(None, {"x": np.zeros((3, 3)), "category": np.array([0, 3, -2])})
    assert flagged.tolist() == [False, True, True]
    assert np.isinf(scores[1:]).all()
    assert (p_values[1:] == 1 / (len(exported[0].decision_) + 1)).all()


def test_the_certificate_covers_the_categories(exported, tmp_path):
    detector, path = exported
    record = json.loads(certificate_path(path).read_text())
    assert record["input"]["n_categories"] == 3
    assert record["thresholds"] == detector.decision_.thresholds_by_code().tolist()
    assert verify(path, detector=detector).n_labels == 0
    names = [entry["name"] for entry in json.loads(dict_of(path)["categories"])]
    assert names == ["left", "new", "right"]
    record["thresholds"] = record["thresholds"][:2]
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(record))
    with pytest.raises(ExportError, match="a threshold for each of 3 categories"):
        verify(path, certificate=broken)


def dict_of(path):
    import onnx

    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}
