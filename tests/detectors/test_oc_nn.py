import numpy as np
import pytest
import torch

import contract
import naive
from insphere.detectors.oc_nn import OCNN, OCNNObjective
from insphere.nets.build import initialise
from insphere.nets.options import Network

VECTORS = contract.blobs()


def make_objective(activation="sigmoid", nu=0.2):
    objective = OCNNObjective((4,), 3, Network(widths=(6,)), nu=nu, n_hidden=5, activation=activation)
    initialise(objective, 0)
    return objective


def rows(n=30, seed=1):
    return torch.rand(n, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("activation", ["sigmoid", "linear"])
def test_loss_equals_its_formula_written_out(activation):
    objective = make_objective(activation)
    with torch.no_grad():
        objective.begin(rows())
    x = rows(seed=2)
    loss = objective(x, torch.Generator())["loss"]
    w, v = objective.output.weight.detach(), objective.hidden.weight.detach()
    hidden = objective.code(x).detach() @ v.T
    outputs = ((hidden.sigmoid() if activation == "sigmoid" else hidden) @ w.T).squeeze(1).tolist()
    expected = naive.oc_nn_loss(outputs, w[0].tolist(), v.tolist(), r=float(objective.r), nu=0.2)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert objective.score(x).tolist() == pytest.approx([float(objective.r) - output for output in outputs], abs=1e-6)


def test_r_is_the_quantile_of_all_outputs():
    objective = make_objective()
    with torch.no_grad():
        objective.begin(rows())
        assert objective.end_epoch(iter([rows(seed=2), rows(seed=3)]))
        outputs = objective.eval().outputs(torch.cat([rows(seed=2), rows(seed=3)])).tolist()
    assert float(objective.r) == pytest.approx(naive.quantile(outputs, 0.2), rel=1e-6)


def test_about_nu_of_the_training_rows_fall_short_of_r():
    X = contract.blobs(400)
    fitted = contract.fit_quietly(OCNN(nu=0.3, epochs=40, random_state=0), X)
    assert 0.15 < (fitted.anomaly_score(X) > 0).mean() < 0.45


def test_training_stops_when_the_outputs_die_and_resumes_to_the_same(tmp_path):
    detector = OCNN(epochs=300, random_state=0, pretrain=False, training={"lr": 3e-2})
    fitted = contract.fit_quietly(detector, VECTORS, checkpoint=tmp_path / "fit.checkpoint")
    assert 1 < len(fitted.history_) < 300
    resumed = contract.fit_quietly(detector, VECTORS, checkpoint=tmp_path / "fit.checkpoint", resume=True)
    assert len(resumed.history_) == len(fitted.history_)
    spread = next(finding for finding in fitted.health_.findings if finding.name == "spread")
    assert spread.value < 0.2
    if not fitted.health_.collapsed:
        np.testing.assert_array_equal(resumed.anomaly_score(VECTORS), fitted.anomaly_score(VECTORS))
