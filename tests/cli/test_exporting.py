"""``insphere export``."""

from pathlib import Path

import numpy as np
import pytest

from cli.conftest import Run

pytest.importorskip("onnxscript", reason="pip install 'insphere[export]'")


def test_a_model_becomes_a_graph_and_says_how_it_compares(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    outcome = run("export", model, "-o", tmp_path / "m.onnx", "--rows", tiles)
    assert (
        outcome.code == 0
        and outcome.err.splitlines() == ["Building the graph and comparing it with the model …"]
        and (tmp_path / "m.onnx").stat().st_size > 1000
    )
    assert "all decisions are equal" in outcome.out and "int8 scores" not in outcome.out


def test_int8_tells_its_cost(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    outcome = run("export", model, "-o", tmp_path / "m.onnx", "--rows", tiles, "--int8", "--json")
    assert outcome.code == 0
    cost = outcome.result["quantisation"]
    assert cost["n_rows"] == 96 and 0.5 < cost["rank_correlation"] <= 1 and abs(cost["auroc"] - cost["auroc_int8"]) < 0.1


def test_rows_of_a_table_may_be_labelled(run: Run, tmp_path: Path) -> None:
    lines = [f"{number % 7},{number % 5},{'ok' if number < 60 else 'bad'}" for number in range(70)]
    (tmp_path / "t.csv").write_text("\n".join(["volt,ampere,state", *lines]))
    labels = ("--label-column", "state", "--normal-label", "ok")
    assert run("fit", tmp_path / "t.csv", "-o", tmp_path / "t.insphere", "--detector", "iforest", *labels).code == 0
    outcome = run("export", tmp_path / "t.insphere", "-o", tmp_path / "t.onnx", "--rows", tmp_path / "t.csv", *labels, "--json")
    assert outcome.code == 0 and outcome.result["comparison"]["n_rows"] == 87


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["-o", "m.pt"], 2, "must end in .onnx"),
        (["-o", "no/such/m.onnx"], 1, "does not exist"),
        (["-o", "m.onnx", "--int8"], 2, "int8 needs rows"),
        (["-o", "m.onnx", "--rows", "nothing-here"], 1, "does not exist"),
        ([], 2, "--output"),
    ],
)
def test_wrong_use_is_told(
    run: Run, model: Path, words: list[str], code: int, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run("export", model, *words)
    assert outcome.code == code and text in outcome.err and list(tmp_path.iterdir()) == []


def test_a_graph_is_verified_elsewhere(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    assert run("export", model, "-o", tmp_path / "m.onnx").code == 0
    assert "all decisions are equal" in run("verify", tmp_path / "m.onnx").out
    result = run("verify", tmp_path / "m.onnx", "--model", model, "--rows", tiles, "--json").result
    assert result["n_labels"] == 0 and result["n_rows"] > 96
    alone = run("verify", tmp_path / "m.onnx", "--rows", tiles)
    assert alone.code == 2 and "leave `--rows` out" in " ".join(alone.err.split())
    assert run("verify", tmp_path / "m.onnx", "--model", model).code == 0
    (tmp_path / "m.onnx.parity.json").unlink()
    outcome = run("verify", tmp_path / "m.onnx")
    assert outcome.code == 1 and "parity.json cannot be read" in outcome.err


def test_graphs_are_scored_and_evaluated_with_text(tmp_path: Path, run: Run) -> None:
    table = tmp_path / "t.csv"
    rows = np.random.default_rng(0).normal(size=(60, 3))
    labels = ["1" if row >= 50 else "0" for row in range(60)]
    table.write_text("a,b,c,label\n" + "".join(f"{a},{b},{c},{label}\n" for (a, b, c), label in zip(rows, labels, strict=True)))
    named = ["--label-column", "label"]
    assert run("fit", table, *named, "--detector", "knn", "-o", tmp_path / "m.insphere").code == 0
    assert run("export", tmp_path / "m.insphere", "-o", tmp_path / "m.onnx").code == 0
    for command in (
        ["score", tmp_path / "m.onnx", table, *named, "-o", tmp_path / "s.csv"],
        ["evaluate", tmp_path / "m.onnx", table, *named],
    ):
        outcome = run(*command)
        assert outcome.code == 0, outcome.err
        assert "normal rows to flag at most" in " ".join((outcome.out + outcome.err).split())


def test_a_graph_does_not_claim_that_it_has_seen_no_row(tmp_path: Path, run: Run) -> None:
    table = tmp_path / "t.csv"
    rows = np.random.default_rng(0).normal(size=(60, 2))
    table.write_text("a,b,label\n" + "".join(f"{a},{b},{int(number >= 50)}\n" for number, (a, b) in enumerate(rows)))
    named = ["--label-column", "label"]
    assert run("fit", table, *named, "--detector", "knn", "-o", tmp_path / "m.insphere").code == 0
    assert run("export", tmp_path / "m.insphere", "-o", tmp_path / "m.onnx").code == 0
    assert run("evaluate", tmp_path / "m.insphere", table, *named, "--json").result["n_seen"] == 50
    assert run("evaluate", tmp_path / "m.onnx", table, *named, "--json").result["n_seen"] is None
