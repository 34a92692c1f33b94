"""Features from scratch: the filters against what they must be, energies against waves, and what light may not change."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from insphere.nets.backbones import SCRATCH, build, read_backbone
from insphere.nets.oriented_energies import Energies, OrientedEnergies
from insphere.nets.photo_features import PhotoFeatures

SIDE = 64


@pytest.fixture(scope="module")
def network() -> OrientedEnergies:
    return OrientedEnergies(Energies()).eval()


def noise(n: int = 2, seed: int = 0, least: float = 60, most: float = 180) -> Tensor:
    grey = torch.rand(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * (most - least) + least
    return grey.expand(-1, 3, -1, -1)


def wave(angle: float, length: float = 4.0) -> Tensor:
    down, across = torch.meshgrid(torch.arange(SIDE) * 1.0, torch.arange(SIDE) * 1.0, indexing="ij")
    phase = 2 * math.pi / length * (across * math.cos(angle) + down * math.sin(angle))
    return (120 + 40 * torch.sin(phase)).expand(1, 3, -1, -1)


def test_filters_are_pairs_of_zero_mean_and_unit_length(network: OrientedEnergies) -> None:
    assert network.first.shape == (12, 1, 9, 9) and network.second.shape == (8, 1, 9, 9)
    for filters in (network.first, network.second):
        torch.testing.assert_close(filters.sum(dim=(1, 2, 3)), torch.zeros(len(filters)), atol=1e-5, rtol=0)
        torch.testing.assert_close((filters[0::2] ** 2 + filters[1::2] ** 2).sum(dim=(1, 2, 3)), torch.ones(len(filters) // 2))
        torch.testing.assert_close(filters[0::2].flip(2, 3), filters[0::2])
        torch.testing.assert_close(filters[1::2].flip(2, 3), -filters[1::2])


@pytest.mark.parametrize("direction", range(6))
def test_a_wave_has_most_energy_in_its_own_direction_at_the_finest_scale(network: OrientedEnergies, direction: int) -> None:
    means = network(wave(math.pi * direction / 6))[1][0, 6:12].mean(dim=(1, 2))  # behind the maxima of the finest scale, its means
    assert means.argmax() == direction and means.max() > means.median() + 1


@pytest.mark.parametrize("times", [2, 4, 8])
def test_a_longer_wave_has_most_energy_at_a_coarser_scale(network: OrientedEnergies, times: int) -> None:
    of_scales = [network(wave(0.0, 4.0 * times))[1][0, 12 * scale + 6].mean() for scale in range(4)]
    assert int(torch.stack(of_scales).argmax()) == int(math.log2(times))


def test_the_first_order_against_sums_written_out(network: OrientedEnergies) -> None:
    picture = noise(1)
    light = np.pad(np.log(picture[0, 0].double().numpy() + 16), 4, mode="reflect")
    filters = network.first[:, 0].double().numpy()
    energies = np.array(
        [[[np.hypot(*((filters[k : k + 2] * light[y : y + 9, x : x + 9]).sum((1, 2)))) for x in range(8, 16)] for y in range(16, 24)]
         for k in range(0, 12, 2)]
    )  # fmt: skip
    found = network(picture)[1][0, :12, 2, 1].numpy()
    np.testing.assert_allclose(found[:6], np.log(energies.max(axis=(1, 2)) + 0.01), rtol=1e-3)
    np.testing.assert_allclose(found[6:], np.log(energies.mean(axis=(1, 2)) + 0.01), rtol=1e-3)


def test_the_second_order_of_places_is_the_mean_over_the_directions_of_either_filter(network: OrientedEnergies) -> None:
    at_places, whole = network(noise(1))
    assert at_places.shape[1:] == (115, 8, 8) and whole.shape[1:] == (199, 8, 8)
    variation = (whole[0, 55 : 55 + 24].exp() - 0.01).reshape(6, 4, 8, 8)  # energies of the finest scale, at the next one
    expected = torch.log(torch.cat([variation.mean(dim=1), variation.mean(dim=0)]) + 0.01)
    expected = expected - expected.mean(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(at_places[0, 55 : 55 + 10], expected, rtol=1e-3, atol=1e-4)


def test_places_are_compared_with_the_rest_of_their_picture(network: OrientedEnergies) -> None:
    at_places, whole = network(noise(3))
    torch.testing.assert_close(at_places.mean(dim=(2, 3)), torch.zeros(3, 115), atol=1e-4, rtol=0)
    darker = (noise(3) + 16) * 0.5 - 16  # light of half the strength, as the logarithm sees it
    at_darker, whole_darker = network(darker)
    torch.testing.assert_close(at_darker, at_places, atol=2e-3, rtol=0)
    less = (whole - whole_darker).mean(dim=(0, 2, 3))
    torch.testing.assert_close(less[48:53], math.log(2) * torch.ones(5), atol=1e-3, rtol=0)  # brightness at three scales, least, most


def test_colour_is_seen_and_grey_has_none(network: OrientedEnergies) -> None:
    assert network(noise())[1][:, 53:55].abs().max() == 0
    red = noise().clone()
    red[:, 0, :32] *= 1.4
    colours = network(red)[1][:, 53:55]
    assert (colours[:, 0, :4] > 0.2).all() and colours[:, :, 5:].abs().max() == 0 and colours[:, 1].abs().max() == 0


@pytest.mark.parametrize("size", [(64, 96), (32, 32), (50, 35), (16, 16)])
def test_every_size_has_finite_features(network: OrientedEnergies, size: tuple[int, int]) -> None:
    stages = network(torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(0)).float())
    places = tuple(2 * math.ceil(side / 16) for side in size)
    assert [tuple(stage.shape[2:]) for stage in stages] == [places, places]
    assert all(stage.isfinite().all() for stage in stages)


def test_filters_are_those_of_half_precision_and_maps_may_have_more_places() -> None:
    description, weights = read_backbone(SCRATCH)
    assert {value.dtype for value in weights.values()} == {torch.float16} and sum(value.numel() for value in weights.values()) == 20 * 81
    network = build(description, "texture", weights)
    features = PhotoFeatures(network, (320, 320), "texture")
    assert features.grid == (40, 40) and features.n_values == 115 and features.n_whole == 3 * 199
    with pytest.raises(RuntimeError, match="size mismatch"):
        build(description, "texture", {**weights, "first": weights["first"][1:]})
