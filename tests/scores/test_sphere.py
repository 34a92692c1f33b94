from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import naive
from insphere.errors import ModelFileError, ParameterError, TrainingError
from insphere.scores import sphere
from insphere.scores.sphere import (
    AbstractSphere,
    Geometry,
    LocalSphere,
    SeveralSpheres,
    fit_several_spheres,
    fit_sphere,
    fit_whitening,
    restore_sphere,
)


def correlated(n_rows: int, n_dims: int = 3, seed: int = 0) -> NDArray[np.float64]:
    """Codes whose dimensions depend on each other and have very different spreads, far from the origin."""
    mixing = np.random.default_rng(99).normal(size=(n_dims, n_dims)) * 10.0 ** np.arange(n_dims)
    codes: NDArray[np.float64] = np.random.default_rng(seed).normal(size=(n_rows, n_dims)) @ mixing + 50
    return codes


def fitted(geometry: str, codes: NDArray[np.float64], center: NDArray[np.float64] | None = None, n_neighbors: int = 5) -> AbstractSphere:
    return fit_sphere(geometry, codes, center, n_neighbors=n_neighbors, rng=np.random.default_rng(0))


TRAINING, NEW = correlated(40), correlated(20, seed=1) * 1.5


class TestAgainstPlainLoops:
    def test_euclidean(self) -> None:
        center = TRAINING.mean(axis=0)
        expected = [sum((a - b) ** 2 for a, b in zip(code, center, strict=True)) ** 0.5 for code in NEW]
        np.testing.assert_allclose(fitted("euclidean", TRAINING).distance(NEW), expected)

    def test_mahalanobis(self) -> None:
        covariance = naive.shrunken_covariance(TRAINING.tolist())
        expected = [naive.mahalanobis(code, TRAINING.mean(axis=0), covariance) for code in NEW]
        np.testing.assert_allclose(fitted("mahalanobis", TRAINING).distance(NEW), expected, rtol=1e-6)

    @pytest.mark.parametrize("n_neighbors", [1, 5, 40, 1000])
    def test_local(self, n_neighbors: int) -> None:
        covariance = naive.shrunken_covariance(TRAINING.tolist())
        expected = [naive.nearest_mean([naive.mahalanobis(code, other, covariance) for other in TRAINING], n_neighbors) for code in NEW]
        np.testing.assert_allclose(fitted("local", TRAINING, n_neighbors=n_neighbors).distance(NEW), expected, rtol=1e-6)

    @pytest.mark.parametrize("n_neighbors", [1, 5, 39, 40, 1000])
    def test_local_leaves_each_training_code_out(self, n_neighbors: int) -> None:
        covariance = naive.shrunken_covariance(TRAINING.tolist())
        expected = [
            naive.nearest_mean([naive.mahalanobis(code, other, covariance) for j, other in enumerate(TRAINING) if j != i], n_neighbors)
            for i, code in enumerate(TRAINING)
        ]
        np.testing.assert_allclose(fitted("local", TRAINING, n_neighbors=n_neighbors).training_distance(TRAINING), expected, rtol=1e-6)

    @pytest.mark.parametrize("n_neighbors", [1, 5, 40, 1000])
    def test_angular(self, n_neighbors: int) -> None:
        expected = [naive.nearest_mean([1 - naive.cosine(code, other) for other in TRAINING], n_neighbors) for code in NEW]
        np.testing.assert_allclose(fitted("angular", TRAINING, n_neighbors=n_neighbors).distance(NEW), expected, rtol=1e-6, atol=1e-12)

    @pytest.mark.parametrize("n_neighbors", [1, 5, 1000])
    def test_angular_leaves_each_training_code_out_and_knows_no_length(self, n_neighbors: int) -> None:
        expected = [
            naive.nearest_mean([1 - naive.cosine(code, other) for j, other in enumerate(TRAINING) if j != i], n_neighbors)
            for i, code in enumerate(TRAINING)
        ]
        sphere = fitted("angular", TRAINING, n_neighbors=n_neighbors)
        np.testing.assert_allclose(sphere.training_distance(TRAINING), expected, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(sphere.distance(NEW * 7), sphere.distance(NEW), rtol=1e-9, atol=1e-14)
        assert sphere.distance(np.zeros((1, TRAINING.shape[1])))[0] == pytest.approx(0.5)  # no direction at all

    @pytest.mark.parametrize("geometry", ["euclidean", "mahalanobis"])
    def test_about_a_centre_training_codes_are_as_any_others(self, geometry: str) -> None:
        found = fitted(geometry, TRAINING)
        np.testing.assert_array_equal(found.training_distance(TRAINING), found.distance(TRAINING))


def test_training_codes_that_occur_twice_keep_their_twin_as_neighbour() -> None:
    found = LocalSphere(np.zeros(1), np.eye(1), np.array([[0.0], [0.0], [4.0], [10.0]]), n_neighbors=1)
    np.testing.assert_allclose(found.training_distance(np.array([[0.0], [0.0], [4.0], [10.0]])), [0, 0, 4, 6])
    found = LocalSphere(np.zeros(1), np.eye(1), np.array([[0.0], [0.0], [4.0], [10.0]]), n_neighbors=2)
    np.testing.assert_allclose(found.training_distance(np.array([[0.0], [0.0], [4.0], [10.0]])), [2, 2, 4, 8])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=3, max_size=15), st.integers(1, 6))
def test_leave_one_out_with_many_ties(values: list[int], n_neighbors: int) -> None:
    codes = np.array(values, dtype=np.float64)[:, None]
    found = LocalSphere(np.zeros(1), np.eye(1), codes, n_neighbors)
    expected = [naive.nearest_mean([abs(a - b) for j, b in enumerate(values) if j != i], n_neighbors) for i, a in enumerate(values)]
    np.testing.assert_allclose(found.training_distance(codes), expected, atol=1e-12)


def test_of_many_codes_some_are_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sphere, "MAX_REFERENCES", 15)
    found = fitted("local", TRAINING, n_neighbors=3)
    assert isinstance(found, LocalSphere) and found.references.shape == (15, 3)
    whitened = (TRAINING - TRAINING.mean(axis=0)) @ found.whitening.T
    chosen = [int(np.abs(whitened - reference).max(axis=1).argmin()) for reference in found.references]
    assert chosen == sorted(set(chosen))
    expected = [
        naive.nearest_mean([float(np.linalg.norm(code - whitened[j])) for j in chosen if j != i], 3) for i, code in enumerate(whitened)
    ]
    np.testing.assert_allclose(found.training_distance(TRAINING), expected)
    same = fitted("local", TRAINING, n_neighbors=3)
    np.testing.assert_array_equal(same.distance(NEW), found.distance(NEW))


class TestWhitening:
    def test_it_turns_the_covariance_into_the_identity(self) -> None:
        whitening = fit_whitening(TRAINING)
        covariance = np.array(naive.shrunken_covariance(TRAINING.tolist()))
        np.testing.assert_allclose(whitening @ covariance @ whitening.T, np.eye(3), atol=1e-8)
        np.testing.assert_allclose(whitening, whitening.T, rtol=1e-12)

    @pytest.mark.parametrize("n_rows", [2, 5, 10, 11])
    def test_fewer_codes_than_dimensions(self, n_rows: int) -> None:
        codes, new = (np.random.default_rng(seed).normal(size=(size, 10)) for seed, size in ((0, n_rows), (1, 200)))
        for geometry in ("mahalanobis", "local"):
            found = fitted(geometry, codes)
            inside, outside = found.distance(new), found.distance(new + 20)
            assert np.isfinite(inside).all() and (outside.min() > inside.max())

    def test_without_shrinkage_new_codes_would_all_be_far(self) -> None:
        codes, new = (np.random.default_rng(seed).normal(size=(size, 30)) for seed, size in ((0, 30), (1, 200)))
        found = fitted("mahalanobis", codes)
        assert np.median(found.distance(new)) < 1.5 * np.median(found.distance(codes))

    def test_a_dimension_of_rounding_noise_is_not_raised_to_the_others(self) -> None:
        codes = np.random.default_rng(0).normal(size=(200, 3)) * [1, 1, 1e-7]
        found = fitted("mahalanobis", codes)
        noisy = np.array([[0.0, 0.0, 1e-6]])
        assert found.distance(noisy)[0] < 0.1

    @pytest.mark.parametrize("codes", [np.ones((9, 3)), np.zeros((9, 1)), np.full((9, 2), 1e-200)], ids=["ones", "zeros", "tiny"])
    def test_equal_codes(self, codes: NDArray[np.float64]) -> None:
        np.testing.assert_array_equal(fit_whitening(codes), np.eye(codes.shape[1]))
        np.testing.assert_array_equal(fitted("local", codes).training_distance(codes), np.zeros(9))

    def test_codes_on_a_line(self) -> None:
        codes = np.linspace(0, 1, 50)[:, None] * [1.0, 2.0, -1.0]
        assert np.isfinite(fitted("mahalanobis", codes).distance(codes)).all()

    def test_one_dimension_is_centred(self) -> None:
        assert fit_whitening(np.array([[98.0], [102.0]]))[0, 0] == pytest.approx(0.5)


@pytest.mark.parametrize("geometry", get_args(Geometry))
class TestEveryGeometry:
    def test_a_distance_depends_on_its_own_row_only(self, geometry: str) -> None:
        found = fitted(geometry, TRAINING)
        whole = found.distance(NEW)
        assert whole.dtype == np.float64 and whole.shape == (20,)
        np.testing.assert_array_equal(found.distance(NEW[::-1]), whole[::-1])
        np.testing.assert_array_equal([found.distance(NEW[i : i + 1])[0] for i in range(20)], whole)

    def test_round_trip(self, geometry: str) -> None:
        found = fitted(geometry, TRAINING, n_neighbors=3)
        restored = restore_sphere(found.kind, found.arrays())
        assert type(restored) is type(found) and found.kind == geometry
        np.testing.assert_array_equal(restored.distance(NEW), found.distance(NEW))
        np.testing.assert_array_equal(restored.center, found.center)

    def test_a_given_centre_is_kept(self, geometry: str) -> None:
        center = np.array([1.0, 2.0, 3.0])
        np.testing.assert_array_equal(fitted(geometry, TRAINING, center).center, center)
        np.testing.assert_array_equal(fitted(geometry, TRAINING).center, TRAINING.mean(axis=0))

    @pytest.mark.parametrize("factor", [1e-6, 1e6])
    def test_only_the_euclidean_distance_knows_the_scale(self, geometry: str, factor: float) -> None:
        expected = fitted(geometry, TRAINING).distance(NEW) * (factor if geometry == "euclidean" else 1)
        np.testing.assert_allclose(fitted(geometry, TRAINING * factor).distance(NEW * factor), expected, rtol=1e-6)


@pytest.mark.parametrize("geometry", get_args(Geometry))
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_codes_that_are_not_finite_say_that_training_diverged(geometry: str, broken: float) -> None:
    codes = TRAINING.copy()
    codes[7, 1] = broken
    with pytest.raises(TrainingError, match="training has diverged. Try a smaller learning rate"):
        fitted(geometry, codes)


def test_an_unknown_geometry_is_refused() -> None:
    with pytest.raises(ParameterError, match="Did you mean 'mahalanobis'"):
        fitted("mahalonobis", TRAINING)
    with pytest.raises(ParameterError, match="`geometry` must be one of"):
        restore_sphere("cube", {"center": np.zeros(2)})


@pytest.mark.parametrize(
    "wrong",
    [
        {"center": np.zeros((1, 3))},
        {"center": np.full(3, np.nan)},
        {"whitening": np.eye(2)},
        {"references": np.zeros((0, 3))},
        {"references": np.zeros((4, 2))},
        {"references": np.zeros(3)},
        {"n_neighbors": np.zeros(0)},
    ],
    ids=lambda wrong: f"{next(iter(wrong))} {next(iter(wrong.values())).shape}",
)
def test_arrays_that_do_not_fit_together_are_refused(wrong: dict[str, Any]) -> None:
    arrays = fitted("local", TRAINING).arrays()
    with pytest.raises(ModelFileError, match=f"sphere's '({next(iter(wrong))}|whitening|references)' .*save the detector again"):
        restore_sphere("local", arrays | wrong)
    with pytest.raises(KeyError):
        restore_sphere("local", {name: array for name, array in arrays.items() if name not in wrong})


def test_a_training_code_is_not_its_own_neighbour_and_its_twin_is() -> None:
    codes = np.array([[0.0], [0.0], [1e-10], [4.0], [9.0]])
    found = fitted("local", codes, n_neighbors=1).training_distance(codes)
    whitened = found[3] / 4  # units of the whitened space
    np.testing.assert_allclose(found, np.array([0.0, 0.0, 1e-10, 4.0, 5.0]) * whitened, atol=1e-12)


def test_codes_that_were_left_out_of_the_references_are_nobodys_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("insphere.scores.sphere.MAX_REFERENCES", 3)
    codes = np.arange(6.0)[:, None]
    found = fitted("local", codes, n_neighbors=1)
    distances = found.training_distance(codes)
    kept = {round(value) for value in np.ravel(found.references / found.whitening + found.center)}
    unit = float(found.whitening[0, 0])
    for row, distance in enumerate(distances / unit):
        assert distance == pytest.approx(min(abs(row - other) for other in kept if other != row))


def test_a_direction_with_a_twentieth_of_the_spread_is_whitened_too() -> None:
    codes = np.random.default_rng(0).normal(size=(20_000, 2)) * [1.0, 0.05]
    np.testing.assert_allclose(np.linalg.inv(fit_whitening(codes)).diagonal(), codes.std(axis=0), rtol=0.05)


class TestSeveralSpheres:
    CODES = np.concatenate([correlated(40), correlated(30, seed=1) + 9000, correlated(4, seed=2) - 9000])
    START = np.stack([np.full(3, 50.0), np.full(3, 9050.0), np.full(3, -8950.0), np.full(3, 1e9)])
    GROUPS = (slice(40), slice(40, 70), slice(70, 74))

    def made(self, geometry: str, *, keep: bool = False) -> SeveralSpheres:
        return fit_several_spheres(geometry, self.CODES, self.START, keep=keep)

    def test_euclidean_against_plain_loops(self) -> None:
        centers = [self.CODES[rows].mean(axis=0) for rows in self.GROUPS]
        expected = [min(sum((a - b) ** 2 for a, b in zip(code, center, strict=True)) ** 0.5 for center in centers) for code in NEW]
        np.testing.assert_allclose(self.made("euclidean").distance(NEW), expected)

    def test_mahalanobis_against_plain_loops_few_codes_share_the_spread_of_all(self) -> None:
        groups = [self.CODES[rows] for rows in self.GROUPS]
        residuals = np.concatenate([group - group.mean(axis=0) for group in groups])
        covariances = [naive.shrunken_covariance(group.tolist()) for group in (groups[0], groups[1], residuals)]
        new = np.concatenate([NEW, NEW + 9000, NEW - 9000])
        expected = [
            min(naive.mahalanobis(code, group.mean(axis=0), covariance) for group, covariance in zip(groups, covariances, strict=True))
            for code in new
        ]
        np.testing.assert_allclose(self.made("mahalanobis").distance(new), expected, rtol=1e-6)

    def test_a_centre_without_codes_is_left_out_and_given_ones_are_kept(self) -> None:
        assert self.made("euclidean").centers.shape == (3, 3)
        np.testing.assert_array_equal(self.made("euclidean", keep=True).centers, self.START[:3])

    @pytest.mark.parametrize("geometry", ["euclidean", "mahalanobis"])
    def test_each_row_alone_and_a_round_trip(self, geometry: str) -> None:
        found = self.made(geometry)
        whole = found.distance(NEW)
        np.testing.assert_array_equal([found.distance(NEW[i : i + 1])[0] for i in range(20)], whole)
        np.testing.assert_array_equal(found.training_distance(NEW), whole)
        restored = restore_sphere(found.kind, found.arrays())
        np.testing.assert_array_equal(restored.distance(NEW), whole)
        np.testing.assert_array_equal(restored.center, found.center)

    @pytest.mark.parametrize("geometry", ["euclidean", "mahalanobis"])
    def test_one_centre_is_the_sphere_around_it(self, geometry: str) -> None:
        several = fit_several_spheres(geometry, TRAINING, TRAINING[:1], keep=False)
        np.testing.assert_allclose(several.distance(NEW), fitted(geometry, TRAINING).distance(NEW), rtol=1e-12)

    @pytest.mark.parametrize(
        "wrong", [{"centers": np.zeros((2, 2))}, {"whitenings": np.zeros((2, 3, 3))}, {"whitenings": np.zeros((9, 3))}]
    )
    def test_arrays_that_do_not_fit_together_are_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ModelFileError, match="save the detector again"):
            restore_sphere("several", self.made("mahalanobis").arrays() | wrong)

    def test_local_has_no_several_centres_and_codes_must_be_finite(self) -> None:
        with pytest.raises(ParameterError, match="`geometry` must be one of"):
            self.made("local")
        with pytest.raises(TrainingError, match="training has diverged"):
            fit_several_spheres("euclidean", self.CODES * np.nan, self.START, keep=False)
