"""Residual encoder, trained from scratch: for pictures of which the paper's few blocks learn too little."""

from collections.abc import Sequence

from torch import Tensor, nn

from insphere.nets.layers import Linear, batch_norm_2d, make_activation
from insphere.nets.options import Network

RESIDUAL_STAGES: dict[str, tuple[tuple[int, int], ...]] = {
    "small": ((32, 1), (64, 1), (128, 1), (256, 1)),
    "large": ((64, 2), (128, 2), (256, 2), (512, 2)),
}
"""Channels and blocks of each stage, by the size of the network; each stage after the first halves height and width."""

_FEWEST_ROWS = 4  # a stage halves the picture only where at least as many rows and columns are left


class ResidualEncoder(nn.Module):
    """Stem of 3 × 3 at full size, four stages of residual blocks, the mean over places, then one dense layer per head.

    Parameters
    ----------
    input_shape : (int, int, int)
        Height, width, channels.
    head_dims : sequence of int
        Outputs of each dense head.
    network : Network
        Architecture, of size "small" or "large"; its `widths` are the decoder's.

    Source: He 2016, with the stem that pictures of 32 pixels are given (sec. 4.2). Deviation: the activation is a parameter, and a stage
    does not halve pictures that would have fewer than four rows or columns then.

    Examples
    --------
    >>> import torch
    >>> encoder = ResidualEncoder((32, 32, 3), [3], Network(size="small"))
    >>> [tuple(head.shape) for head in encoder(torch.zeros(2, 3, 32, 32))]
    [(2, 3)]
    """

    def __init__(self, input_shape: Sequence[int], head_dims: Sequence[int], network: Network) -> None:
        super().__init__()
        height, width, n_inputs = input_shape
        stages = RESIDUAL_STAGES[network.size]
        layers: list[nn.Module] = [
            nn.Conv2d(n_inputs, stages[0][0], 3, padding=1, bias=False),
            batch_norm_2d(stages[0][0], network),
            make_activation(network),
        ]
        n_inputs = stages[0][0]
        for number, (n_channels, n_blocks) in enumerate(stages):
            halve = number > 0 and min(height, width) >= 2 * _FEWEST_ROWS
            for block in range(n_blocks):
                layers.append(_Block(n_inputs, n_channels, 2 if halve and block == 0 else 1, network))
                n_inputs = n_channels
            if halve:
                height, width = -(-height // 2), -(-width // 2)
        self.blocks = nn.Sequential(*layers)
        self.heads = nn.ModuleList(Linear(n_inputs, dim, bias=network.bias) for dim in head_dims)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map images (n, channels, height, width) to one tensor (n, dim) per head."""
        features = self.blocks(x).mean(dim=(2, 3))
        return [head(features) for head in self.heads]


class _Block(nn.Module):
    """Two convolutions of 3 × 3 and the way past them."""

    def __init__(self, n_inputs: int, n_outputs: int, stride: int, network: Network) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(n_inputs, n_outputs, 3, stride, padding=1, bias=False),
            batch_norm_2d(n_outputs, network),
            make_activation(network),
            nn.Conv2d(n_outputs, n_outputs, 3, padding=1, bias=False),
            batch_norm_2d(n_outputs, network),
        )
        self.past: nn.Module = nn.Identity()
        if stride > 1 or n_inputs != n_outputs:
            self.past = nn.Sequential(nn.Conv2d(n_inputs, n_outputs, 1, stride, bias=False), batch_norm_2d(n_outputs, network))
        self.activation = make_activation(network)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels in, height, width) to (n, channels out, ⌈height / stride⌉, ⌈width / stride⌉)."""
        y: Tensor = self.activation(self.inner(x) + self.past(x))
        return y
