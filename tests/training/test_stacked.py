import pytest
import torch
from torch import Tensor, nn

from insphere.detectors.vae_svdd import DeepSVDDVAEObjective, Reading
from insphere.nets.build import initialise
from insphere.nets.options import Network
from insphere.training.noise import SeparateGenerators, standard_normal
from insphere.training.stacked import StackedObjective, clip_gradients_apart

N_MODELS = 3


def objectives(shape: tuple[int, ...] = (6, 5, 1), **reading: object) -> list[DeepSVDDVAEObjective]:
    found = []
    for seed in range(N_MODELS):
        objective = DeepSVDDVAEObjective(shape, 2, Network(widths=(4,), kernel_size=3), alpha=0.5, reading=Reading(**reading))
        initialise(objective, seed)
        found.append(objective.train())
    return found


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(N_MODELS)]


def batches(*shape: int) -> Tensor:
    return torch.rand(N_MODELS, 10, *shape, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize(
    "reading",
    [{}, {"center": "learned", "n_draws": 3}, {"center": "moving-average", "likelihood": "bernoulli", "norm": "squared"}],
    ids=str,
)
@pytest.mark.parametrize("shape", [(5,), (6, 5, 1)], ids=["vectors", "images"])
def test_a_step_equals_that_of_each_objective_alone(shape, reading):
    x = batches(*shape) if len(shape) == 1 else batches(*shape).movedim(-1, 2)
    alone, together = objectives(shape, **reading), objectives(shape, **reading)
    stacked = StackedObjective(together)
    terms = stacked(x, generators())
    terms["loss"].sum().backward()
    gradients = dict(zip(stacked._names, stacked.parameters(), strict=True))
    for model, (objective, generator) in enumerate(zip(alone, generators(), strict=True)):
        own = objective(x[model], generator)
        own["loss"].backward()
        assert own.keys() == terms.keys()
        for name, value in own.items():
            torch.testing.assert_close(terms[name][model], value, rtol=1e-5, atol=1e-5)
        for name, parameter in objective.named_parameters():
            torch.testing.assert_close(gradients[name].grad[model], parameter.grad, rtol=1e-4, atol=1e-4)
        # What a step leaves in the buffers: running statistics, the likelihood's variance, the centre.
        for name, buffer in objective.named_buffers():
            torch.testing.assert_close(together[model].get_buffer(name), buffer, rtol=1e-5, atol=1e-6)


def test_the_objectives_are_views_of_the_stack_until_they_are_released():
    together = objectives()
    before = [{name: tensor.clone() for name, tensor in objective.state_dict().items()} for objective in together]
    stacked = StackedObjective(together)
    for objective, state in zip(together, before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in objective.state_dict().items())
    weight = next(stacked.parameters())
    with torch.no_grad():
        weight[1] += 1
    own = next(together[1].parameters())
    assert torch.equal(own, before[1]["encoder.body.blocks.0.weight"] + 1)
    assert torch.equal(next(together[0].parameters()), before[0]["encoder.body.blocks.0.weight"])
    stacked.release()
    with torch.no_grad():
        weight[1] += 1
    assert torch.equal(own, before[1]["encoder.body.blocks.0.weight"] + 1)
    # A model that is kept must not keep the others in memory.
    assert all(tensor.untyped_storage().nbytes() <= tensor.nbytes for tensor in together[0].state_dict().values())


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_each_models_gradient_is_clipped_as_if_it_were_alone(max_norm):
    random = torch.Generator().manual_seed(0)
    stacked = [nn.Parameter(torch.zeros(N_MODELS, *shape)) for shape in ((4, 3), (), (2,))]
    for parameter in stacked:
        parameter.grad = torch.randn(parameter.shape, generator=random) * torch.tensor([0.01, 1.0, 30.0]).view(
            -1, *[1] * (parameter.ndim - 1)
        )
    expected = []
    for model in range(N_MODELS):
        own = [nn.Parameter(parameter.data[model].clone()) for parameter in stacked]
        for parameter, other in zip(own, stacked, strict=True):
            parameter.grad = other.grad[model].clone()
        nn.utils.clip_grad_norm_(own, max_norm)
        expected.append([parameter.grad for parameter in own])
    stacked.append(nn.Parameter(torch.zeros(N_MODELS)))  # one without a gradient
    clip_gradients_apart(stacked, max_norm)
    for model, gradients in enumerate(expected):
        for parameter, gradient in zip(stacked, gradients, strict=False):
            torch.testing.assert_close(parameter.grad[model], gradient)


def test_each_model_draws_what_it_would_draw_alone():
    draws = torch.vmap(lambda like, model: standard_normal((2, 3), SeparateGenerators(sources, model), like=like), randomness="same")
    sources, like = generators(), torch.zeros(N_MODELS, dtype=torch.float64)
    found = torch.stack([draws(like, torch.arange(N_MODELS)) for _ in range(2)], dim=1)
    for own, generator in zip(found, generators(), strict=True):
        assert torch.equal(own, torch.stack([torch.randn((2, 3), generator=generator, dtype=torch.float64) for _ in range(2)]))
