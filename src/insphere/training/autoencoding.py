"""What objectives with one code per row share: an encoder, a start from an earlier stage's encoder, a decoder."""

from collections.abc import Sequence

from torch import Tensor

from insphere.nets.build import PointEncoder, build_decoder
from insphere.nets.options import Network
from insphere.training.objective import AbstractObjective


def squared_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Return the squared error of each row, summed over pixels or features, shape (n,).

    Examples
    --------
    >>> import torch
    >>> squared_error(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
    tensor([25.])
    """
    return (x - reconstruction).square().flatten(1).sum(dim=1)


class AbstractEncodingObjective(AbstractObjective):
    """An objective whose encoder maps each row to one code; the encoder may come from an earlier stage."""

    def __init__(self, input_shape: Sequence[int], latent_dim: int, network: Network) -> None:
        super().__init__()
        self.encoder = PointEncoder(input_shape, latent_dim, network)

    def code(self, x: Tensor) -> Tensor:
        """Return the encoder's output, shape (n, latent_dim)."""
        code: Tensor = self.encoder(x)
        return code

    def start_from(self, earlier: AbstractObjective) -> None:
        """Take over the earlier stage's encoder, batch statistics included."""
        self.encoder.load_state_dict(earlier.get_submodule("encoder").state_dict())


class AbstractAutoencodingObjective(AbstractEncodingObjective):
    """An encoding objective with a decoder beside it."""

    def __init__(self, input_shape: Sequence[int], latent_dim: int, network: Network) -> None:
        super().__init__(input_shape, latent_dim, network)
        self.decoder = build_decoder(input_shape, latent_dim, network)

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return what the decoder makes of the codes, in the shape of `x`."""
        return self.decode(self.code(x))

    def decode(self, codes: Tensor) -> Tensor:
        """Return the reconstruction from codes (n, latent_dim), float32."""
        output: Tensor = self.decoder(codes)
        return output.float()
