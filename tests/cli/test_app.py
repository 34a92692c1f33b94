"""The program as a whole: help, exit codes, and how errors are told."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import typer

import insphere
import insphere.errors
from cli.conftest import Run
from insphere.cli import app as app_module
from insphere.cli.app import app, main

COMMANDS = ["demo", "fit", "score", "evaluate", "info", "datasets", "detectors", "export", "watch"]


def examples() -> list[str]:
    root = typer.main.get_command(app)
    texts = [root.help, *(command.help for command in root.commands.values())]  # type: ignore[attr-defined]
    return [line.strip() for text in texts for line in (text or "").splitlines() if line.startswith("  insphere ")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(run: Run, command: str) -> None:
    outcome = run(command, "--help")
    assert outcome.code == 0
    assert f"insphere {command}" in outcome.out.split("For example:")[1]


@pytest.mark.parametrize("example", examples())
def test_the_examples_in_the_help_are_understood(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import shlex

    _, name, *words = shlex.split(example)
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    with command.make_context(name, words) as context:
        assert context.params


def test_without_words_there_is_help(run: Run) -> None:
    outcome = run()
    assert outcome.code == 2
    assert "Usage: insphere" in outcome.out + outcome.err


def test_the_version(run: Run) -> None:
    assert run("--version").out == f"insphere {insphere.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fti"], "Did you mean 'fit'"),
        (["fit"], "Missing argument 'SOURCE'"),
        (["fit", "x"], "Missing option '--output'"),
        (["fit", "x", "-o", "m", "--epohcs", "3"], "--epochs"),
        (["fit", "x", "-o", "m", "--epochs", "three"], "--epochs"),
        (["score", "m", "x", "-o", "scores.xls"], ".parquet"),
        (["fit", "x", "-o", "m", "--set", "alpha"], "name=value"),
    ],
)
def test_wrong_usage_ends_with_two_and_one_message(run: Run, tmp_path: Path, words: list[str], message: str) -> None:
    outcome = run(*words)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("error:") == 1
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


def test_with_json_an_error_is_the_one_object(run: Run) -> None:
    outcome = run("info", "missing.insphere", "--json")
    assert outcome.code == 1
    assert outcome.result["error"]["type"] == "ModelFileError"
    assert "missing.insphere" in outcome.result["error"]["message"]
    assert run("fit", "--json").result["error"]["type"] == "MissingParameter"


@pytest.mark.parametrize(("error", "message"), [(RuntimeError("oops [/bold]"), r"oops \[/bold\]"), (MemoryError(), "smaller --image-size")])
def test_a_defect_is_one_message_too(run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    def fail(path: Path, **_: object) -> None:
        raise error

    monkeypatch.setattr("insphere.detectors.catalog.load", fail)
    outcome = run("info", "m.insphere")
    assert outcome.code == 1
    assert re.search(message, outcome.err)
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("where", ["before", "after", "variable"])
def test_debug_shows_where_an_error_arose(run: Run, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    if where == "variable":
        monkeypatch.setenv("INSPHERE_DEBUG", "1")
    words = {"before": ["--debug", "info", "none"], "after": ["info", "none", "--debug"], "variable": ["info", "none"]}[where]
    outcome = run(*words)
    assert outcome.code == 1
    assert "Traceback" in outcome.err
    assert "error: Model file 'none' does not exist" in outcome.err


def test_warnings_are_one_line_each(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: Path, **_: object) -> None:
        warnings.warn("look [here]", UserWarning, stacklevel=1)
        raise insphere.errors.DataError("enough")

    monkeypatch.setattr("insphere.detectors.catalog.load", load)
    before = warnings.showwarning
    assert run("info", "m").err == "warning: look [here]\nerror: enough\n"
    assert warnings.showwarning is before


def test_exit_codes_are_the_documented_ones() -> None:
    assert (app_module.GOOD, app_module.FAILED, app_module.USAGE, app_module.INTERRUPTED) == (0, 1, 2, 130)


def test_the_module_runs_like_the_program() -> None:
    done = subprocess.run([sys.executable, "-m", "insphere", "info", "none"], capture_output=True, text=True, check=False)
    assert done.returncode == main(["info", "none"]) == 1


@pytest.mark.parametrize("encoding", ["cp437", "cp850", "cp932", "cp949", "cp1251", "latin-1", "ascii"])
def test_no_encoding_of_a_terminal_ends_a_command_whose_work_is_done(encoding: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    words = [sys.executable, "-m", "insphere", "datasets"]
    done = subprocess.run(words, env=environment, capture_output=True, cwd=tmp_path, check=False)
    assert done.returncode == 0 and b"digits" in done.stdout


def test_a_source_that_is_not_there_is_told_before_pytorch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from insphere.cli import main;"
        f"code = main(['fit', 'nowhere', '-o', {str(tmp_path / 'm.insphere')!r}]); print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"] and "nowhere does not exist" in done.stderr


def test_help_keeps_the_brackets_of_a_plan(run: Run) -> None:
    text = run("benchmark", "--help").out
    assert "[datasets.parts]" in text and "[methods.iforest]" in text and "\\[" not in text


def test_an_error_of_an_own_file_is_said_to_be_there(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "from insphere import KNN\nclass Own(KNN):\n    name = 'own-knn'\n    def _fit_features(self, features):\n        return nowhere\n"
    )
    (tmp_path / "own_file.py").write_text(text, encoding="utf-8")
    (tmp_path / "rows.csv").write_text("a,b\n" + "\n".join(f"{n},{n * n % 17}" for n in range(30)), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    outcome = run("fit", "rows.csv", "-o", "m.insphere", "--detector", "own_file:Own")
    told = " ".join(outcome.err.split())
    assert outcome.code == 1 and "NameError" in told and "own_file.py, line 5, which is not a part of insphere" in told
