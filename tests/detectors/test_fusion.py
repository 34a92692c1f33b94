import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import contract
import insphere
from insphere import KDE, KNN, DeepSVDDVAE, Fusion, IForest, model_file
from insphere.detectors import batched, fusion
from insphere.detectors.fusion import NEIGHBOURS, Units
from insphere.errors import HealthWarning, ModelFileError, ParameterError
from insphere.export import export_onnx
from insphere.training.loop import train_together

VECTORS, GREY = contract.blobs(), contract.pictures()
BRIEF = {"name": "vae-svdd", "epochs": 2, "device": "cpu"}
MIXED = Fusion([BRIEF, "iforest", KNN(scaling="whiten", pca="none")], weights=[1, 2, 1], random_state=0)
KINDS = [(Fusion(random_state=0), VECTORS), (MIXED, VECTORS), (MIXED, GREY)]


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
@pytest.mark.filterwarnings("ignore::insphere.errors.DataNotice")  # scikit-learn's checks hand on targets of other tasks
@parametrize_with_checks([Fusion(random_state=0)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("check", contract.ALL, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("detector", "X"), KINDS, ids=["auto", "mixed", "grey"])
def test_contract(check, detector, X):
    check(detector, X)


@pytest.mark.parametrize(("detector", "X"), KINDS, ids=["auto", "mixed", "grey"])
def test_round_trip_of_one_file(detector, X, tmp_path):
    contract.check_round_trip(detector, X, tmp_path)


def test_the_score_is_the_weighted_mean_of_the_parts_in_units_of_training_rows():
    fitted = contract.fit_quietly(clone(MIXED), VECTORS)
    rows = VECTORS[:30] + 0.3
    network, forest, neighbours = (part._score(rows) for part in fitted.detectors_)
    (m0, s0, floor0), (m1, s1, none), (m2, s2, floor2) = fitted.units_
    assert none is None and floor0 > 0 and floor2 > 0
    by_forest = (forest - m1) / s1
    by_forest = np.sign(by_forest) * np.log(1 + np.abs(by_forest))
    by_distance = [np.maximum((np.log(d + f) - m) / s, -3) for d, f, m, s in ((network, floor0, m0, s0), (neighbours, floor2, m2, s2))]
    expected = (by_distance[0] + 2 * by_forest + by_distance[1]) / 4
    np.testing.assert_allclose(fitted.anomaly_score(rows), expected, rtol=1e-12)
    assert fitted.shares_ == (0.25, 0.5, 0.25)
    # Units are those of the training rows, none its own neighbour: so their own scores have the mean 0 and the spread 1 by each part.
    own = Units.of(fitted.detectors_[2].neighbours_.distances(*_left_out(fitted)).mean(axis=1), distances=True)
    np.testing.assert_allclose(own, fitted.units_[2], rtol=1e-12)


def _left_out(fitted):
    references = fitted.detectors_[2].neighbours_.references
    return references, 5, np.arange(len(references))


def test_auto_is_neighbours_for_vectors_and_networks_for_pictures(monkeypatch):
    assert [part.name for part in contract.fitted(Fusion(random_state=0), VECTORS).detectors_] == ["knn"] * len(NEIGHBOURS)
    monkeypatch.setattr(fusion, "PICTURES", tuple(({**part, "epochs": 1}, weight) for part, weight in fusion.PICTURES))
    brief = contract.fit_quietly(Fusion(random_state=0), GREY)
    assert [part.name for part in brief.detectors_] == ["transform-svdd", "vae-svdd"]
    again = contract.fit_quietly(brief, VECTORS)  # a detector that is fitted again looks at the rows again
    assert len(again.detectors_) == len(NEIGHBOURS)


def test_fusion_finds_what_either_part_alone_finds():
    rng = np.random.default_rng(0)
    line = rng.normal(size=(400, 1))
    X = np.hstack([line, line + 0.05 * rng.normal(size=(400, 1)), 0.01 * rng.normal(size=(400, 1))])
    off_the_line, far = np.array([[0.5, -0.5, 0.0]]), np.array([[6.0, 6.0, 0.0]])
    fitted = Fusion(random_state=0).fit(X)
    assert (fitted.predict(np.concatenate([off_the_line, far])) == -1).all()


def test_a_part_that_tells_nothing_apart_does_not_count_and_is_named():
    with pytest.warns(HealthWarning) as caught:
        fitted = Fusion([KDE(bandwidth=1e9), "iforest"], random_state=0).fit(VECTORS)
    assert any("same score by kde (part 0)" in str(warning.message) for warning in caught)
    assert fitted.units_[0] is None and fitted.shares_ == (0.0, 1.0)
    assert np.isfinite(fitted.anomaly_score(VECTORS)).all()


@pytest.mark.parametrize("n_columns", [1, 3])
def test_a_table_of_few_different_rows_has_a_model_that_flags_others(n_columns, tmp_path):
    levels = np.random.default_rng(0).integers(0, 3, size=(300, n_columns)).astype(float)
    fitted = contract.fit_quietly(Fusion(random_state=0, target_fpr=0.2), levels)
    assert all(units is not None for units in fitted.units_)
    assert (fitted.predict(np.full((1, n_columns), 9.0)) == -1).all()
    assert fitted.anomaly_score(np.full((1, n_columns), 0.5)) > np.median(fitted.anomaly_score(levels))
    fitted.save(tmp_path / "model.insphere")


def test_roundings_of_learned_rows_score_as_these():
    fitted = contract.fitted(Fusion(random_state=0), VECTORS)
    expected = fitted.anomaly_score(VECTORS)
    for rounded in (VECTORS.astype(np.float32), VECTORS + 1e-9):
        np.testing.assert_allclose(fitted.anomaly_score(rounded), expected, atol=1e-3)


def test_a_graph_gives_the_same_scores_on_learned_rows_and_on_ties(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    bits = np.random.default_rng(0).integers(0, 2, size=(200, 6)).astype(float)
    for number, rows in enumerate((VECTORS, bits)):
        fitted = contract.fit_quietly(Fusion(random_state=0), rows)
        export_onnx(fitted, tmp_path / f"{number}.onnx", rows=rows)
        runtime = onnxruntime.InferenceSession(tmp_path / f"{number}.onnx")
        given = {"x": rows.astype(np.float32 if "float)" in runtime.get_inputs()[0].type else np.float64)}
        scores = runtime.run(["anomaly_score"], given)[0]
        np.testing.assert_allclose(scores, fitted.anomaly_score(rows), atol=1e-3)


def test_units_of_distances_and_of_other_scores():
    units = Units.of(np.array([1.0, 1.1, 1.2, 1.4]), distances=True)
    assert np.isfinite(units(np.array([-1.0, 0.0, 1e300]))).all()
    assert units(np.exp(units.mean + units.spread * np.array([-9.0, -1.0, 2.0])) - units.floor) == pytest.approx([-3.0, -1.0, 2.0])
    other = Units.of(np.array([-1.0, 0.0, 1.0]), distances=False)
    assert other.floor is None and other(np.array([-1e9, 1e9])).tolist() == pytest.approx([-3.0, np.log1p(1e9 / np.sqrt(2 / 3))])
    assert other(np.array([-1.0])) == pytest.approx(-np.log1p(np.sqrt(3 / 2)))
    assert Units.of(np.full(4, 1e9), distances=False) is None


def test_parts_may_be_detectors_and_stay_as_they_were():
    network, forest = DeepSVDDVAE(epochs=1, random_state=7), IForest(n_estimators=9)
    first = contract.fit_quietly(Fusion([network, forest], random_state=0), VECTORS)
    assert first.detectors_[0].seed_ == 7 and len(first.detectors_[1].trees_.roots) == 9 and len(first.history_) == 1
    assert not hasattr(network, "seed_")
    parameters = first.describe()["parameters"]
    assert parameters["detectors"][1]["n_estimators"] == 9
    assert contract.fit_quietly(Fusion(**parameters), VECTORS).describe()["parameters"] == parameters


def test_an_interrupted_fit_goes_on_and_gives_the_same(tmp_path):
    parts = [BRIEF, {"name": "cae", "epochs": 3, "device": "cpu"}]

    def stop(record):
        if record.n_epochs == 3 and record.epoch == 1:
            raise KeyboardInterrupt

    state = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        Fusion(parts, random_state=0).fit(VECTORS, checkpoint=state, on_epoch=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.0", "state.1"]
    seen = []
    resumed = contract.fit_quietly(Fusion(parts, random_state=0), VECTORS, checkpoint=state, resume=True, on_epoch=seen.append)
    whole = contract.fit_quietly(Fusion(parts, random_state=0), VECTORS)
    np.testing.assert_array_equal(resumed.anomaly_score(VECTORS), whole.anomaly_score(VECTORS))
    assert len(seen) < 5 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("weights", [np.array([1.0, 2.0]), pd.Series([1, 2]), (1, 2)], ids=["array", "column", "tuple"])
def test_weights_may_be_any_kind_of_list(weights, tmp_path):
    fitted = Fusion(["knn", "iforest"], weights=weights, random_state=0).fit(VECTORS)
    fitted.save(tmp_path / "m.insphere")
    loaded = insphere.load(tmp_path / "m.insphere")
    assert loaded.shares_ == fitted.shares_ == (1 / 3, 2 / 3) and list(loaded.weights) == [1, 2]


def test_parts_that_differ_in_their_seeds_are_trained_as_one_model(monkeypatch, tmp_path):
    trainings = []
    monkeypatch.setattr(batched, "train_together", lambda trainees, **_: trainings.append(len(trainees)) or train_together(trainees, **_))
    epochs = []
    ensemble = Fusion([BRIEF, BRIEF, "knn", {**BRIEF, "alpha": 0.5}, BRIEF], random_state=0)
    contract.fit_quietly(ensemble, VECTORS, on_epoch=epochs.append)
    assert trainings == [3] and len(ensemble.history_) == 8
    assert len(epochs) == 4  # of those that are trained together one is told of
    assert len({part.seed_ for part in ensemble.detectors_}) == 5
    monkeypatch.setattr(batched, "_MOST_VALUES", 2 * VECTORS.size)
    contract.fit_quietly(clone(ensemble), VECTORS)
    assert trainings == [3, 2, 1]  # as many at a time as there is room for
    alone = clone(ensemble)
    contract.fit_quietly(alone, VECTORS, checkpoint=tmp_path / "fit.ckpt")
    assert trainings == [3, 2, 1]  # a training of many keeps no checkpoint
    assert np.corrcoef(alone.anomaly_score(VECTORS), ensemble.anomaly_score(VECTORS))[0, 1] > 0.99  # but for rounding, which training grows


def test_trimming_fits_all_parts_again():
    fitted = contract.fit_quietly(clone(MIXED).set_params(trim=0.1), VECTORS)
    assert fitted.data_["n_trimmed"] > 0 and np.isfinite(fitted.anomaly_score(VECTORS)).all()


def test_a_graph_gives_the_same_scores(tmp_path):
    for number, detector in enumerate((Fusion(random_state=0), MIXED)):
        report = export_onnx(contract.fitted(detector, VECTORS), tmp_path / f"{number}.onnx", rows=VECTORS[:40])
        assert report.certificate.exists()


def test_rows_are_explained():
    fitted = contract.fitted(Fusion(random_state=0), VECTORS)
    far = VECTORS[:1].copy()
    far[0, 3] += 9
    assert int(np.argmax(fitted.explain(far).feature_contributions[0])) == 3


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"detectors": "knn"}, '`detectors` must be "auto" or a list'),
        ({"detectors": []}, "a list of at least one detector"),
        ({"detectors": ["knn", "kn"]}, r"`detectors\[1\]` must be one of .* Did you mean 'knn'"),
        ({"detectors": ["knn"], "weights": [1, 2]}, "one number for each of the 1 detectors, got 2"),
        ({"detectors": ["knn"], "weights": [0]}, "above 0"),
        ({"weights": [1.0]}, 'detectors="auto" has its own'),
        ({"detectors": ["photo"]}, "has heat-maps"),
        ({"detectors": ["fusion"]}, "is a fusion itself"),
        ({"detectors": [KNN(n_neighbors=0)]}, "`n_neighbors` must be"),
        ({"detectors": [KNN(missing="impute")]}, "set `missing` of the fusion"),
        ({"detectors": [3]}, r"`detectors\[0\]` must be a detector, its name or a mapping"),
    ],
    ids=str,
)
def test_parameters_of_the_wrong_kind(parameters, message):
    with pytest.raises(ParameterError, match=message):
        Fusion(**parameters).fit(VECTORS)


def test_a_file_whose_parts_do_not_fit_is_refused(tmp_path):
    contract.fitted(Fusion(random_state=0), VECTORS).save(tmp_path / "model.insphere")
    saved = model_file.read(tmp_path / "model.insphere", "detector")
    model = saved.header["model"]
    changed = [
        (model | {"units": model["units"][:2]}, {}),
        (model | {"units": [[0.0, 0.0, None]] * 5}, {}),
        (model | {"units": [[0.0, "x", None]] * 5}, {}),
        (model | {"parts": "abc"}, {}),
        (model, {"part-0/references": np.zeros((4, 9))}),
        (model, {"part-4/spread": np.zeros(len(saved.arrays["part-4/spread"]))}),
    ]
    for header, arrays in changed:
        model_file.write(tmp_path / "other.insphere", "detector", saved.header | {"model": header}, saved.arrays | arrays)
        with pytest.raises(ModelFileError):
            insphere.load(tmp_path / "other.insphere")
