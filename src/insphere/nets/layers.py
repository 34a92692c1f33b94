"""Layers that convolutional and dense networks have in common."""

import torch
from torch import Tensor, nn

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


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm of images that `torch.vmap` can follow on graphics processors too.

    There PyTorch asks in which order the values lie, to choose a kernel of cuDNN's, and vmap can't say; its own kernels don't ask.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, height, width) to the same shape."""
        if not (x.is_cuda and torch._C._functorch.is_batchedtensor(x)):
            return super().forward(x)
        with torch.backends.cudnn.flags(enabled=False):
            return super().forward(x)


def batch_norm_2d(n_channels: int, network: Network) -> BatchNorm2d:
    """Return the batch norm that `network` describes.

    Examples
    --------
    >>> batch_norm_2d(3, Network()).eps
    0.001
    """
    return BatchNorm2d(n_channels, eps=network.batch_norm_epsilon, momentum=network.batch_norm_momentum, affine=network.batch_norm_affine)
