"""``insphere export``."""

from pathlib import Path

import pytest

from cli.conftest import Run

pytest.importorskip("onnxscript", reason="pip install 'insphere[export]'")


def test_a_model_becomes_a_graph_and_says_how_it_compares(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    outcome = run("export", model, "-o", tmp_path / "m.onnx", "--rows", tiles)
    assert (outcome.code, outcome.err) == (0, "") and (tmp_path / "m.onnx").stat().st_size > 1000
    assert "all decisions are equal" in outcome.out and "int8" not in outcome.out


def test_int8_tells_its_cost(run: Run, model: Path, tiles: Path, tmp_path: Path) -> None:
    outcome = run("export", model, "-o", tmp_path / "m.onnx", "--rows", tiles, "--int8", "--json")
    assert outcome.code == 0
    cost = outcome.result["quantisation"]
    assert cost["n_rows"] == 96 and 0.5 < cost["rank_correlation"] <= 1 and abs(cost["auroc"] - cost["auroc_int8"]) < 0.1


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
