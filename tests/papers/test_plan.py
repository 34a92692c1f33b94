from collections import Counter
from pathlib import Path

import pytest

import contract
from insphere.benchmark.run.plan import read_plan
from insphere.detectors import catalog

PLAN = read_plan(Path(__file__).parents[2] / "papers" / "vae-svdd-2021" / "plan.toml")
DATASETS = {dataset.name: dataset for dataset in PLAN.datasets}
METHODS = {method.name: method for method in PLAN.methods}


@pytest.mark.parametrize(("dataset", "channels"), [("mnist", 1), ("cifar10", 3), ("gtsrb32", 3)])
def test_the_papers_settings_are_accepted_and_train(dataset, channels):
    parameters = PLAN.parameters(DATASETS[dataset], METHODS["deep-svdd-vae-literal"])
    detector = catalog.make("vae-svdd", parameters | {"epochs": 1, "random_state": 0})
    fitted = contract.fit_quietly(detector, contract.pictures(shape=(12, 12, channels)))
    assert fitted.sphere_.kind == "euclidean" and fitted.decision_.by == "radius"
    assert fitted.objective_.alpha == 1.0 and fitted.objective_.reading.likelihood == "bernoulli"
    assert parameters["training"]["optimizer"] == "rmsprop" and parameters["training"]["batch_size"] in (64, 200)


def test_the_plan_names_all_tasks_and_ten_seeds():
    assert {name: len(dataset.normal_classes) for name, dataset in DATASETS.items()} == {
        "mnist": 10, "cifar10": 10, "gtsrb32": 1, "mnist-alpha": 3, "cifar10-alpha": 3,
        "mnist-readings": 3, "cifar10-readings": 3, "digits": 10,
    }  # fmt: skip
    assert len(PLAN.seeds) == 10


def test_every_method_of_the_paper_runs_on_every_class():
    papers = {"deep-svdd-vae", "deep-svdd-vae-literal", "deep-svdd", "oc-nn", "cae", "iforest", "kde", "ocsvm"}
    tables = {name: method for name, method in METHODS.items() if "mnist" in method.datasets}
    controls = {name for name, method in tables.items() if method.control}
    assert set(tables) == papers | controls and controls >= {"vae", "deep-svdd-cae", "knn"}
    n_seeds = Counter((run.dataset, run.normal_class, run.method) for run in PLAN.runs() if run.method in tables)
    assert {key[:2] for key in n_seeds} == {(name, c) for name in ("mnist", "cifar10", "gtsrb32") for c in DATASETS[name].normal_classes}
    assert len(n_seeds) == 21 * len(tables) - 10  # the published training of Deep SVDD is too long for CIFAR-10
    once = {"deep-svdd-published", "deep-svdd-vae-local"}
    assert min(n for (dataset, _, method), n in n_seeds.items() if dataset == "mnist" and method not in once) >= 3
    assert n_seeds["mnist", "8", "deep-svdd-vae"] == 10
    assert {n_seeds["cifar10", "cat", method] for method in ("deep-svdd-vae", "deep-svdd", "cae")} == {3}


def test_alpha_alone_varies_on_the_six_tasks_of_figure_9():
    runs = [run for run in PLAN.runs(n_seeds=1) if run.dataset.endswith("-alpha")]
    assert len(runs) == 6 * 8
    assert {run.parameters["alpha"] for run in runs} >= {0.01, 1.0, 50.0}
    for dataset in ("mnist", "cifar10"):
        others = [{**run.parameters, "alpha": None} for run in runs if run.dataset == f"{dataset}-alpha"]
        assert all(parameters == others[0] for parameters in others)
        declared = PLAN.parameters(DATASETS[dataset], METHODS["deep-svdd-vae"])
        assert others[0] == {**declared, "alpha": None, "epochs": others[0]["epochs"]}


def test_each_reading_differs_from_the_first_in_one_thing():
    base, *others = (run.parameters for run in PLAN.runs(n_seeds=1) if run.dataset == "mnist-readings" and run.normal_class == "8")
    declared = PLAN.parameters(DATASETS["mnist"], METHODS["deep-svdd-vae"])
    assert base == {**declared, "epochs": base["epochs"]}
    changed = [{name for name in base | other if base.get(name) != other.get(name)} for other in others]
    assert all(len(names) == 1 for names in changed if not names & {"reading", "training"})


def test_the_score_of_the_paper_and_its_encoder_are_kept_in_the_declared_reading():
    parameters = PLAN.parameters(DATASETS["mnist"], METHODS["deep-svdd-vae"])
    assert parameters["geometry"] == "euclidean" and parameters["latent_dim"] == 32
    assert (parameters["network"]["widths"], parameters["network"]["kernel_size"]) == ([8, 4], 5)


def test_the_quick_plan_has_every_method_and_trains_little():
    runs = PLAN.runs(quick=True)
    assert {run.method for run in runs} == set(METHODS) and {run.dataset for run in runs} == set(DATASETS)
    assert max(run.parameters.get("epochs", 0) for run in runs) == 1
    assert {run.parameters["pretrain"]["epochs"] for run in runs if run.parameters.get("pretrain")} == {1}
