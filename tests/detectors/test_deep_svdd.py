import math

import numpy as np
import pytest
import torch

import contract
import naive
from insphere.decision.health import LEAST_SPREAD
from insphere.detectors.deep_svdd import DeepSVDD, DeepSVDDObjective, DeepSVDDReading
from insphere.errors import CollapseError, HealthWarning
from insphere.nets.build import initialise
from insphere.nets.options import Network
from insphere.training.clusters import k_means
from insphere.training.loop import train
from insphere.training.options import Training
from insphere.training.trainee import Stage, Trainee

NETWORK = Network(widths=(6,), bias=False, batch_norm_affine=False)
VECTORS = contract.blobs()
UNGUARDED = {"pretrain": False, "network": {"bias": True}, "reading": {"center": "zero"}}


@pytest.mark.parametrize("soft", [False, True], ids=["one-class", "soft-boundary"])
def test_ten_steps_equal_those_written_out(soft):
    rows = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    objective = DeepSVDDObjective((4,), 3, NETWORK, soft=soft, nu=0.2, reading=DeepSVDDReading(warm_up_epochs=2))
    initialise(objective, 0)
    first, last = (layer.weight.detach().clone() for layer in (objective.encoder.body.blocks[0], objective.encoder.body.heads[0]))
    seen = []
    objective.register_forward_hook(
        lambda module, inputs, terms: seen.append((inputs[0].clone(), terms["loss"].item(), module.center.tolist(), module.radius.item()))
    )
    options = Training(lr=0.01, schedule="constant", weight_decay=0.1, batch_size=20, precision="32")
    train(Trainee([Stage(objective, options, 5)], rows, lambda x: x, 0), device=torch.device("cpu"))
    batches = [[x for x, *_ in seen[step : step + 2]] for step in range(0, 10, 2)]
    expected = naive.deep_svdd_steps(
        first, last, batches, torch.from_numpy(rows), soft=soft, nu=0.2, warm_up=2, margin=0.1, lr=0.01, weight_decay=0.1
    )
    n_steps = 0
    for (_, *got), (loss, center, radius) in zip(seen, expected, strict=True):
        assert got[0] == pytest.approx(loss, rel=1e-3)
        assert got[1] == pytest.approx(center, rel=1e-5)
        assert got[2] == pytest.approx(radius, rel=1e-3)
        assert (got[2] > 0) == (soft and n_steps >= 4)
        n_steps += 1
    assert n_steps == 10


def test_the_centre_is_pushed_off_zero_and_stays():
    objective = DeepSVDDObjective((4,), 3, NETWORK, soft=False, nu=0.1, reading=DeepSVDDReading(center_margin=0.2))
    initialise(objective, 0)
    x = torch.rand(30, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        objective.begin(x)
        means = objective.code(x).mean(dim=0).tolist()
    assert objective.center.tolist() == pytest.approx([math.copysign(max(abs(mean), 0.2), mean) for mean in means])
    assert sum(abs(mean) < 0.2 for mean in means) in (1, 2)
    fitted = contract.fit_quietly(DeepSVDD(epochs=3, pretrain=False, random_state=0), VECTORS)
    before = fitted._make_stages(3)[-1].objective
    assert (fitted.objective_.center.abs() >= 0.1).all() and (before.center == 0).all()
    zero = contract.fit_quietly(DeepSVDD(epochs=1, reading={"center": "zero"}, random_state=0), VECTORS)
    assert (zero.objective_.center == 0).all()


def test_no_biases_and_no_learned_scale_unless_asked_for():
    fitted = contract.fit_quietly(DeepSVDD(epochs=1, random_state=0), contract.pictures())
    assert [name for name, _ in fitted.objective_.named_parameters() if name.endswith("bias")] == []
    assert all(not layer.affine for layer in fitted.objective_.modules() if isinstance(layer, torch.nn.BatchNorm2d))
    biased = contract.fit_quietly(DeepSVDD(epochs=1, network={"bias": True}, random_state=0), contract.pictures())
    assert any(name.endswith("bias") for name, _ in biased.objective_.named_parameters())


def test_pretraining_gives_the_encoder_a_start():
    quick = {"epochs": 1, "random_state": 0, "training": {"lr": 1e-12, "weight_decay": 0.0}}
    started = contract.fit_quietly(DeepSVDD(pretrain={"epochs": 30, "training": {"lr": 1e-2}}, **quick), VECTORS)
    cold = contract.fit_quietly(DeepSVDD(pretrain=False, **quick), VECTORS)
    losses = [record.terms["loss"] for record in started.history_ if record.stage == "pretraining"]
    assert losses[-1] < losses[0] / 2
    assert not np.allclose(started.codes(VECTORS), cold.codes(VECTORS))


def test_the_score_is_the_squared_distance_to_the_centre():
    fitted = contract.fit_quietly(DeepSVDD(epochs=2, random_state=0), VECTORS)
    offsets = fitted.codes(VECTORS) - fitted.objective_.center.numpy()
    np.testing.assert_allclose(fitted.anomaly_score(VECTORS), (offsets**2).sum(axis=1), rtol=1e-5)


def test_the_soft_boundary_leaves_its_share_of_rows_outside():
    detector = DeepSVDD("soft-boundary", nu=0.3, epochs=60, random_state=0, training={"lr": 1e-3})
    fitted = contract.fit_quietly(detector, contract.blobs(400))
    radius = float(fitted.objective_.radius)
    outside = (fitted.anomaly_score(contract.blobs(400)) > radius**2).mean()
    assert radius > 0 and 0.1 < outside < 0.5


def test_without_its_guards_it_collapses_and_refuses_to_score(tmp_path):
    # A large rate and decay only make it quick: zero weights meet a zero centre exactly, and no other.
    harsh = {"epochs": 150, "random_state": 0, "training": {"lr": 0.02, "schedule": "one-cycle", "weight_decay": 0.1}}
    collapsed = DeepSVDD(**UNGUARDED, **harsh)
    with pytest.warns(HealthWarning) as caught:
        collapsed.fit(VECTORS)
    assert any("collapsed to a point" in str(warning.message) for warning in caught)
    spreads = {finding.name: finding for finding in collapsed.health_.findings}
    assert spreads["spread"].level == "critical" and spreads["spread"].value < LEAST_SPREAD
    assert "a centre off zero" in spreads["spread"].text
    with pytest.raises(CollapseError, match="cannot score"):
        collapsed.anomaly_score(VECTORS)
    with pytest.raises(CollapseError, match="not saved"):
        collapsed.save(tmp_path / "model.insphere")
    guarded = contract.fit_quietly(DeepSVDD(**harsh), VECTORS)
    assert not guarded.health_.collapsed
    assert next(finding.value for finding in guarded.health_.findings if finding.name == "spread") > 5 * LEAST_SPREAD


class TestSeveralCentres:
    def made(self, *, soft: bool = False) -> DeepSVDDObjective:
        objective = DeepSVDDObjective((4,), 3, NETWORK, soft=soft, nu=0.1, reading=DeepSVDDReading(n_centers=2, warm_up_epochs=1))
        initialise(objective, 0)
        return objective

    def test_one_centre_has_the_tensors_that_it_always_had(self) -> None:
        objective = DeepSVDDObjective((4,), 3, NETWORK, soft=False, nu=0.1, reading=DeepSVDDReading())
        own = {name for name in objective.state_dict() if not name.startswith("encoder.")}
        assert own == {"center", "radius", "n_epochs"} and objective.center.shape == (3,)

    def test_they_are_the_k_means_of_the_first_codes_off_zero(self) -> None:
        objective, x = self.made(), torch.rand(30, 4, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            objective.begin(x)
            codes = objective.code(x)
            expected = k_means(codes, 2)
        assert (objective.center.abs() >= 0.1).all()
        far = expected.abs() > 0.1
        torch.testing.assert_close(objective.center[far], expected[far])

    def test_a_row_is_scored_by_the_nearest(self) -> None:
        objective, x = self.made().eval(), torch.rand(9, 4, generator=torch.Generator().manual_seed(0))
        objective.center.copy_(torch.tensor([[0.3, 0.0, 0.0], [-0.3, 0.1, 0.0]]))
        expected = [
            min(sum((a - b) ** 2 for a, b in zip(code, center, strict=True)) for center in objective.center.tolist())
            for code in objective.code(x).tolist()
        ]
        assert objective.score(x).tolist() == pytest.approx(expected, rel=1e-5)
        assert objective(x, torch.Generator())["loss"].item() == pytest.approx(np.mean(expected), rel=1e-5)

    @pytest.mark.parametrize("soft", [False, True])
    def test_they_stay_and_one_without_rows_is_dropped(self, soft: bool) -> None:
        objective, x = self.made(soft=soft), torch.rand(20, 4, generator=torch.Generator().manual_seed(0))
        places = torch.tensor([[0.3, 0.0, 0.0], [99.0, 99.0, 99.0]])
        objective.center.copy_(places)
        objective(x, torch.Generator())
        with torch.no_grad():
            objective.end_epoch(iter(()))
        assert objective.in_use.tolist() == [True, False] and not objective.rows.any()
        assert torch.equal(objective.center, places) and objective.several_centers().tolist() == [[pytest.approx(0.3), 0.0, 0.0]]
        assert (objective.radius > 0) == soft

    def test_health_counts_the_rows_of_each(self) -> None:
        fitted = contract.fit_quietly(DeepSVDD(reading={"n_centers": 2}, epochs=2, pretrain=False, random_state=0), VECTORS)
        (finding,) = [finding for finding in fitted.health_.findings if finding.name == "centres"]
        assert finding.text.startswith(f"{len(fitted.objective_.several_centers())} of 2 centres ")
