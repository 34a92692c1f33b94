import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.impute import SimpleImputer

import insphere
from contract import fit_quietly
from insphere.data import ArraySource, Imputer
from insphere.errors import DataError, ParameterError


@pytest.fixture
def rows():
    X = np.random.default_rng(0).normal(size=(300, 3))
    X += np.array([0, 10, 100])
    X[::10, 1] = np.nan
    return X


@given(hnp.arrays(np.float64, (7, 3), elements=st.one_of(st.floats(-1e6, 1e6), st.just(np.nan))))
def test_equals_scikit_learn_where_that_fills(X):
    if np.isnan(X).all(axis=0).any() or np.isnan(X).all(axis=1).any():
        return
    expected = SimpleImputer(strategy="median", add_indicator=True).fit_transform(X)
    np.testing.assert_array_equal(Imputer.fit(X).transform(X), expected)


def test_what_cannot_be_filled_stays_missing():
    imputer = Imputer.fit(np.array([[1.0, 2.0], [np.nan, 3.0]]))
    assert np.isnan(imputer.transform(np.array([[1.0, np.nan]]))[0, 1])
    assert np.isnan(imputer.transform(np.array([[np.nan, np.nan]]))).any()
    with pytest.raises(DataError, match="'volt' has no value in any training row"):
        Imputer.fit(np.full((3, 1), np.nan), ["volt"])


@pytest.mark.parametrize(
    "wrong", [{"columns": [5]}, {"columns": [1, 0]}, {"columns": ["a"]}, {"medians": []}, {"medians": [float("nan")]}, {"columns": [0, 1]}]
)
def test_header_that_breaks_a_rule_is_refused(wrong):
    good = Imputer((1,), (2.5,)).to_json()
    assert Imputer.from_json(good, 3) == Imputer((1,), (2.5,))
    with pytest.raises(ValueError):
        Imputer.from_json(good | wrong, 3)


@pytest.mark.parametrize("name", ["KNN", "OCSVM", "DeepSVDDVAE"])
def test_a_detector_that_fills_scores_rows_that_others_refuse(name, rows, tmp_path):
    parameters = {"epochs": 2} if name == "DeepSVDDVAE" else {}
    detector = fit_quietly(getattr(insphere, name)(random_state=0, missing="impute", **parameters), rows)
    assert detector.n_features_in_ == 3 and detector.input_shape_ == (4,) and detector.training_errors_ == {}
    detector.save(tmp_path / "m.insphere")
    loaded = insphere.load(tmp_path / "m.insphere")
    assert loaded.input_ == detector.input_
    scores = loaded.anomaly_score(rows)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores, detector.anomaly_score(rows))
    np.testing.assert_array_equal(loaded.anomaly_score(rows[10:11]), scores[10:11])


def test_median_and_indicator_come_from_proper_training_rows_only(rows):
    detector = fit_quietly(insphere.KNN(random_state=0, missing="impute"), rows)
    held_out = 300 - detector.data_["n_train"]
    assert held_out > 0 and detector.input_.imputer.columns == (1,)
    assert detector.input_.imputer.medians[0] != np.nanmedian(rows[:, 1])
    columns = ["a", "b", "c"]
    named = fit_quietly(insphere.KNN(random_state=0, missing="impute"), pa.table(dict(zip(columns, rows.T, strict=True))))
    assert named.feature_names_ == ["a", "b", "c", "b is missing"] and list(named.feature_names_in_) == columns


def test_a_value_missing_where_none_was_is_still_an_error(rows):
    detector = fit_quietly(insphere.KNN(random_state=0, missing="impute"), ArraySource(rows, feature_names=["a", "b", "c"]))
    new = np.array([[np.nan, 10, 100], [0, np.nan, 100], [np.nan, np.nan, np.nan], [0, 10, np.inf]])
    (batch,) = detector.score_batches(ArraySource(new, feature_names=["a", "b", "c"]))
    assert batch.index.tolist() == [1] and list(batch.errors) == [0, 2, 3] and batch.errors[0] == "feature 0 'a' is nan"


def test_refusing_is_the_default_and_images_have_no_missing_features(rows):
    with pytest.warns(UserWarning, match="30 of 300 training rows"):
        assert insphere.KNN(random_state=0).fit(ArraySource(rows)).data_["n_unreadable"] == 30
    with pytest.raises(ParameterError, match="`missing` must be one of"):
        insphere.KNN(missing="drop").fit(rows)
    with pytest.raises(ParameterError, match="is for rows of features"):
        insphere.KNN(missing="impute").fit(np.zeros((20, 8, 8, 1), dtype=np.uint8))


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
def test_a_fit_without_imputation_names_it_and_one_with_it_does_not():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 2)), columns=["a", "b"])
    frame.iloc[3, 0] = np.nan
    with pytest.warns(UserWarning, match=r"1 of 30 training rows were left out.*missing='impute' \(--set missing=impute\) fills"):
        insphere.KNN(random_state=0).fit(frame)
    frame.iloc[3] = np.nan  # a row of nothing, which nobody can fill
    with pytest.warns(UserWarning, match="1 of 30 training rows were left out") as told:
        insphere.KNN(random_state=0, missing="impute").fit(frame)
    assert not any("impute" in str(warning.message) for warning in told)
