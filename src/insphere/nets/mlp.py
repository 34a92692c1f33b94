"""Multi-layer perceptron encoder and decoder for vectors."""

from collections.abc import Sequence

from torch import Tensor, nn

from insphere.nets.layers import Linear, batch_norm_1d, make_activation
from insphere.nets.options import Network


class MLPEncoder(nn.Module):
    """Hidden layers (dense, batch norm, activation), then one dense layer per head.

    Parameters
    ----------
    input_shape : (int,)
        Number of features.
    head_dims : sequence of int
        Outputs of each head.
    network : Network
        Architecture; its `widths` must be given.

    Examples
    --------
    >>> import torch
    >>> encoder = MLPEncoder((6,), [2, 2], Network(widths=(8,)))
    >>> [tuple(head.shape) for head in encoder(torch.zeros(5, 6))]
    [(5, 2), (5, 2)]
    """

    def __init__(self, input_shape: Sequence[int], head_dims: Sequence[int], network: Network) -> None:
        super().__init__()
        widths = tuple(network.widths or ())
        self.blocks = _hidden_layers(input_shape[0], widths, network, bias=network.bias)
        self.heads = nn.ModuleList(Linear(widths[-1], dim, bias=network.bias) for dim in head_dims)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map rows (n, features) to one tensor (n, dim) per head."""
        features = self.blocks(x)
        return [head(features) for head in self.heads]


class MLPDecoder(nn.Module):
    """Mirror of `MLPEncoder`: hidden layers in the opposite order, then a dense layer to the features.

    Examples
    --------
    >>> import torch
    >>> tuple(MLPDecoder((6,), 2, Network(widths=(8, 4)))(torch.zeros(5, 2)).shape)
    (5, 6)
    """

    def __init__(self, output_shape: Sequence[int], latent_dim: int, network: Network) -> None:
        super().__init__()
        widths = tuple(network.widths or ())[::-1]
        self.blocks = _hidden_layers(latent_dim, widths, network, bias=True)
        self.output = Linear(widths[-1], output_shape[0])

    def forward(self, z: Tensor) -> Tensor:
        """Map codes (n, latent_dim) to rows (n, features), unbounded."""
        output: Tensor = self.output(self.blocks(z))
        return output


def _hidden_layers(n_inputs: int, widths: Sequence[int], network: Network, *, bias: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_units in widths:
        layers += [
            Linear(n_inputs, n_units, bias=bias),
            batch_norm_1d(n_units, network),
            make_activation(network),
        ]
        n_inputs = n_units
    return nn.Sequential(*layers)
