import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insphere.errors import ParameterError
from insphere.nets.options import Network, default_latent_dim, default_widths

sides = st.integers(1, 512)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"widths": ()}, "`widths` must be a list of 1 to 8 entries, .*, got \\(\\)"),
        ({"widths": (4,) * 9}, "`widths` must be a list of 1 to 8 entries, .*, got \\(4, "),
        ({"widths": (8, 0)}, r"`widths\[1\]` must be a whole number at least 1 and at most 65536, got 0"),
        ({"widths": (8, 2.5)}, r"`widths\[1\]` must be a whole number .*, got 2.5"),
        ({"widths": 8}, "`widths` must be a list of 1 to 8 entries, each a whole number .*, or None, got 8"),
        ({"kernel_size": 4}, "`kernel_size` must be odd so that the image keeps its size, got 4"),
        ({"kernel_size": 33}, "`kernel_size` must be a whole number at least 1 and at most 31, got 33"),
        ({"activation": "relu"}, "`activation` must be one of 'leaky-relu', 'tanh', 'sigmoid', got 'relu'"),
        ({"leaky_slope": -0.1}, "`leaky_slope` must be a finite number at least 0 and at most 1, got -0.1"),
        ({"batch_norm_epsilon": 0}, "`batch_norm_epsilon` must be a finite number above 0, got 0"),
        ({"batch_norm_momentum": 1.5}, "`batch_norm_momentum` must be a finite number above 0 and at most 1, got 1.5"),
        ({"bias": "no"}, "`bias` must be True or False, got 'no'"),
        ({"batch_norm_affine": 0}, "`batch_norm_affine` must be True or False, got 0"),
        ({"latent_norm": None}, "`latent_norm` must be True or False, got None"),
    ],
)
def test_a_choice_out_of_range_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Network(**wrong)


def test_widths_become_a_tuple_so_that_networks_compare() -> None:
    assert Network(widths=[8, 4]) == Network(widths=(8, 4))
    assert hash(dataclasses.astuple(Network(widths=[8, 4]))) == hash(dataclasses.astuple(Network(widths=(8, 4))))


@pytest.mark.parametrize(
    ("shape", "widths", "latent_dim"),
    [((28, 28, 1), (8, 4), 32), ((32, 32, 3), (32, 64, 128), 128)],
    ids=["MNIST", "CIFAR-10"],
)
def test_defaults_of_the_papers_image_sizes(shape: tuple[int, ...], widths: tuple[int, ...], latent_dim: int) -> None:
    # Zhou 2021, Table 2.
    assert default_widths(shape) == widths
    assert default_latent_dim(shape) == latent_dim


@given(sides, sides, st.integers(1, 16))
def test_default_blocks_halve_the_longer_side_down_to_four_pixels(height: int, width: int, channels: int) -> None:
    widths = default_widths((height, width, channels))
    Network(widths=widths)
    longer = max(height, width)
    assert len(widths) == 1 or longer / 2 ** len(widths) >= 4
    assert len(widths) == 5 or longer / 2 ** len(widths) < 8
    assert sorted(widths, reverse=channels == 1) == list(widths)


@given(st.integers(1, 10_000))
def test_defaults_for_vectors(n_features: int) -> None:
    first, second = default_widths((n_features,))
    assert 64 <= first <= 256 and second == first // 2
    assert first >= min(256, 4 * n_features)
    assert default_latent_dim((n_features,)) == min(64, max(2, n_features))
