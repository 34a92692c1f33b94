"""Layers that convolutional and dense networks have in common."""

from torch import nn

from insphere.nets.options import Network


def make_activation(network: Network) -> nn.Module:
    """Return the activation that `network` names.

    Examples
    --------
    >>> make_activation(Network(leaky_slope=0.3))
    LeakyReLU(negative_slope=0.3)
    """
    if network.activation == "leaky-relu":
        return nn.LeakyReLU(network.leaky_slope)
    return {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid}[network.activation]()
