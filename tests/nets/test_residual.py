"""ResNets from their published names: equal to the network with batch norm apart, sizes, roles, wide stages mixed down."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from drawn_networks import BASIC, BOTTLENECK, published_residual
from insphere.nets.photo_features import MOST_CHANNELS, PhotoFeatures, mixing_for
from insphere.nets.residual import Residual, ResidualNetwork, folded
from insphere.nets.staged import MOST_VALUES, usual_roles

WIDE = Residual(8, (4, 8, 12, 16), (64, 320, 640, 1280), (1, 1, 1, 1), True)


def slow(weights: dict[str, Tensor], architecture: Residual, x: Tensor) -> list[Tensor]:
    """The stages by the published definition, batch norm after every convolution."""

    def layer(x: Tensor, convolution: str, norm: str, stride: int, groups: int = 1) -> Tensor:
        weight = weights[f"{convolution}.weight"]
        x = functional.conv2d(x, weight, None, stride, weight.shape[2] // 2, groups=groups)
        statistics = (weights[f"{norm}.{entry}"] for entry in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *statistics, False, 0.0, 1e-5)

    mean, spread = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (x / 255 - mean.reshape(1, 3, 1, 1)) / spread.reshape(1, 3, 1, 1)
    x = functional.max_pool2d(functional.relu(layer(x, "conv1", "bn1", 2)), 3, 2, 1)
    found = []
    for stage, repeats in enumerate(architecture.repeats):
        for block in range(repeats):
            name, stride = f"layer{stage + 1}.{block}", 2 if stage > 0 and block == 0 else 1
            past = layer(x, f"{name}.downsample.0", f"{name}.downsample.1", stride) if f"{name}.downsample.0.weight" in weights else x
            if architecture.bottleneck:
                y = functional.relu(layer(x, f"{name}.conv1", f"{name}.bn1", 1))
                y = functional.relu(layer(y, f"{name}.conv2", f"{name}.bn2", stride, architecture.n_groups))
                y = layer(y, f"{name}.conv3", f"{name}.bn3", 1)
            else:
                y = layer(functional.relu(layer(x, f"{name}.conv1", f"{name}.bn1", stride)), f"{name}.conv2", f"{name}.bn2", 1)
            x = functional.relu(y + past)
        found.append(x)
    return found


@pytest.mark.parametrize("architecture", [BASIC, BOTTLENECK])
def test_stages_are_those_of_the_definition(architecture: Residual) -> None:
    weights = published_residual(architecture)
    assert Residual.of(weights) == architecture
    network = ResidualNetwork(architecture).eval()
    network.load_state_dict(folded(weights, architecture))
    x = 255 * torch.rand(2, 3, 50, 70, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for found, expected in zip(network(x), slow(weights, architecture, x), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_roles_go_by_strides_and_stages_that_are_left_out_have_none() -> None:
    assert ResidualNetwork(BASIC).roles == {
        "places": ("layer2", "layer3"), "texture": ("layer3", "layer4"), "fine": ("layer1", "layer2", "layer3"), "shown": ("layer4",),
    }  # fmt: skip
    assert set(ResidualNetwork(dataclasses.replace(BASIC, n_stages=3)).roles) == {"places", "fine"}
    assert usual_roles(BASIC.outputs[:2])["texture"] == ("layer2",)  # the nearest stride where none is coarse enough


def test_wide_stages_are_mixed_down_the_same_way_every_time() -> None:
    network = ResidualNetwork(WIDE)
    mixing = mixing_for(network, "texture")
    assert {name: tuple(matrix.shape) for name, matrix in mixing.items()} == {
        "places-1": (320, 96), "places-2": (640, 96), "texture-2": (640, 256), "texture-3": (1280, 256),
    }  # fmt: skip
    for name, matrix in mixing_for(network, "texture").items():
        torch.testing.assert_close(matrix, mixing[name], rtol=0, atol=0)
    matrix = mixing["places-1"].double().numpy()
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(96), atol=2e-3)
    assert mixing_for(ResidualNetwork(BASIC), "texture") == {}

    features = PhotoFeatures(network, (64, 64), "texture").eval()
    with torch.inference_mode():
        x = 255 * torch.rand(1, 3, 64, 64)
        places, whole = features(x)
        assert places.shape == (1, 8, 8, MOST_VALUES) and whole.shape == (1, 2 * 3 * MOST_CHANNELS["texture"])
        assert features.n_values == MOST_VALUES and features.n_whole == whole.shape[1]
        smooth = functional.avg_pool2d(network(x)[1], 3, 1, 1, count_include_pad=False)
        expected = torch.einsum("nchw,cd->nhwd", smooth, mixing["places-1"].float())
    torch.testing.assert_close(places[..., :96], expected, rtol=1e-4, atol=1e-5)


def test_distances_are_about_kept() -> None:
    rng = np.random.default_rng(0)
    mixing = mixing_for(ResidualNetwork(WIDE), "texture")["places-2"].float().numpy()
    rows = rng.normal(size=(50, 640))
    ratios = np.linalg.norm(rows @ mixing, axis=1) / np.linalg.norm(rows, axis=1) / (96 / 640) ** 0.5
    assert np.abs(ratios - 1).max() < 0.3


def test_mixing_that_does_not_fit_is_refused() -> None:
    network = ResidualNetwork(WIDE)
    mixing = mixing_for(network, "texture")
    for wrong in ({}, {**mixing, "places-1": mixing["places-1"][:5]}, {**mixing, "places-7": mixing["places-1"]}):
        with pytest.raises(RuntimeError, match="mixing"):
            PhotoFeatures(network, (64, 64), "texture", None, wrong)
