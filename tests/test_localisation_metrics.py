"""Pixel AUROC and AUPRO against slow re-statements; their intervals against repeated draws of pictures."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import naive
from insphere.errors import DataError, ParameterError
from insphere.localisation_metrics import MAX_FPR, LocalisationMeter, _levels, localisation

Pictures = list[tuple[NDArray[Any], NDArray[np.bool_] | None, str]]


def metered(pictures: Pictures) -> LocalisationMeter:
    meter = LocalisationMeter()
    for heatmap, mask, kind in pictures:
        meter.add(heatmap, mask, kind=kind)
    return meter


def pictures_of(seed: int, n_levels: int = 5) -> Pictures:
    """Return pictures of different sizes; the maps' values are powers of two, which are never taken for equal."""
    random = np.random.default_rng(seed)
    pictures: Pictures = []
    for kind in ("", "crack", "dent", ""):
        shape = random.integers(2, 8, size=2)
        mask = random.random(shape) < 0.3 if kind else None
        if mask is not None:
            mask[0, 0], mask[-1, -1] = True, False
        pictures.append((2.0 ** (random.integers(0, n_levels, shape) - 2.0), mask, kind))
    return pictures


def plain(pictures: Pictures) -> tuple[list[Any], list[Any]]:
    masks = [np.zeros(heatmap.shape, bool) if mask is None else mask for heatmap, mask, _ in pictures]
    return [mask.tolist() for mask in masks], [heatmap.tolist() for heatmap, _, _ in pictures]


class TestFigures:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 10_000), st.sampled_from([1, 2, 5, 40]))
    def test_equal_the_slow_ones(self, seed: int, n_levels: int) -> None:
        pictures = pictures_of(seed, n_levels)
        result = metered(pictures).result()
        masks, heatmaps = plain(pictures)
        assert result.pixel_auroc.value == pytest.approx(naive.pixel_auroc(masks, heatmaps))
        assert result.aupro.value == pytest.approx(naive.aupro(masks, heatmaps, MAX_FPR))

    @pytest.mark.parametrize("kind", ["crack", "dent"])
    def test_of_one_type_are_against_all_sound_pictures(self, kind: str) -> None:
        pictures = pictures_of(3)
        masks, heatmaps = plain([picture for picture in pictures if picture[2] in ("", kind)])
        entry = metered(pictures).result().per_type[kind]
        assert entry.n == 1 and entry.n_regions == len(naive._regions(masks[1]))
        assert entry.pixel_auroc.value == pytest.approx(naive.pixel_auroc(masks, heatmaps))
        assert entry.aupro.value == pytest.approx(naive.aupro(masks, heatmaps, MAX_FPR))

    def test_of_any_values_are_nearly_the_slow_ones(self) -> None:
        random = np.random.default_rng(0)
        pictures: Pictures = []
        for number in range(4):
            mask = random.random((20, 15)) < 0.1 if number % 2 else None
            heatmap = random.lognormal(0.0, 0.5, (20, 15)) + (0.0 if mask is None else 0.6 * mask)
            pictures.append((heatmap, mask, ""))
        result = metered(pictures).result()
        masks, heatmaps = plain(pictures)
        assert result.pixel_auroc.value == pytest.approx(naive.pixel_auroc(masks, heatmaps), abs=5e-4)
        assert result.aupro.value == pytest.approx(naive.aupro(masks, heatmaps, MAX_FPR), abs=2e-3)

    def test_order_and_scale_do_not_matter(self) -> None:
        pictures = pictures_of(1)
        one, other = metered(pictures).result(), metered([(8 * heatmap, *rest) for heatmap, *rest in reversed(pictures)]).result()  # type: ignore[misc]
        assert one.aupro.value == pytest.approx(other.aupro.value) and one.pixel_auroc.value == pytest.approx(other.pixel_auroc.value)

    def test_every_picture_counts_the_same(self) -> None:
        small, large = np.array([[1.0, 4.0]]), np.kron(np.array([[1.0, 4.0]]), np.ones((6, 6)))
        mask = np.array([[True, False]])
        pictures: Pictures = [(small, mask, ""), (large, np.kron(~mask, np.ones((6, 6))) > 0, "")]
        assert metered(pictures).result().pixel_auroc.value == pytest.approx(0.5)

    def test_small_regions_count_as_much_as_large_ones(self) -> None:
        mask = np.zeros((10, 10), bool)
        mask[0, 0] = mask[5:, 5:] = True
        heatmap = np.zeros((10, 10))
        heatmap[5:, 5:] = 1.0
        # The large region is found without a false alarm; the small one only as every sound pixel is flagged too.
        assert metered([(heatmap, mask, "")]).result().aupro.value == pytest.approx(0.5 + 0.5 * MAX_FPR / 2)

    def test_a_perfect_map_and_a_constant_one(self) -> None:
        mask = np.eye(6, dtype=bool)
        perfect, constant = metered([(mask * 2.0, mask, "")] * 2).result(), metered([(mask * 0.0, mask, "")] * 2).result()
        assert perfect.pixel_auroc.value == pytest.approx(1.0) and perfect.aupro.value == pytest.approx(1.0) and perfect.aupro.high <= 1
        assert constant.pixel_auroc.value == 0.5 and constant.aupro.value == pytest.approx(MAX_FPR / 2)


class TestIntervals:
    def test_hold_the_value_and_depend_on_the_seed_only(self) -> None:
        meter = metered(pictures_of(5) + pictures_of(6))
        result = meter.result(seed=3)
        for figure in (result.pixel_auroc, result.aupro, result.per_type["dent"].aupro):
            assert 0 <= figure.low <= figure.value <= figure.high <= 1
        assert result == meter.result(seed=3) and result != meter.result(seed=4)

    def test_are_as_wide_as_new_draws_of_pictures_differ(self) -> None:
        random = np.random.default_rng(0)

        def drawn(n: int) -> LocalisationMeter:
            pictures: Pictures = []
            for number in range(n):
                mask = np.zeros((8, 8), bool)
                mask[2:5, 2:5] = number % 2
                strength = random.uniform(0.0, 3.0)  # of one picture, so that pictures and not pixels are what varies
                pictures.append((random.lognormal(size=(8, 8)) + strength * mask, mask, ""))
            return metered(pictures)

        figures = [drawn(40).result() for _ in range(60)]
        for name in ("pixel_auroc", "aupro"):
            spread = 2 * 1.96 * np.std([getattr(figure, name).value for figure in figures])
            width = np.mean([getattr(figure, name).high - getattr(figure, name).low for figure in figures])
            assert 0.75 < width / spread < 1.33

    def test_of_a_single_defective_picture_say_nothing(self) -> None:
        figure = metered(pictures_of(2)[:2]).result().aupro
        assert (figure.low, figure.high) == (0.0, 1.0)


class TestWhatCannotBeMeasured:
    def test_is_undefined(self) -> None:
        sound = metered([(np.ones((2, 2)), None, ""), (np.ones((2, 2)), np.zeros((2, 2), bool), "crack")]).result()
        marked = metered([(np.ones((2, 2)), np.ones((2, 2), bool), "crack")] * 2).result()
        for result in (sound, marked, LocalisationMeter().result()):
            assert not result.pixel_auroc.is_defined and not result.aupro.is_defined
        assert (sound.n_sound, sound.n_defective, sound.per_type) == (2, 0, {}) and marked.n_regions == 2
        assert json.loads(json.dumps(sound.to_json(), allow_nan=False))["aupro"]["value"] is None

    @pytest.mark.parametrize(
        ("heatmap", "mask", "words"),
        [
            (np.zeros((2, 3)), np.zeros((2, 2), bool), r"one shape.*\(2, 3\) and \(2, 2\)"),
            (np.zeros((2, 2, 1)), None, "one shape"),
            (np.zeros((0, 2)), None, "one shape"),
            (np.full((2, 2), np.nan), None, "finite"),
            (np.full((2, 2), np.inf), None, "finite"),
        ],
    )
    def test_is_refused(self, heatmap: NDArray[Any], mask: NDArray[np.bool_] | None, words: str) -> None:
        meter = LocalisationMeter()
        with pytest.raises(DataError, match=words):
            meter.add(heatmap, mask)
        assert len(meter) == 0

    def test_pictures_and_masks_go_in_pairs(self) -> None:
        with pytest.raises(DataError, match="one mask for each"):
            localisation(np.zeros((2, 3, 3)), [None])

    def test_seeds_are_checked(self) -> None:
        with pytest.raises(ParameterError, match="seed"):
            LocalisationMeter().result(seed=-1)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=2, max_size=50))
def test_levels_keep_the_order(values: list[float]) -> None:
    ordered = np.sort(np.array([values], np.float32))
    levels = _levels(ordered)[0]
    assert (np.diff(levels) >= 0).all()
    apart = np.abs(np.diff(ordered[0].astype(float))) > 0.004 * np.abs(ordered[0, 1:].astype(float)) + 1e-37
    assert (np.diff(levels)[apart] > 0).all()


def test_memory_does_not_grow_with_the_size_of_pictures() -> None:
    heatmap = np.linspace(0.25, 4.0, 1_000_000, dtype=np.float32).reshape(1000, 1000)
    meter = metered([(heatmap, heatmap > 3, "")])
    assert sum(values.nbytes for values in meter._pictures[0] if isinstance(values, np.ndarray)) < 40_000
