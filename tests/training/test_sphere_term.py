"""The sphere's term: each reading of what the paper leaves open, against what it says in words."""

import numpy as np
import pytest
import torch
from torch import Tensor

from insphere.detectors.cae_svdd import DeepSVDDCAE
from insphere.detectors.vae_svdd import DeepSVDDVAEObjective, Reading
from insphere.nets.options import Network
from insphere.training.sphere_term import SphereReading, SphereTerm

CODES = torch.tensor([[[0.0, 0.0], [6.0, 8.0]]])
MEAN = [3.0, 4.0]


def term(**reading: object) -> SphereTerm:
    made = SphereTerm(2, SphereReading(**reading))  # type: ignore[arg-type]
    made.train()
    return made


def test_the_defaults_are_the_paper_as_printed() -> None:
    reading = SphereReading()
    assert (reading.norm, reading.center, reading.final_center, reading.center_momentum) == ("plain", "batch-mean", "training-mean", 0.9)
    own = Reading()
    assert (own.distance_of, own.score_of, own.n_draws, own.likelihood) == ("sample", "mean", 1, "gaussian-learned")


@pytest.mark.parametrize(("norm", "expected"), [("plain", 5.0), ("squared", 25.0)])
def test_norms(norm: str, expected: float) -> None:
    assert term(norm=norm)(CODES).item() == pytest.approx(expected)


def gradient_of(center: str) -> tuple[Tensor, SphereTerm]:
    made = term(center=center, norm="squared")
    codes = CODES.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(made(codes), codes)
    return gradient, made


def test_through_the_batch_mean_a_gradient_flows_unless_it_is_detached() -> None:
    # Of ½ Σ ‖z − z̄‖² the derivative in z is z − z̄ both ways where z̄ is the mean, as deviations sum to zero; with the plain norm it is not.
    made, detached = term(center="batch-mean"), term(center="batch-mean-detached")
    codes = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [9.0, 0.0]]])
    found = []
    for one in (made, detached):
        z = codes.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(one(z), z)
        found.append(gradient[0, :, 0])
    # Signs of z − z̄ are −, −, +; detached each pulls by a third, with the mean's own gradient the sum (−1/3) comes off equally.
    torch.testing.assert_close(found[1], torch.tensor([-1.0, -1.0, 1.0]) / 3)
    torch.testing.assert_close(found[0], found[1] - found[1].mean())
    assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize("center", ["batch-mean", "batch-mean-detached"])
def test_the_batch_mean_is_kept(center: str) -> None:
    _, made = gradient_of(center)
    assert made.center.tolist() == MEAN


@pytest.mark.parametrize("momentum", [0.0, 0.25, 0.9])
def test_the_moving_average_keeps_its_share_of_the_past(momentum: float) -> None:
    made = term(center="moving-average", center_momentum=momentum, norm="squared")
    made.center.copy_(torch.tensor([1.0, 1.0]))
    expected = momentum * np.ones(2) + (1 - momentum) * np.array(MEAN)
    value = float(made(CODES).detach())
    np.testing.assert_allclose(made.center.numpy(), expected, rtol=1e-6)
    assert value == pytest.approx(float(((CODES[0].numpy() - expected) ** 2).sum(axis=1).mean()))


def test_a_learned_centre_is_a_parameter_and_has_a_gradient() -> None:
    made = term(center="learned", norm="squared")
    assert [name for name, _ in made.named_parameters()] == ["center"]
    made(CODES).backward()
    assert made.center.grad is not None and made.center.grad.tolist() == [-6.0, -8.0]  # −2 · mean of z − 0


@pytest.mark.parametrize("center", ["batch-mean", "batch-mean-detached", "moving-average"])
def test_outside_training_the_kept_centre_is_used_and_stays(center: str) -> None:
    made = term(center=center)
    made.center.copy_(torch.tensor([6.0, 8.0]))
    made.eval()
    assert made(CODES).item() == pytest.approx(5.0)
    assert made.center.tolist() == [6.0, 8.0]


@pytest.mark.parametrize(
    ("center", "final", "own"),
    [
        ("batch-mean", "training-mean", False),
        ("batch-mean-detached", "training-mean", False),
        ("batch-mean", "last", True),
        ("learned", "training-mean", True),
        ("moving-average", "training-mean", True),
    ],
)
def test_the_centre_for_scoring(center: str, final: str, own: bool) -> None:
    found = term(center=center, final_center=final).final_center()
    assert (found is not None) == own
    assert found is None or not found.requires_grad


class TestObjective:
    def made(self, **reading: object) -> DeepSVDDVAEObjective:
        torch.manual_seed(0)
        return DeepSVDDVAEObjective((6,), 2, Network(widths=(8,)), alpha=1.0, reading=Reading(**reading))  # type: ignore[arg-type]

    def test_the_distance_is_of_the_drawn_code_or_of_its_mean(self) -> None:
        x = torch.randn(16, 6, generator=torch.Generator().manual_seed(1))
        by_mean, by_sample = (
            [float(self.made(distance_of=of)(x, torch.Generator().manual_seed(seed))["distance"].detach()) for seed in (0, 1)]
            for of in ("mean", "sample")
        )
        assert by_mean[0] == by_mean[1] and by_sample[0] != by_sample[1]
        objective = self.made(distance_of="mean")
        mu = objective.posterior(x)[0]
        assert by_mean[0] == pytest.approx(float((mu - mu.mean(dim=0)).norm(dim=1).mean().detach()), rel=1e-5)

    def test_a_row_is_scored_by_the_mean_or_by_a_draw(self) -> None:
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
        mean, sample = self.made(score_of="mean"), self.made(score_of="sample")
        mu, logvar = mean.posterior(x)
        torch.testing.assert_close(mean.code(x), mu)
        drawn = sample.code(x)
        torch.testing.assert_close(drawn, sample.code(x))  # the same each time
        noise = (drawn - mu) / (logvar / 2).exp()
        assert 0.3 < float(noise.detach().std()) < 2 and not torch.allclose(drawn, mu)


@pytest.mark.parametrize("quantile", [0.5, 0.95, 1.0])
def test_the_radius_is_the_quantile_that_was_asked_for(quantile: float) -> None:
    from contract import fit_quietly
    from insphere import KNN

    X = np.random.default_rng(0).normal(size=(200, 3))
    detector = fit_quietly(KNN(random_state=0, calibration={"radius_quantile": quantile, "decision": "radius"}), X)
    train = np.sort(detector.neighbours_.distances(detector._features(X), 6)[:, 1:].mean(axis=1))
    assert detector.radius_ == detector.threshold_
    assert abs((train <= detector.radius_).mean() - quantile) < 0.12


def test_detectors_hand_their_reading_on() -> None:
    from contract import fit_quietly

    X = np.random.default_rng(0).normal(size=(60, 3))
    reading = {"center": "moving-average", "center_momentum": 0.5}
    detector = fit_quietly(DeepSVDDCAE(epochs=1, reading=reading, random_state=0), X)
    assert detector.objective_.sphere.reading.center_momentum == 0.5
