"""Anomalies among the training rows: suspected, listed, and left out of a second fit where that is asked for."""

import numpy as np
import pytest

import contract
from insphere.data import open_source
from insphere.data.protocol import one_class_split
from insphere.detectors.cae import CAE
from insphere.detectors.classical import KNN
from insphere.detectors.deep_svdd import DeepSVDD
from insphere.detectors.suspicion import suspicion
from insphere.detectors.vae_svdd import DeepSVDDVAE
from insphere.metrics import auroc


def mixed(n_normal=300, n_anomalies=15, seed=0):
    """Normal vectors with 5 % of others at random places; returns rows and the places."""
    rng = np.random.default_rng(seed)
    X = contract.blobs(n_normal + n_anomalies)
    places = rng.choice(len(X), n_anomalies, replace=False)
    X[places] += 6 * rng.normal(size=(n_anomalies, X.shape[1]))
    return X, places


def mixed_pictures(n_normal=190, n_anomalies=10, seed=0):
    """Pictures of bars with 5 % of noise among them; returns rows and the places of the noise."""
    rng = np.random.default_rng(seed)
    X = contract.pictures(n_normal + n_anomalies)
    places = rng.choice(len(X), n_anomalies, replace=False)
    X[places] = rng.integers(0, 240, size=X[places].shape)
    return X, places


@pytest.mark.parametrize(
    ("detector", "rows"),
    [
        (DeepSVDDVAE(epochs=30, random_state=0), mixed()),
        (DeepSVDDVAE(epochs=10, random_state=0), mixed_pictures()),
        (CAE(epochs=40, random_state=0), mixed_pictures()),
        (DeepSVDD(epochs=10, training={"lr": 1e-3}, random_state=0), mixed_pictures()),
    ],
    ids=["vae-svdd", "vae-svdd-pictures", "cae-pictures", "deep-svdd-pictures"],
)
def test_suspects_are_listed_and_left_out(detector, rows):
    X, places = rows
    plain = contract.fit_quietly(detector, X)
    assert len(plain.health_.suspects) >= 3 and np.isin(plain.health_.suspects, places).mean() > 0.8
    contamination = next(finding for finding in plain.health_.findings if finding.name == "contamination")
    assert contamination.level == "warning" and "trim" in contamination.text
    trimmed = contract.fit_quietly(detector.set_params(trim=0.05), X)
    n_trimmed = trimmed.data_["n_trimmed"]
    left_out = trimmed.health_.suspects[:n_trimmed]
    assert n_trimmed == int(np.ceil(0.05 * (n_trimmed + trimmed.data_["n_train"]))) and len(set(left_out)) == n_trimmed
    assert len(set(left_out) & set(places)) >= 0.7 * n_trimmed
    assert f"{n_trimmed} rows were left out" in next(f.text for f in trimmed.health_.findings if f.name == "contamination")


def test_trimming_keeps_the_held_out_rows():
    X, _ = mixed()
    trimmed, untrimmed = (contract.fit_quietly(CAE(epochs=5, random_state=0, trim=share), X) for share in (0.05, 0.0))
    assert trimmed.data_["n_calibration"] == untrimmed.data_["n_calibration"] == len(trimmed.decision_)


def test_without_suspicion_nothing_is_said():
    fitted = contract.fit_quietly(DeepSVDDVAE(epochs=30, random_state=0), contract.blobs(300))
    assert next(finding.level for finding in fitted.health_.findings if finding.name == "contamination") == "ok"
    assert fitted.data_["n_trimmed"] == 0


def test_a_collapsed_first_fit_is_not_trimmed():
    harsh = {"lr": 0.02, "schedule": "one-cycle", "weight_decay": 1.0}
    detector = DeepSVDD(
        pretrain=False, network={"bias": True}, reading={"center": "zero"}, epochs=150, trim=0.1, training=harsh, random_state=0
    )
    fitted = contract.fit_quietly(detector, contract.pictures())
    assert fitted.health_.collapsed and fitted.data_["n_trimmed"] == 0


@pytest.mark.parametrize("fit_number", [1, 2])
def test_resumed_in_either_fit_equals_the_unbroken_run(fit_number, tmp_path):
    X, _ = mixed_pictures(57, 3)
    detector = DeepSVDD(epochs=2, trim=0.1, random_state=0)
    unbroken = contract.fit_quietly(detector, X)
    expected = unbroken.anomaly_score(X)
    seen = []

    def interrupt(record):
        seen.append(record.epoch)
        if seen.count(3) == fit_number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detector.fit(X, checkpoint=tmp_path / "fit.checkpoint", on_epoch=interrupt)
    resumed = contract.fit_quietly(detector, X, checkpoint=tmp_path / "fit.checkpoint", resume=True)
    np.testing.assert_array_equal(resumed.anomaly_score(X), expected)
    assert resumed.health_.suspects == unbroken.health_.suspects
    assert [path.name for path in tmp_path.iterdir()] == ["fit.checkpoint"]


def test_vectors_that_lie_together_are_left_out_before_the_only_fit():
    X = contract.blobs(320)
    group = np.arange(0, 320, 20)  # 5 %, all alike: each other's neighbours, and as near as any normal row's
    X[group] = X.mean(axis=0) + 2.5 * X.std(axis=0) + 0.01 * np.random.default_rng(0).normal(size=(len(group), X.shape[1]))
    epochs = []
    trimmed = contract.fit_quietly(DeepSVDDVAE(epochs=3, trim=0.1, random_state=0), X, on_epoch=lambda record: epochs.append(record.epoch))
    assert len(epochs) == 3
    left_out = trimmed.health_.suspects[: trimmed.data_["n_trimmed"]]
    assert len(left_out) == int(np.ceil(0.1 * (len(left_out) + trimmed.data_["n_train"])))
    assert not np.isin(group, trimmed.training_index_).any()
    by_distance = contract.fit_quietly(KNN(random_state=0), X)
    farthest = by_distance.training_index_[np.argsort(-by_distance.training_scores_)[: len(left_out)]]
    assert not np.isin(farthest, group).any()  # the five nearest neighbours see nothing of them


def test_the_most_suspicious_vectors_do_not_depend_on_how_many_are_compared_at_once(monkeypatch):
    X = contract.blobs(300)
    X[7] += 30
    expected = suspicion(X, np.random.default_rng(0))
    assert expected.shape == (300,) and expected.argmax() == 7
    monkeypatch.setattr("insphere.data.row_store.chunks.__defaults__", (64,))
    np.testing.assert_array_equal(suspicion(X, np.random.default_rng(0)), expected)


def test_a_rare_kind_that_was_left_out_as_a_whole_is_told():
    rng = np.random.default_rng(0)
    X = np.c_[rng.normal(size=(300, 3)), rng.random(300) < 0.04]
    trimmed = contract.fit_quietly(KNN(trim=0.1, random_state=0, calibration={"method": "split"}), X)
    (finding,) = [finding for finding in trimmed.health_.findings if finding.name == "trimmed kinds"]
    assert finding.level == "warning" and "feature 3 " in finding.text and not X[trimmed.training_index_, 3].any()
    plain = contract.fit_quietly(KNN(trim=0.1, random_state=0), X[:, :3])
    assert "trimmed kinds" not in {finding.name for finding in plain.health_.findings}


def test_a_trimmed_detector_comes_back_from_its_file(tmp_path):
    contract.check_round_trip(CAE(epochs=2, trim=0.1, random_state=0), contract.pictures(), tmp_path)


@pytest.mark.data
@pytest.mark.campaign
def test_five_percent_anomalies_in_a_digit(data_dir):
    # Seed 0: clean 97.4, contaminated 95.9, trimmed 96.4; with the default number of epochs 97.9, 95.3, 96.1.
    split = one_class_split("mnist:8", data_dir=data_dir)
    clean = split.train.load().X
    rng = np.random.default_rng(0)
    others = [open_source(f"mnist:{digit}", split="train", data_dir=data_dir).load().X for digit in range(10) if digit != 8]
    anomalies = rng.permutation(np.concatenate(others))[: round(len(clean) * 0.05 / 0.95)]
    order = rng.permutation(len(clean) + len(anomalies))
    X, is_anomaly = np.concatenate([clean, anomalies])[order], order >= len(clean)
    figures, fits = {}, {}
    for name, rows, trim in (("clean", clean, 0.0), ("contaminated", X, 0.0), ("trimmed", X, 0.1)):
        fits[name] = contract.fit_quietly(DeepSVDDVAE(epochs=25, trim=trim, random_state=0), rows)
        figures[name] = auroc(split.labels, fits[name].anomaly_score(split.test)).value
    levels = {name: next(f.level for f in fitted.health_.findings if f.name == "contamination") for name, fitted in fits.items()}
    suspects = np.array(fits["contaminated"].health_.suspects)
    assert levels["clean"] == "ok" and levels["contaminated"] == "warning"
    assert len(suspects) >= 20 and is_anomaly[suspects].mean() > 0.6
    assert is_anomaly[np.array(fits["trimmed"].health_.suspects)].sum() > 0.5 * len(anomalies)
    assert figures["contaminated"] < figures["clean"] - 0.01, figures
    assert figures["trimmed"] > figures["contaminated"] + 0.002, figures
