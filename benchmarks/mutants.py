"""Mutants: one default or branch changed at a time, and the tests of that room run.

    python benchmarks/mutants.py            # all of them; takes long
    python benchmarks/mutants.py --list     # what would be changed
    python benchmarks/mutants.py --only sphere_term
    python benchmarks/mutants.py --sample 300 --coverage .coverage    # after make coverage: some of all rooms that decide

In the rooms of the sphere and of the decision every default, branch, comparison and sum is changed, as the syntax tree says, and what is
named in `BESIDE`. The tree itself is never changed: each mutant is a copy. What no test kills is listed; the command fails where fewer
than 85 % are killed. A whole run writes benchmarks/reports/mutants.md.

With `--sample` so many mutants are drawn from all files of `WHOLE`, of which there are too many to try each, and up to sixty tests
run that came by the changed line, as the data of `make coverage` say, those of its own file first; one that only others notice is a
survivor. The share of killed ones then stands for all, with its interval, in benchmarks/reports/mutants-sample.md.
"""

import argparse
import ast
import contextlib
import dataclasses
import importlib
import io
import math
import os
import platform
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import coverage
import pytest

import insphere
from insphere.benchmark.run.execution import source_commit
from insphere.errors import ParameterError
from insphere.estimate import proportion
from insphere.fields import Rule, rules_of

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "benchmarks" / "reports" / "mutants.md"
SAMPLE_REPORT = REPORT.with_name("mutants-sample.md")
WHOLE = ("detectors", "scores", "decision", "data", "model_file.py")
MOST_TESTS, SAMPLE_SECONDS = 60, 120
LEAST_KILLED = 0.85
LEAST_SECONDS, PATIENCE = 30, 10  # a mutant may loop for ever: as many times as long as the tests take without one, it is noticed too

OF_TERM = ("tests/training/test_sphere_term.py", "src/insphere/training/sphere_term.py")
OF_VARIATIONAL = ("tests/training/test_variational.py", "tests/training/test_sphere_term.py", "src/insphere/training/variational.py")
OF_VAE_SVDD = (
    "tests/training/test_sphere_term.py",
    "src/insphere/detectors/vae_svdd.py",
    "tests/detectors/test_vae_svdd.py::test_loss_equals_its_formula_written_out",
)
OF_SPHERE = ("tests/scores/test_sphere.py", "src/insphere/scores/sphere.py")
OF_NEIGHBOURS = ("tests/scores/test_neighbours.py", "tests/scores/test_sphere.py", "src/insphere/scores/neighbours.py")
OF_CALIBRATION = ("tests/decision/test_calibration.py", "src/insphere/decision/calibration.py", "tests/decision/test_decision.py")
OF_DECISION = (
    "tests/decision/test_decision.py",
    "tests/decision/test_categories.py",
    "tests/decision/test_verdicts.py",
    "src/insphere/decision/decision.py",
)

ROOMS = {
    "training/sphere_term.py": OF_TERM,
    "training/variational.py": OF_VARIATIONAL,
    "detectors/vae_svdd.py": OF_VAE_SVDD,
    "scores/sphere.py": OF_SPHERE,
    "scores/neighbours.py": OF_NEIGHBOURS,
    "decision/calibration.py": OF_CALIBRATION,
    "decision/decision.py": OF_DECISION,
}
"""Files of which everything is changed, and the tests that are to notice."""

# File, what stands there, what the mutant has instead, tests that are to notice: what no rule below makes.
BESIDE = (
    ("training/sphere_term.py", "else batch_mean.detach()", "else batch_mean", OF_TERM),
    ("training/sphere_term.py", "            return batch_mean\n", "            return batch_mean.detach()\n", OF_TERM),
    ("training/sphere_term.py", 'in ("learned", "moving-average")', 'in ("learned",)', OF_TERM),
    ("detectors/vae_svdd.py", "max(0.01, 7.84 /", "max(0.02, 7.84 /", OF_VAE_SVDD),
    ("scores/sphere.py", "np.arange(len(references)) if own is None", "np.full(len(references), -1) if own is None", OF_SPHERE),
    ("scores/sphere.py", "own = np.full(len(codes), -1)", "own = np.full(len(codes), 0)", OF_SPHERE),
    ("scores/sphere.py", "self.n_neighbors, self._own)", "self.n_neighbors)", OF_SPHERE),
    ("scores/sphere.py", "1e-12 * largest", "1e-2 * largest", OF_SPHERE),
    ("decision/decision.py", "float(self.calibration.scores[-1])", "float(self.calibration.scores[0])", OF_DECISION),
    ("detectors/unseen.py", "options.radius_quantile)", "0.95)", (*OF_TERM, *OF_DECISION)),
    ("detectors/fitting.py", "CROSS_FROM = 20", "CROSS_FROM = 2", OF_DECISION),
)


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One change of one file: its text afterwards, where and what it is, and the tests that are to notice it."""

    file: str
    text: str
    told: str
    tests: tuple[str, ...]


_SWAPPED: dict[type[ast.AST], tuple[str, str]] = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"),
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "*"),
    ast.And: ("and", "or"), ast.Or: ("or", "and"),
}  # fmt: skip


class _Finder(ast.NodeVisitor):
    """Finds the changes of a file: (start, end, replacement), as positions in its bytes."""

    def __init__(self, source: bytes, module: str) -> None:
        self.source, self.module = source, module
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.changes: list[tuple[int, int, str]] = []

    def span(self, node: Any) -> tuple[int, int]:
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def between(self, left: ast.AST, right: ast.AST, swap: tuple[str, str]) -> None:
        """Swap the operator that stands between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        position = self.source[start:end].find(swap[0].encode())
        if position >= 0:
            self.changes.append((start + position, start + position + len(swap[0]), swap[1]))

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            self.between(left, right, _SWAPPED[type(operator)])
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        texts = any(isinstance(side, ast.JoinedStr) or isinstance(getattr(side, "value", None), str) for side in (node.left, node.right))
        if type(node.op) in _SWAPPED and not texts:
            self.between(node.left, node.right, _SWAPPED[type(node.op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self.between(left, right, _SWAPPED[type(node.op)])
        self.generic_visit(node)

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.If | ast.IfExp | ast.While) and not _turned_by_its_operator(node.test):
            start, end = self.span(node.test)
            self.changes.append((start, end, f"not ({self.source[start:end].decode()})"))
        super().visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for entry in node.body:
            if isinstance(entry, ast.AnnAssign) and entry.value is not None and isinstance(entry.target, ast.Name):
                self._default(entry.value, self._rule(node.name, entry.target.id))
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for default in (*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)):
            self._default(default, None)
        for entry in node.body:
            self.visit(entry)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Leave annotations alone: what they declare is tried by tests/detectors/test_declared.py from the declaration itself."""
        if node.value is not None:
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if node.col_offset == 0:  # a constant of the module
            self._default(node.value, None)
        self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave what is only said alone."""

    def visit_Raise(self, node: ast.Raise) -> None:
        """Leave what is only said alone."""

    def _rule(self, owner: str, field: str) -> Rule | None:
        kind = getattr(importlib.import_module(self.module), owner)
        try:
            return rules_of(kind).get(field) if dataclasses.is_dataclass(kind) else None
        except NameError:  # annotated with what only type checkers import: such records declare no rules
            return None

    def _default(self, node: ast.expr, rule: Rule | None) -> None:
        """Change a default to another that its rule allows."""
        value = node.value if isinstance(node, ast.Constant) else None
        others: tuple[object, ...] = ()
        if isinstance(value, bool):
            others = (not value,)
        elif isinstance(value, int | float):
            others = (2 * value, value / 2) if value else (1,)
        elif isinstance(value, str) and rule is not None:
            others = tuple(choice for choice in rule.choices if choice != value)
        for other in others:
            with contextlib.suppress(ParameterError):
                if rule is not None:
                    rule.check("default", other)
                self.changes.append((*self.span(node), repr(other)))
                return


def _turned_by_its_operator(test: ast.expr) -> bool:
    """Return whether swapping the one operator of a condition is the same as negating it, so that one mutant of both is enough."""
    one = isinstance(test, ast.Compare) and len(test.ops) == 1
    return one and isinstance(test.ops[0], ast.Eq | ast.NotEq | ast.Is | ast.IsNot | ast.In | ast.NotIn)  # type: ignore[attr-defined]


def found(file: str, tests: tuple[str, ...]) -> Iterator[Mutant]:
    """Yield the mutants of a file, in the order of its lines."""
    source = (ROOT / "src" / "insphere" / file).read_bytes()
    finder = _Finder(source, "insphere." + file.removesuffix(".py").replace("/", "."))
    finder.visit(ast.parse(source))
    for start, end, replacement in sorted(set(finder.changes)):
        text = (source[:start] + replacement.encode() + source[end:]).decode()
        number = source[:start].count(b"\n")
        told = f"{file}:{number + 1}: {source.decode().splitlines()[number].strip()} -> {text.splitlines()[number].strip()}"
        yield Mutant(file, text, told, tests)


def mutants() -> list[Mutant]:
    """Return all mutants, those that are named beside at the end."""
    made = [mutant for file, tests in ROOMS.items() for mutant in found(file, tests)]
    for file, before, after, tests in BESIDE:
        text = (ROOT / "src" / "insphere" / file).read_text(encoding="utf-8")
        if before not in text:
            raise SystemExit(f"{file} has no {before!r} any more; mend the list of mutants.")
        made.append(Mutant(file, text.replace(before, after, 1), f"{file}: {before.strip()} -> {after.strip()}", tests))
    return made


def sampled(n: int, seed: int, coverage_file: Path) -> list[Mutant]:
    """Return mutants drawn from all files of `WHOLE`, each with the tests that came by its line."""
    came_by = coverage.CoverageData(str(coverage_file))
    came_by.read()
    measured = {re.sub(r".*/src/insphere/", "", name): name for name in came_by.measured_files()}
    source = ROOT / "src" / "insphere"
    files = [path for part in WHOLE for path in ([source / part] if part.endswith(".py") else sorted((source / part).rglob("*.py")))]
    everything = [mutant for path in files for mutant in found(path.relative_to(source).as_posix(), ())]
    drawn = sorted(random.Random(seed).sample(range(len(everything)), min(n, len(everything))))
    print(f"{len(drawn)} of {len(everything)} mutants drawn", flush=True)
    return [dataclasses.replace(everything[i], tests=_tests_of(everything[i], came_by, measured)) for i in drawn]


def _tests_of(mutant: Mutant, came_by: Any, measured: dict[str, str]) -> tuple[str, ...]:
    """Return the tests to run: those that came by the line; where it runs at import, those of the file that bear its name."""
    line = int(mutant.told.split(":")[1])
    lines = came_by.contexts_by_lineno(measured[mutant.file]) if mutant.file in measured else {}
    tests = {context.partition("|")[0] for context in lines.get(line, ()) if context}
    if not tests:
        tests = {context.partition("|")[0] for contexts in lines.values() for context in contexts if context}
    drawn = random.Random(mutant.told)
    chosen: list[str] = []
    for near in (f"/test_{Path(mutant.file).stem}.py::", f"tests/{mutant.file.partition('/')[0]}/", "tests/"):
        there = sorted(test for test in tests.difference(chosen) if near in test)
        chosen += drawn.sample(there, min(len(there), MOST_TESTS // 3))
    return tuple(chosen)


def main() -> int:
    """Try the mutants, print what became of each, and return 1 where too few are killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only mutants whose description contains this")
    parser.add_argument("--list", action="store_true", help="tell the mutants and try none")
    parser.add_argument("--sample", type=int, default=0, help="draw so many of all rooms that decide, see above")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--coverage", type=Path, default=ROOT / ".coverage", help="data of make coverage")
    options = parser.parse_args()
    if options.sample:
        return try_sample(sampled(options.sample, options.seed, options.coverage))
    tried = [mutant for mutant in mutants() if options.only in mutant.told]
    if options.list:
        print(*(mutant.told for mutant in tried), f"{len(tried)} mutants", sep="\n")
        return 0
    _load_libraries()
    limits = {}
    for tests in sorted({mutant.tests for mutant in tried}):
        began = time.monotonic()
        if _tests_fail(tests, math.inf):
            raise SystemExit(f"{' '.join(tests)} must pass before anything is changed, and do not: they would seem to kill every mutant.")
        limits[tests] = max(LEAST_SECONDS, PATIENCE * (time.monotonic() - began))
    began, survivors = time.monotonic(), []
    for number, mutant in enumerate(tried):
        killed = _tests_fail(mutant.tests, limits[mutant.tests], mutant)
        survivors += [] if killed else [mutant]
        print(f"{number + 1}/{len(tried)} {'killed' if killed else 'SURVIVED'} {mutant.told}", flush=True)
    n_killed = len(tried) - len(survivors)
    print(f"{n_killed} of {len(tried)} killed", *(mutant.told for mutant in survivors), sep="\n")
    if not options.only:
        REPORT.write_text(_report(tried, survivors, time.monotonic() - began), encoding="utf-8")
    return int(n_killed < LEAST_KILLED * len(tried))


def try_sample(drawn: list[Mutant]) -> int:
    """Try drawn mutants and write what share is killed; tests that do not end count as noticing only where they end without a mutant."""
    _load_libraries()
    began, survivors = time.monotonic(), []
    for number, mutant in enumerate(drawn):
        started = time.monotonic()
        killed = bool(mutant.tests) and _tests_fail(mutant.tests, SAMPLE_SECONDS, mutant)
        if killed and time.monotonic() - started >= SAMPLE_SECONDS:
            killed = not _tests_fail(mutant.tests, SAMPLE_SECONDS)
        survivors += [] if killed else [mutant]
        print(f"{number + 1}/{len(drawn)} {'killed' if killed else 'SURVIVED'} {mutant.told}", flush=True)
    killed_share = proportion(len(drawn) - len(survivors), len(drawn))
    intro = [
        f"{len(drawn)} defaults, branches, comparisons and sums of {', '.join(WHOLE)}, drawn at random, were changed, one at a time, and"
        f" up to {MOST_TESTS} of the tests that came by the line were run (`benchmarks/mutants.py --sample {len(drawn)}`). A survivor is a"
        " change that none of these noticed; others may.",
        "",
        f"Killed: {killed_share}, Wilson's 95 % interval.",
    ]
    SAMPLE_REPORT.write_text(_report(drawn, survivors, time.monotonic() - began, intro), encoding="utf-8")
    return int(len(survivors) > (1 - LEAST_KILLED) * len(drawn))


def _load_libraries() -> None:
    """Import what tests need but insphere once, so that each mutant's process, a fork, starts with it; pytest sees its plugins first."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "insphere"]:
        del sys.modules[name]
    for name in ("numpy", "scipy.stats", "sklearn.covariance", "sklearn.svm", "torch", "lightning_fabric", "pandas"):
        importlib.import_module(name)


def _tests_fail(tests: tuple[str, ...], seconds: float, mutant: Mutant | None = None) -> bool:
    """Return whether tests fail, or do not end in time, in a copy of the tree with the mutant's file."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for part in ("src", "tests", "benchmarks", "docs"):
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("pyproject.toml", "README.md", "CHANGELOG.md"):
            shutil.copy(ROOT / part, tree / part)
        if mutant is not None:
            (tree / "src" / "insphere" / mutant.file).write_text(mutant.text, encoding="utf-8")
        child = os.fork()
        if child == 0:
            os._exit(_run(tree, tests, told=mutant is None))
        until = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status) != 0
            if time.monotonic() > until:
                os.kill(child, 9)
                os.waitpid(child, 0)
                return True
            time.sleep(0.05)


def _run(tree: Path, tests: tuple[str, ...], *, told: bool) -> int:
    """Run tests in the tree and return pytest's exit code; what it says is printed only where `told`, and tests fail."""
    os.chdir(tree)
    os.environ |= {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
    sys.path[:0] = [str(tree / "src"), str(tree / "tests")]
    sys.dont_write_bytecode = True
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--doctest-modules", *tests]))
    if told and code:
        print(said.getvalue(), flush=True)
    return code


_INTRO = (
    "Every default, branch, comparison and sum of these files was changed, one at a time, and the tests of its room were run",
    "(`benchmarks/mutants.py`). A survivor is a change that no test noticed.",
)


def _report(tried: Sequence[Mutant], survivors: Sequence[Mutant], seconds: float, intro: Sequence[str] = _INTRO) -> str:
    lines = [
        "# Mutants",
        "",
        *intro,
        "",
        "| file | mutants | killed | % |",
        "|---|---|---|---|",
    ]
    for file in dict.fromkeys(mutant.file for mutant in tried):
        n_tried, n_left = (sum(mutant.file == file for mutant in group) for group in (tried, survivors))
        lines.append(f"| {file} | {n_tried} | {n_tried - n_left} | {100 * (1 - n_left / n_tried):.0f} |")
    n_killed = len(tried) - len(survivors)
    lines += [f"| all | {len(tried)} | {n_killed} | {100 * n_killed / len(tried):.0f} |", "", "Survivors:", ""]
    lines += [f"- `{mutant.told}`" for mutant in survivors] or ["none"]
    lines += [
        "",
        f"insphere {insphere.__version__} at commit {source_commit() or 'unknown'}, Python {platform.python_version()},"
        f" {os.cpu_count()} cores ({platform.machine()}) shared with other work, {seconds / 60:.0f} minutes.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
