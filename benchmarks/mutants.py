"""Mutants: one default or branch changed at a time, and the tests of that room run. Usage: make mutants.

A mutant that no test kills is listed; the command fails where fewer than 85 % are killed. The tree itself is never changed: each mutant
is a copy.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LEAST_KILLED = 0.85

TERM, VARIATIONAL, VAE_SVDD = "training/sphere_term.py", "training/variational.py", "detectors/vae_svdd.py"
SPHERE, CALIBRATION, DECISION, FITTING = "scores/sphere.py", "decision/calibration.py", "decision/decision.py", "detectors/fitting.py"
OF_TERM = ("tests/training/test_sphere_term.py",)
OF_VAE_SVDD = (*OF_TERM, "tests/detectors/test_vae_svdd.py")
OF_SPHERE = ("tests/scores/test_sphere.py",)
OF_DECISION = ("tests/decision",)

# File, what stands there, what the mutant has instead, tests that are to notice.
MUTANTS = (
    (TERM, 'norm: str = "plain"', 'norm: str = "squared"', OF_TERM),
    (TERM, 'center: str = "batch-mean"', 'center: str = "batch-mean-detached"', OF_TERM),
    (TERM, 'final_center: str = "training-mean"', 'final_center: str = "last"', OF_TERM),
    (TERM, "center_momentum: float = 0.9", "center_momentum: float = 0.5", OF_TERM),
    (TERM, "keep * self.center + (1 - keep) * batch_mean", "(1 - keep) * self.center + keep * batch_mean", OF_TERM),
    (TERM, '== "moving-average" else 0.0', '!= "moving-average" else 0.0', OF_TERM),
    (TERM, "else batch_mean.detach()", "else batch_mean", OF_TERM),
    (TERM, "            return batch_mean\n", "            return batch_mean.detach()\n", OF_TERM),
    (TERM, "if not self.training:", "if self.training:", OF_TERM),
    (TERM, 'self.reading.norm == "squared"', 'self.reading.norm != "squared"', OF_TERM),
    (TERM, 'in ("learned", "moving-average")', 'in ("learned",)', OF_TERM),
    (VAE_SVDD, 'distance_of: str = "sample"', 'distance_of: str = "mean"', OF_VAE_SVDD),
    (VAE_SVDD, 'score_of: str = "mean"', 'score_of: str = "sample"', OF_VAE_SVDD),
    (VAE_SVDD, 'if self.reading.distance_of == "sample"', 'if self.reading.distance_of != "sample"', OF_VAE_SVDD),
    (VAE_SVDD, 'if self.reading.score_of == "mean"', 'if self.reading.score_of != "mean"', OF_VAE_SVDD),
    (VAE_SVDD, "self.alpha * (kl - log_likelihood) + distance", "self.alpha * (kl + log_likelihood) + distance", OF_VAE_SVDD),
    (VAE_SVDD, "max(0.01, 7.84 /", "max(0.02, 7.84 /", (*OF_VAE_SVDD, "src/insphere/detectors/vae_svdd.py")),
    (VARIATIONAL, "n_draws: int = 1", "n_draws: int = 2", OF_TERM),
    (SPHERE, "np.arange(len(references)) if own is None else own", "np.full(len(references), -1) if own is None else own", OF_SPHERE),
    (SPHERE, "own = np.full(len(codes), -1)", "own = np.full(len(codes), 0)", OF_SPHERE),
    (SPHERE, "self.n_neighbors, self._own)", "self.n_neighbors)", OF_SPHERE),
    (SPHERE, "1e-12 * largest", "1e-2 * largest", OF_SPHERE),
    (SPHERE, "codes.mean(axis=0) if center is None else center", "codes.mean(axis=0)", OF_SPHERE),
    (CALIBRATION, "fraction: float = 0.2", "fraction: float = 0.3", OF_DECISION),
    (CALIBRATION, "max_rows: int = 2000", "max_rows: int = 1000", OF_DECISION),
    (CALIBRATION, "n_folds: int = 10", "n_folds: int = 5", OF_DECISION),
    (CALIBRATION, "radius_quantile: float = 0.95", "radius_quantile: float = 0.9", (*OF_DECISION, *OF_VAE_SVDD)),
    (CALIBRATION, "stated = n_above and n_low", "stated = n_low", OF_DECISION),
    (CALIBRATION, "n_low = n_high if n_tied == 1 else n_above", "n_low = n_high", OF_DECISION),
    (DECISION, "float(self.calibration.scores[-1])", "float(self.calibration.scores[0])", OF_DECISION),
    (DECISION, "scores > self.threshold", "scores >= self.threshold", OF_DECISION),
    (FITTING, "options.radius_quantile)", "0.95)", (*OF_TERM, "tests/decision")),
    (FITTING, "CROSS_FROM = 20", "CROSS_FROM = 2", OF_DECISION),
)


def main() -> int:
    """Try all mutants, print what became of each, and return 1 where too few are killed."""
    for tests in sorted({tests for *_, tests in MUTANTS}):
        if _tests_fail(tests):
            raise SystemExit(f"{' '.join(tests)} must pass before anything is changed, and do not: they would seem to kill every mutant.")
    survivors = []
    for number, (name, before, after, tests) in enumerate(MUTANTS):
        killed = _tests_fail(tests, name, before, after)
        survivors += [] if killed else [f"{name}: {before} -> {after}"]
        print(f"{number + 1}/{len(MUTANTS)} {'killed' if killed else 'SURVIVED'} {name}: {after.strip()}", flush=True)
    n_killed = len(MUTANTS) - len(survivors)
    print(f"{n_killed} of {len(MUTANTS)} killed", *survivors, sep="\n")
    return int(n_killed < LEAST_KILLED * len(MUTANTS))


def _tests_fail(tests: tuple[str, ...], name: str | None = None, before: str = "", after: str = "") -> bool:
    """Return whether tests fail in a copy of the tree, with `before` in the file `name` changed to `after` if a file is named."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for part in ("src", "tests", "benchmarks", "docs"):
            shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("pyproject.toml", "README.md", "CHANGELOG.md"):
            shutil.copy(ROOT / part, tree / part)
        if name is not None:
            file = tree / "src" / "insphere" / name
            text = file.read_text(encoding="utf-8")
            if before not in text:
                raise SystemExit(f"{name} has no {before!r} any more; mend the list of mutants.")
            file.write_text(text.replace(before, after, 1), encoding="utf-8")
        environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--doctest-modules", *tests]
        return subprocess.run(command, cwd=tree, env=environment, capture_output=True, check=False).returncode != 0


if __name__ == "__main__":
    sys.exit(main())
