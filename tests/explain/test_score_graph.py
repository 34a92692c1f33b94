"""The differentiable score equals the score, and its gradient is the gradient."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from insphere.detectors.base import AbstractDetector
from insphere.explain.score_graph import latent_contributions, network_input, score_function
from insphere.scores.graph import SphereGraph
from insphere.scores.sphere import EuclideanSphere, LocalSphere, MahalanobisSphere, fit_several_spheres, fit_sphere

CODES = np.random.default_rng(0).normal(size=(60, 4)) @ np.diag([3.0, 1.0, 0.1, 1.0])
NEW = np.random.default_rng(1).normal(size=(20, 4)) * 3
GEOMETRIES = ("euclidean", "mahalanobis", "local", "angular", "several euclidean", "several mahalanobis")


def sphere(geometry: str) -> Any:
    if geometry.startswith("several "):
        return fit_several_spheres(geometry.removeprefix("several "), CODES, CODES[:3], keep=False)
    return fit_sphere(geometry, CODES, None, n_neighbors=5, rng=np.random.default_rng(0))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_differentiable_distance_is_the_distance(geometry: str) -> None:
    made = sphere(geometry)
    np.testing.assert_allclose(SphereGraph(made)(torch.from_numpy(NEW)).numpy(), made.distance(NEW), rtol=1e-9)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_its_gradient_is_that_of_finite_differences(geometry: str) -> None:
    made = sphere(geometry)
    codes = torch.from_numpy(NEW[:4]).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda z: SphereGraph(made)(z), (codes,))


def test_a_code_in_the_centre_has_a_finite_gradient() -> None:
    code = torch.zeros((1, 4), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(SphereGraph(EuclideanSphere(np.zeros(4)))(code).sum(), code)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_latent_contributions_sum_to_the_distance(geometry: str) -> None:
    made = sphere(geometry)
    contributions = latent_contributions(made, NEW)
    assert (contributions >= 0).all()
    np.testing.assert_allclose(contributions.sum(axis=1), made.distance(NEW), rtol=1e-9)


def test_latent_contributions_name_the_dimension_that_is_off() -> None:
    code = np.zeros((1, 3))
    code[0, 1] = 2.0
    for made in (MahalanobisSphere(np.zeros(3), np.eye(3)), LocalSphere(np.zeros(3), np.eye(3), np.zeros((6, 3)), 5)):
        np.testing.assert_allclose(latent_contributions(made, code), [[0.0, 2.0, 0.0]], atol=1e-9)


@pytest.mark.parametrize("name", ["euclidean", "mahalanobis", "local", "several", "cae", "deep-svdd", "oc-nn", "vae"])
def test_the_score_function_gives_the_detector_s_scores(name: str, detectors: dict[str, AbstractDetector], marked: NDArray[Any]) -> None:
    detector: Any = detectors[name]
    with torch.no_grad():
        scores = score_function(detector)(network_input(detector, marked)).numpy()
    np.testing.assert_allclose(scores, detector.anomaly_score(marked), rtol=1e-4, atol=1e-5)
