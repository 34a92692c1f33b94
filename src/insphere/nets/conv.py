"""Convolutional encoder and decoder for images of any height, width and number of channels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from insphere.nets.layers import Linear, batch_norm_2d, make_activation
from insphere.nets.options import Network


class ConvEncoder(nn.Module):
    """Convolution blocks, then one dense layer per head.

    Each block is convolution (same padding), batch norm, activation and 2×2 max-pooling that rounds up, so odd and tiny sizes work. The
    pooling is done before the activation: a rising function leaves the largest of four the largest, and has a quarter of the values to do.

    Parameters
    ----------
    input_shape : (int, int, int)
        Height, width, channels.
    head_dims : sequence of int
        Outputs of each dense head; a variational encoder has two of the latent size (mean and log-variance).
    network : Network
        Architecture; its `widths` must be given.

    Source: Zhou 2021, Table 2. Deviation: widths, slope and kernel are parameters.

    Examples
    --------
    >>> import torch
    >>> encoder = ConvEncoder((9, 7, 1), [3], Network(widths=(4, 2)))
    >>> [tuple(head.shape) for head in encoder(torch.zeros(5, 1, 9, 7))]
    [(5, 3)]
    """

    def __init__(self, input_shape: Sequence[int], head_dims: Sequence[int], network: Network) -> None:
        super().__init__()
        height, width, channels = input_shape
        blocks: list[nn.Module] = []
        for n_filters in network.widths or ():
            blocks += [
                nn.Conv2d(channels, n_filters, network.kernel_size, padding=network.kernel_size // 2, bias=network.bias),
                batch_norm_2d(n_filters, network),
                nn.MaxPool2d(2, ceil_mode=True),
                make_activation(network),
            ]
            height, width, channels = -(-height // 2), -(-width // 2), n_filters
        self.blocks = nn.Sequential(*blocks)
        self.heads = nn.ModuleList(Linear(channels * height * width, dim, bias=network.bias) for dim in head_dims)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (n, channels, height, width) to one tensor (n, dim) per head."""
        features = self.blocks(x).flatten(1)
        return [head(features) for head in self.heads]


class ConvDecoder(nn.Module):
    """Mirror of `ConvEncoder`: a dense layer, then blocks of convolution, batch norm, activation and upsampling, then a last convolution.

    Each upsampling is done together with the convolution that follows it.

    Source: Zhou 2021, sec. 4.2 (upsampling in the place of max-pooling). Deviation: none.

    Examples
    --------
    >>> import torch
    >>> decoder = ConvDecoder((9, 7, 1), 3, Network(widths=(4, 2)))
    >>> tuple(decoder(torch.zeros(5, 3)).shape)
    (5, 1, 9, 7)
    """

    def __init__(self, output_shape: Sequence[int], latent_dim: int, network: Network) -> None:
        super().__init__()
        height, width, channels = output_shape
        widths = tuple(network.widths or ())
        sizes = [(height, width)]
        for _ in widths:
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
        self.start_shape = (widths[-1], *sizes[-1])
        self.dense = Linear(latent_dim, widths[-1] * sizes[-1][0] * sizes[-1][1])
        blocks: list[nn.Module] = []
        n_inputs = widths[-1]
        size: tuple[int, int] | None = None  # what the block before is to be upsampled to
        for n_filters, next_size in zip(widths[::-1], sizes[-2::-1], strict=True):
            blocks += [
                _convolution(n_inputs, n_filters, network.kernel_size, size),
                batch_norm_2d(n_filters, network),
                make_activation(network),
            ]
            n_inputs, size = n_filters, next_size
        blocks.append(_convolution(n_inputs, channels, network.kernel_size, size))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, z: Tensor) -> Tensor:
        """Map codes (n, latent_dim) to images (n, channels, height, width), unbounded."""
        start = self.dense(z).unflatten(1, self.start_shape)
        # Channels last, written so that `torch.vmap` can follow, which knows no memory formats.
        output: Tensor = self.blocks(start.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2))
        return output


class UpsampledConv2d(nn.Conv2d):
    """Nearest-neighbour upsampling followed by a convolution with same padding, computed at the size before the upsampling.

    Twice as high and wide, an image has four phases: its pixels at even or odd rows and columns. In each, a kernel of five taps a side
    meets three source pixels only, some of them twice. So each phase is a convolution of the source with a kernel of three taps, sums of
    the five, and the phases are interleaved: 9 of every 25 multiplications remain, and the values are the same but for rounding.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Channels.
    kernel_size : int
        Side of the kernel on the upsampled image, odd.
    size : (int, int)
        Height and width to upsample to. If it is not twice the input's, upsampling and convolution are done one after the other.

    Source: the interleaving is the periodic shuffling of Shi 2016 (sub-pixel convolution). Deviation: the kernels are not free but sums.

    Examples
    --------
    >>> layer = UpsampledConv2d(3, 2, 5, (8, 6))
    >>> x = torch.randn(1, 3, 4, 3)
    >>> torch.allclose(layer(x), layer.in_two_steps(x), atol=1e-5)
    True
    """

    def __init__(self, n_inputs: int, n_outputs: int, kernel_size: int, size: tuple[int, int]) -> None:
        super().__init__(n_inputs, n_outputs, kernel_size, padding=kernel_size // 2)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, n_inputs, h, w) to (n, n_outputs, *size)."""
        if self.size != (2 * x.shape[-2], 2 * x.shape[-1]):
            return self.in_two_steps(x)
        by_columns = _on_source(self.weight)
        by_both = _on_source(by_columns.transpose(-1, -2)).transpose(-1, -2)  # (rows' phase, columns' phase, output, input, height, width)
        kernels = by_both.permute(2, 0, 1, 3, 4, 5).flatten(0, 2)
        bias = None if self.bias is None else self.bias.repeat_interleave(4)
        return functional.pixel_shuffle(functional.conv2d(x, kernels, bias, padding=kernels.shape[-1] // 2), 2)

    def in_two_steps(self, x: Tensor) -> Tensor:
        """Upsample, then convolve: the plain meaning of the layer, for any size."""
        return super().forward(functional.interpolate(x, size=self.size, mode="nearest"))


def _on_source(kernel: Tensor) -> Tensor:
    """Return what a kernel on an image upsampled along its last dimension is on the source, for even and odd pixels: shape (2, …, taps).

    Pixel 2i + phase meets at tap t the source pixel i + floor((phase + t) / 2), so neighbouring taps share one; which, the phase decides.
    """
    reach = kernel.shape[-1] // 2
    source_reach = -(-reach // 2)
    phases = []
    for phase in range(2):
        left = 2 * source_reach - reach + phase
        padded = functional.pad(kernel, (left, 4 * source_reach + 2 - kernel.shape[-1] - left))
        phases.append(padded.reshape(*kernel.shape[:-1], 2 * source_reach + 1, 2).sum(dim=-1))
    return torch.stack(phases)


def _convolution(n_inputs: int, n_outputs: int, kernel_size: int, size: tuple[int, int] | None) -> nn.Conv2d:
    if size is None:
        return nn.Conv2d(n_inputs, n_outputs, kernel_size, padding=kernel_size // 2)
    return UpsampledConv2d(n_inputs, n_outputs, kernel_size, size)
