import tomllib
from pathlib import Path

import pytest

import contract
from insphere.detectors import catalog

PLAN = tomllib.loads((Path(__file__).parents[2] / "papers" / "vae-svdd-2021" / "plan.toml").read_text())


def settings(dataset: str) -> dict:
    merged = {name: dict(value) if isinstance(value, dict) else value for name, value in PLAN["detectors"]["vae-svdd"].items()}
    for name, value in PLAN["datasets"][dataset].items():
        if name != "normal_classes":
            merged[name] = merged[name] | value if isinstance(value, dict) else value
    return merged


@pytest.mark.parametrize(("dataset", "channels"), [("mnist", 1), ("cifar10", 3), ("gtsrb32", 3)])
def test_the_papers_settings_are_accepted_and_train(dataset, channels):
    detector = catalog.make("vae-svdd", settings(dataset) | {"epochs": 1, "random_state": 0})
    fitted = contract.fit_quietly(detector, contract.pictures(shape=(12, 12, channels)))
    assert fitted.sphere_.kind == "euclidean" and fitted.decision_ == "radius"
    assert fitted.objective_.alpha == 1.0 and fitted.objective_.reading.likelihood == "bernoulli"


def test_the_plan_names_all_tasks_and_ten_seeds():
    assert [len(dataset["normal_classes"]) for dataset in PLAN["datasets"].values()] == [10, 10, 1]
    assert len(PLAN["seeds"]) == 10
