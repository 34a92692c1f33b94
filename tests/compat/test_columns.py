"""Scores as columns of a pipeline, in the frames that `set_output` asks for."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import insphere
from insphere.compat.columns import ScoreColumns
from insphere.errors import DataNotice

X = np.random.default_rng(0).normal(size=(120, 3))
NAMES = ["a", "b", "c"]


def test_the_columns_are_the_detector_s_and_frames_keep_their_index() -> None:
    frame = pd.DataFrame(X, columns=NAMES, index=[f"r{row}" for row in range(120)])
    step = ScoreColumns(insphere.KNN(random_state=0)).set_output(transform="pandas").fit(frame)
    scored = step.transform(frame[["c", "a", "b"]])
    assert list(scored.index[:2]) == ["r0", "r1"] and list(scored.columns) == ["anomaly_score", "p_value"]
    np.testing.assert_array_equal(scored["anomaly_score"], step.detector_.anomaly_score(X))
    np.testing.assert_array_equal(scored["p_value"], step.detector_.p_value(X))


def test_polars_comes_out_where_it_is_asked_for() -> None:
    frame = pl.DataFrame(X, schema=NAMES)
    scored = ScoreColumns(insphere.KNN(random_state=0)).set_output(transform="polars").fit_transform(frame)
    assert isinstance(scored, pl.DataFrame) and scored.columns == ["anomaly_score", "p_value"]


def test_it_is_a_step_of_a_pipeline() -> None:
    anomalies = X[:30] + 6
    y = np.r_[np.zeros(120), np.ones(30)]
    pipe = make_pipeline(ScoreColumns(insphere.KNN(random_state=0)), LogisticRegression())
    with pytest.warns(DataNotice, match="30 of 150 rows are marked as anomalies"):
        pipe.fit(np.concatenate([X, anomalies]), y)
    assert pipe.score(np.concatenate([X, anomalies]), y) > 0.97


def test_frames_of_three_libraries_score_the_same() -> None:
    frames = [pd.DataFrame(X, columns=NAMES), pl.DataFrame(X, schema=NAMES), pa.table({name: X[:, at] for at, name in enumerate(NAMES)})]
    fitted = [insphere.KNN(random_state=0).fit(frame) for frame in frames]
    wanted = fitted[0].anomaly_score(X)
    for detector in fitted:
        assert list(detector.feature_names_in_) == NAMES
        for frame in frames:
            np.testing.assert_array_equal(detector.anomaly_score(frame), wanted)
