import itertools

import pytest
import torch

from insphere.training.augmentation import coloured, cropped, jittered, mirrored
from insphere.training.transformations import shifted


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n=60, channels=3, height=8, width=6):
    return torch.randn(n, channels, height, width, generator=draws(1))


def test_half_of_the_pictures_are_mirrored():
    x = pictures(400)
    y = mirrored(x, draws())
    turned = [torch.equal(after, before.flip(2)) for before, after in zip(x, y, strict=True)]
    same = [torch.equal(after, before) for before, after in zip(x, y, strict=True)]
    assert all(one != other for one, other in zip(turned, same, strict=True)) and 160 < sum(turned) < 240


@pytest.mark.parametrize("most", [1, 3])
def test_each_picture_is_shifted_by_a_step_of_its_own_which_is_one_of_all_within_reach(most):
    x = pictures(1000)
    every = {step: shifted(x, *step) for step in itertools.product(range(-most, most + 1), repeat=2)}
    found = []
    for number, after in enumerate(jittered(x, most, draws())):
        steps = [step for step, rows in every.items() if torch.equal(rows[number], after)]
        assert len(steps) == 1
        found += steps
    assert set(found) == set(every)


def test_pictures_smaller_than_a_shift_are_shifted_less():
    x = pictures(50, height=2, width=1)
    y = jittered(x, 20, draws())
    upside_down = [torch.equal(after, before.flip(1)) for before, after in zip(x, y, strict=True)]
    assert y.shape == x.shape and 0 < sum(upside_down) < 50


def test_a_crop_has_at_least_the_share_that_is_asked_for_and_lies_within_the_picture():
    height = width = 32
    across = torch.linspace(0, 1, width).expand(500, 1, height, width)
    along = across.transpose(2, 3)
    crops = cropped(torch.cat([across, along], dim=1), 0.4, draws())
    assert crops.shape == (500, 2, height, width) and float(crops.min()) >= 0 and float(crops.max()) <= 1
    # The value at a place says where it comes from: the range of values is the part that is shown.
    sides = (crops.amax(dim=(2, 3)) - crops.amin(dim=(2, 3))) * (width - 1) / width + 1 / width
    areas = sides.prod(dim=1)
    assert 0.35 < float(areas.min()) < 0.5 and float(areas.max()) > 0.9
    ratios = (sides[:, 0] / sides[:, 1]).log()
    assert float(ratios.min()) < -0.15 and float(ratios.max()) > 0.15 and float(ratios.abs().max()) < 0.4
    middles = crops.mean(dim=(2, 3))
    assert float(middles.std()) > 0.03


def test_a_whole_crop_changes_nothing_but_the_shape_of_some():
    x = pictures(20, height=8, width=8)
    assert not torch.equal(cropped(x, 0.5, draws()), x) and cropped(x, 0.5, draws()).shape == x.shape


def test_one_of_five_is_grey_and_brightness_and_contrast_of_the_others_vary():
    x = pictures(1000, height=4, width=4)
    y = coloured(x, draws())
    grey = (y - y.mean(dim=1, keepdim=True)).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert 0.15 < float(grey.float().mean()) < 0.25
    assert float((y.mean(dim=(1, 2, 3)) - x.mean(dim=(1, 2, 3))).abs().max()) > 0.5
    untouched = (y - x).abs().amax(dim=(1, 2, 3)) < 1e-4
    assert 0.1 < float(untouched.float().mean()) < 0.25


def test_the_same_generator_gives_the_same_pictures():
    x = pictures()
    for vary in (mirrored, coloured, lambda x, g: jittered(x, 2, g), lambda x, g: cropped(x, 0.5, g)):
        torch.testing.assert_close(vary(x, draws(3)), vary(x, draws(3)), rtol=0, atol=0)
        assert not torch.equal(vary(x, draws(3)), vary(x, draws(4)))
