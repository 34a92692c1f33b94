import math

import numpy as np
import pytest
import torch

import contract
import naive
from insphere.detectors.dasvdd import DASVDD, DASVDDObjective
from insphere.nets.build import initialise
from insphere.nets.options import Network

VECTORS = contract.blobs()
X = torch.rand(24, 4, generator=torch.Generator().manual_seed(1))


def made(**parameters: float | None) -> DASVDDObjective:
    known = {"gamma": 0.7, "train_share": 0.6, "center_momentum": 0.8} | parameters
    objective = DASVDDObjective((4,), 3, Network(widths=(6,)), **known)
    initialise(objective, 0)
    return objective


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("train_share", [0.01, 0.6, 0.99])
def test_the_loss_and_the_centre_are_what_the_formula_says(train_share, momentum):
    objective = made(train_share=train_share, center_momentum=momentum)
    with torch.no_grad():
        objective.begin(X)
    center, code = objective.center.tolist(), objective.code(X)
    assert center == pytest.approx(code.mean(dim=0).tolist(), abs=1e-6)
    draws = torch.randn(24, generator=torch.Generator().manual_seed(5)).tolist()
    trains = [0.5 * (1 + math.erf(draw / math.sqrt(2))) < train_share for draw in draws]
    expected, moved = naive.dasvdd_batch(
        X.tolist(), objective.decode(code).tolist(), code.tolist(), trains, center, gamma=0.7, momentum=momentum
    )
    terms = objective(X, torch.Generator().manual_seed(5))
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert terms["loss"].item() == pytest.approx((terms["reconstruction"] + 0.7 * terms["distance"]).item(), rel=1e-6)
    assert objective.center.tolist() == pytest.approx(moved, rel=1e-4, abs=1e-6)


def test_rows_that_move_the_centre_move_no_weights():
    objective = made()
    objective.eval()  # so that no row reaches another through a batch norm, as train() below does for the objective alone
    objective.training = True
    x = X.clone().requires_grad_(True)
    objective(x, torch.Generator().manual_seed(5))["loss"].backward()
    draws = torch.randn(24, generator=torch.Generator().manual_seed(5))
    assert x.grad is not None
    assert ((x.grad.abs().sum(dim=1) > 0) == (torch.special.ndtr(draws) < 0.6)).all()


def test_gamma_makes_both_terms_equal_before_training_on_average():
    objective = made(gamma=None)
    with torch.no_grad():
        objective.begin(X)
        ratios = []
        for seed in range(200):
            other = made()
            initialise(other, seed)
            code = other.code(X)
            ratios.append(float((X - other.decode(code)).square().sum(dim=1).mean() / code.square().sum(dim=1).mean()))
    assert float(objective.gamma) == pytest.approx(np.mean(ratios), rel=5 * np.std(ratios) / np.mean(ratios) / math.sqrt(10))
    given = made(gamma=3.0)
    with torch.no_grad():
        given.begin(X)
    assert float(given.gamma) == 3.0


def test_finding_gamma_leaves_the_network_and_the_global_state_as_they_are():
    objective, other, before = made(gamma=None), made(), torch.get_rng_state()
    with torch.no_grad():
        objective._ratio_before_training(X)
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in other.state_dict().items():
        if name != "gamma":
            assert torch.equal(objective.state_dict()[name], value), name


def test_a_row_is_scored_by_its_error_and_its_distance():
    fitted = contract.fit_quietly(DASVDD(gamma=0.5, epochs=3, random_state=0), VECTORS)
    inputs, codes = fitted._map(lambda x: x, VECTORS).astype(float), fitted.codes(VECTORS)
    outputs = fitted._map(fitted.objective_.reconstruct, VECTORS).astype(float)
    center = fitted.objective_.center.double().numpy()
    expected = ((inputs - outputs) ** 2).sum(axis=1) + 0.5 * ((codes - center) ** 2).sum(axis=1)
    np.testing.assert_allclose(fitted.anomaly_score(VECTORS), expected, rtol=1e-4)


def test_outside_training_all_rows_count_and_the_centre_stays():
    objective = made().eval()
    terms = objective(X, torch.Generator())
    assert terms["loss"].item() == pytest.approx(objective.score(X).mean().item(), rel=1e-5)
    assert not objective.center.any()
