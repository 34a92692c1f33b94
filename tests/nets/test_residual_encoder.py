import pytest
import torch

from insphere.errors import ParameterError
from insphere.nets.build import GaussianEncoder, build_encoder, initialise
from insphere.nets.options import Network
from insphere.nets.residual_encoder import ResidualEncoder


@pytest.mark.parametrize(("size", "n_convolutions"), [("small", 9), ("large", 17)])
def test_depth_is_that_of_the_published_networks(size, n_convolutions):
    encoder = ResidualEncoder((32, 32, 3), [5], Network(size=size))
    of_three = [layer for layer in encoder.modules() if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (3, 3)]
    assert len(of_three) == n_convolutions  # and the dense layer makes ResNet-10, ResNet-18


@pytest.mark.parametrize(("shape", "left"), [((32, 32, 3), (4, 4)), ((28, 28, 1), (7, 7)), ((9, 20, 1), (5, 10)), ((3, 3, 1), (3, 3))])
def test_stages_halve_pictures_until_four_rows_are_left(shape, left):
    encoder = ResidualEncoder(shape, [2, 3], Network(size="small")).eval()
    x = torch.randn(2, shape[2], *shape[:2])
    assert tuple(encoder.blocks(x).shape[2:]) == left
    assert [tuple(head.shape) for head in encoder(x)] == [(2, 2), (2, 3)]


def test_a_block_adds_what_it_was_given():
    block = ResidualEncoder((8, 8, 1), [1], Network(size="small")).blocks[3].eval()
    with torch.no_grad():
        block.inner[-1].weight.zero_()
        x = torch.rand(2, 32, 8, 8)
        torch.testing.assert_close(block(x), x)


def test_size_chooses_the_encoder_and_vectors_know_the_papers_only():
    assert isinstance(GaussianEncoder((8, 8, 1), 2, Network(size="large")).body, ResidualEncoder)
    assert not isinstance(GaussianEncoder((8, 8, 1), 2, Network()).body, ResidualEncoder)
    with pytest.raises(ParameterError, match="'small' is for pictures"):
        build_encoder((5,), [2], Network(size="small"))


def test_weights_come_from_the_seed():
    first, second = (GaussianEncoder((8, 8, 1), 2, Network(size="small")) for _ in range(2))
    for encoder in (first, second):
        initialise(encoder, 3)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
