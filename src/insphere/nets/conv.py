"""Convolutional encoder and decoder for images of any height, width and number of channels."""

from collections.abc import Sequence

from torch import Tensor, nn

from insphere.nets.options import Network


class ConvEncoder(nn.Module):
    """Convolution blocks, then one dense layer per head.

    Each block is convolution (same padding), batch norm, leaky ReLU and 2×2 max-pooling that rounds up, so odd and tiny sizes work.

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
                _batch_norm_2d(n_filters, network),
                nn.LeakyReLU(network.leaky_slope),
                nn.MaxPool2d(2, ceil_mode=True),
            ]
            height, width, channels = -(-height // 2), -(-width // 2), n_filters
        self.blocks = nn.Sequential(*blocks)
        self.heads = nn.ModuleList(nn.Linear(channels * height * width, dim, bias=network.bias) for dim in head_dims)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (n, channels, height, width) to one tensor (n, dim) per head."""
        features = self.blocks(x).flatten(1)
        return [head(features) for head in self.heads]


class ConvDecoder(nn.Module):
    """Mirror of `ConvEncoder`: a dense layer, then blocks of convolution, batch norm, leaky ReLU and upsampling, then a last convolution.

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
        self.dense = nn.Linear(latent_dim, widths[-1] * sizes[-1][0] * sizes[-1][1])
        blocks: list[nn.Module] = []
        n_inputs = widths[-1]
        for n_filters, size in zip(widths[::-1], sizes[-2::-1], strict=True):
            blocks += [
                nn.Conv2d(n_inputs, n_filters, network.kernel_size, padding=network.kernel_size // 2),
                _batch_norm_2d(n_filters, network),
                nn.LeakyReLU(network.leaky_slope),
                nn.Upsample(size=size, mode="nearest"),
            ]
            n_inputs = n_filters
        blocks.append(nn.Conv2d(n_inputs, channels, network.kernel_size, padding=network.kernel_size // 2))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, z: Tensor) -> Tensor:
        """Map codes (n, latent_dim) to images (n, channels, height, width), unbounded."""
        start = self.dense(z).unflatten(1, self.start_shape)
        # Channels last, written so that `torch.vmap` can follow, which knows no memory formats.
        output: Tensor = self.blocks(start.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2))
        return output


def _batch_norm_2d(n_channels: int, network: Network) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(
        n_channels, eps=network.batch_norm_epsilon, momentum=network.batch_norm_momentum, affine=network.batch_norm_affine
    )
