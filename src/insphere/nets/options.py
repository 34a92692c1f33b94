"""The choices that shape an encoder and its mirrored decoder."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated, Literal

from insphere.errors import ParameterError
from insphere.fields import Declared, Length, Positive, Share
from insphere.validation import Within

Activation = Literal["leaky-relu", "tanh", "sigmoid"]
"""What follows a batch norm; all rise with their argument."""

NetworkSize = Literal["paper", "small", "large"]
"""Names of the encoders of pictures: see `Network`."""

Width = Annotated[int, Within(at_least=1, at_most=65_536)]
"""Channels or units of one layer."""


@dataclasses.dataclass(frozen=True)
class Network(Declared):
    """Architecture of an encoder–decoder pair.

    Parameters
    ----------
    size : {"paper", "small", "large"}
        Encoder of images. "paper": convolution blocks (Zhou 2021, Table 2). "small" and "large": residual networks, ResNet-10 of at most
        256 channels and ResNet-18 of 512; the decoder stays the paper's. Vectors know "paper" only.
    widths : sequence of int, optional
        Images: channels of each convolution block (convolution, batch norm, leaky ReLU, 2×2 max-pooling).
        Vectors: units of each hidden layer. None chooses by input size, see `default_widths`.
    kernel_size : int
        Side of the square convolution kernels, odd, in pixels.
    activation : {"leaky-relu", "tanh", "sigmoid"}
        What follows each batch norm. The paper's is the leaky ReLU; the two bounded ones are those that Ruff et al. 2018 rule out.
    leaky_slope : float
        Slope of the leaky ReLU for negative inputs, in [0, 1]. Keras's default is 0.3, that of Ruff et al. 2018 is 0.1.
    batch_norm_epsilon : float
        Added to the batch variance. Keras's default is 1e-3, PyTorch's 1e-5.
    batch_norm_momentum : float
        Weight of the newest batch in the running statistics, in (0, 1] (PyTorch's convention; Keras's momentum 0.99 is 0.01 here).
    batch_norm_affine : bool
        Whether batch norm has a learned scale and shift.
    bias : bool
        Whether convolution and dense layers of the encoder have bias terms.
    latent_norm : bool
        Whether the code's mean passes through a batch norm without affine parameters, which keeps every latent dimension at unit variance.

    Examples
    --------
    >>> Network(widths=(8, 4)).widths
    (8, 4)
    """

    size: NetworkSize = "paper"
    widths: Annotated[Sequence[Width], Length(1, 8)] | None = None
    kernel_size: Annotated[int, Within(at_least=1, at_most=31)] = 5
    activation: Activation = "leaky-relu"
    leaky_slope: Annotated[float, Within(at_least=0, at_most=1)] = 0.1
    batch_norm_epsilon: Positive = 1e-3
    batch_norm_momentum: Share = 0.1
    batch_norm_affine: bool = True
    bias: bool = True
    latent_norm: bool = False

    def _check_together(self) -> None:
        if self.kernel_size % 2 == 0:
            raise ParameterError(f"`kernel_size` must be odd so that the image keeps its size, got {self.kernel_size}.")


def default_widths(input_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the layer widths for an input of shape (height, width, channels) or (features,).

    Images get one block for each halving of the longer side down to 4 pixels, between 1 and 5 blocks. The widths continue the two
    patterns of Zhou 2021, Table 2: for grey images they narrow to 4 channels, for others they widen from 32. Vectors get two hidden layers.

    Examples
    --------
    >>> default_widths((32, 32, 3)), default_widths((28, 28, 1)), default_widths((10,))
    ((32, 64, 128), (8, 4), (64, 32))
    """
    if len(input_shape) == 1:
        first = min(256, max(64, 2 ** math.ceil(math.log2(4 * input_shape[0]))))
        return first, max(32, first // 2)
    height, width, channels = input_shape
    n_blocks = min(5, max(1, int(math.log2(max(height, width, 8) / 4))))
    widening = [2**block for block in range(n_blocks)]
    return tuple(4 * factor for factor in reversed(widening)) if channels == 1 else tuple(min(256, 32 * factor) for factor in widening)


def default_latent_dim(input_shape: Sequence[int]) -> int:
    """Return the number of latent dimensions for an input of shape (height, width, channels) or (features,).

    The paper uses 32 for MNIST and 128 for CIFAR-10 (Zhou 2021, Table 2). Vectors get as many as features, between 2 and 64: in a
    direction that the code leaves out, no anomaly could be seen.

    Examples
    --------
    >>> default_latent_dim((28, 28, 1)), default_latent_dim((32, 32, 3)), default_latent_dim((10,))
    (32, 128, 10)
    """
    if len(input_shape) == 1:
        return min(64, max(2, input_shape[0]))
    return 32 if input_shape[2] == 1 else 128
