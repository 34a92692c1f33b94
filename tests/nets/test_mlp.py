import pytest
import torch
from torch import nn

from insphere.nets.build import initialise
from insphere.nets.mlp import MLPDecoder, MLPEncoder
from insphere.nets.options import Network


def rows(n_rows: int, n_features: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n_rows, n_features, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("widths", [(8,), (16, 8), (4, 5, 6)])
@pytest.mark.parametrize("n_features", [1, 6])
def test_shapes(widths: tuple[int, ...], n_features: int) -> None:
    encoder = MLPEncoder((n_features,), [3, 2], Network(widths=widths))
    decoder = MLPDecoder((n_features,), 3, Network(widths=widths))
    wide, narrow = encoder(rows(5, n_features))
    assert wide.shape == (5, 3) and narrow.shape == (5, 2)
    assert decoder(wide).shape == (5, n_features)


def test_decoder_mirrors_the_encoder() -> None:
    def sizes(module: nn.Module) -> list[tuple[int, int]]:
        return [(layer.in_features, layer.out_features) for layer in module.modules() if isinstance(layer, nn.Linear)]

    network = Network(widths=(16, 8))
    assert sizes(MLPEncoder((6,), [2], network)) == [(6, 16), (16, 8), (8, 2)]
    assert sizes(MLPDecoder((6,), 2, network)) == [(2, 8), (8, 16), (16, 6)]


def test_encoder_equals_its_formula_written_out() -> None:
    encoder = MLPEncoder((3,), [2], Network(widths=(4,), leaky_slope=0.25, batch_norm_epsilon=0.01))
    initialise(encoder, 0)
    x = rows(7, 3)
    weight, bias = encoder.blocks[0].weight, encoder.blocks[0].bias
    hidden = x @ weight.T + bias
    hidden = (hidden - hidden.mean(dim=0)) / (hidden.var(dim=0, unbiased=False) + 0.01).sqrt()
    hidden = torch.where(hidden > 0, hidden, 0.25 * hidden)
    torch.testing.assert_close(encoder(x)[0], hidden @ encoder.heads[0].weight.T + encoder.heads[0].bias)


def test_without_bias_no_layer_of_the_encoder_has_one() -> None:
    names = [name for name, _ in MLPEncoder((3,), [2], Network(widths=(4,), bias=False, batch_norm_affine=False)).named_parameters()]
    assert names == ["blocks.0.weight", "heads.0.weight"]


def test_running_statistics_follow_the_momentum() -> None:
    encoder = MLPEncoder((3,), [2], Network(widths=(4,), batch_norm_momentum=0.25))
    x = rows(50, 3)
    encoder(x)
    torch.testing.assert_close(encoder.blocks[1].running_mean, 0.25 * encoder.blocks[0](x).mean(dim=0))
