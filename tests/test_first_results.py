"""What the first user sees: the defaults on real data, against the figures that the project promises."""

import numpy as np
import pytest

import insphere
from insphere.data import load_dataset
from insphere.metrics import auroc


@pytest.mark.slow
@pytest.mark.data
def test_digit_8_of_mnist_with_the_defaults(data_dir):
    detector = insphere.DeepSVDDVAE(random_state=0).fit(load_dataset("mnist:8", "train", data_dir=data_dir))
    test = load_dataset("mnist:8", "test", data_dir=data_dir)
    scores = detector.anomaly_score(test)
    labels = np.asarray(test.labels)
    assert auroc(labels, scores).value >= 0.95
    # 1,170 rows calibrate and 974 judge: the standard deviation of the observed rate is 0.0095.
    assert abs((scores[labels == 0] > detector.threshold_).mean() - 0.05) < 0.03


@pytest.mark.data
def test_every_adbench_table_fits_and_scores(data_dir):
    import contract

    for path in sorted((data_dir / "adbench").glob("*.npz")):
        fitted = contract.fit_quietly(insphere.DeepSVDDVAE(epochs=1, random_state=0), insphere.open_source(path, split="train"))
        assert np.isfinite(fitted.anomaly_score(insphere.open_source(path, split="test"))).all(), path.stem


def test_bundled_digits_with_the_defaults():
    import contract

    detector = contract.fit_quietly(insphere.DeepSVDDVAE(random_state=0), load_dataset("digits:3", "train"))
    test = load_dataset("digits:3", "test")
    assert auroc(np.asarray(test.labels), detector.anomaly_score(test)).value >= 0.95
