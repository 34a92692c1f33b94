from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.estimator_checks import parametrize_with_checks

import contract
import insphere
import naive
from insphere import SVDD, model_file
from insphere.detectors.kernel_svdd import fit_kernel_sphere
from insphere.errors import ModelFileError, ParameterError, TrainingError
from insphere.scores.kernels import Kernel, KernelName
from insphere.scores.simplex_qp import minimise_on_simplex

VECTORS, GREY, COLOUR = contract.blobs(), contract.pictures(), contract.pictures(shape=(8, 8, 3))
SPHERES = [SVDD(kernel, random_state=0) for kernel in get_args(KernelName)]
OPTIONS = {"gamma": 0.3, "degree": 2, "coef0": 1.0}


def rows(n, d=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def gram_of(X, name):
    return [[naive.kernel(x, y, name, **OPTIONS) for y in X.tolist()] for x in X.tolist()]


@pytest.mark.filterwarnings("ignore::insphere.errors.HealthWarning")
@pytest.mark.filterwarnings("ignore::insphere.errors.DataNotice")  # scikit-learn's checks hand on targets of other tasks
@parametrize_with_checks([SVDD(random_state=0), SVDD("polynomial", random_state=0)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("check", contract.ALL, ids=lambda check: check.__name__)
@pytest.mark.parametrize("X", [VECTORS, GREY, COLOUR], ids=["vectors", "grey", "colour"])
@pytest.mark.parametrize("sphere", SPHERES, ids=lambda sphere: sphere.kernel)
def test_contract(check, X, sphere):
    check(sphere, X)


@pytest.mark.parametrize("X", [VECTORS, GREY], ids=["vectors", "grey"])
@pytest.mark.parametrize("sphere", SPHERES, ids=lambda sphere: sphere.kernel)
def test_round_trip(X, sphere, tmp_path):
    contract.check_round_trip(sphere, X, tmp_path)


@pytest.mark.parametrize("sphere", SPHERES, ids=lambda sphere: sphere.kernel)
def test_anomalies_score_higher(sphere):
    contract.check_anomalies_score_higher(sphere, VECTORS, VECTORS + 4 * np.random.default_rng(5).normal(size=VECTORS.shape))


@pytest.mark.parametrize("nu", [0.02, 0.15, 0.6, 1.0])
@pytest.mark.parametrize("kernel", get_args(KernelName))
@pytest.mark.parametrize("solver", ["auto", "qp"])
def test_optimality_conditions_hold(kernel, nu, solver):
    X = rows(60)
    sphere, alphas = fit_kernel_sphere(X, Kernel(kernel, **OPTIONS), nu, solver)
    gram = gram_of(X, kernel)
    largest = max(row[i] for i, row in enumerate(gram))
    assert naive.svdd_kkt_violation(gram, alphas.tolist(), 1 / (nu * 60), sphere.squared_radius) <= 1e-6 * max(1.0, largest)


@pytest.mark.parametrize("nu", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("kernel", get_args(KernelName))
def test_the_dual_reaches_the_value_of_the_slow_oracle(kernel, nu):
    X = rows(12, 2, seed=3)
    gram, bound = gram_of(X, kernel), 1 / (nu * 12)
    expected = naive.svdd_dual(gram, bound)
    for solver in ("auto", "qp"):
        sphere, alphas = fit_kernel_sphere(X, Kernel(kernel, **OPTIONS), nu, solver)
        assert naive.svdd_dual_value(gram, alphas.tolist()) == pytest.approx(naive.svdd_dual_value(gram, expected), abs=1e-7)
        # The weights need not be unique, the centre is.
        for x in rows(5, 2, seed=4).tolist():
            to_rows = [naive.kernel(x, y, kernel, **OPTIONS) for y in X.tolist()]
            own = naive.kernel(x, x, kernel, **OPTIONS)
            distance = naive.svdd_squared_distance(own, to_rows, gram, expected)
            assert sphere.squared_distance(np.array([x]))[0] == pytest.approx(distance, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("kernel", get_args(KernelName))
def test_radius_is_equation_10_averaged_over_unbounded_support_vectors(kernel):
    X, nu = rows(40), 0.1
    sphere, alphas = fit_kernel_sphere(X, Kernel(kernel, **OPTIONS), nu)
    gram, bound = gram_of(X, kernel), 1 / (nu * 40)
    unbounded = [k for k in range(40) if 1e-6 * bound < alphas[k] < (1 - 1e-6) * bound]
    radii = [naive.svdd_squared_distance(gram[k][k], gram[k], gram, alphas.tolist()) for k in unbounded]
    assert unbounded and sphere.squared_radius == pytest.approx(sum(radii) / len(radii), rel=1e-9)
    scores = sphere.score(X)
    np.testing.assert_allclose(scores[unbounded], 0, atol=1e-6 * max(1.0, sphere.squared_radius))
    assert (scores[alphas == 0] < 1e-6).all() and (scores > 1e-6 * max(1.0, sphere.squared_radius)).mean() <= nu


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(3, 25),
    nu=st.floats(0.01, 1.0),
    gamma=st.sampled_from([0.01, 0.5, 5.0]),
    repeated=st.booleans(),
    seed=st.integers(0, 100),
)
def test_both_routes_agree_on_rbf(n, nu, gamma, repeated, seed):
    X = rows(n, 2, seed)
    X = np.concatenate([X, X[: n // 2]]) if repeated else X
    by_libsvm, _ = fit_kernel_sphere(X, Kernel("rbf", gamma), nu)
    by_programme, _ = fit_kernel_sphere(X, Kernel("rbf", gamma), nu, "qp")
    new = rows(10, 2, seed + 1)
    np.testing.assert_allclose(by_libsvm.squared_distance(new), by_programme.squared_distance(new), atol=2e-6)


def test_plain_sphere_without_slack_is_the_smallest_enclosing_ball():
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = np.stack([3 + 2 * np.cos(angles), 2 * np.sin(angles)], axis=1)
    sphere, _ = fit_kernel_sphere(np.concatenate([circle, [[3.0, 0.5]]]), Kernel("linear"), nu=1 / 13)
    assert sphere.squared_radius == pytest.approx(4, abs=1e-6)
    np.testing.assert_allclose(sphere.center.weights @ sphere.center.points, [3, 0], atol=1e-5)


def test_with_full_slack_the_centre_is_the_mean():
    X = rows(20)
    sphere, alphas = fit_kernel_sphere(X, Kernel("linear"), nu=1.0)
    np.testing.assert_allclose(alphas, 1 / 20, rtol=1e-6)
    np.testing.assert_allclose(sphere.squared_distance(X), ((X - X.mean(axis=0)) ** 2).sum(axis=1), atol=1e-6)


def test_where_no_support_vector_is_unbounded_the_radius_parts_inside_from_outside():
    # Two pairs, one beyond the other: with nu = 1/2 each of two rows bears exactly the bound.
    X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    sphere, alphas = fit_kernel_sphere(X, Kernel("linear"), nu=0.5)
    np.testing.assert_allclose(alphas, [0.5, 0, 0, 0.5], atol=1e-6)
    assert sphere.squared_radius == pytest.approx(2.5, abs=1e-5)


def test_slack_bounds_the_share_outside():
    X = contract.blobs(300)
    for nu in (0.02, 0.1, 0.3):
        fitted = contract.fit_quietly(SVDD(nu=nu, gamma="scale", random_state=0, calibration={"decision": "radius"}), X)
        sphere, n_train = fitted.sphere_, fitted.data_["n_train"]
        assert len(sphere.center.weights) >= nu * n_train - 1
        assert (fitted.anomaly_score(X) > 1e-9).mean() <= nu + 0.1


def test_ranks_as_the_one_class_machine_of_the_same_parameters_does():
    X = contract.blobs(200)
    sphere = contract.fit_quietly(SVDD(nu=0.1, gamma=0.2, random_state=0), X).anomaly_score(X)
    machine = contract.fit_quietly(insphere.OCSVM(nu=0.1, gamma=0.2, random_state=0), X).anomaly_score(X)
    # libsvm stops earlier for the machine: its weights are right to three digits.
    assert np.corrcoef(sphere, machine)[0, 1] > 0.9999


def test_more_rows_than_the_programme_takes_are_thinned():
    X = contract.blobs(200)
    fitted = contract.fit_quietly(SVDD("polynomial", max_rows=50, random_state=0), X)
    finding = next(finding for finding in fitted.health_.findings if finding.name == "support vectors")
    assert "of 50 rows are support vectors" in finding.text and "(160 training rows)" in finding.text


def test_programme_that_cannot_be_solved_says_so():
    with pytest.raises(TrainingError, match="did not converge"):
        minimise_on_simplex(np.eye(4), np.zeros(4), 0.1)  # four weights of at most 0.1 do not sum to one


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel": "rbv"}, "Did you mean 'rbf'"),
        ({"nu": 0}, "`nu` must be"),
        ({"nu": 1.1}, "`nu` must be"),
        ({"gamma": "scales"}, "Did you mean 'scale'"),
        ({"gamma": -1}, "`gamma` must be"),
        ({"degree": 0}, "`degree` must be"),
        ({"coef0": -1}, "`coef0` must be"),
        ({"max_rows": 1}, "`max_rows` must be"),
        ({"pca": 1.5}, "`pca` must be"),
        ({"pca": "all"}, "`pca` must be 'auto', 'none' or a finite number above 0 and at most 1, got 'all'"),
        ({"scaling": "gnc"}, "Did you mean 'gcn'"),
    ],
)
def test_parameters_out_of_range(parameters, message):
    with pytest.raises(ParameterError, match=message):
        SVDD(**parameters).fit(VECTORS)


@pytest.mark.parametrize("name", ["sphere/support_vectors", "sphere/alphas", "preprocess/scale", "projection/mean"])
def test_a_file_whose_arrays_do_not_fit_is_refused(name, tmp_path):
    fitted = contract.fit_quietly(SPHERES[0], GREY)
    fitted.save(tmp_path / "model.insphere")
    saved = model_file.read(tmp_path / "model.insphere", "detector")
    for array in (np.zeros((3, 3)), saved.arrays[name].astype(np.float32), np.full_like(saved.arrays[name], np.nan)):
        model_file.write(tmp_path / "other.insphere", "detector", saved.header, saved.arrays | {name: array})
        with pytest.raises(ModelFileError, match="does not fit"):
            insphere.load(tmp_path / "other.insphere")
    missing = {key: value for key, value in saved.arrays.items() if key != name}
    model_file.write(tmp_path / "other.insphere", "detector", saved.header, missing)
    with pytest.raises(ModelFileError, match="incomplete"):
        insphere.load(tmp_path / "other.insphere")


@pytest.mark.parametrize(("fitted", "name"), [(SPHERES[0], "sphere/alphas"), (insphere.KDE(), "density/weights")])
@pytest.mark.parametrize("weight", [1e200, -0.5, 0.0])
def test_a_file_with_impossible_weights_is_refused(fitted, name, weight, tmp_path):
    contract.fit_quietly(fitted, VECTORS).save(tmp_path / "model.insphere")
    saved = model_file.read(tmp_path / "model.insphere", "detector")
    weights = saved.arrays[name].copy()
    weights[0] = weight
    model_file.write(tmp_path / "other.insphere", "detector", saved.header, saved.arrays | {name: weights})
    with pytest.raises(ModelFileError, match=r"outside \(0, 1\]"):
        insphere.load(tmp_path / "other.insphere")
