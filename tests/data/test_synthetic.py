"""Synthetic defects on normal pictures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from insphere.data.plates import PlateName, draw_plate
from insphere.data.synthetic import AREA, object_in, put_defect, put_defects
from insphere.errors import DataError


def noise(height, width, channels, seed=0, level=128):
    return np.clip(np.random.default_rng(seed).normal(level, 12, (height, width, channels)), 0, 255).astype(np.uint8)


@given(
    st.integers(8, 90),
    st.integers(8, 90),
    st.sampled_from([1, 3]),
    st.sampled_from(["uint8", "float32"]),
    st.sampled_from([0, 20, 128, 240, 255]),
    st.integers(0, 10**6),
)
def test_every_picture_gets_a_small_visible_defect(height, width, channels, dtype, level, seed):
    picture = noise(height, width, channels, seed, level).astype(dtype)
    before = picture.copy()
    found = put_defect(picture, noise(height, width, channels, seed + 1, level).astype(dtype), np.random.default_rng(seed))
    assert np.array_equal(picture, before)
    assert found.picture.shape == picture.shape and found.picture.dtype == picture.dtype and found.mask.shape == (height, width)
    assert found.picture.min() >= 0 and found.picture.max() <= 255
    least = max(AREA[0], 4 / found.mask.size)
    assert least <= found.mask.mean() <= max(AREA[1], 3 * least)
    changed = np.abs(found.picture.astype(float) - picture).mean(axis=2)
    assert changed[found.mask].mean() > 6
    # Soft edges reach a little beyond the mask, and nothing else changes.
    rows, columns = np.nonzero(found.mask)
    outside = np.ones_like(found.mask)
    outside[max(0, rows.min() - 6) : rows.max() + 7, max(0, columns.min() - 6) : columns.max() + 7] = False
    assert not changed[outside].any()


def test_the_generator_decides_everything():
    picture, other = noise(80, 60, 3), noise(80, 60, 3, 1)
    first, again = (put_defect(picture, other, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first.picture, again.picture) and np.array_equal(first.mask, again.mask) and first.kind == again.kind
    others = [put_defect(picture, other, np.random.default_rng(seed)).mask for seed in range(10, 15)]
    assert not any(np.array_equal(first.mask, mask) for mask in others)


def test_all_kinds_and_sizes_come_up():
    picture, other = noise(128, 128, 3), noise(128, 128, 3, 1, 90)
    found = [put_defect(picture, other, np.random.default_rng(seed)) for seed in range(80)]
    kinds = [defect.kind for defect in found]
    assert {kind for kind in kinds if kinds.count(kind) > 4} == {"patch", "scratch", "spot", "scar"}
    areas = [defect.mask.mean() for defect in found]
    assert min(areas) < 0.002 and max(areas) > 0.012


def test_a_patch_is_texture_from_elsewhere():
    picture = np.zeros((64, 64, 1), dtype=np.uint8)
    other = np.full((64, 64, 1), 99, dtype=np.uint8)
    patches = [defect for seed in range(60) if (defect := put_defect(picture, other, np.random.default_rng(seed))).kind == "patch"]
    assert len(patches) > 2 and all(patch.picture[patch.mask].min() >= 29 for patch in patches)
    assert all(patch.picture.max() == 99 for patch in patches if patch.mask.sum() > 20)


def test_a_scar_is_the_own_texture_laid_across():
    picture = np.repeat(np.where(np.arange(96) % 8 < 4, 40, 200)[:, None], 96, axis=1)[:, :, None].astype(np.uint8)  # stripes across
    scars = [
        d for seed in range(80) if (d := put_defect(picture, picture, np.random.default_rng(seed))).kind == "scar" and d.mask.sum() > 100
    ]
    assert scars
    for scar in scars:  # down a column of a scar nothing changes, along a row it does
        down = np.abs(np.diff(scar.picture[:, :, 0].astype(int), axis=0))[scar.mask[1:] & scar.mask[:-1]].mean()
        across = np.abs(np.diff(scar.picture[:, :, 0].astype(int), axis=1))[scar.mask[:, 1:] & scar.mask[:, :-1]].mean()
        assert across > 2 * down


def test_defects_are_put_on_the_object():
    plate = draw_plate(PlateName("train", "good", 0), image_size=(150, 200))[0]
    thing = object_in(plate)
    assert 0.4 < thing.mean() < 0.65 and not thing[:10].any() and thing[75, 140]
    masks = [put_defect(plate, plate, np.random.default_rng(seed)).mask for seed in range(40)]
    assert np.mean([thing[mask].mean() for mask in masks]) > 0.8  # the plate is 55 % of the picture


def test_where_nothing_stands_out_defects_lie_anywhere():
    assert object_in(noise(40, 40, 1)).all()
    assert object_in(np.indices((40, 40)).sum(axis=0)[:, :, None] * 3).all()  # a slope is no plain ground
    speck = np.zeros((40, 40, 1))
    speck[20, 20] = 255
    assert object_in(speck).all()


def test_many_at_once():
    pictures = np.stack([noise(40, 50, 3, seed) for seed in range(6)])
    changed, masks = put_defects(pictures, np.random.default_rng(0))
    assert changed.shape == pictures.shape and changed.dtype == np.uint8 and masks.shape == (6, 40, 50)
    assert (changed != pictures).any(axis=(1, 2, 3)).all() and masks.any(axis=(1, 2)).all()
    none, no_masks = put_defects(pictures[:0], np.random.default_rng(0))
    assert none.shape == (0, 40, 50, 3) and no_masks.shape == (0, 40, 50)


@pytest.mark.parametrize(("one", "two"), [((7, 20, 1), (7, 20, 1)), ((20, 20, 1), (20, 20, 3)), ((20, 20), (20, 20))])
def test_what_is_no_pair_of_pictures_is_refused(one, two):
    with pytest.raises(DataError, match="two pictures of one shape"):
        put_defect(np.zeros(one), np.zeros(two), np.random.default_rng(0))
