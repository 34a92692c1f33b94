"""A calibration for each camera, product or shift: its own scores, its own threshold, and what those with too few rows borrow."""

import numpy as np
import pytest

import insphere
from insphere.data import ArraySource, open_source
from insphere.data.folders import categories_of
from insphere.decision.calibration import ConformalCalibration
from insphere.decision.categories import Categories, RowCategories, category_texts, coded
from insphere.decision.decision import Decision
from insphere.detectors import catalog
from insphere.detectors.classical import KNN
from insphere.errors import DataError, DataNotice, HealthWarning, ParameterError

pytestmark = pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")


def decision(scores, names, of, **options):
    scores = np.asarray(scores, dtype=np.float64)
    known = Categories.of_scores(names, np.array(of), scores)
    return Decision(ConformalCalibration(scores), radius=1.0, target_fpr=0.25, categories=known, **options)


def test_each_category_has_the_p_values_of_its_own_scores():
    made = decision([9, 1, 7, 2, 8, 3, 50], ("a", "b"), [1, 0, 1, 0, 1, 0, -1])
    p = made.p_value(np.array([2.5, 2.5, 2.5]), np.array([0, 1, -1]))
    assert p.tolist() == [(1 + 1) / 4, (1 + 3) / 4, (1 + 5) / 8]  # 3 above among 1, 2, 3; all above among 7, 8, 9; five of all seven


def test_thresholds_flag_exactly_where_the_p_value_is_at_most_the_target():
    made = decision([9, 1, 7, 2, 8, 3], ("a", "b"), [1, 0, 1, 0, 1, 0])
    scores = np.array([2.9, 3.0, 3.1, 8.9, 9.1])
    for code in (0, 1):
        codes = np.full(5, code)
        assert (made.is_anomaly(scores, codes) == (made.p_value(scores, codes) <= 0.25)).all()


def test_a_category_with_too_few_rows_borrows_the_threshold_of_all_but_never_below_its_own_scores():
    low = decision([1, 2, 3, 4, 5, 6, 7, 0.5], ("few", "many"), [1, 1, 1, 1, 1, 1, 1, 0])
    assert low.borrowing == ("few",)
    assert low.of_category["few"].threshold == low.threshold == 6.0
    high = decision([1, 2, 3, 4, 5, 6, 7, 99], ("few", "many"), [1, 1, 1, 1, 1, 1, 1, 0])
    assert high.threshold == 7.0
    assert high.of_category["few"].threshold == 99.0
    told = {entry["name"]: entry for entry in high.to_json()["categories"]}
    assert told["few"]["promised_fpr"] == 0.5  # one own score: a normal row is above it with probability 1/2 at most
    assert told["few"]["expected"] is None
    assert told["many"]["promised_fpr"] == 0.25


def test_the_paper_radius_is_one_for_all_categories():
    made = decision([9, 1, 7, 2], ("a", "b"), [1, 0, 1, 0], by="radius")
    assert made.thresholds(2, np.array([0, 1])).tolist() == [1.0, 1.0]
    assert made.to_json()["categories"][0]["promised_fpr"] is None


def test_recalibrating_replaces_the_scores_of_the_categories_that_come():
    made = decision([9, 1, 7, 2, 8, 3], ("a", "b"), [1, 0, 1, 0, 1, 0])
    new = made.recalibrated(np.array([20.0, 30.0]), 2, None, RowCategories.of(["b", "c"], 2))
    assert new.categories.names == ("a", "b", "c")
    assert {name: entry.calibration.scores.tolist() for name, entry in new.of_category.items()} == {
        "a": [1.0, 2.0, 3.0],
        "b": [20.0],
        "c": [30.0],
    }
    assert (new.history[-1]["from"], new.history[-1]["to"]) == (6, 5)
    with pytest.raises(DataError, match="say which they are of"):
        made.recalibrated(np.array([20.0]), 1)


def test_extending_keeps_what_is_there():
    made = decision([9, 1], ("a", "b"), [1, 0])
    new = made.extended(np.array([5.0, 6.0]), RowCategories.of([None, "a"], 2))
    assert new.of_category["a"].calibration.scores.tolist() == [1.0, 6.0]
    assert new.of_category["b"].calibration.scores.tolist() == [9.0]
    assert new.calibration.scores.tolist() == [1.0, 5.0, 6.0, 9.0]


def test_names_are_texts_and_missing_ones_are_none():
    assert category_texts([2.0, "a", None, float("nan"), ""], 5) == ["2", "a", None, None, None]
    assert coded(("2", "a"), ["a", None, "zz"]).tolist() == [1, -1, -2]
    assert RowCategories.of([None, None], 2) is None
    with pytest.raises(DataError, match="one entry per row: 3, got 1"):
        RowCategories.of(["a"], 3)
    with pytest.raises(DataError, match="Rows that depend on each other are groups"):
        RowCategories.of(range(5000), 5000)


def lines(n, rng):
    """Rows of two cameras, of which the second sees everything twice as large."""
    camera = rng.choice(["left", "right"], n, p=[0.7, 0.3])
    return rng.normal(size=(n, 3)) * np.where(camera == "right", 2.0, 1.0)[:, None], camera


@pytest.fixture(scope="module")
def fitted():
    X, camera = lines(600, np.random.default_rng(1))
    return KNN(random_state=0).fit(X, categories=camera)


def test_both_cameras_keep_the_rate_and_one_threshold_for_all_does_not(fitted):
    fresh, camera = lines(20_000, np.random.default_rng(2))
    flagged = fitted.predict(fresh, categories=camera) == -1
    for name, entry in fitted.decision_.of_category.items():
        rate = flagged[camera == name].mean()
        assert entry.calibration.false_alarm(0.05).low <= rate <= entry.calibration.false_alarm(0.05).high
    with pytest.warns(DataNotice, match="20000 of 20000 rows have no category"):
        pooled = fitted.predict(fresh) == -1
    assert pooled[camera == "right"].mean() > 0.1 > 0.005 > pooled[camera == "left"].mean()


def test_each_category_gives_as_many_held_out_rows_as_the_target_takes():
    rng = np.random.default_rng(0)
    camera = np.repeat(["big", "small", "tiny"], [500, 60, 9])
    found = KNN(random_state=0, calibration={"method": "split"}).fit(rng.normal(size=(569, 2)), categories=camera)
    assert found.decision_.categories.sizes == {"big": 100, "small": 19, "tiny": 4}
    assert found.decision_.borrowing == ("tiny",)


def test_a_group_stays_together_and_counts_once_in_its_category():
    rng = np.random.default_rng(0)
    camera, film = np.repeat(["a", "b"], 200), np.arange(400) // 4
    found = KNN(random_state=0, calibration={"method": "split"}).fit(rng.normal(size=(400, 2)), groups=film, categories=camera)
    assert found.decision_.categories.sizes == {"a": 19, "b": 19}


def test_too_small_categories_are_named_by_the_health_report():
    rng = np.random.default_rng(0)
    with pytest.warns(HealthWarning, match=r"1 of 2 categories have fewer than the 19 .* few \(\d+\)"):
        found = KNN(random_state=0).fit(rng.normal(size=(208, 2)), categories=np.repeat(["few", "many"], [8, 200]))
    found.recalibrate(rng.normal(size=(40, 2)), categories=["few"] * 40)
    assert next(entry for entry in found.health_.findings if entry.name == "categories").level == "ok"


def test_a_row_of_an_unknown_category_is_an_error_and_the_others_are_scored(fitted):
    X = np.zeros((3, 3))
    batch = next(iter(fitted.score_batches(X, categories=["left", "middle", None])))
    assert batch.index.tolist() == [0, 2]
    assert list(batch.errors) == [1]
    assert "is of category 'middle', for which the model is not calibrated (it has 'left', 'right')" in batch.errors[1]
    assert batch.n_pooled == 1


def test_categories_that_a_model_does_not_have_are_refused():
    found = KNN(random_state=0).fit(np.random.default_rng(0).normal(size=(60, 2)))
    with pytest.raises(DataError, match="fitted without them"):
        found.predict(np.zeros((1, 2)), categories=["a"])


def test_a_model_file_keeps_them(fitted, tmp_path):
    fitted.save(tmp_path / "m.insphere")
    again = insphere.load(tmp_path / "m.insphere")
    fresh, camera = lines(100, np.random.default_rng(3))
    assert (again.p_value(fresh, categories=camera) == fitted.p_value(fresh, categories=camera)).all()
    assert again.decision_.to_json() == fitted.decision_.to_json()


def test_a_column_is_remembered_by_the_model(tmp_path):
    rng = np.random.default_rng(0)
    X, camera = lines(400, rng)

    def write(name, n):
        rows = [f"{x[0]},{x[1]},{x[2]},{own}" for x, own in zip(X[:n], camera[:n], strict=True)]
        (tmp_path / name).write_text("\n".join(["x,y,z,camera", *rows, ""]))
        return tmp_path / name

    found = catalog.make("knn", {"random_state": 0}).fit(open_source(write("fit.csv", 400), category="camera"))
    assert found.input_.table.category == "camera"
    assert found.input_.shape == (3,)
    source = found.open(write("new.csv", 20))
    assert list(source.categories) == camera[:20].tolist()
    assert sum(batch.n_pooled for batch in found.score_batches(source)) == 0


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("folder", ("cam1", "cam2", None)), (r"(?P<category>cam\d)", ("cam1", "cam2", None)), (r"^c..(\d)", ("1", "2", None))],
)
def test_categories_from_paths(pattern, expected):
    assert categories_of(["cam1/good/1.png", "cam2/2.png", "good/3.png"], pattern) == expected


def test_a_folder_of_the_rows_own_type_is_not_its_category():
    assert categories_of(["a/test/rust/1.png", "b/test/good/2.png"], "folder", types=["rust", "good"]) == ("a", "b")
    with pytest.raises(ParameterError, match="matches none of the 1 paths"):
        categories_of(["1.png"], "folder")
    assert categories_of(["1.png"], "folder", asked=False) is None


def test_sources_hand_categories_on():
    source = ArraySource(np.zeros((3, 2)), categories=["a", None, 7])
    assert source.take([2, 1]).categories == ("7", None)
