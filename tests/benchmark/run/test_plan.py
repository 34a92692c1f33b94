from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insphere.benchmark.run.plan import make_plan, read_plan
from insphere.errors import DataError, InsphereError, ParameterError

KNN = {"knn": {}}
DIGITS = {"digits": {"normal_classes": [3, 8]}}


def plan(**tables):
    return make_plan({"datasets": DIGITS, "methods": KNN} | tables)


def test_the_first_seed_of_all_comes_first():
    runs = plan(seeds=[7, 1], methods={"knn": {}, "iforest": {}}).runs()
    assert [(run.seed, run.method, run.normal_class) for run in runs] == [
        (seed, method, name) for seed in (7, 1) for method in ("knn", "iforest") for name in ("3", "8")
    ]
    assert len({run.id for run in runs}) == len(runs)


def test_a_data_set_without_classes_has_all():
    assert [run.normal_class for run in plan(datasets={"digits": {}}).runs()] == [str(digit) for digit in range(10)]


def test_who_gets_how_many_seeds():
    tables = {
        "seeds": 5,
        "datasets": {"digits": {"normal_classes": [3]}, "few": {"source": "digits", "normal_classes": [3], "seeds": 2}},
        "methods": {"knn": {}, "iforest": {"seeds": 3}, "kde": {"seeds": 1, "on": {"few": {"seeds": 4}}}},
    }
    runs = plan(**tables).runs()
    count = {(d, m): sum(run.dataset == d and run.method == m for run in runs) for d in ("digits", "few") for m in tables["methods"]}
    assert count == {
        ("digits", "knn"): 5, ("digits", "iforest"): 3, ("digits", "kde"): 1, ("few", "knn"): 2, ("few", "iforest"): 2, ("few", "kde"): 4,
    }  # fmt: skip
    assert {run.seed for run in plan(**tables).runs(n_seeds=1)} == {0}


def test_the_more_special_parameter_wins_and_only_who_has_it_takes_an_override():
    made = plan(
        datasets={"digits": {"overrides": {"epochs": 2, "training": {"batch_size": 50}, "network": {"widths": [4]}}}},
        methods={
            "cae": {"epochs": 9, "training": {"lr": 0.1, "batch_size": 7}, "on": {"digits": {"network": {"widths": [8]}}}},
            "knn": {"parameters": {"n_neighbors": 3}},
        },
        quick={"overrides": {"epochs": 1}},
    )
    cae, knn = ({run.method: run.parameters for run in made.runs()}[name] for name in ("cae", "knn"))
    assert cae == {"epochs": 2, "training": {"lr": 0.1, "batch_size": 50}, "network": {"widths": [8]}}
    assert knn == {"n_neighbors": 3}
    assert {run.parameters.get("epochs") for run in made.runs(quick=True)} == {1, None}


def test_a_method_like_another_and_one_that_varies():
    made = plan(
        methods={
            "base": {"detector": "cae", "label": "Base", "control": True, "epochs": 2, "training": {"lr": 0.1}},
            "other": {"like": "base", "training": {"batch_size": 9}},
            "epochs": {"like": "other", "label": "Other", "vary": {"epochs": [3, 4], "training.lr": [0.5]}},
        }
    )
    runs = {run.method: run for run in made.runs()}
    assert list(runs) == ["base", "other", "epochs-3", "epochs-4", "epochs-lr-0.5"]
    assert runs["other"].parameters == {"epochs": 2, "training": {"lr": 0.1, "batch_size": 9}}
    assert (runs["other"].label, runs["other"].control) == ("other", False)
    assert runs["epochs-4"].parameters == {"epochs": 4, "training": {"lr": 0.1, "batch_size": 9}}
    assert runs["epochs-lr-0.5"].parameters["training"]["lr"] == 0.5 and runs["epochs-lr-0.5"].label == "Other, lr 0.5"


def test_what_varies_wins_over_the_data_set():
    datasets = {"digits": {"overrides": {"latent_dim": 5}}}
    made = plan(datasets=datasets, methods={"cae": {"vary": {"latent_dim": [2, 3]}}})
    assert {run.parameters["latent_dim"] for run in made.runs()} == {2, 3}


def test_quick_takes_the_first_class_unless_told():
    datasets = {"digits": {}, "again": {"source": "digits"}}
    made = plan(seeds=3, datasets=datasets, quick={"seeds": [2], "normal_classes": {"again": ["8", "1"]}})
    assert [(run.dataset, run.normal_class, run.seed) for run in made.runs(quick=True)] == [
        ("digits", "0", 2), ("again", "8", 2), ("again", "1", 2),
    ]  # fmt: skip


def test_label_and_control_do_not_change_a_run_and_all_else_does():
    ids = {name: plan(**tables).runs()[0].id for name, tables in {
        "plain": {},
        "labelled": {"methods": {"knn": {"label": "k nearest", "control": True}}},
        "parameter": {"methods": {"knn": {"n_neighbors": 3}}},
        "seed": {"seeds": [1]},
        "source": {"datasets": {"digits": {"normal_classes": [3], "image_size": 4}}},
    }.items()}  # fmt: skip
    assert ids["plain"] == ids["labelled"] and len(set(ids.values())) == 4


def test_own_data_need_a_file_and_may_name_the_normal_label(tmp_path):
    (tmp_path / "parts.csv").write_text("a,state\n1,ok\n")
    made = make_plan(
        {"datasets": {"parts": {"source": "parts.csv", "label_column": "state", "normal_classes": ["ok"]}}, "methods": KNN}, tmp_path
    )
    [run] = made.runs()
    assert run.normal_class == "ok" and run.source["source"] == "parts.csv" and str(tmp_path) not in run.id
    with pytest.raises(DataError, match="relative to the plan"):
        make_plan({"datasets": {"parts": {"source": "part.csv"}}, "methods": KNN}, tmp_path)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"sedes": 1}, "unknown name 'sedes'.*Did you mean 'seeds'"),
        ({"seeds": 0}, "at least 1"),
        ({"seeds": [1, 1]}, "different seeds"),
        ({"seeds": [-1]}, "at least 0"),
        ({"seeds": "3"}, "whole number"),
        ({"datasets": {}}, r"\[datasets.NAME\]"),
        ({"datasets": {"mnits": {}}}, "needs source = .*Did you mean 'mnist'"),
        ({"datasets": {"digits": {"normal_classes": ["12"]}}}, "no class '12'"),
        ({"datasets": {"digits": {"normal_classes": []}}}, "at least one"),
        ({"datasets": {"digits": {"normal_classes": [3, "3"]}}}, "twice"),
        ({"datasets": {"digits": {"label_column": "y"}}}, "for your own files"),
        ({"datasets": {"digits": {"source": False}}}, "name of a data set, a file or a folder, got False"),
        ({"datasets": {"digits": {"classes": [3]}}}, "unknown name 'classes'.*Did you mean 'normal_classes'"),
        ({"datasets": {"digits": {"overrides": {"n_neighbours": 3}}}}, "Did you mean 'n_neighbors'"),
        ({"datasets": {"digits": {"overrides": {"epochs": 3}}}}, "unknown name 'epochs'"),  # as knn alone has none
        ({"datasets": {"digits": {"methods": ["kn"]}}}, "Did you mean 'knn'"),
        ({"datasets": {"../digits": {}}}, "a name must be"),
        ({"datasets": {"digits": 3}}, "must be a table"),
        ({"methods": {"kn": {}}}, "not a detector, so it needs.*Did you mean 'knn'"),
        ({"methods": {"a": {"detector": "vae-svd"}}}, "Did you mean 'vae-svdd'"),
        ({"methods": {"knn": {"n_neighbours": 3}}}, "Did you mean 'n_neighbors'"),
        ({"methods": {"knn": {"n_neighbors": 0}}}, r"\[methods.knn\] on digits.*at least 1"),
        ({"methods": {"cae": {"training": {"lrr": 1}}}}, "no field 'lrr'.*Did you mean 'lr'"),
        ({"methods": {"knn": {"random_state": 3}}}, "random_state"),
        ({"methods": {"knn": {"parameters": {"random_state": 3}}}}, "seeds"),
        ({"methods": {"knn": {"on": {"digit": {}}}}}, "Did you mean 'digits'"),
        ({"methods": {"knn": {"datasets": ["mnist"]}}}, "must be one of 'digits'"),
        ({"methods": {"knn": {"datasets": []}}}, "at least one"),
        ({"methods": {"knn": {"seeds": 1.5}}}, "whole number"),
        ({"methods": {"knn": {"control": "yes"}}}, "true or false"),
        ({"methods": {"knn": {"like": "iforest"}}}, "further up"),
        ({"methods": {"knn": {}, "a": {"like": "knnn"}}}, "Did you mean 'knn'"),
        ({"methods": {"knn": {"vary": {"n_neighbors": 3}}}}, "list of values"),
        ({"methods": {"knn": {"vary": {"scaling": ["unit", "uni"]}}}}, r"\[methods.knn\] on digits"),
        ({"methods": {"a": {"detector": "knn", "vary": {"n_neighbors": [1]}}, "a-n_neighbors-1": {"detector": "knn"}}}, "already"),
        ({"datasets": {"digits": {"methods": ["knn"]}}, "methods": {"knn": {}, "iforest": {}}}, "takes part in no run"),
        ({"quick": {"epochs": 3}}, "unknown name 'epochs'"),
        ({"quick": {"normal_classes": {"digits": ["4"]}}}, "must be one of '3', '8'"),
        ({"quick": {"overrides": {"n_neighbors": 0}}}, "quick.*at least 1"),
        ({"methods": {"knn": {"n_neighbors": float("inf")}}}, "finite"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(tables, message):
    with pytest.raises(ParameterError, match=message):
        plan(**tables)


def test_a_file_that_is_no_plan(tmp_path: Path):
    with pytest.raises(DataError, match="Cannot read the plan"):
        read_plan(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("seeds = = 3")
    with pytest.raises(DataError, match="not valid TOML"):
        read_plan(tmp_path / "bad.toml")
    (tmp_path / "date.toml").write_text("[datasets.digits]\n[methods.knn]\nn_neighbors = 2020-01-01\n")
    with pytest.raises(ParameterError, match=r"date.toml.*finite number"):
        read_plan(tmp_path / "date.toml")


names = st.sampled_from(
    ["digits", "knn", "seeds", "normal_classes", "source", "on", "quick", "vary", "like", "label", "n_neighbors", "overrides"]
) | st.text(max_size=4)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["seeds", "datasets", "methods", "quick", "x"]), values, max_size=4), values, values)
def test_whatever_stands_there_gives_a_plan_or_an_error_of_ours(content, dataset, method):
    for tables in (content, {"datasets": {"digits": dataset}, "methods": {"knn": method}}):
        try:
            runs = make_plan(tables).runs(n_seeds=1)
        except InsphereError:
            continue
        assert all(run.id for run in runs)
