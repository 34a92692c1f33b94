"""What is delivered: the wheel has all parts, installs and runs; the files around it say what is so."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import typer
import yaml

import insphere
from insphere.cli.app import app

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("the wheel is built by hatchling: pip install hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    program = f"import os; from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_every_part_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    there = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src" / "insphere").rglob("*") if path.is_file()}
    assert names == {name for name in there if "__pycache__" not in name}
    assert wheel.stat().st_size < 2_000_000


@pytest.mark.slow
def test_the_wheel_installs_and_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own that sees the libraries of this one, as a test must not fetch them."""
    venv.create(tmp_path / "empty", with_pip=False)
    python = tmp_path / "empty" / "bin" / "python"
    site = next((tmp_path / "empty" / "lib").glob("python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    libraries = Path(typer.__file__).parent.parent
    program = f"import sys; sys.path.append({str(libraries)!r}); from insphere.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([python, "-c", program, "demo"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "AUROC" in done.stdout and (tmp_path / "demo" / "model.insphere").is_file()


def test_the_version_stands_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == insphere.__version__ and citation["license"] == PROJECT["license"]
    assert citation["references"][0]["volume"] == 453


def test_what_is_pinned_satisfies_what_is_asked_for() -> None:
    from packaging.requirements import Requirement
    from packaging.version import Version

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {name.lower().replace("_", "-"): version for name, _, version in (line.partition("==") for line in lines if "==" in line)}
    asked = [*PROJECT["dependencies"], *(entry for extra in PROJECT["optional-dependencies"].values() for entry in extra)]
    for requirement in map(Requirement, asked):
        # Of daft every version asks for an older pyarrow than the pinned one: its extra is installed without the constraints.
        if requirement.name not in ("insphere", "daft"):
            name = requirement.name.lower().replace("_", "-")
            assert name in pinned, f"constraints.txt does not pin {name}"
            assert requirement.specifier.contains(Version(pinned[name])), f"{name} {pinned[name]} does not satisfy {requirement}"


def test_the_container_serves_what_the_command_line_knows() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    words = re.findall(r'"([^"]+)"', re.search(r"^CMD (\[.*\])$", text, flags=re.MULTILINE)[1])  # type: ignore[index]
    command = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    with command.make_context(words[0], words[1:]) as context:
        assert context.params["host"] == "0.0.0.0"
    assert "/v2/health/live" in text and "USER nobody" in text
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for line in re.findall(r"^COPY (?!--from)(.+)$", text, flags=re.MULTILINE) for name in line.split()[:-1]}
    assert copied <= kept


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_workflows_and_forms_are_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def test_hooks_run_tools_that_the_project_has() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    assert [hook["entry"].split()[0] for hook in hooks] == [".venv/bin/ruff", ".venv/bin/ruff", ".venv/bin/python"]


def test_the_readme_s_line_for_a_machine_without_gpu_takes_the_pinned_cpu_build() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "pip install . -c constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu\n" in readme
