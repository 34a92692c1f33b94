"""Scores without learning: the closed form is that of probabilistic PCA."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

FOLDER = Path(__file__).parents[2] / "papers" / "vae-svdd-2021"


@pytest.fixture(scope="module")
def linear():
    spec = importlib.util.spec_from_file_location("linear", FOLDER / "linear.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_code_is_the_posterior_mean_of_probabilistic_pca(linear):
    random = np.random.default_rng(0)
    train = (random.normal(size=(500, 3)) @ random.normal(size=(3, 6)) * 3 + random.normal(size=(500, 6)) + 5).astype(np.float32)
    test = random.normal(size=(7, 6)).astype(np.float32)
    found = linear.scores(train, test, latent_dim=3)
    # Tipping and Bishop 1999, eqs. 7 and 8: W = U (L - s I)^(1/2), E[z | x] = (W'W + s I)^-1 W' (x - mean).
    pca = PCA(3).fit(train)
    weights = pca.components_.T * np.sqrt(pca.explained_variance_ - pca.noise_variance_)
    codes = (test - pca.mean_) @ weights @ np.linalg.inv(weights.T @ weights + pca.noise_variance_ * np.eye(3))
    np.testing.assert_allclose(found["code"], np.linalg.norm(codes, axis=1), rtol=1e-3)
    np.testing.assert_allclose(found["image"], np.linalg.norm(test - train.mean(axis=0), axis=1), rtol=1e-4)
    left = test - pca.inverse_transform(pca.transform(test))
    np.testing.assert_allclose(found["reconstruction"], np.linalg.norm(left, axis=1), rtol=1e-3)
