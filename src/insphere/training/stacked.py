"""Several objectives of one architecture as one: one operation computes the same layer of all."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from insphere.training.noise import SeparateGenerators
from insphere.training.objective import AbstractObjective

STACKED_PRECISION = "32-true"
"""The precision, in Lightning Fabric's terms, that a stack trains in: PyTorch's autocast does not reach into `torch.vmap`."""


class StackedObjective(nn.Module):
    """Objectives that differ in the values of their tensors only, with every parameter and buffer stacked along a new first dimension.

    The tensors of the objectives become views of the stacked ones, so that what is done to one objective alone (a look at its
    validation loss, an update between epochs) and what is done to all at once work on the same numbers; `release` parts them again.

    Parameters
    ----------
    objectives : sequence of AbstractObjective
        Each with `AbstractObjective.stackable`, of one class and one architecture, on one device.

    Notes
    -----
    `torch.vmap` turns the layers of the models into batched matrix products and grouped convolutions. The sum of the models' losses has
    for gradient the stacked gradients of each, as no model's loss depends on another's tensors.

    Examples
    --------
    >>> from insphere.detectors.cae import CAEObjective
    >>> from insphere.nets.options import Network
    >>> stacked = StackedObjective([CAEObjective((6,), 2, Network(widths=(8,))) for _ in range(3)])
    >>> stacked(torch.zeros(3, 4, 6), [torch.Generator()] * 3)["loss"].shape
    torch.Size([3])
    """

    def __init__(self, objectives: Sequence[AbstractObjective]) -> None:
        super().__init__()
        self._objectives = tuple(objectives)  # a tuple: their tensors must not be registered a second time
        first = objectives[0]
        self._names = [name for name, _ in first.named_parameters()]
        self._stacked_parameters = nn.ParameterList(
            nn.Parameter(torch.stack([tensor.data for tensor in tensors]), requires_grad=tensors[0].requires_grad)
            for tensors in zip(*(objective.parameters() for objective in objectives), strict=True)
        )
        self._stacked_buffers = {
            name: torch.stack([tensor.data for tensor in tensors])
            for (name, _), *tensors in zip(first.named_buffers(), *(objective.buffers() for objective in objectives), strict=True)
        }
        for model, objective in enumerate(objectives):
            _exchange(objective.parameters(), (stacked.data[model] for stacked in self._stacked_parameters))
            _exchange(objective.buffers(), (stacked[model] for stacked in self._stacked_buffers.values()))

    def forward(self, x: Tensor, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
        """Return the loss terms of a batch of each model, each of shape (n_models,).

        Parameters
        ----------
        x : Tensor, float32, shape (n_models, n, …)
            Preprocessed rows of each model.
        generators : sequence of torch.Generator
            Source of each model's noise.
        """

        def terms_of(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, model: Tensor) -> dict[str, Tensor]:
            noise = SeparateGenerators(generators, model)
            terms: dict[str, Tensor] = torch.func.functional_call(self._objectives[0], (parameters, buffers), (x, noise))
            return terms

        parameters = dict(zip(self._names, self._stacked_parameters, strict=True))
        models = torch.arange(len(self._objectives), device=x.device)
        terms: dict[str, Tensor] = torch.vmap(terms_of, randomness="same")(parameters, self._stacked_buffers, x, models)
        return terms

    def release(self) -> None:
        """Give each objective tensors of its own again; the stack is of no use after that."""
        for objective in self._objectives:
            for tensor in (*objective.parameters(), *objective.buffers()):
                tensor.data = tensor.data.clone()


def clip_gradients_apart(parameters: Iterable[Tensor], max_norm: float) -> None:
    """Scale the gradients of stacked parameters so that the norm of no model's exceeds `max_norm`.

    Examples
    --------
    >>> stacked = nn.Parameter(torch.zeros(2, 2))
    >>> stacked.grad = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    >>> clip_gradients_apart([stacked], 1.0)
    >>> stacked.grad
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    squares = torch.stack([gradient.reshape(len(gradient), -1).square().sum(dim=1) for gradient in gradients])
    # The constant is that of torch.nn.utils.clip_grad_norm_, which clips where one model is trained.
    factors = (max_norm / (squares.sum(dim=0).sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))


def _exchange(tensors: Iterable[Tensor], values: Iterable[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.data = value
