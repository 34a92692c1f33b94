"""FGSM against a slow re-statement and a public implementation; gradients against differences; the attacked network."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from insphere import CAE, KNN, OCNN, VAE, DeepSVDDVAE
from insphere.attacks.classifier import Classifier, fit_classifier, load_classifier
from insphere.attacks.fgsm import fgsm
from insphere.attacks.gradients import differentiable_score, has_gradient, score_gradient
from insphere.data import ArraySource, load_dataset
from insphere.errors import DataError, HealthWarning, ModelFileError, ParameterError
from insphere.training.feed import as_network_input


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, list[str]]:
    everything, test = load_dataset("digits:3", "all"), load_dataset("digits:3", "test")
    train = everything.take(np.arange(len(everything) - len(test)))
    return train.load().X, list(train.types)


@pytest.fixture(scope="session")
def classifier(digits) -> Classifier:
    return fit_classifier(*digits, seed=0, epochs=8)


@pytest.fixture(scope="session")
def unseen() -> tuple[np.ndarray, np.ndarray]:
    test = load_dataset("digits:3", "test")
    return test.load().X, np.array([int(type_) for type_ in test.types])


def naive_fgsm(image, gradient, epsilon):
    attacked = image.astype(int).copy()
    for place in np.ndindex(image.shape):
        if gradient[place] > 0:
            attacked[place] = min(255, attacked[place] + epsilon)
        elif gradient[place] < 0:
            attacked[place] = max(0, attacked[place] - epsilon)
    return attacked


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.uint8, (2, 3, 3, 1)),
    hnp.arrays(np.float32, (2, 3, 3, 1), elements=st.floats(-1, 1, width=32)),
    st.integers(0, 255),
)
def test_fgsm_is_its_definition(images, gradient, epsilon):
    attacked = fgsm(images, gradient, epsilon)
    assert attacked.dtype == np.uint8
    assert attacked.tolist() == naive_fgsm(images, gradient, epsilon).tolist()


def test_fgsm_refuses_what_it_cannot_attack():
    images = np.zeros((1, 2, 2, 1), np.uint8)
    with pytest.raises(DataError, match="must be uint8, got float64"):
        fgsm(images.astype(float), np.zeros(images.shape), 8)
    with pytest.raises(DataError, match="a number for every pixel"):
        fgsm(images, np.zeros((1, 2, 2)), 8)
    with pytest.raises(DataError, match="NaN"):
        fgsm(images, np.full(images.shape, np.nan), 8)
    with pytest.raises(ParameterError, match="epsilon"):
        fgsm(images, np.zeros(images.shape), 256)


def test_the_classifier_learns_digits_and_the_same_seed_gives_the_same_network(digits, classifier, unseen):
    images, truth = unseen
    names = np.array([int(name) for name in classifier.classes])
    assert np.mean(names[classifier.predict(images)] == truth) > 0.9
    state = torch.random.get_rng_state()
    again = fit_classifier(*digits, seed=0, epochs=1), fit_classifier(*digits, seed=0, epochs=1), fit_classifier(*digits, seed=1, epochs=1)
    assert torch.equal(state, torch.random.get_rng_state())
    first, second, other = (network.loss_gradient(images[:3], np.zeros(3, int)) for network in again)
    assert first.tolist() == second.tolist() != other.tolist()


def test_the_attack_raises_the_loss_and_fools_the_classifier(classifier, unseen):
    images, truth = unseen
    numbers = np.array([classifier.class_number(str(name)) for name in truth])
    right = classifier.predict(images) == numbers
    images, numbers = images[right], numbers[right]
    gradient = classifier.loss_gradient(images, numbers)
    fooled = [np.mean(classifier.predict(fgsm(images, gradient, epsilon)) != numbers) for epsilon in (0, 8, 64)]
    assert fooled[0] == 0 and fooled[2] > 0.5 and fooled == sorted(fooled)


def test_the_loss_gradient_is_that_of_each_image_alone(classifier, unseen):
    images, _ = unseen
    numbers = np.arange(300) % 10
    together = classifier.loss_gradient(images[:300], numbers)  # more than one batch
    network = classifier.network
    for row in (0, 255, 256, 299):
        x = torch.tensor(images[row : row + 1] / 255, dtype=torch.float32).permute(0, 3, 1, 2).requires_grad_()
        loss = -network(x).log_softmax(dim=1)[0, int(numbers[row])]
        (alone,) = torch.autograd.grad(loss, x)
        assert together[row, ..., 0] == pytest.approx(alone[0, 0].numpy() / 255, rel=1e-3, abs=1e-8)


def test_fgsm_equals_torchattacks_on_the_same_network(classifier, unseen):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a foreign package warns of on import is its own affair
        torchattacks = pytest.importorskip("torchattacks", reason="needs torchattacks (pip install --no-deps torchattacks)")
    images, truth = unseen
    images = images[:64]
    numbers = np.array([classifier.class_number(str(name)) for name in truth[:64]])
    x = torch.tensor(images / 255, dtype=torch.float32).permute(0, 3, 1, 2)
    for epsilon in (2, 8, 32):
        theirs = torchattacks.FGSM(classifier.network, eps=epsilon / 255)(x, torch.tensor(numbers))
        ours = fgsm(images, classifier.loss_gradient(images, numbers), epsilon)
        assert (theirs.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8).tolist() == ours.tolist()


def test_a_saved_classifier_is_the_same_and_another_is_refused(classifier, unseen, tmp_path):
    images, _ = unseen
    classifier.save(tmp_path / "c", "mine")
    loaded = load_classifier(tmp_path / "c", "mine")
    assert loaded.classes == classifier.classes
    numbers = np.zeros(9, int)
    assert loaded.loss_gradient(images[:9], numbers).tolist() == classifier.loss_gradient(images[:9], numbers).tolist()
    with pytest.raises(ModelFileError, match="delete it to train again"):
        load_classifier(tmp_path / "c", "another")


def test_the_classifier_refuses_what_does_not_fit(classifier, unseen):
    images, _ = unseen
    with pytest.raises(DataError, match="takes uint8 images"):
        classifier.predict(images[:, :4])
    with pytest.raises(DataError, match="one entry per image"):
        classifier.loss_gradient(images[:2], np.zeros(3, int))
    with pytest.raises(DataError, match="knows no class 'stop'"):
        classifier.class_number("stop")
    with pytest.raises(DataError, match="2 to 256 classes, got 1"):
        fit_classifier(images[:9], ["3"] * 9, seed=0, epochs=1)


NEURAL = {
    "local": DeepSVDDVAE(epochs=2, random_state=0),
    "mahalanobis": DeepSVDDVAE(epochs=2, geometry="mahalanobis", random_state=0),
    "euclidean": DeepSVDDVAE(epochs=2, geometry="euclidean", scaling="gcn", random_state=0),
    "reconstruction": CAE(epochs=2, random_state=0),
    "elbo": VAE(epochs=2, random_state=0),
    "hyperplane": OCNN(epochs=2, pretrain=False, random_state=0),
}


@pytest.fixture(scope="session", params=NEURAL)
def fitted(request):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        return NEURAL[request.param].fit(load_dataset("digits:3", "train"))


def test_the_differentiable_score_is_the_score(fitted, unseen):
    images = unseen[0][:50]
    x = as_network_input(torch.from_numpy(images), fitted.preprocess_.apply)
    with torch.no_grad():
        scores = differentiable_score(fitted)(x).double().numpy()
    assert scores == pytest.approx(fitted.anomaly_score(ArraySource(images)), rel=1e-4, abs=1e-5)


def test_the_score_gradient_points_up(fitted, unseen):
    images = unseen[0][:50]
    gradient = score_gradient(fitted, images)
    assert gradient.shape == images.shape and np.isfinite(gradient).all()
    before = fitted.anomaly_score(ArraySource(images))
    up, down = (fitted.anomaly_score(ArraySource(fgsm(images, sign * gradient, 2))) for sign in (1, -1))
    assert np.mean(up > before) > 0.9 and np.mean(down < before) > 0.7


def test_the_score_gradient_agrees_with_differences(unseen):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HealthWarning)
        detector = DeepSVDDVAE(epochs=2, geometry="euclidean", scaling="unit", random_state=0).fit(load_dataset("digits:3", "train"))
    image = torch.from_numpy(unseen[0][:1]).float().permute(0, 3, 1, 2) / 255

    def score(x):
        with torch.no_grad():
            return float(differentiable_score(detector)(x))

    gradient = score_gradient(detector, unseen[0][:1])[0, ..., 0] * 255
    slopes = np.zeros((8, 8))
    for row, column in np.ndindex(8, 8):
        step = torch.zeros_like(image)
        step[0, 0, row, column] = 2e-3  # codes are float32: a smaller step would drown in their rounding
        slopes[row, column] = (score(image + step) - score(image - step)) / 4e-3
    assert np.abs(slopes).max() > 0.01
    assert np.corrcoef(slopes.ravel(), gradient.ravel())[0, 1] > 0.99
    assert np.linalg.norm(slopes) == pytest.approx(np.linalg.norm(gradient), rel=0.05)


def test_a_detector_without_gradient_says_so(digits):
    images = digits[0]
    detector = KNN().fit(images[:50])
    assert not has_gradient(detector)
    with pytest.raises(ParameterError, match="knn scores by something that has no gradient"):
        score_gradient(detector, images[:2])


@pytest.mark.data
@pytest.mark.slow
def test_the_attacked_network_knows_its_traffic_signs(data_dir):
    everything, test = (load_dataset("gtsrb32:stop", split, data_dir=data_dir) for split in ("all", "test"))
    train = everything.take(np.arange(len(everything) - len(test)))
    network = fit_classifier(train.load().X, list(train.types), seed=0, epochs=4)
    assert len(network.classes) == 43
    truth = np.array([network.class_number(type_) for type_ in test.types])
    right = network.predict(test.load().X) == truth
    assert right.mean() > 0.85 and right[test.labels == 0].sum() > 250
