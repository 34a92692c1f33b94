"""What a fit is asked for: file, --set and plain options together."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insphere.cli.settings import checkpoint_path, gather, is_kept, parse_assignments, parse_image_size, read_config
from insphere.errors import DataError, ParameterError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", 1),
        ("a=1e-3", 1e-3),
        ("a=true", True),
        ("a=[1, 2]", [1, 2]),
        ('a="1"', "1"),
        ("a=euclidean", "euclidean"),
        ("a = local ", "local"),
        ("a={lr = 0.1}", {"lr": 0.1}),
        ("a=", ""),
        ("a=b=c", "b=c"),
        ("a=1\nb = 2", "1\nb = 2"),
    ],
)
def test_values_are_toml_or_bare_words(text: str, value: object) -> None:
    assert parse_assignments([text]) == {"a": value}


def test_dots_reach_into_nested_options() -> None:
    assert parse_assignments(["training.lr=0.1", "training.optimizer_options.alpha=0.9", "alpha=1"]) == {
        "training": {"lr": 0.1, "optimizer_options": {"alpha": 0.9}},
        "alpha": 1,
    }


@pytest.mark.parametrize("texts", [["alpha"], ["=1"], ["a..b=1"], [".a=1"], ["a=1", "a=2"], ["a=1", "a.b=2"], ["a.b=2", "a=1"]])
def test_what_makes_no_sense_is_refused(texts: list[str]) -> None:
    with pytest.raises(ParameterError, match="--set"):
        parse_assignments(texts)


@given(st.text())
def test_any_text_is_a_value_or_an_error_of_ours(text: str) -> None:
    try:
        parsed = parse_assignments([text])
    except ParameterError:
        return
    assert len(parsed) == 1


@pytest.mark.parametrize(("text", "size"), [("64", 64), ("24x40", (24, 40)), ("24X40", (24, 40)), (7, 7), ([3, 5], (3, 5)), ([9], 9)])
def test_image_sizes(text: object, size: object) -> None:
    assert parse_image_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-3", "a", "1x", "x", "1x2x3", "1.5", [], [0, 1], True, None])
def test_no_image_size(text: object) -> None:
    with pytest.raises(ParameterError, match=r"--image-size.*HEIGHTxWIDTH"):
        parse_image_size(text)


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "fit.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    path = config(
        tmp_path,
        """
        detector = "vae-svdd"
        target-fpr = 0.1
        seed = 3
        image_size = [24, 40]
        columns = ["a", "b"]
        [params]
        alpha = 0.5
        training = { lr = 0.1, schedule = "cosine" }
        """,
    )
    settings = gather(path, ["training.lr=0.2", "latent_dim=8"], {"seed": 4, "epochs": None, "columns": "c", "mode": "grey"})
    assert settings.detector == "vae-svdd"
    assert settings.parameters == {
        "target_fpr": 0.1,
        "random_state": 4,
        "alpha": 0.5,
        "latent_dim": 8,
        "training": {"lr": 0.2, "schedule": "cosine"},
    }
    assert settings.source_options == {"image_size": (24, 40), "columns": ["c"], "mode": "grey"}


def test_the_command_line_wins_however_each_says_it(tmp_path: Path) -> None:
    assert gather(config(tmp_path, "epochs = 3"), ["epochs=4"], {}).parameters["epochs"] == 4
    assert gather(config(tmp_path, "[params]\nepochs = 3"), [], {"epochs": 4}).parameters["epochs"] == 4


def test_without_anything_the_seed_is_fixed() -> None:
    settings = gather(None, [], {})
    assert (settings.detector, settings.parameters, settings.source_options) == (None, {"random_state": 0}, {})


def test_one_thing_said_twice_in_one_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="`epochs` and the parameter `epochs` are the same"):
        gather(None, ["epochs=3"], {"epochs": 4})
    with pytest.raises(ParameterError, match="`seed` and the parameter `random_state`"):
        gather(config(tmp_path, "seed = 1\n[params]\nrandom_state = 2"), [], {})


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Cannot read the configuration"):
        read_config(tmp_path / "missing.toml")
    with pytest.raises(DataError, match="Cannot read the configuration"):
        read_config(tmp_path)
    with pytest.raises(DataError, match="not valid TOML"):
        read_config(config(tmp_path, "alpha = "))
    with pytest.raises(ParameterError, match=r"unknown name 'epohcs'.*Did you mean 'epochs'"):
        read_config(config(tmp_path, "epohcs = 3"))
    with pytest.raises(ParameterError, match=r"unknown name 'alpha'.*under \[params\]"):
        read_config(config(tmp_path, "alpha = 3"))
    with pytest.raises(ParameterError, match="must be a table"):
        read_config(config(tmp_path, "params = 3"))
    (tmp_path / "latin.toml").write_bytes(b'mode = "gr\xe9y"')
    with pytest.raises(DataError, match="not valid TOML"):
        read_config(tmp_path / "latin.toml")


def test_a_state_is_kept_in_the_file_or_in_those_of_the_parts(tmp_path: Path) -> None:
    state = checkpoint_path(tmp_path / "m[1].insphere")
    assert not is_kept(state)
    (tmp_path / "m[1].insphere.checkpoint.trimmed").touch()
    assert not is_kept(state)
    (tmp_path / "m[1].insphere.checkpoint.0").touch()
    assert is_kept(state)
