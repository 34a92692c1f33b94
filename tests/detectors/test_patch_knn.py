"""The control of the photo detector: the contract, and the distance to the nearest patch that is remembered."""

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import contract
from insphere.detectors.patch_knn import PatchKNN
from insphere.errors import ModelFileError
from insphere.scores.patches import PatchMemory


def test_the_contract(tmp_path: Path) -> None:
    detector, X = PatchKNN(random_state=0, n_references=200), contract.pictures(24, (48, 32, 1))
    contract.check_scores(detector, X)
    contract.check_each_row_alone(detector, X)
    contract.check_same_seed_same_scores(detector, X)
    contract.check_round_trip(detector, X, tmp_path)
    marked = contract.pictures(10, (48, 32, 1), seed=1)
    marked[:, 10:20, 5:15] = 255
    contract.check_anomalies_score_higher(detector, X, marked)


def test_the_distance_is_that_to_the_nearest_reference() -> None:
    places = np.random.default_rng(0).normal(size=(12, 4, 5, 6)).astype(np.float32)
    memory = PatchMemory.fit(places, 30, np.random.default_rng(0))
    new = np.random.default_rng(1).normal(size=(3, 4, 5, 6)).astype(np.float32)
    expected = cdist(new.reshape(-1, 6) / memory.scale, memory.references).min(axis=1).reshape(3, 4, 5)
    np.testing.assert_allclose(memory.distance(new), expected, rtol=1e-3)
    np.testing.assert_array_equal(memory.distance(new[1:2])[0], memory.distance(new)[1])


def test_references_cover_what_is_normal_evenly() -> None:
    crowd = np.random.default_rng(0).normal(0, 0.01, size=(20, 5, 5, 2)).astype(np.float32)
    crowd[0, 0, 0] = 9  # alone far away
    memory = PatchMemory.fit(crowd, 3, np.random.default_rng(0))
    assert memory.distance(crowd[:1])[0, 0, 0] < 0.05 and len(memory.references) == 3


def test_arrays_that_do_not_fit_are_refused() -> None:
    memory = PatchMemory.fit(np.random.default_rng(0).normal(size=(4, 3, 3, 5)).astype(np.float32), 6, np.random.default_rng(0))
    with pytest.raises(ModelFileError, match="does not fit"):
        PatchMemory.restore(memory.arrays(), 4)


def test_no_picture_is_scored_by_its_own_patches_at_the_fit() -> None:
    X = contract.pictures(16, (24, 24, 1))
    detector = contract.fit_quietly(PatchKNN(random_state=0, n_references=100_000, calibration={"method": "split"}), X)
    learned = X[detector.training_index_]
    assert detector.anomaly_score(learned).max() < 0.05 * detector.training_scores_.min()  # all of their patches are remembered
