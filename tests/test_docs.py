"""The documentation says what the program does: commands parse, links lead somewhere, examples run."""

import doctest
import re
import shlex
import tomllib
import warnings
from pathlib import Path

import pytest
import typer

from insphere.cli.app import app
from insphere.cli.settings import read_config

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    lines = [line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]
    return sorted({line for line in lines if line.startswith("insphere ")})


@pytest.mark.parametrize("line", commands())
def test_commands_are_understood(line: str) -> None:
    _, name, *words = shlex.split(line, comments=True)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    with command.make_context(name, words) as context:
        assert context.command_path == name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if ">>> " in page.read_text(encoding="utf-8")], ids=name_of)
def test_examples_run(page: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the examples train for a few epochs only, which the health checks notice
        result = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0


def test_the_example_configuration_is_valid(tmp_path: Path) -> None:
    (text,) = blocks(ROOT / "docs" / "command-line.md", "toml")
    (tmp_path / "fit.toml").write_text(text, encoding="utf-8")
    assert read_config(tmp_path / "fit.toml")["params"]["training"]["lr"] == tomllib.loads(text)["params"]["training"]["lr"]


def test_every_make_target_in_the_documentation_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = {name for page in PAGES for block in blocks(page, "sh") for name in re.findall(r"^make ([a-z]+)", block, flags=re.MULTILINE)}
    assert named
    assert named <= targets
