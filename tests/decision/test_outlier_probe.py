"""The comparison with nearest neighbours: what it measures, when it warns, and that detectors make it on rows that they have not seen."""

from pathlib import Path

import numpy as np
import pytest

import contract
from insphere.decision.outlier_probe import FAR_BELOW, FINDING, LEAST_ROWS, OutlierProbe, check_outliers, probe_outliers
from insphere.detectors.classical import KNN
from insphere.detectors.vae_svdd import DeepSVDDVAE
from insphere.errors import DataError, DataNotice


def far(X: np.ndarray) -> np.ndarray:
    return np.abs(X).reshape(len(X), -1).max(axis=1)


def blind(X: np.ndarray) -> np.ndarray:
    return np.zeros(len(X))


class TestProbe:
    def test_the_blind_one_is_at_chance_and_the_same_seed_says_the_same(self) -> None:
        rows = contract.blobs(100)
        probe = probe_outliers(rows, blind, far, np.random.default_rng(0))
        assert probe.own == 0.5 and probe.neighbours > 0.6 and probe.n == 100
        assert probe_outliers(rows, blind, far, np.random.default_rng(0)) == probe
        turned = probe_outliers(rows, far, blind, np.random.default_rng(0))
        assert (turned.own, turned.neighbours) == (probe.neighbours, probe.own)  # the same outliers for both

    def test_of_pictures(self) -> None:
        assert probe_outliers(contract.pictures(), far, far, np.random.default_rng(0)).n == 60

    def test_a_single_row_is_refused(self) -> None:
        with pytest.raises(DataError, match="at least two"):
            probe_outliers(contract.blobs(1), far, far, np.random.default_rng(0))


class TestCheck:
    @pytest.mark.parametrize(("behind", "level"), [(-0.2, "ok"), (FAR_BELOW - 0.01, "ok"), (FAR_BELOW + 0.01, "warning")])
    def test_the_line(self, behind: float, level: str) -> None:
        finding = check_outliers(OutlierProbe(0.7, 0.7 + behind, 80))
        assert (finding.name, finding.level) == (FINDING, level) and finding.value == pytest.approx(behind)
        assert "80 held-out rows" in finding.text and "70.0%" in finding.text
        assert ("detector knn" in finding.text) == (level == "warning")


def finding_of(detector: DeepSVDDVAE) -> list[tuple[str, float]]:
    return [(finding.level, finding.value) for finding in detector.health_.findings if finding.name == FINDING]


class TestOfDetectors:
    X = contract.blobs(400)

    def test_a_sound_fit_and_a_narrow_one(self) -> None:
        sound = contract.fitted(DeepSVDDVAE(epochs=20, random_state=0), self.X)
        narrow = contract.fitted(DeepSVDDVAE(epochs=20, latent_dim=1, geometry="euclidean", random_state=0), self.X)
        (level, behind), (narrow_level, narrow_behind) = *finding_of(sound), *finding_of(narrow)
        assert level == "ok" and narrow_level == "warning" and behind < FAR_BELOW < narrow_behind

    def test_it_does_not_change_what_is_learned_or_decided(self, monkeypatch: pytest.MonkeyPatch) -> None:
        detector = DeepSVDDVAE(epochs=2, random_state=0)
        compared = contract.fit_quietly(detector, self.X)
        scores, threshold = compared.anomaly_score(self.X), compared.threshold_
        monkeypatch.setattr(DeepSVDDVAE, "_comparison", lambda *_: [])
        plain = contract.fit_quietly(detector, self.X)
        assert not finding_of(plain) and plain.threshold_ == threshold
        np.testing.assert_array_equal(plain.anomaly_score(self.X), scores)

    def test_too_few_held_out_rows_say_nothing(self) -> None:
        few = contract.fit_quietly(DeepSVDDVAE(epochs=2, random_state=0, calibration={"fraction": (LEAST_ROWS - 1) / 200}), self.X[:200])
        assert few.data_["n_calibration"] == LEAST_ROWS - 1 and not finding_of(few)

    @pytest.mark.parametrize("rows", [contract.blobs(200), contract.pictures(120)], ids=["vectors", "pictures"])
    @pytest.mark.parametrize("trim", [0.0, 0.1])
    def test_rows_in_a_file_are_compared_as_those_in_memory(self, rows: np.ndarray, trim: float, tmp_path: Path) -> None:
        np.save(tmp_path / "rows.npy", rows)
        detector = DeepSVDDVAE(epochs=1, trim=trim, random_state=0)
        in_memory = contract.fit_quietly(detector, rows)
        with pytest.warns(DataNotice, match="are kept in a temporary file"):
            stored = contract.fit_quietly(detector.set_params(training={"memory_limit": 1000}), tmp_path / "rows.npy")
        assert finding_of(stored)[0][0] == finding_of(in_memory)[0][0] and stored.data_["n_trimmed"] == in_memory.data_["n_trimmed"]
        if trim and rows.ndim == 2:  # judged by the rows themselves; a fit of pictures in windows takes another path
            assert stored.health_.suspects[: stored.data_["n_trimmed"]] == in_memory.health_.suspects[: in_memory.data_["n_trimmed"]]

    def test_huge_values_and_scores_that_are_not_finite_end_no_fit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        X = self.X.copy()
        X[::40, 2] = 1e200
        assert len(finding_of(contract.fit_quietly(DeepSVDDVAE(epochs=2, random_state=0), X))) == 1
        monkeypatch.setattr(KNN, "_score", lambda _, rows: np.full(len(rows), np.nan))
        assert not finding_of(contract.fit_quietly(DeepSVDDVAE(epochs=2, random_state=0), X))

    def test_rows_calibrated_by_folds_are_no_unseen_ones(self) -> None:
        assert not finding_of(contract.fit_quietly(DeepSVDDVAE(epochs=1, random_state=0, calibration={"method": "cross"}), self.X[:100]))
