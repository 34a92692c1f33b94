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


class TestSeveralCentres:
    CODES = torch.tensor([[[0.0, 0.0], [2.0, 0.0], [10.0, 0.0], [10.0, 4.0]]])
    PLACES = torch.tensor([[0.0, 1.0], [9.0, 1.0]])

    def made(self, **reading: object) -> SphereTerm:
        made = term(n_centers=2, norm="squared", **reading)
        with torch.no_grad():
            made.center.copy_(self.PLACES)
        return made

    def test_one_centre_has_the_tensors_that_it_always_had(self) -> None:
        assert {name: tuple(value.shape) for name, value in term().state_dict().items()} == {"center": (2,)}
        assert set(self.made().state_dict()) == {"center", "in_use", "rows"}

    def test_they_start_at_k_means(self) -> None:
        made = self.made()
        made.begin(self.CODES[0])
        assert sorted(made.center.tolist()) == [[1.0, 0.0], [10.0, 2.0]]

    @pytest.mark.parametrize(
        ("center", "expected"),
        [("batch-mean", [1, 1, 4, 4]), ("batch-mean-detached", [1, 1, 4, 4]), ("moving-average", None), ("learned", [1, 5, 2, 10])],
    )
    def test_the_distance_is_to_the_nearest(self, center: str, expected: list[float] | None) -> None:
        made = self.made(center=center, center_momentum=0.75)
        if expected is None:
            places = (0.75 * self.PLACES + 0.25 * torch.tensor([[1.0, 0.0], [10.0, 2.0]]))[[0, 0, 1, 1]]
            expected = (self.CODES[0] - places).square().sum(dim=1).tolist()
        assert made(self.CODES).item() == pytest.approx(np.mean(expected))

    @pytest.mark.parametrize("center", ["batch-mean", "batch-mean-detached", "moving-average"])
    def test_they_move_as_the_average_of_their_codes(self, center: str) -> None:
        made = self.made(center=center, center_momentum=0.75)
        made(self.CODES)
        np.testing.assert_allclose(made.center, 0.75 * self.PLACES + 0.25 * torch.tensor([[1.0, 0.0], [10.0, 2.0]]))

    def test_one_that_no_code_of_a_batch_is_nearest_to_stays(self) -> None:
        made = self.made()
        made(self.CODES[:, :2])
        assert made.center[1].tolist() == [9.0, 1.0] and made.rows.tolist() == [1.0, 0.0]

    @pytest.mark.parametrize("center", ["batch-mean", "batch-mean-detached", "moving-average", "learned"])
    def test_the_gradient_is_that_of_finite_differences_where_it_flows(self, center: str) -> None:
        codes = self.CODES.double().requires_grad_(True)
        if center == "batch-mean":
            assert torch.autograd.gradcheck(lambda z: self.made(center=center).double()(z), (codes,))
            return
        made = self.made(center=center).double()
        (gradient,) = torch.autograd.grad(made(codes), codes)
        at = {"batch-mean-detached": torch.tensor([[1.0, 0.0], [10.0, 2.0]]), "learned": self.PLACES}.get(center, made.center)
        torch.testing.assert_close(gradient[0], (self.CODES[0] - at[[0, 0, 1, 1]]).double() / 2)

    def test_learned_ones_are_a_parameter_with_a_gradient(self) -> None:
        made = self.made(center="learned")
        made(self.CODES).backward()
        assert made.center.grad is not None and made.center.grad.tolist() == [[-1.0, 1.0], [-1.0, -1.0]]

    def test_one_with_next_to_no_rows_is_dropped_at_the_end_of_an_epoch_and_not_before(self) -> None:
        made = self.made(final_center="last")
        for _ in range(3):
            made(self.CODES[:, :2])
        assert made.in_use.all()
        made.end_epoch()
        assert made.in_use.tolist() == [True, False] and not made.rows.any()
        assert made(self.CODES[:, 2:]).item() == 4 and made.rows.tolist() == [1.0, 0.0]  # both are the first one's now
        assert made.center[1].tolist() == [9.0, 1.0]
        several, final = made.several_centers(), made.final_center()
        assert several is not None and final is not None and several.shape == final.shape == (1, 2)

    def test_outside_training_they_stay(self) -> None:
        made = self.made().eval()
        assert made(self.CODES).item() == pytest.approx(np.mean([1, 5, 2, 10]))
        assert torch.equal(made.center, self.PLACES) and not made.rows.any()

    @pytest.mark.parametrize(("center", "own"), [("batch-mean", False), ("learned", True), ("moving-average", True)])
    def test_the_centres_for_scoring(self, center: str, own: bool) -> None:
        made = self.made(center=center)
        assert (made.final_center() is not None) == own
        assert made.several_centers() is not None and term().several_centers() is None
