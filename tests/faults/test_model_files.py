"""Model files that somebody changed: refused when they are loaded, in words, soon; and nothing of them reaches the terminal raw."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import contract
import insphere
from faults.mutated_models import campaign
from insphere import model_file
from insphere.cli.app import app
from insphere.errors import ModelFileError


def rewritten(path: Path, change: Any) -> Path:
    """Change header and arrays of the model file, checksum and all."""
    saved = model_file.read(path, "detector")
    change(saved.header, saved.arrays)
    model_file.write(path, "detector", saved.header, saved.arrays)
    return path


@pytest.fixture
def forest(tmp_path: Path) -> Path:
    contract.fit_quietly(insphere.IForest(n_estimators=5, random_state=0), contract.blobs()).save(tmp_path / "m.insphere")  # type: ignore[arg-type]
    return tmp_path / "m.insphere"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("network") / "m.insphere"
    contract.fit_quietly(insphere.DeepSVDDVAE(epochs=1, random_state=0), contract.blobs()).save(path)
    return path.read_bytes()


def test_mutants_of_every_detector_are_refused_at_load_or_score() -> None:
    counts, bad, slowest = campaign(150, seed=1, photos=False)
    assert not bad, "\n".join(bad[:5])
    assert counts["refused"] > 50 and counts["scored"] > 10  # mutants of both kinds, so that both ways were tried
    assert slowest < 20


def chain(header: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Make the forest chains of twenty thousand nodes, of which every second is a leaf."""
    n, here = 20_001, np.arange(20_001, dtype=np.int32)
    inner = (here % 2 == 0) & (here < n - 1)
    header["parameters"]["n_estimators"] = 1
    arrays["trees/roots"] = np.zeros(1, np.int32)
    arrays["trees/features"] = np.where(inner, 0, -1).astype(np.int32)
    arrays["trees/left"] = np.where(inner, here + 1, here).astype(np.int32)
    arrays["trees/right"] = np.where(inner, here + 2, here).astype(np.int32)
    arrays["trees/thresholds"] = np.full(n, -1e30)
    arrays["trees/path_lengths"] = np.ones(n)


def test_a_chain_of_tree_nodes_is_refused_at_once(forest: Path) -> None:
    start = time.perf_counter()
    with pytest.raises(ModelFileError, match="trees do not fit together"):
        insphere.load(rewritten(forest, chain))
    assert time.perf_counter() - start < 2


def test_more_trees_than_the_parameters_say_are_refused(forest: Path) -> None:
    with pytest.raises(ModelFileError, match="5 trees instead of 4"):
        insphere.load(rewritten(forest, lambda header, arrays: header["parameters"].update(n_estimators=4)))


@pytest.mark.parametrize("latent_dim", [-1, 0, 10**18, 2.5, "8", True])
def test_a_code_of_impossible_size_is_refused(network: bytes, tmp_path: Path, latent_dim: object) -> None:
    (tmp_path / "m").write_bytes(network)
    with pytest.raises(ModelFileError, match="latent_dim"):
        insphere.load(rewritten(tmp_path / "m", lambda header, arrays: header["model"].update(latent_dim=latent_dim)))


def test_weights_that_are_no_numbers_are_refused_by_name(network: bytes, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(network)
    name = next(name for name in sorted(model_file.read(tmp_path / "m", "detector").arrays) if name.endswith("weight"))

    def spoil(header: dict[str, Any], arrays: dict[str, Any]) -> None:
        arrays[name].flat[0] = np.nan

    with pytest.raises(ModelFileError, match=f"{name}.*not finite"):
        insphere.load(rewritten(tmp_path / "m", spoil))


def test_a_threshold_that_does_not_follow_from_the_scores_is_refused(forest: Path) -> None:
    with pytest.raises(ModelFileError, match="threshold"):
        insphere.load(rewritten(forest, lambda header, arrays: header["decision"].update(threshold=0.1)))


def test_a_header_of_endless_levels_is_refused(forest: Path) -> None:
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(ModelFileError, match="levels deep"):
        insphere.load(rewritten(forest, lambda header, arrays: header["data"].update(extra=deep)))


def test_an_offset_beyond_the_floats_is_refused(forest: Path) -> None:
    data = forest.read_bytes()
    length = int.from_bytes(data[:8], "little")
    head = data[8 : 8 + length].rstrip()
    first = head.index(b'"data_offsets":[')
    comma, end = head.index(b",", first), head.index(b"]", first)
    head = head[: comma + 1] + b"1e400" + head[end:]
    forest.write_bytes(len(head).to_bytes(8, "little") + head + data[8 + length :])
    with pytest.raises(ModelFileError, match="altered"):
        insphere.load(forest)


def test_info_writes_control_characters_of_a_file_out(forest: Path) -> None:
    def inject(header: dict[str, Any], arrays: dict[str, Any]) -> None:
        header["data"]["source"] = "\x1b]0;owned\x07\u202egnp"
        header["versions"]["\x1b[2J"] = "\x9b31m"

    shown = CliRunner().invoke(app, ["info", str(rewritten(forest, inject))])
    assert shown.exit_code == 0
    assert not any(letter in shown.output for letter in "\x1b\x07\x9b\u202e")
    assert "\\x1b]0;owned\\x07" in shown.output
