import warnings
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from insphere.data.preprocess import CLIP, MOST_WHITENED, Preprocess, Scaling, contrast_normalise, fit_preprocess
from insphere.errors import ParameterError

FITTED = [name for name in get_args(Scaling) if name != "auto"]

any_finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
eighths = st.integers(-8000, 8000).map(lambda eighth: eighth / 8)  # exact in every type, and never flat but for rounding
row_shapes = st.tuples(st.integers(2, 6), st.integers(1, 4))
image_shapes = st.tuples(st.integers(2, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))


def rows_of(elements: st.SearchStrategy[float]) -> st.SearchStrategy[NDArray[Any]]:
    return st.one_of(
        arrays_of.arrays(np.float64, row_shapes, elements=elements),
        arrays_of.arrays(np.float32, image_shapes, elements=elements),
        arrays_of.arrays(np.uint8, image_shapes),
    )


def as_input(X: NDArray[Any]) -> NDArray[Any]:
    """What the training loop hands to `apply`: integers become float32."""
    return X.astype(np.float32) if X.dtype == np.uint8 else X


@settings(max_examples=60, deadline=None)
@given(rows_of(eighths), st.sampled_from(get_args(Scaling)))
def test_numpy_and_torch_agree(X: NDArray[Any], scaling: str) -> None:
    preprocess, rows = fit_preprocess(X[: len(X) // 2 + 1], scaling), as_input(X)
    found, by_torch = preprocess.apply(rows), preprocess.apply(torch.from_numpy(rows))
    assert found.dtype == by_torch.numpy().dtype == rows.dtype and found.shape == rows.shape
    np.testing.assert_allclose(by_torch, found, rtol=1e-4, atol=1e-4)  # sums are taken in another order


@settings(max_examples=60, deadline=None)
@given(rows_of(any_finite), st.sampled_from(get_args(Scaling)))
def test_any_finite_row_stays_finite(X: NDArray[Any], scaling: str) -> None:
    preprocess, rows = fit_preprocess(X[: len(X) // 2 + 1], scaling), as_input(X)
    for found in (preprocess.apply(rows), preprocess.apply(torch.from_numpy(rows)).numpy()):
        assert np.isfinite(found).all() and (np.abs(found) <= CLIP).all()


@settings(max_examples=40, deadline=None)
@given(rows_of(any_finite), st.sampled_from(get_args(Scaling)))
def test_a_row_is_scaled_alone(X: NDArray[Any], scaling: str) -> None:
    preprocess, rows = fit_preprocess(X, scaling), as_input(X)
    whole = preprocess.apply(rows)
    for row in range(len(rows)):
        np.testing.assert_array_equal(preprocess.apply(rows[row : row + 1])[0], whole[row])


@pytest.mark.parametrize(("shape", "expected"), [((9, 4), "standard"), ((9, 4, 4, 1), "gcn")])
def test_auto(shape: tuple[int, ...], expected: str) -> None:
    assert fit_preprocess(np.random.default_rng(0).random(shape), "auto").scaling == expected


def test_an_unknown_scaling_is_refused() -> None:
    with pytest.raises(ParameterError, match="`scaling` must be one of 'auto', .*Did you mean 'standard'"):
        fit_preprocess(np.zeros((3, 2)), "standart")


class TestContrast:
    def test_formula(self) -> None:
        x = np.random.default_rng(0).normal(3, 2, size=(5, 4, 3, 2))
        for row, found in zip(x, contrast_normalise(x), strict=True):
            values = row.ravel().tolist()
            mean = sum(values) / len(values)
            deviation = sum(abs(value - mean) for value in values) / len(values)
            np.testing.assert_allclose(found.ravel(), [(value - mean) / deviation for value in values])

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 255.0, -7.3, 1e-20, 1e12])
    def test_a_flat_row_becomes_zeros(self, value: float, dtype: Any) -> None:
        x = np.full((2, 33, 31, 3), value, dtype)
        assert not contrast_normalise(x).any()
        assert not contrast_normalise(torch.from_numpy(x)).any()

    def test_brightness_and_contrast_do_not_matter(self) -> None:
        x = np.random.default_rng(0).random((3, 6, 6, 1))
        np.testing.assert_allclose(contrast_normalise(0.2 * x + 40), contrast_normalise(x), rtol=1e-6, atol=1e-9)

    def test_little_contrast_is_contrast(self) -> None:
        x = np.full((1, 4, 4, 1), 100.0)
        x[0, 0, 0, 0] = 101.0
        assert contrast_normalise(x)[0, 0, 0, 0] == pytest.approx(8.0)


class TestUnit:
    def test_byte_images_have_their_full_range_whatever_they_hold(self) -> None:
        found = fit_preprocess(np.full((3, 2, 2, 1), 7, np.uint8), "unit").apply(np.array([[[[0.0]]], [[[255.0]]]]))
        assert found.ravel().tolist() == [0, 1]

    def test_float_images_share_one_range(self) -> None:
        X = np.random.default_rng(0).uniform(-3, 5, size=(20, 4, 4, 2)).astype(np.float32)
        preprocess = fit_preprocess(X, "unit")
        assert preprocess.offset.shape == preprocess.scale.shape == (1,)
        found = preprocess.apply(X)
        assert found.min() == 0 and found.max() == pytest.approx(1) and found.dtype == np.float32

    def test_features_have_their_own_ranges(self) -> None:
        X = np.random.default_rng(0).uniform(size=(50, 3)) * [1, 1e6, 1e-14] + [0, -5e5, 3]
        found = fit_preprocess(X[:, :2], "unit").apply(X[:, :2])
        np.testing.assert_allclose(found.min(axis=0), 0)
        np.testing.assert_allclose(found.max(axis=0), 1)

    def test_contrast_normalised_images_lie_in_the_unit_range(self) -> None:
        X = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3)).astype(np.uint8)
        found = fit_preprocess(X, "gcn-unit").apply(as_input(X))
        assert found.min() == pytest.approx(0, abs=1e-6) and found.max() == pytest.approx(1, abs=1e-6)


class TestStandard:
    @pytest.mark.parametrize("n_rows", [7, 4096, 9000])
    def test_features_get_mean_zero_and_variance_one(self, n_rows: int) -> None:
        X = np.random.default_rng(0).normal(size=(n_rows, 4)) * [1, 1e9, 1e-14, 1e30] + [1e6, 0, 0, 0]
        found = fit_preprocess(X, "standard").apply(X)
        np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-8)
        np.testing.assert_allclose(found.std(axis=0), 1, rtol=1e-6)

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
    def test_images_are_scaled_by_channel(self, dtype: Any) -> None:
        X = (np.random.default_rng(0).normal(size=(30, 5, 5, 3)) * [5, 20, 40] + [50, 100, 120]).clip(0, 255).astype(dtype)
        preprocess = fit_preprocess(X, "standard")
        assert preprocess.offset.shape == preprocess.scale.shape == (3,)
        found = preprocess.apply(as_input(X))
        np.testing.assert_allclose(found.mean(axis=(0, 1, 2)), 0, atol=1e-5)
        np.testing.assert_allclose(found.std(axis=(0, 1, 2)), 1, rtol=1e-5)

    @pytest.mark.parametrize("value", [0.0, 3.0, 0.1, 1e17, -1e-17])
    def test_a_constant_feature_becomes_zero_and_tells_a_new_value_from_it(self, value: float) -> None:
        X = np.full((1000, 1), value)
        preprocess = fit_preprocess(X, "standard")
        assert preprocess.scale.tolist() == [1.0]
        assert np.abs(preprocess.apply(X)).max() <= 1e-12 * max(1, abs(value))
        assert preprocess.apply(np.array([[value + max(2.0, value)]]))[0, 0] >= 1


class TestWhiten:
    def rows(self, n_rows: int = 5000) -> NDArray[np.float64]:
        rng = np.random.default_rng(0)
        return rng.normal(size=(n_rows, 4)) @ rng.normal(size=(4, 4)) * [1, 1e6, 1e-9, 3] + [0, 7, 1, -2]

    def test_many_rows_get_a_covariance_near_the_identity(self) -> None:
        found = fit_preprocess(self.rows(), "whiten").apply(self.rows())
        np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(np.cov(found.T), np.eye(4), atol=0.05)

    def test_the_shrinkage_is_that_of_ledoit_and_wolf(self) -> None:
        X = self.rows(30)
        standard = (X - X.mean(axis=0)) / X.std(axis=0)
        n, d = standard.shape
        sample = standard.T @ standard / n
        level = np.trace(sample) / d
        spread = np.square(sample - level * np.eye(d)).sum() / d
        noise = sum(np.square(np.outer(row, row) - sample).sum() for row in standard) / d / n**2
        share = min(noise, spread) / spread
        assert 0.005 < share < 0.9
        whitening = fit_preprocess(X, "whiten").whitening
        assert whitening is not None
        inverse = np.linalg.inv((1 - share) * sample + share * level * np.eye(d))
        np.testing.assert_allclose(whitening.astype(float) @ whitening, inverse, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(whitening, whitening.T)

    def test_pictures_are_whitened_over_all_pixels_and_stay_pictures(self) -> None:
        rng = np.random.default_rng(0)
        smooth = rng.normal(size=(3000, 5, 5, 2)).cumsum(axis=1).cumsum(axis=2)
        X = (128 + 5 * smooth).clip(0, 255).astype(np.uint8)
        preprocess = fit_preprocess(X, "whiten")
        found = preprocess.apply(as_input(X))
        assert found.shape == X.shape and found.dtype == np.float32
        np.testing.assert_allclose(np.cov(found.reshape(3000, -1).T), np.eye(50), atol=0.25)
        assert preprocess.whitening is not None and (np.abs(preprocess.whitening).argmax(axis=0) == np.arange(50)).all()

    def test_the_way_back(self) -> None:
        X = self.rows(200)
        preprocess = fit_preprocess(X, "whiten")
        np.testing.assert_allclose(preprocess.unapplied(preprocess.apply(X)), X, rtol=1e-6, atol=1e-9)

    def test_a_constant_feature_is_left_as_it_is(self) -> None:
        X = np.column_stack([self.rows(100), np.full(100, 3.0)])
        new = X[:1].copy()
        new[0, 4] = 5.0
        preprocess = fit_preprocess(X, "whiten")
        assert preprocess.apply(X)[:, 4].tolist() == [0.0] * 100 and preprocess.apply(new)[0, 4] == 2.0

    def test_wide_rows_are_refused_with_the_remedy(self) -> None:
        with pytest.raises(ParameterError, match=r"at most 4096 values, got 12288 \(64 × 64 × 3\).*--image-size"):
            fit_preprocess(np.zeros((4, 64, 64, 3), np.uint8), "whiten")
        with pytest.raises(ParameterError, match='take scaling="standard"'):
            fit_preprocess(np.zeros((4, MOST_WHITENED + 1)), "whiten")

    def test_equal_scalings(self) -> None:
        one, other = (fit_preprocess(self.rows(n), "whiten") for n in (100, 101))
        assert one.equals(fit_preprocess(self.rows(100), "whiten")) and not one.equals(other)
        assert not one.equals(fit_preprocess(self.rows(100), "standard"))


class TestRobust:
    def test_the_middle_half_has_the_range_one_and_tails_are_drawn_in(self) -> None:
        X = np.random.default_rng(0).standard_t(2, size=(4000, 2)) * [1.0, 50.0] + [0.0, 9.0]
        preprocess = fit_preprocess(X, "robust")
        low, middle, high = np.percentile(X, (25, 50, 75), axis=0)
        np.testing.assert_allclose(preprocess.apply(X), np.arcsinh((X - middle) / (high - low)), rtol=1e-12)
        np.testing.assert_allclose(preprocess.unapplied(preprocess.apply(X)), X, rtol=1e-9)

    def test_one_far_row_changes_next_to_nothing(self) -> None:
        X = np.random.default_rng(0).normal(size=(400, 2))
        spoilt = np.concatenate([X, np.full((1, 2), 1e9)])
        one, other = fit_preprocess(X, "robust"), fit_preprocess(spoilt[:401], "robust")
        np.testing.assert_allclose(one.offset, other.offset, atol=0.02)

    def test_a_column_that_is_mostly_equal_keeps_its_spread(self) -> None:
        X = np.zeros((100, 2))
        X[:5, 0] = 1.0
        preprocess = fit_preprocess(X, "robust")
        assert preprocess.scale[0] == pytest.approx(0.1 * X[:, 0].std()) and preprocess.scale[1] == 1.0


@pytest.mark.parametrize("scaling", FITTED)
class TestExtremes:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("is_image", [False, True])
    def test_values_near_the_end_of_the_floats(self, scaling: str, dtype: Any, is_image: bool) -> None:
        largest = float(np.finfo(dtype).max)
        X = np.random.default_rng(0).uniform(-1, 1, size=(20, 4, 4, 1) if is_image else (20, 6)).astype(dtype)
        for rows in (X, X * dtype(largest)):
            preprocess = fit_preprocess(rows, scaling)
            for new in (rows, X * dtype(largest), np.full_like(X, largest), np.full_like(X, -largest)):
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    for found in (preprocess.apply(new), preprocess.apply(torch.from_numpy(new)).numpy()):
                        assert np.isfinite(found).all() and np.abs(found).max() <= CLIP

    def test_the_range_is_found_in_all_chunks(self, scaling: str) -> None:
        X = np.random.default_rng(0).random((9001, 2))
        X[-1] = 50, -50
        X[4096] = -60, 60
        fitted, reference = fit_preprocess(X, scaling), fit_preprocess(X[::-1], scaling)
        np.testing.assert_allclose(fitted.offset, reference.offset, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(fitted.scale, reference.scale, rtol=1e-9)
        if scaling == "unit":
            assert fitted.offset.tolist() == [-60, -50] and fitted.scale.tolist() == [110, 110]


@pytest.mark.parametrize("scaling", ["none", "unit", "standard"])
def test_one_broken_value_lies_far_outside(scaling: str) -> None:
    X = np.random.default_rng(0).uniform(0.2, 1, size=(50, 4))
    new = X[:1].copy()
    new[0, 1] = 1e30
    assert fit_preprocess(X, scaling).apply(new)[0, 1] == CLIP


def test_none_changes_nothing_in_reach() -> None:
    X = np.random.default_rng(0).normal(size=(9, 3))
    np.testing.assert_array_equal(fit_preprocess(X, "none").apply(X), X)


def test_contrast_normalisation_alone_knows_no_training_rows() -> None:
    X = np.random.default_rng(0).random((9, 4, 4, 1))
    np.testing.assert_array_equal(fit_preprocess(X[:3] * 100, "gcn").apply(X), contrast_normalise(X))


def test_equal_constants_scale_equally() -> None:
    # What a model file holds is enough to scale alike.
    X = np.random.default_rng(0).random((9, 4, 4, 1)).astype(np.float32)
    fitted = fit_preprocess(X, "gcn-unit")
    np.testing.assert_array_equal(Preprocess("gcn-unit", fitted.offset.copy(), fitted.scale.copy()).apply(X), fitted.apply(X))
