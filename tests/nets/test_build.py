import math

import pytest
import torch
from torch import nn

from insphere.nets.build import GaussianEncoder, build_decoder, build_encoder, initialise, with_widths
from insphere.nets.conv import ConvDecoder, ConvEncoder
from insphere.nets.mlp import MLPDecoder, MLPEncoder
from insphere.nets.options import Network, default_widths

SHAPES = [(6,), (9, 7, 1), (8, 8, 3)]


def batch(shape: tuple[int, ...], n_rows: int = 5, seed: int = 0) -> torch.Tensor:
    size = (n_rows, *shape) if len(shape) == 1 else (n_rows, shape[2], shape[0], shape[1])
    return torch.rand(size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_shape_chooses_the_kind_of_network(shape: tuple[int, ...]) -> None:
    encoder, decoder = build_encoder(shape, [2], Network()), build_decoder(shape, 2, Network())
    is_image = len(shape) == 3
    assert type(encoder) is (ConvEncoder if is_image else MLPEncoder)
    assert type(decoder) is (ConvDecoder if is_image else MLPDecoder)
    assert decoder(encoder(batch(shape))[0]).shape == batch(shape).shape


def test_widths_are_filled_in_only_where_they_are_missing() -> None:
    assert with_widths(Network(kernel_size=3), (28, 28, 1)) == Network(widths=default_widths((28, 28, 1)), kernel_size=3)
    assert with_widths(Network(widths=(7,)), (28, 28, 1)) == Network(widths=(7,))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_log_variance_is_bounded(shape: tuple[int, ...]) -> None:
    encoder = GaussianEncoder(shape, 2, Network(widths=(4,)))
    with torch.no_grad():
        encoder.body.heads[1].bias.copy_(torch.tensor([-1e6, 1e6]))
    mu, logvar = encoder(batch(shape))
    assert mu.shape == logvar.shape == (5, 2)
    assert (logvar == torch.tensor([-12.0, 8.0])).all()


def test_latent_norm_gives_every_dimension_unit_variance() -> None:
    encoder = GaussianEncoder((6,), 3, Network(widths=(8,), latent_norm=True, batch_norm_epsilon=1e-9))
    mu, _ = encoder(batch((6,), 200))
    torch.testing.assert_close(mu.var(dim=0, unbiased=False), torch.ones(3), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mu.mean(dim=0), torch.zeros(3), rtol=1e-4, atol=1e-4)
    encoder.mu_norm = nn.Identity()
    initialise(encoder, 0)
    assert (encoder(batch((6,), 200))[0].var(dim=0, unbiased=False) < 0.9).all()


class TestInitialise:
    def test_the_seed_alone_decides(self) -> None:
        first, second, other = (build_encoder((6,), [2], Network()) for _ in range(3))
        for network, seed in ((first, 1), (second, 1), (other, 2)):
            initialise(network, seed)
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
        assert not torch.equal(first.heads[0].weight, other.heads[0].weight)

    def test_the_global_random_state_is_left_alone(self) -> None:
        network, before = build_encoder((6,), [2], Network()), torch.get_rng_state()
        initialise(network, 0)
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("shape", [(200,), (9, 7, 3)], ids=str)
    def test_the_distribution_is_pytorchs_default(self, shape: tuple[int, ...]) -> None:
        network = build_encoder(shape, [64], Network(widths=(64, 32)))
        initialise(network, 0)
        for layer in network.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                bound = 1 / math.sqrt(layer.weight[0].numel())
                assert layer.weight.abs().max() <= bound and layer.bias.abs().max() <= bound
                # A uniform distribution on ±bound has the standard deviation bound / sqrt(3).
                assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.06)

    def test_batch_norms_start_as_the_identity(self) -> None:
        network = build_encoder((9, 7, 1), [2], Network(widths=(4,)))
        network(batch((9, 7, 1)))
        norm = network.blocks[1]
        with torch.no_grad():
            norm.weight.fill_(3)
        initialise(network, 0)
        assert (norm.weight == 1).all() and (norm.bias == 0).all() and (norm.running_mean == 0).all() and (norm.running_var == 1).all()
