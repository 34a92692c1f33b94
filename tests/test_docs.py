"""The documentation says what the program does: commands parse, links lead somewhere, examples run."""

import doctest
import importlib.util
import json
import re
import shlex
import tomllib
import warnings
from pathlib import Path
from types import ModuleType

import pytest
import typer

from insphere.cli.app import app
from insphere.cli.settings import read_config

ROOT = Path(__file__).parent.parent

# What a page's examples need beside the package.
NEEDED = {"guide-service.md": ("fastapi", "starlette.testclient")}
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
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    command = known[name]
    with command.make_context(name, words) as context:
        assert context.command_path == name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", [page for page in PAGES if ">>> " in page.read_text(encoding="utf-8")], ids=name_of)
def test_examples_run(page: Path) -> None:
    for module in NEEDED.get(page.name, ()):
        pytest.importorskip(module, reason=f"the examples of {page.name} need {module}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the examples train for a few epochs only, which the health checks notice
        result = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


MAKER = script("make_notebooks")


@pytest.mark.parametrize("guide", MAKER.GUIDES, ids=lambda guide: guide.stem)
def test_a_notebook_is_its_guide_with_outputs(guide: Path) -> None:
    stored = json.loads(MAKER.notebook_path(guide).read_text(encoding="utf-8"))
    made = json.loads(MAKER.notebook(guide, [example.want for example in MAKER.examples(guide)]))
    assert stored.keys() == made.keys() and len(stored["cells"]) == len(made["cells"]) > 5
    for is_there, wanted in zip(stored["cells"], made["cells"], strict=True):
        assert is_there["source"] == wanted["source"], "run make notebooks"
        for got, want in zip(is_there.get("outputs", []), wanted.get("outputs", []), strict=True):
            texts = ["".join(output.get("text") or output["data"]["text/plain"]).rstrip() + "\n" for output in (want, got)]
            assert doctest.OutputChecker().check_output(*texts, MAKER.OPTIONS), "run make notebooks"
    links = [link for cell in stored["cells"] for link in re.findall(r"\]\(([^)#]+)\)", "".join(cell["source"])) if "://" not in link]
    assert [link for link in links if not (MAKER.notebook_path(guide).parent / link).exists()] == []


def test_the_headline_figures_are_those_of_the_reports() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert script("run_results").with_table(readme) == readme, "run python docs/run_results.py"


def test_the_example_configuration_is_valid(tmp_path: Path) -> None:
    (text,) = blocks(ROOT / "docs" / "command-line.md", "toml")
    (tmp_path / "fit.toml").write_text(text, encoding="utf-8")
    assert read_config(tmp_path / "fit.toml")["params"]["training"]["lr"] == tomllib.loads(text)["params"]["training"]["lr"]


def test_every_make_target_in_the_documentation_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = {name for page in PAGES for block in blocks(page, "sh") for name in re.findall(r"^make ([a-z]+)", block, flags=re.MULTILINE)}
    assert named
    assert named <= targets
