"""One place that turns an input shape and a `Network` into an encoder and a decoder, with weights from an explicit generator."""

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from insphere.errors import ParameterError
from insphere.nets.conv import ConvDecoder, ConvEncoder
from insphere.nets.layers import batch_norm_1d
from insphere.nets.mlp import MLPDecoder, MLPEncoder
from insphere.nets.options import Network, default_widths
from insphere.nets.residual_encoder import ResidualEncoder


class PointEncoder(nn.Module):
    """Encoder whose output is one code per row.

    Examples
    --------
    >>> tuple(PointEncoder((6,), 2, Network(widths=(8,)))(torch.zeros(5, 6)).shape)
    (5, 2)
    """

    def __init__(self, input_shape: Sequence[int], latent_dim: int, network: Network) -> None:
        super().__init__()
        self.body = build_encoder(input_shape, [latent_dim], network)
        self.norm = _latent_norm(latent_dim, network)

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch to codes, float32 of shape (n, latent_dim)."""
        code: Tensor = self.norm(self.body(x)[0].float())
        return code


class GaussianEncoder(nn.Module):
    """Encoder whose output is a diagonal Gaussian over the code: its mean and log-variance.

    Source: Zhou 2021, sec. 2.1. Deviation: the log-variance is bounded to [-12, 8] so that its exponential stays finite.

    Examples
    --------
    >>> encoder = GaussianEncoder((6,), 2, Network(widths=(8,)))
    >>> mu, logvar = encoder(torch.zeros(5, 6))
    >>> tuple(mu.shape), tuple(logvar.shape)
    ((5, 2), (5, 2))
    """

    def __init__(self, input_shape: Sequence[int], latent_dim: int, network: Network) -> None:
        super().__init__()
        self.body = build_encoder(input_shape, [latent_dim, latent_dim], network)
        self.mu_norm = _latent_norm(latent_dim, network)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map a batch to (mu, logvar), each float32 of shape (n, latent_dim)."""
        mu, logvar = self.body(x)
        return self.mu_norm(mu.float()), logvar.float().clamp(-12.0, 8.0)


def build_encoder(input_shape: Sequence[int], head_dims: Sequence[int], network: Network) -> nn.Module:
    """Return a convolutional or residual encoder for (height, width, channels), an MLP for (features,).

    Raises
    ------
    ParameterError
        If a residual network is asked for vectors.
    """
    network = with_widths(network, input_shape)
    if network.size != "paper":
        if len(input_shape) != 3:
            raise ParameterError(f"`network` of `size` {network.size!r} is for pictures; these rows are vectors: take 'paper'.")
        return ResidualEncoder(input_shape, head_dims, network)
    return (ConvEncoder if len(input_shape) == 3 else MLPEncoder)(input_shape, head_dims, network)


def build_decoder(output_shape: Sequence[int], latent_dim: int, network: Network) -> nn.Module:
    """Return the mirrored decoder from codes (n, latent_dim)."""
    network = with_widths(network, output_shape)
    return (ConvDecoder if len(output_shape) == 3 else MLPDecoder)(output_shape, latent_dim, network)


def with_widths(network: Network, input_shape: Sequence[int]) -> Network:
    """Return `network` with its widths filled in for the input shape."""
    if network.widths is not None:
        return network
    return dataclasses.replace(network, widths=default_widths(input_shape))


def _latent_norm(latent_dim: int, network: Network) -> nn.Module:
    if not network.latent_norm:
        return nn.Identity()
    return batch_norm_1d(latent_dim, network, affine=False)


def initialise(module: nn.Module, seed: int) -> None:
    """Draw every weight of `module` from a generator of its own; PyTorch's default distributions, without its global state.

    Weights and biases are uniform in ±1/sqrt(fan-in) (the default of `nn.Linear` and `nn.Conv2d`), batch norms start as the identity.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                bound = 1 / math.sqrt(max(1, layer.weight[0].numel()))
                layer.weight.uniform_(-bound, bound, generator=generator)
                if layer.bias is not None:
                    layer.bias.uniform_(-bound, bound, generator=generator)
            elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.reset_parameters()
