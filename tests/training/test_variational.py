import math
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence

from insphere.training.sphere_term import SphereReading, SphereTerm
from insphere.training.variational import (
    BernoulliLikelihood,
    GaussianLikelihood,
    Likelihood,
    kl_to_standard_normal,
    make_likelihood,
    sample_code,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**31))
def test_kl_equals_that_of_torch_distributions(n_rows: int, n_dims: int, seed: int) -> None:
    mu, logvar = 3 * noise(n_rows, n_dims, seed=seed), 3 * noise(n_rows, n_dims, seed=seed + 1)
    standard = Normal(torch.zeros((), dtype=torch.float64), 1.0)
    expected = kl_divergence(Normal(mu, (logvar / 2).exp()), standard).sum(dim=1)
    torch.testing.assert_close(kl_to_standard_normal(mu, logvar), expected)


def test_kl_is_zero_for_the_prior_and_positive_elsewhere() -> None:
    assert kl_to_standard_normal(torch.zeros(2, 3), torch.zeros(2, 3)).tolist() == [0, 0]
    assert (kl_to_standard_normal(noise(50, 3), noise(50, 3, seed=1)) > 0).all()


@pytest.mark.parametrize("shape", [(5, 4), (5, 3, 2, 2)], ids=str)
class TestLikelihoods:
    def test_bernoulli_equals_torch_distributions(self, shape: tuple[int, ...]) -> None:
        logits = 4 * noise(*shape)
        x = (noise(*shape, seed=1) > 0).double()
        expected = Bernoulli(logits=logits).log_prob(x).flatten(1).sum(dim=1)
        torch.testing.assert_close(BernoulliLikelihood()(logits, x), expected)
        torch.testing.assert_close(BernoulliLikelihood().mean(logits), Bernoulli(logits=logits).mean)

    def test_gaussian_equals_torch_distributions(self, shape: tuple[int, ...]) -> None:
        output, x = noise(*shape), noise(*shape, seed=1)
        expected = Normal(output, 1.0).log_prob(x).flatten(1).sum(dim=1)
        torch.testing.assert_close(GaussianLikelihood(learned=False)(output, x), expected)
        assert GaussianLikelihood(learned=False).mean(output) is output

    def test_learned_variance_is_the_most_likely_one_of_the_batch(self, shape: tuple[int, ...]) -> None:
        output, x = noise(*shape), noise(*shape, seed=1)
        likelihood = GaussianLikelihood(learned=True).double()
        found = likelihood(output, x)
        scale = (x - output).square().mean().sqrt()
        torch.testing.assert_close(found, Normal(output, scale).log_prob(x).flatten(1).sum(dim=1))
        for other in (0.9 * scale, 1.1 * scale):
            assert found.sum() > Normal(output, other).log_prob(x).sum()

    @pytest.mark.parametrize("name", get_args(Likelihood))
    def test_rows_do_not_share_likelihood_outside_training(self, shape: tuple[int, ...], name: str) -> None:
        likelihood = make_likelihood(name).double().eval()
        output, x = noise(*shape), noise(*shape, seed=1).sigmoid()
        torch.testing.assert_close(likelihood(output[:2], x[:2]), likelihood(output, x)[:2])

    @pytest.mark.parametrize("name", get_args(Likelihood))
    def test_gradient(self, shape: tuple[int, ...], name: str) -> None:
        # In evaluation mode: in training the learned variance is held constant on purpose.
        likelihood = make_likelihood(name).double().eval()
        assert torch.autograd.gradcheck(lambda output: likelihood(output, noise(*shape, seed=1).sigmoid()), noise(*shape).requires_grad_())


def test_gradient_of_kl_and_draws() -> None:
    mu, logvar = noise(4, 3).requires_grad_(), noise(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(kl_to_standard_normal, (mu, logvar))
    assert torch.autograd.gradcheck(lambda mu, logvar: sample_code(mu, logvar, 2, torch.Generator().manual_seed(0)), (mu, logvar))


class TestLearnedVariance:
    def test_it_follows_the_batches_and_stands_still_outside_training(self) -> None:
        likelihood = GaussianLikelihood(learned=True)
        expected, x = 1.0, torch.zeros(3, 2)
        for size in (1.0, 2.0, 3.0):
            likelihood(torch.full((3, 2), size), x)
            expected = 0.9 * expected + 0.1 * size**2
        assert likelihood.variance.item() == pytest.approx(expected)
        likelihood.eval()
        outside = likelihood(torch.full((3, 2), 5.0), x)
        assert likelihood.variance.item() == pytest.approx(expected)
        torch.testing.assert_close(outside, Normal(5.0, math.sqrt(expected)).log_prob(x).sum(dim=1))

    def test_a_perfect_reconstruction_keeps_the_likelihood_finite(self) -> None:
        likelihood = GaussianLikelihood(learned=True)
        found = likelihood(torch.ones(3, 2), torch.ones(3, 2))
        torch.testing.assert_close(found, torch.full((3,), -math.log(2 * math.pi * 1e-6)))

    def test_its_gradient_is_that_of_the_log_of_the_squared_error(self) -> None:
        # Rybkin 2021: with the best variance put in, the loss is n/2 · log(mean squared error), up to a constant.
        x = noise(5, 4, seed=1)
        output, same = noise(5, 4).requires_grad_(), noise(5, 4).requires_grad_()
        GaussianLikelihood(learned=True).double()(output, x).sum().backward()
        (-0.5 * x.numel() * (x - same).square().mean().log()).backward()
        torch.testing.assert_close(output.grad, same.grad)

    def test_it_is_saved_with_the_model(self) -> None:
        assert list(GaussianLikelihood(learned=True).state_dict()) == ["variance"]


def test_draws_have_the_asked_mean_and_spread() -> None:
    mu, logvar = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]])
    draws = sample_code(mu, logvar, 20_000, torch.Generator().manual_seed(0))[:, 0]
    # Five standard errors of the mean and of the standard deviation.
    for found, mean, deviation in zip(draws.T, (1.0, -2.0), (1.0, math.e), strict=True):
        assert abs(found.mean() - mean) < 5 * deviation / math.sqrt(20_000)
        assert abs(found.std() - deviation) < 5 * deviation / math.sqrt(40_000)


def test_a_draw_is_the_mean_plus_sigma_times_the_noise():
    mu, logvar = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]])
    noise = torch.randn((3, 1, 2), generator=torch.Generator().manual_seed(4))
    draws = sample_code(mu, logvar, 3, torch.Generator().manual_seed(4))
    torch.testing.assert_close(draws, mu + torch.tensor([1.0, math.e]) * noise)


def test_draws_come_from_the_generator_only() -> None:
    mu, logvar = torch.zeros(3, 2), torch.zeros(3, 2)
    before = torch.get_rng_state()
    draws = [sample_code(mu, logvar, 2, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0][0], draws[0][1])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", get_args(Likelihood))
def test_every_listed_likelihood_is_made(name: str) -> None:
    made = make_likelihood(name)
    assert isinstance(made, BernoulliLikelihood) == (name == "bernoulli")
    assert getattr(made, "learned", None) == {"bernoulli": None, "gaussian": False, "gaussian-learned": True}[name]


def test_with_the_squared_norm_the_sphere_only_moves_and_rescales_the_prior() -> None:
    # Zhou 2021, eq. 12 with the squared norm and a fixed centre c: α·KL(q ‖ N(0, I)) + E‖z − c‖² is, up to a constant, α·KL(q ‖ N(m, s²I))
    # with s² = α / (α + 2) and m = 2c / (α + 2): that of a plain VAE whose code is (z − m) / s.
    alpha, generator = 0.3, torch.Generator().manual_seed(0)
    term = SphereTerm(5, SphereReading(norm="squared", center="learned"))
    term.center.data = torch.randn(5, generator=generator, dtype=torch.float64)
    means, logvars = torch.randn(2, 7, 5, generator=generator, dtype=torch.float64)
    scale, shift = math.sqrt(alpha / (alpha + 2)), 2 * term.center / (alpha + 2)

    def joint(mu: Tensor, logvar: Tensor) -> Tensor:
        # Two draws on opposite sides of mu have the expected squared distance exactly.
        sigma = (0.5 * logvar).exp()
        return alpha * kl_to_standard_normal(mu, logvar).mean() + term(torch.stack([mu - sigma, mu + sigma]))

    def plain(mu: Tensor, logvar: Tensor) -> Tensor:
        return alpha * kl_to_standard_normal((mu - shift) / scale, logvar - 2 * math.log(scale)).mean()

    differences = [loss(means[:3], logvars[:3]) - loss(means[3:], logvars[3:]) for loss in (joint, plain)]
    torch.testing.assert_close(*differences)
