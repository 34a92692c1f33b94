from typing import get_args

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

import contract
from insphere.detectors.vae import VAE, VAEObjective
from insphere.nets.build import initialise
from insphere.nets.options import Network
from insphere.training.variational import Likelihood, VariationalReading

VECTORS = contract.blobs()


def make_objective(likelihood, scored_by="negative-elbo", n_draws=1):
    reading = VariationalReading(likelihood=likelihood, n_draws=n_draws)
    objective = VAEObjective((4,), 2, Network(widths=(8,)), reading=reading, scored_by=scored_by)
    initialise(objective, 0)
    return objective


def log_prob(objective, output, x):
    if objective.reading_likelihood == "bernoulli":
        return Bernoulli(logits=output).log_prob(x).sum(dim=1)
    return Normal(output, objective.likelihood.variance.sqrt()).log_prob(x).sum(dim=1)


@pytest.mark.parametrize("n_draws", [1, 3])
@pytest.mark.parametrize("likelihood", get_args(Likelihood))
def test_terms_equal_torch_distributions(likelihood, n_draws):
    objective = make_objective(likelihood, n_draws=n_draws).eval()
    objective.reading_likelihood = likelihood
    if likelihood == "gaussian-learned":
        objective.likelihood.variance.fill_(0.3)
    x = (torch.rand(6, 4, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    terms = objective(x, torch.Generator().manual_seed(2))
    mu, logvar = objective.posterior(x)
    posterior = Normal(mu, (0.5 * logvar).exp())
    kl = kl_divergence(posterior, Normal(0.0, 1.0)).sum(dim=1)
    z = mu + posterior.scale * torch.randn((n_draws, 6, 2), generator=torch.Generator().manual_seed(2))
    reconstruction = -torch.stack([log_prob(objective, objective.decoder(draw), x) for draw in z])
    torch.testing.assert_close(terms["kl"], kl.mean())
    torch.testing.assert_close(terms["reconstruction"], reconstruction.mean())
    torch.testing.assert_close(terms["loss"], kl.mean() + reconstruction.mean())
    torch.testing.assert_close(objective.score(x), kl - log_prob(objective, objective.decoder(mu), x))


def test_each_score_is_what_it_is_called():
    rows = {"epochs": 3, "random_state": 0}
    by_error = contract.fit_quietly(VAE("reconstruction", **rows), VECTORS)
    made = by_error._map(by_error.objective_.reconstruct, VECTORS).astype(float)
    np.testing.assert_allclose(by_error.anomaly_score(VECTORS), ((by_error.preprocess_.apply(VECTORS) - made) ** 2).sum(axis=1), rtol=1e-4)
    by_distance = contract.fit_quietly(VAE("distance", geometry="euclidean", **rows), VECTORS)
    distances = np.linalg.norm(by_distance.codes(VECTORS) - by_distance.sphere_.center, axis=1)
    np.testing.assert_allclose(by_distance.anomaly_score(VECTORS), distances)
    # One seed, one objective: only the score differs.
    np.testing.assert_array_equal(by_distance.codes(VECTORS), by_error.codes(VECTORS))


def test_reconstruction_survives_a_posterior_collapse_and_distance_does_not():
    tiny = {"network": {"widths": (1,)}, "reading": {"likelihood": "gaussian"}, "scaling": "unit", "epochs": 150, "random_state": 0}
    by_error = contract.fit_quietly(VAE("reconstruction", **tiny), VECTORS)
    assert by_error.health_.level == "warning" and np.isfinite(by_error.anomaly_score(VECTORS)).all()
    assert contract.fit_quietly(VAE("distance", **tiny), VECTORS).health_.collapsed
