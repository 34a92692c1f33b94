from typing import get_args

import numpy as np
import pytest
import torch

import contract
from insphere.detectors.cae import CAE, CAEObjective
from insphere.detectors.cae_svdd import DeepSVDDCAE, DeepSVDDCAEObjective
from insphere.errors import CollapseError
from insphere.nets.build import initialise
from insphere.nets.options import Network
from insphere.training.sphere_term import Center, SphereReading

VECTORS = contract.blobs()
X = torch.rand(6, 4, generator=torch.Generator().manual_seed(1))


def squared_errors(objective):
    made = objective.decoder(objective.encoder(X)).tolist()
    return [sum((a - b) ** 2 for a, b in zip(row, out, strict=True)) for row, out in zip(X.tolist(), made, strict=True)]


def test_the_loss_of_the_autoencoder_is_the_mean_squared_error_of_a_row():
    objective = CAEObjective((4,), 2, Network(widths=(8,)))
    initialise(objective, 0)
    assert objective(X, torch.Generator())["loss"].item() == pytest.approx(np.mean(squared_errors(objective)), rel=1e-5)
    objective.eval()
    assert objective.score(X).tolist() == pytest.approx(squared_errors(objective), rel=1e-5)


@pytest.mark.parametrize("norm", ["plain", "squared"])
def test_the_sphere_is_added_to_alpha_times_the_error(norm):
    objective = DeepSVDDCAEObjective((4,), 2, Network(widths=(8,)), alpha=0.3, reading=SphereReading(norm=norm))
    initialise(objective, 0)
    terms = objective(X, torch.Generator())
    codes = objective.encoder(X).detach().numpy()
    distances = np.linalg.norm(codes - codes.mean(axis=0), axis=1) ** (2 if norm == "squared" else 1)
    assert terms["reconstruction"].item() == pytest.approx(np.mean(squared_errors(objective)), rel=1e-5)
    assert terms["loss"].item() == pytest.approx(0.3 * np.mean(squared_errors(objective)) + distances.mean(), rel=1e-5)


@pytest.mark.parametrize("final_center", ["training-mean", "last"])
@pytest.mark.parametrize("center", get_args(Center))
def test_every_centre_trains_and_scores(center, final_center):
    detector = DeepSVDDCAE(reading={"center": center, "final_center": final_center}, geometry="euclidean", epochs=2, random_state=0)
    fitted = contract.fit_quietly(detector, VECTORS)
    assert np.isfinite(fitted.anomaly_score(VECTORS)).all()
    own = final_center == "last" or center in ("learned", "moving-average")
    expected = fitted.objective_.sphere.center.detach().double().numpy() if own else None
    assert own == (fitted.objective_.final_center() is not None)
    if own:
        np.testing.assert_array_equal(fitted.sphere_.center, expected)


def test_without_reconstruction_the_sphere_collapses_and_scoring_is_refused():
    harsh = {"lr": 0.02, "weight_decay": 0.1}
    collapsed = contract.fit_quietly(
        DeepSVDDCAE(alpha=1e-12, reading={"norm": "squared"}, epochs=150, random_state=0, training=harsh), VECTORS
    )
    with pytest.raises(CollapseError, match="cannot score"):
        collapsed.anomaly_score(VECTORS)
    assert not contract.fit_quietly(DeepSVDDCAE(epochs=150, random_state=0, training=harsh), VECTORS).health_.collapsed


def test_a_reconstruction_error_in_the_units_of_the_preprocessed_rows():
    fitted = contract.fit_quietly(CAE(epochs=2, random_state=0), contract.pictures())
    inputs = fitted._map(lambda x: x, contract.pictures()).astype(float)
    made = fitted._map(fitted.objective_.reconstruct, contract.pictures()).astype(float)
    np.testing.assert_allclose(fitted.anomaly_score(contract.pictures()), ((inputs - made) ** 2).sum(axis=(1, 2, 3)), rtol=1e-4)
