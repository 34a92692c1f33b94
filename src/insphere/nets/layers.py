"""Layers that convolutional and dense networks have in common."""

import torch
from torch import Tensor, nn

from insphere.nets.options import Network
from insphere.nets.shared_batches import SharesBatches

SCORING_ROWS = 16
"""Rows a scoring batch always has on a CPU: a fixed shape makes every row's result independent of how many rows came with it, and few
rows leave a network's activations in the cache."""


class Linear(nn.Linear):
    """A dense layer that, once trained, computes at least `SCORING_ROWS` rows at a time on a CPU, filled up with zeros.

    Products of a few rows are summed in another order than those of more, which would make a row's result depend on its company.

    Examples
    --------
    >>> layer, x = Linear(200, 30).eval(), torch.randn(16, 200)
    >>> torch.equal(layer(x[:1]), layer(x)[:1])
    True
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, in_features) to (n, out_features)."""
        if self.training or x.device.type != "cpu" or torch.compiler.is_compiling() or len(x) >= SCORING_ROWS:
            return super().forward(x)
        return super().forward(nn.functional.pad(x, (0, 0, 0, SCORING_ROWS - len(x))))[: len(x)]


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


class BatchNorm(SharesBatches, nn.modules.batchnorm._NormBase):
    """What batch norms here have beside PyTorch's: mean and variance over the parts of a batch that several processes have.

    PyTorch's own `SyncBatchNorm` computes on graphics processors alone.
    """

    def of_all(self, x: Tensor) -> Tensor:
        """Return the batch norm of rows of shape (n, channels, …) with mean and variance of all processes' rows."""
        axes, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
        mean, count = self.batch_mean(x, axes)
        centred = x - mean.view(shape)
        variance, _ = self.batch_mean(centred.square(), axes)
        running = ((self.running_mean, mean), (self.running_var, variance * count / (count - 1)))
        with torch.no_grad():
            for kept, value in running:
                if kept is not None:
                    kept.lerp_(value.detach(), self.momentum or 0.0)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        normal = centred * (variance + self.eps).rsqrt().view(shape)
        return normal * self.weight.view(shape) + self.bias.view(shape) if self.affine else normal


class BatchNorm1d(BatchNorm, nn.BatchNorm1d):
    """Batch norm of features."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, features) to the same shape."""
        return self.of_all(x) if self.together and self.training else super().forward(x)


class BatchNorm2d(BatchNorm, nn.BatchNorm2d):
    """Batch norm of images that `torch.vmap` can follow on graphics processors too.

    There PyTorch asks in which order the values lie, to choose a kernel of cuDNN's, and vmap can't say; its own kernels don't ask.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, height, width) to the same shape."""
        if self.together and self.training:
            return self.of_all(x)
        if not (x.is_cuda and torch._C._functorch.is_batchedtensor(x)):
            return super().forward(x)
        with torch.backends.cudnn.flags(enabled=False):
            return super().forward(x)


def batch_norm_1d(n_features: int, network: Network, *, affine: bool | None = None) -> BatchNorm1d:
    """Return the batch norm of features that `network` describes; `affine` says it otherwise.

    Examples
    --------
    >>> batch_norm_1d(3, Network()).eps
    0.001
    """
    affine = network.batch_norm_affine if affine is None else affine
    return BatchNorm1d(n_features, eps=network.batch_norm_epsilon, momentum=network.batch_norm_momentum, affine=affine)


def batch_norm_2d(n_channels: int, network: Network) -> BatchNorm2d:
    """Return the batch norm that `network` describes.

    Examples
    --------
    >>> batch_norm_2d(3, Network()).eps
    0.001
    """
    return BatchNorm2d(n_channels, eps=network.batch_norm_epsilon, momentum=network.batch_norm_momentum, affine=network.batch_norm_affine)
