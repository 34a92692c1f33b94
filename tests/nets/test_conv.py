from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from insphere.nets.build import initialise
from insphere.nets.conv import ConvDecoder, ConvEncoder, UpsampledConv2d
from insphere.nets.options import Activation, Network


def images(n_images: int, channels: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(n_images, channels, height, width, generator=torch.Generator().manual_seed(0))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(1, 5),
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
    st.sampled_from([1, 3, 5]),
)
def test_any_size_goes_in_and_comes_out(height: int, width: int, channels: int, widths: list[int], kernel_size: int) -> None:
    network = Network(widths=widths, kernel_size=kernel_size)
    encoder = ConvEncoder((height, width, channels), [3, 2], network)
    decoder = ConvDecoder((height, width, channels), 3, network)
    code, other = encoder(images(2, channels, height, width))
    assert code.shape == (2, 3) and other.shape == (2, 2)
    assert decoder(code).shape == (2, channels, height, width)


def test_blocks_halve_the_image_rounding_up() -> None:
    encoder = ConvEncoder((9, 7, 1), [3], Network(widths=(4, 2)))
    sizes = []
    for layer in encoder.blocks:
        if isinstance(layer, nn.MaxPool2d):
            layer.register_forward_hook(lambda _layer, _inputs, output: sizes.append(tuple(output.shape[1:])))
    encoder(images(2, 1, 9, 7))
    assert sizes == [(4, 5, 4), (2, 3, 2)]


def test_decoder_grows_through_the_encoders_sizes() -> None:
    decoder = ConvDecoder((9, 7, 1), 3, Network(widths=(4, 2)))
    sizes = []
    for layer in decoder.blocks:
        if isinstance(layer, UpsampledConv2d):
            layer.register_forward_hook(lambda _layer, _inputs, output: sizes.append(tuple(output.shape[1:])))
    decoder(torch.zeros(2, 3))
    assert decoder.start_shape == (2, 3, 2)
    assert sizes == [(4, 5, 4), (1, 9, 7)]


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7, 9])
@pytest.mark.parametrize(("height", "width", "size"), [(4, 3, (8, 6)), (1, 1, (2, 2)), (7, 7, (14, 14)), (5, 4, (9, 7)), (3, 2, (5, 4))])
def test_upsampling_and_convolution_in_one_equal_both_in_turn(kernel_size: int, height: int, width: int, size: tuple[int, int]) -> None:
    layer = UpsampledConv2d(3, 4, kernel_size, size).double()
    x = images(2, 3, height, width).double().requires_grad_()
    upsampled = nn.functional.interpolate(x, size=size, mode="nearest")
    two_steps = nn.functional.conv2d(upsampled, layer.weight, layer.bias, padding=kernel_size // 2)
    at_once = layer(x)
    torch.testing.assert_close(at_once, two_steps)
    toward = torch.randn(at_once.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    leaves = (x, layer.weight, layer.bias)
    torch.testing.assert_close(torch.autograd.grad(at_once, leaves, toward), torch.autograd.grad(two_steps, leaves, toward))


def test_a_block_equals_its_formula_written_out() -> None:
    encoder = ConvEncoder((4, 4, 2), [3], Network(widths=(5,), kernel_size=3, leaky_slope=0.25, batch_norm_epsilon=0.01))
    initialise(encoder, 0)
    x = images(6, 2, 4, 4)
    hidden = nn.functional.conv2d(x, encoder.blocks[0].weight, encoder.blocks[0].bias, padding=1)
    mean, variance = hidden.mean(dim=(0, 2, 3), keepdim=True), hidden.var(dim=(0, 2, 3), unbiased=False, keepdim=True)
    hidden = (hidden - mean) / (variance + 0.01).sqrt()
    hidden = torch.where(hidden > 0, hidden, 0.25 * hidden)
    pooled = hidden.unflatten(2, (2, 2)).unflatten(4, (2, 2)).amax(dim=(3, 5))
    torch.testing.assert_close(encoder(x)[0], pooled.flatten(1) @ encoder.heads[0].weight.T + encoder.heads[0].bias)


@pytest.mark.parametrize("activation", get_args(Activation))
def test_pooling_before_the_activation_is_pooling_after_it(activation: str) -> None:
    encoder = ConvEncoder((5, 6, 2), [3], Network(widths=(4,), activation=activation))
    initialise(encoder, 0)
    convolution, norm, pooling, rising = encoder.blocks
    x = images(6, 2, 5, 6)
    torch.testing.assert_close(encoder.blocks(x), pooling(rising(norm(convolution(x)))))


def test_memory_layout_changes_nothing_but_rounding() -> None:
    encoder = ConvEncoder((9, 7, 3), [3], Network(widths=(4, 2))).eval()
    initialise(encoder, 0)
    x = images(2, 3, 9, 7)
    torch.testing.assert_close(encoder(x)[0], encoder(x.to(memory_format=torch.channels_last))[0])


def test_without_bias_no_layer_of_the_encoder_has_one() -> None:
    encoder = ConvEncoder((4, 4, 1), [2], Network(widths=(4,), bias=False, batch_norm_affine=False))
    assert [name for name, _ in encoder.named_parameters()] == ["blocks.0.weight", "heads.0.weight"]


@pytest.mark.parametrize("pixel", [(0, 0), (3, 2), (8, 6)])
def test_every_pixel_reaches_the_code(pixel: tuple[int, int]) -> None:
    encoder = ConvEncoder((9, 7, 1), [3], Network(widths=(4, 2))).eval()
    initialise(encoder, 0)
    x = images(1, 1, 9, 7)
    changed = x.clone()
    changed[0, 0, *pixel] += 10
    assert not torch.equal(encoder(x)[0], encoder(changed)[0])
