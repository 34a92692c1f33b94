"""The frozen network: sizes at every stage, batch norm folded right, odd sizes."""

import pytest
import torch
from torch import nn

from drawn_networks import published_lite
from insphere.nets.efficientnet_lite import Architecture, EfficientNetLite, SameConv2d, folded
from insphere.nets.photo_features import PhotoFeatures, _brought_to, _smooth, grid_of


def test_batch_norm_is_folded_into_the_convolution_before_it() -> None:
    architecture = Architecture(n_stages=2)
    weights = published_lite(architecture)
    network = EfficientNetLite(architecture)
    network.load_state_dict(folded(weights, architecture))
    x = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    norm = nn.BatchNorm2d(32, eps=1e-3).eval()
    norm.load_state_dict({key: weights[f"_bn0.{key}"] for key in ("weight", "bias", "running_mean", "running_var")}, strict=False)
    plain = SameConv2d(3, 32, 3, 2)
    plain.load_state_dict({"weight": weights["_conv_stem.weight"], "bias": torch.zeros(32)})
    torch.testing.assert_close(network.stem(x), norm(plain(x)), rtol=1e-4, atol=1e-5)


def test_every_stage_has_its_size_also_of_odd_pictures() -> None:
    network = EfficientNetLite(Architecture())
    sizes = [tuple(stage.shape[1:]) for stage in network(torch.zeros(1, 3, 97, 65))]
    assert sizes == [(16, 49, 33), (24, 25, 17), (40, 13, 9), (80, 7, 5), (112, 7, 5), (192, 4, 3), (320, 4, 3)]
    assert Architecture().strides == (2, 4, 8, 16, 16, 32, 32)
    assert Architecture(1.1, 1.2).repeats == (1, 3, 3, 4, 4, 5, 1) and Architecture(1.1, 1.2).filters[-1] == 352


def test_an_odd_place_is_added_behind_the_picture() -> None:
    convolution = SameConv2d(1, 1, 3, 2)
    nn.init.ones_(convolution.weight), nn.init.zeros_(convolution.bias)
    picture = torch.arange(16.0).reshape(1, 1, 4, 4)
    # The window of the first place begins at the picture's own corner; that of the last one reaches past its end.
    assert convolution(picture)[0, 0].tolist() == [[45.0, 39.0], [66.0, 50.0]]


def test_pictures_of_other_sizes_are_brought_to_the_models_and_grey_is_shown_in_three_channels() -> None:
    features = PhotoFeatures(EfficientNetLite(Architecture()), (64, 96), "texture").eval()
    grey = torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(0)) * 255
    places, whole = features(grey)
    assert places.shape == (2, 8, 12, 152) and whole.shape == (2, 3 * (80 + 112 + 192))
    torch.testing.assert_close(features(grey.expand(-1, 3, -1, -1))[0], places)
    flat = features.flat(grey).detach().numpy()
    assert (features.parted(flat)[0] == places.detach().numpy()).all() and (features.parted(flat)[1] == whole.detach().numpy()).all()


def test_a_map_has_a_bounded_number_of_places() -> None:
    height, width = grid_of((2048, 1024), stride=8, most=1200)
    assert height * width <= 1200 and abs(height / width - 2) < 0.1


def test_places_of_very_large_pictures_are_averaged_and_none_is_passed_over() -> None:
    features = PhotoFeatures(EfficientNetLite(Architecture()), (640, 640), "texture")
    assert features.grid == (34, 34)
    stage = torch.zeros(1, 40, 80, 80)
    stage[0, 0, 37, 41] = 1.0
    found = _brought_to(_smooth(stage), (20, 20))
    assert found[0, 0].sum().item() == pytest.approx(1 / 16, rel=1e-5)  # nine places of a ninth, sixteen to one
