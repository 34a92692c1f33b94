import subprocess
import sys
import textwrap

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KernelDensity, NearestNeighbors
from sklearn.svm import OneClassSVM
from sklearn.utils.estimator_checks import parametrize_with_checks

import contract
import insphere
import naive
from insphere import KDE, KNN, OCSVM, SVDD, IForest, model_file
from insphere.data.preprocess import fit_preprocess
from insphere.detectors.classical import MANY_ROWS, approximates
from insphere.detectors.one_class_svm import GAMMAS, fit_exact, fit_nystroem, recombine, select_parameters
from insphere.errors import ModelFileError, ParameterError
from insphere.metrics import auroc
from insphere.scores.density import BANDWIDTHS, GaussianDensity, cross_validated_bandwidth, reduced_density
from insphere.scores.isolation import grow_forest
from insphere.scores.kernels import KernelExpansion
from insphere.scores.neighbours import Neighbours
from insphere.seeding import derive_seed

VECTORS, GREY, COLOUR = contract.blobs(), contract.pictures(), contract.pictures(shape=(8, 8, 3))
EXACT = [OCSVM(random_state=0), KDE(random_state=0), IForest(20, random_state=0), KNN(random_state=0)]
APPROXIMATE = [
    OCSVM(approximation="nystroem", n_landmarks=20, random_state=0),
    KDE(approximation="nystroem", n_landmarks=20, random_state=0),
    KNN(aggregation="largest", max_references=20, random_state=0),
    KNN(aggregation="relative", max_references=20, random_state=0),
]


def title(value):
    return value.name + ("-few" if value in APPROXIMATE else "")


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
@pytest.mark.filterwarnings("ignore::insphere.errors.DataNotice")  # scikit-learn's checks hand on targets of other tasks
@parametrize_with_checks([OCSVM(random_state=0), KDE(random_state=0), IForest(5, random_state=0), KNN(random_state=0), *APPROXIMATE])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("check", contract.ALL, ids=lambda check: check.__name__)
@pytest.mark.parametrize("X", [VECTORS, GREY, COLOUR], ids=["vectors", "grey", "colour"])
@pytest.mark.parametrize("detector", [*EXACT, *APPROXIMATE], ids=title)
def test_contract(check, X, detector):
    check(detector, X)


@pytest.mark.parametrize("detector", [*EXACT, *APPROXIMATE], ids=title)
def test_not_one_number_is_drawn_from_the_global_state(detector):
    before = np.random.get_state()  # noqa: NPY002
    contract.fit_quietly(clone(detector), VECTORS).anomaly_score(VECTORS)
    after = np.random.get_state()  # noqa: NPY002
    assert (before[1] == after[1]).all() and before[2:] == after[2:]


@pytest.mark.parametrize("X", [VECTORS, GREY], ids=["vectors", "grey"])
@pytest.mark.parametrize("detector", [*EXACT, *APPROXIMATE], ids=title)
def test_round_trip(X, detector, tmp_path):
    contract.check_round_trip(detector, X, tmp_path)


@pytest.mark.parametrize("detector", [*EXACT, *APPROXIMATE], ids=title)
def test_anomalies_score_higher(detector):
    rng = np.random.default_rng(5)
    contract.check_anomalies_score_higher(detector, VECTORS, VECTORS + rng.normal(size=VECTORS.shape) * 4)
    contract.check_anomalies_score_higher(detector, GREY, rng.integers(0, 256, size=GREY.shape).astype(np.uint8))


# The same scores as scikit-learn's own, on the same principal components.


def scikit_learns_scores(fitted, train, test):
    """Anomaly scores of scikit-learn's own estimator with the parameters that `fitted` settled on."""
    if isinstance(fitted, OCSVM):
        # libsvm leaves out the division by nu·n.
        return -OneClassSVM(gamma=fitted.gamma_, nu=fitted.nu_).fit(train).decision_function(test) / (fitted.nu_ * len(train))
    if isinstance(fitted, KDE):
        return -KernelDensity(bandwidth=fitted.bandwidth_).fit(train).score_samples(test)
    if isinstance(fitted, IForest):
        seed = derive_seed(fitted.seed_, "trees") % 2**32
        samples = min(256, len(train))
        return -IsolationForest(n_estimators=fitted.n_estimators, max_samples=samples, random_state=seed).fit(train).score_samples(test)
    return NearestNeighbors(n_neighbors=5).fit(train).kneighbors(test)[0].mean(axis=1)


@pytest.mark.parametrize("detector", EXACT, ids=title)
def test_images_score_as_scikit_learn_does_on_the_same_components(detector):
    X, new = contract.pictures(80), contract.pictures(40, seed=1)
    fitted = contract.fit_quietly(clone(detector).set_params(calibration={"method": "split"}), X)
    held_out = len(fitted.conformal_)
    # The proper training rows, found by fitting without the detector: all rows whose scores were not held out.
    train = X[~np.isin(fitted.anomaly_score(X), fitted.conformal_.scores)]
    assert len(train) == len(X) - held_out

    preprocess = fit_preprocess(train, "gcn")

    def flat(rows):
        return preprocess.apply(rows.astype(np.float64)).reshape(len(rows), -1)

    pca = PCA(n_components=0.95, svd_solver="full").fit(flat(train))
    assert fitted.projection_.components.shape[0] == pca.n_components_
    if isinstance(detector, IForest):  # whose cuts depend on the components' signs and last bits: give it the very same
        components = fitted.projection_.apply(flat(train)), fitted.projection_.apply(flat(new))
    else:
        components = pca.transform(flat(train)), pca.transform(flat(new))
    expected = scikit_learns_scores(fitted, *components)
    scores = fitted.anomaly_score(new)
    np.testing.assert_allclose(scores, expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(rankdata(scores), rankdata(expected))


@pytest.mark.parametrize("detector", EXACT, ids=title)
def test_vectors_score_as_scikit_learn_does(detector):
    X, new = contract.blobs(100), contract.blobs(60, seed=1) * 2
    fitted = contract.fit_quietly(clone(detector).set_params(scaling="none"), X)
    train = X[~np.isin(fitted.anomaly_score(X), fitted.conformal_.scores)]
    expected = scikit_learns_scores(fitted, train, new)
    if isinstance(detector, IForest):
        np.testing.assert_array_equal(fitted.anomaly_score(new), expected)
    np.testing.assert_allclose(fitted.anomaly_score(new), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(rankdata(fitted.anomaly_score(new)), rankdata(expected))


@pytest.mark.parametrize("detector", [KDE, KNN, OCSVM, SVDD], ids=lambda detector: detector.name)
def test_models_of_folds_have_as_many_components_as_the_model_of_all_rows(detector):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (520, 12, 12, 1)).astype(np.uint8)  # of noise, every component counts
    rates = []
    for seed in range(5):
        fitted = contract.fit_quietly(detector(random_state=seed), rows[20 * seed : 20 * seed + 20])
        assert fitted.decision_.method == "cross" and len(fitted.projection_.components) == 17  # 18 rows less their mean span 17
        rates.append((fitted.predict(rows[100:]) == -1).mean())
    assert np.mean(rates) < 0.15


def test_components_are_kept_for_images_only_unless_asked_for():
    assert contract.fit_quietly(KNN(random_state=0), VECTORS).projection_ is None
    assert contract.fit_quietly(KNN(pca="none", random_state=0), GREY).projection_ is None
    assert contract.fit_quietly(KNN(pca=1.0, random_state=0), VECTORS).projection_.components.shape == (5, 5)
    two = contract.fit_quietly(KNN(pca=0.9, random_state=0, scaling="none"), VECTORS)
    assert two.projection_.components.shape == (2, 5)


# Densities.


def test_density_equals_its_formula_written_out():
    X, new = VECTORS[:30], VECTORS[30:40]
    density = GaussianDensity(X, np.full(30, 1 / 30), 0.7)
    expected = [naive.gaussian_log_density(x, X.tolist(), 0.7) for x in new.tolist()]
    np.testing.assert_allclose(density.log_density(new), expected, rtol=1e-10)
    # A training row is judged by the others.
    without_own = [naive.gaussian_log_density(x, np.delete(X, i, axis=0).tolist(), 0.7) for i, x in enumerate(X.tolist())]
    np.testing.assert_allclose(density.log_density(X, own=np.arange(30)), without_own, rtol=1e-10)


def test_density_far_out_is_finite():
    density = GaussianDensity(np.zeros((1, 2)), np.ones(1), 1.0)
    assert density.log_density(np.array([[1e4, 0.0]]))[0] == pytest.approx(-5e7 - np.log(2 * np.pi))


@pytest.mark.parametrize("scale", [0.02, 8.0, 300.0])
def test_bandwidth_is_that_of_scikit_learns_grid_search(scale):
    X = contract.blobs(150) * scale
    chosen = cross_validated_bandwidth(X, np.random.default_rng(0))
    order = np.random.default_rng(0).permutation(150)
    wide = sorted({*BANDWIDTHS, *(2.0 ** (half / 2) for half in range(-30, 40))})
    search = GridSearchCV(KernelDensity(), {"bandwidth": wide}, cv=KFold(5)).fit(X[order])
    assert chosen == pytest.approx(search.best_params_["bandwidth"])
    assert (chosen in BANDWIDTHS) == (scale == 8.0)


def test_repeated_rows_have_a_bandwidth():
    X = np.repeat(contract.blobs(20), 10, axis=0)
    assert cross_validated_bandwidth(X, np.random.default_rng(0)) > 1e-4 * X.std()


def test_reduced_density_is_close_to_that_of_all_rows():
    X, new = contract.blobs(1500, 3), contract.blobs(200, 3, seed=1)
    whole = GaussianDensity(X, np.full(1500, 1 / 1500), 0.5)
    reduced = reduced_density(X, X[:200], 0.5)
    assert len(reduced.points) <= 200 and reduced.weights.sum() == pytest.approx(1)
    assert spearmanr(whole.log_density(new), reduced.log_density(new)).statistic > 0.97
    # Weights make better use of the same landmarks.
    plain = GaussianDensity(X[:200], np.full(200, 1 / 200), 0.5)
    error = [np.abs(other.log_density(new) - whole.log_density(new)).mean() for other in (reduced, plain)]
    assert error[0] < error[1]


# The one-class machine.


def test_weights_are_scikit_learns():
    weights, rho = fit_exact(VECTORS, 0.2, 0.3)
    machine = OneClassSVM(gamma=0.2, nu=0.3).fit(VECTORS)
    np.testing.assert_array_equal(np.flatnonzero(weights), machine.support_)
    total = 0.3 * len(VECTORS)
    assert weights.sum() == pytest.approx(1) and rho == machine.offset_[0] / total
    np.testing.assert_array_equal(weights[machine.support_], machine.dual_coef_[0] / total)


def test_scores_do_not_grow_with_the_number_of_rows():
    once = contract.fit_quietly(OCSVM(gamma=0.2, nu=0.2, scaling="none", random_state=0), VECTORS)
    rho = fit_exact(VECTORS, 0.2, 0.3, tolerance=1e-6)[1]
    doubled, twice = fit_exact(np.repeat(VECTORS, 2, axis=0), 0.2, 0.3, tolerance=1e-6)
    assert twice == pytest.approx(rho, rel=1e-4) and doubled.sum() == pytest.approx(1)
    # A row that is like no other has likeness 0 to all: it scores rho, which is a mean likeness, whatever the number of rows.
    far = once.anomaly_score(np.full((1, VECTORS.shape[1]), 1e3))
    assert far[0] == once.rho_ and 0 < once.rho_ < 1


def test_with_full_slack_every_row_weighs_the_same():
    fitted = contract.fit_quietly(OCSVM(gamma=0.2, nu=1.0, random_state=0), VECTORS)
    assert np.isfinite(fitted.anomaly_score(VECTORS)).all() and len(set(fitted.expansion_.weights)) == 1


def test_recombined_rows_keep_each_feature_and_break_their_company():
    rows = np.arange(12.0).reshape(6, 2)
    mixed = recombine(rows, np.random.default_rng(0))
    assert all(set(column) <= set(original) for column, original in zip(mixed.T, rows.T, strict=True))
    assert not {tuple(row) for row in mixed.tolist()} & {tuple(row) for row in rows.tolist()}


def test_label_free_choice_is_near_the_best_of_the_grid():
    """On a curve in the plane, the gamma chosen without labels does as well on true anomalies as the best one chosen with them."""
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, 600)
    ring = 3 * np.stack([np.cos(angles), np.sin(angles)], axis=1) + 0.2 * rng.normal(size=(600, 2))
    centre = rng.normal(size=(200, 2))
    labels = np.repeat([0, 1], 200)

    def area(gamma, nu):
        fitted = contract.fit_quietly(OCSVM(gamma, nu, scaling="none", random_state=0), ring[:400])
        return auroc(labels, fitted.anomaly_score(np.concatenate([ring[400:], centre]))).value

    areas = [area(gamma, nu) for gamma in (*GAMMAS, 1.0, 4.0, 16.0, 64.0) for nu in (0.01, 0.1)]
    assert min(areas) < 0.5
    assert area("auto", "auto") > max(areas) - 0.03


def test_choice_goes_with_the_scale_of_the_features():
    gamma, _, separation = select_parameters(VECTORS, np.random.default_rng(0))
    for factor in (1e-4, 1e3):
        scaled, _, _ = select_parameters(VECTORS * factor, np.random.default_rng(0))
        # One step of the grid off at most, whose powers of two do not move with the features.
        assert 0.45 < scaled * factor**2 / gamma < 2.2
    assert separation > 0.7


def test_where_nothing_can_be_told_the_scale_rule_decides():
    rng = np.random.default_rng(0)
    for X in (rng.normal(size=(400, 20)), rng.normal(size=(400, 1)), np.ones((5, 2))):
        gamma, nu, separation = select_parameters(X, np.random.default_rng(0))
        assert gamma == pytest.approx(1 / (X.shape[1] * X.var()) if X.var() else 1.0) and nu == 0.1 and separation == 0.5


def test_given_parameters_are_used():
    fitted = contract.fit_quietly(OCSVM(gamma=0.3, random_state=0), VECTORS)
    assert (fitted.gamma_, fitted.nu_) == (0.3, 0.1)
    assert contract.fit_quietly(OCSVM(nu=0.2, random_state=0), VECTORS).nu_ == 0.2
    assert contract.fit_quietly(OCSVM(gamma="scale", random_state=0), VECTORS).gamma_ == pytest.approx(0.2)
    assert contract.fit_quietly(KDE(0.3, random_state=0), VECTORS).bandwidth_ == 0.3


def test_landmarks_rank_as_all_rows_do():
    X, new = contract.blobs(1500, 3), np.concatenate([contract.blobs(200, 3, seed=1), 2 * contract.blobs(200, 3, seed=2)])
    for parameters in ({"gamma": 0.3, "nu": 0.1}, {"gamma": 0.05, "nu": 0.01}):
        exact = contract.fit_quietly(OCSVM(**parameters, random_state=0), X).anomaly_score(new)
        few = contract.fit_quietly(OCSVM(**parameters, approximation="nystroem", n_landmarks=150, random_state=0), X).anomaly_score(new)
        assert spearmanr(exact, few).statistic > 0.99


def test_with_all_rows_as_landmarks_nothing_is_lost():
    expansion, rho = fit_nystroem(VECTORS, 0.3, 0.2, len(VECTORS), seed=0)
    weights, exact_rho = fit_exact(VECTORS, 0.3, 0.2, tolerance=1e-6)
    whole = KernelExpansion(expansion.kernel, VECTORS, weights)
    np.testing.assert_allclose(expansion(VECTORS), whole(VECTORS), atol=1e-3 * exact_rho)
    assert rho == pytest.approx(exact_rho, rel=1e-2)


def test_many_rows_are_approximated_unless_told_otherwise():
    assert [approximates("auto", n) for n in (MANY_ROWS, MANY_ROWS + 1)] == [False, True]
    assert approximates("nystroem", 10) and not approximates("none", 10**6)
    fitted = contract.fit_quietly(APPROXIMATE[0], VECTORS)
    assert any(finding.name == "landmarks" and finding.value == 20 for finding in fitted.health_.findings)


MEMORY = """
    import resource, sys, warnings
    import numpy as np
    import insphere
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(50_000, 20)) @ rng.normal(size=(20, 100))).astype(np.float32)
    fitted = getattr(insphere, sys.argv[1])(random_state=0).fit(X)
    assert np.isfinite(fitted.anomaly_score(X[:2000])).all()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss differs between systems")
@pytest.mark.parametrize("name", ["KDE", "OCSVM"])
def test_fifty_thousand_rows_fit_in_two_gibibytes(name):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(MEMORY), name], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 2 * 2**30


# Neighbours.


@pytest.mark.parametrize("n_features", [3, 15])
def test_distances_equal_the_naive_search(n_features):
    X, new = contract.blobs(40, n_features), contract.blobs(10, n_features, seed=1)
    neighbours = Neighbours(X)
    expected = [naive.nearest_distances(x, X.tolist(), 4) for x in new.tolist()]
    np.testing.assert_allclose(neighbours.distances(new, 4), expected)
    others = [naive.nearest_distances(x, np.delete(X, i, axis=0).tolist(), 4) for i, x in enumerate(X.tolist())]
    np.testing.assert_allclose(neighbours.distances(X, 4, own=np.arange(40)), others)
    assert neighbours.distances(new, 1000).shape == (10, 40) and neighbours.distances(X, 1000, own=np.arange(40)).shape == (40, 39)


def test_copies_of_a_row_are_its_neighbours():
    neighbours = Neighbours(np.repeat([[0.0], [1.0]], 5, axis=0))
    np.testing.assert_array_equal(neighbours.distances(np.zeros((1, 1)), 2, own=np.array([0])), [[0, 0]])


# Trees.


@pytest.mark.parametrize(("shape", "max_samples"), [((300, 4), 256), ((300, 4), 1000), ((9, 2), 256), ((50, 3), 2)])
def test_trees_score_exactly_as_scikit_learns(shape, max_samples):
    X = np.round(np.random.default_rng(0).normal(size=shape), 1)  # with ties, and values that single precision rounds
    trees = grow_forest(X, 30, max_samples, seed=5)
    theirs = IsolationForest(n_estimators=30, max_samples=min(max_samples, len(X)), random_state=5).fit(X)
    np.testing.assert_array_equal(trees.score(X), -theirs.score_samples(X))
    assert trees.is_sound(shape[1]) and not trees.is_sound(1)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("trees/left", lambda array: array[::-1].copy()),  # cycles: a walk would never end
        ("trees/right", lambda array: np.zeros_like(array)),
        ("trees/features", lambda array: array + 10),
        ("trees/roots", lambda array: array - 1),
        ("trees/thresholds", lambda array: array[1:]),
        ("trees/path_lengths", lambda array: np.full_like(array, np.inf)),
    ],
)
def test_a_file_whose_trees_are_none_is_refused(name, change, tmp_path):
    contract.fit_quietly(EXACT[2], VECTORS).save(tmp_path / "model.insphere")
    saved = model_file.read(tmp_path / "model.insphere", "detector")
    model_file.write(tmp_path / "other.insphere", "detector", saved.header, saved.arrays | {name: change(saved.arrays[name])})
    words = "'trees/path_lengths'.*not finite" if name == "trees/path_lengths" else "do not fit together"
    with pytest.raises(ModelFileError, match=words):
        insphere.load(tmp_path / "other.insphere")


@pytest.mark.parametrize(
    ("detector", "name"),
    [(EXACT[0], "kernel/points"), (EXACT[0], "kernel/weights"), (EXACT[1], "density/weights"), (EXACT[3], "references")],
)
def test_a_file_whose_arrays_do_not_fit_is_refused(detector, name, tmp_path):
    contract.fit_quietly(detector, VECTORS).save(tmp_path / "model.insphere")
    saved = model_file.read(tmp_path / "model.insphere", "detector")
    for array in (np.zeros((2, 3)), np.zeros((0, 5))):
        model_file.write(tmp_path / "other.insphere", "detector", saved.header, saved.arrays | {name: array})
        with pytest.raises(ModelFileError, match="fit the rest"):
            insphere.load(tmp_path / "other.insphere")
    if name == "density/weights":
        model_file.write(tmp_path / "other.insphere", "detector", saved.header, saved.arrays | {name: -saved.arrays[name]})
        with pytest.raises(ModelFileError, match="outside"):
            insphere.load(tmp_path / "other.insphere")


@pytest.mark.parametrize("detector", EXACT, ids=title)
def test_images_without_contrast_to_tell_apart_are_said_to_collapse(detector):
    X = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1)  # contrast normalisation leaves nothing of a single pixel
    assert contract.fit_quietly(clone(detector), X).health_.collapsed
    assert not contract.fit_quietly(clone(detector).set_params(scaling="unit"), X).health_.collapsed


@pytest.mark.parametrize("detector", EXACT, ids=title)
def test_extreme_rows_have_finite_scores(detector):
    fitted = contract.fit_quietly(clone(detector), VECTORS)
    assert np.isfinite(fitted.anomaly_score(np.array([[1e300] * 5, [-1e30] * 5, [0.0] * 5]))).all()


def test_relative_distances_are_the_factor_of_a_plain_statement():
    fitted = contract.fit_quietly(KNN(n_neighbors=3, aggregation="relative", scaling="none", random_state=0), VECTORS)
    references, rows = fitted.neighbours_.references, VECTORS[:20] + 0.1
    gaps = np.linalg.norm(references[:, None] - references, axis=2)
    usual = np.sort(gaps, axis=1)[:, 1:4].mean(axis=1)
    distances = np.linalg.norm(rows[:, None] - references, axis=2)
    nearest = np.argsort(distances, axis=1)[:, :3]
    expected = np.take_along_axis(distances, nearest, axis=1).mean(axis=1) / usual[nearest].mean(axis=1)
    np.testing.assert_allclose(fitted.anomaly_score(rows), expected, rtol=1e-9)


def test_relative_distances_stay_finite_beside_copies():
    rows = np.concatenate([np.repeat([[1.0, 2.0]], 30, axis=0), VECTORS[:30, :2]])
    fitted = contract.fit_quietly(KNN(aggregation="relative", random_state=0), rows)
    assert np.isfinite(fitted.anomaly_score(np.array([[1.0, 2.0], [1.0, 2.1]]))).all()


@pytest.mark.parametrize("aggregation", ["mean", "largest", "relative"])
def test_rows_that_were_learned_score_as_new_ones_where_they_are_not_their_own_neighbours(aggregation):
    fitted = contract.fit_quietly(KNN(aggregation=aggregation, exclude_self=True, random_state=0), VECTORS)
    np.testing.assert_allclose(np.sort(fitted.training_scores_), np.sort(fitted.anomaly_score(VECTORS[fitted.training_index_])), rtol=1e-12)
    other = contract.fit_quietly(KNN(aggregation=aggregation, random_state=0), VECTORS)
    np.testing.assert_array_equal(other.anomaly_score(VECTORS + 0.5), fitted.anomaly_score(VECTORS + 0.5))


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (OCSVM(gamma="autp"), "Did you mean 'auto'"),
        (OCSVM(gamma=0), "`gamma` must be"),
        (OCSVM(nu=2), "`nu` must be"),
        (OCSVM(nu="scale"), "`nu` must be 'auto' or a finite number above 0 and at most 1"),
        (OCSVM(approximation="nystrom"), "Did you mean 'nystroem'"),
        (OCSVM(n_landmarks=1), "`n_landmarks` must be"),
        (KDE(bandwidth=-1), "`bandwidth` must be"),
        (KDE(bandwidth="cv"), "`bandwidth` must be 'auto' or"),
        (IForest(0), "`n_estimators` must be"),
        (IForest(max_samples=1), "`max_samples` must be"),
        (KNN(0), "`n_neighbors` must be"),
        (KNN(aggregation="max"), "`aggregation` must be"),
        (KNN(max_references=0), "`max_references` must be"),
    ],
    ids=str,
)
def test_parameters_out_of_range(detector, message):
    with pytest.raises(ParameterError, match=message):
        detector.fit(VECTORS)


def test_more_neighbours_than_rows_are_told_of():
    with pytest.warns(insphere.errors.HealthWarning, match="There are 119 other rows, so that each has 119 neighbours and not 5000"):
        KNN(5000, random_state=0, calibration={"method": "cross"}).fit(VECTORS)
