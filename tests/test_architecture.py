"""The walls between the rooms: who imports whom, read from the source (docs/architecture.md)."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "insphere"

# A room imports from its own line and the lines above it.
FLOORS = (
    ("errors",),
    ("validation", "fields", "seeding", "estimate", "output_file", "extensions", "visible", "toml_file", "worker_processes"),
    ("ranking", "metrics", "localisation_metrics", "model_file", "scores_file", "drift", "signatures"),
    ("data",),
    ("decision",),
    ("verdict_database", "verdict_files"),
    ("nets", "scores"),
    ("training",),
    ("detectors",),
    ("checking", "explain", "export", "watching", "attacks", "selection", "compat", "runtime"),
    ("gallery", "localising", "scoring"),
    ("benchmark", "report", "serving"),
    ("audit",),
    ("cli", "__main__", "__init__"),
)
FLOOR_OF_ROOM = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# Methods that only hand on to a room above, imported when they are called (or for type checkers).
HANDED_ON = {"detectors": {"insphere.explain.explain", "insphere.explain.Explanation"}}

# Circles of imports that stand, each by the one import that closes it: (who, whom). A module that is named here and closes none fails.
CLOSING = {
    ("insphere.detectors.base", "insphere.explain"),  # `AbstractDetector.explain` hands on, see above
}

TORCH_ROOMS = {"nets", "scores", "training", "detectors", "explain", "export", "attacks"}
FORBIDDEN = {
    "nets": {"sklearn"},
    "training": {"sklearn"},
    **{room: {"torch", "lightning_fabric"} for room in FLOOR_OF_ROOM if room not in TORCH_ROOMS},
}
EXECUTING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
ALLOWED = {
    "benchmark": {"joblib"},  # it starts processes there, and reads no file
    "scoring": {"joblib"},  # as in benchmark
    "audit": {"pickle"},  # copies of an object of the user's are made in memory, as his libraries would; it reads no file
}

MODULES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the full name of everything imported, wherever in the file; ``from a import b`` gives ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def broken_walls(room: str, code: str) -> list[str]:
    """Return what a file of `room` imports and must not."""
    broken = []
    for name in imports(ast.parse(code)):
        top, *rest = name.split(".")
        if top == "":
            broken.append(f"{name} (relative imports hide the room)")
        elif top == "insphere":
            target = rest[0] if rest and rest[0] in FLOOR_OF_ROOM else "__init__"
            if FLOOR_OF_ROOM[target] > FLOOR_OF_ROOM[room] and name not in HANDED_ON.get(room, ()):
                broken.append(name)
        elif top in (FORBIDDEN.get(room, set()) | EXECUTING) - ALLOWED.get(room, set()):
            broken.append(name)
    return broken


def test_every_module_is_in_a_room() -> None:
    assert {room_of(path) for path in MODULES} <= set(FLOOR_OF_ROOM)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_from_rooms_above(path: Path) -> None:
    assert broken_walls(room_of(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("room", "code"),
    [
        ("data", "import torch"),
        ("data", "def late():\n    from torch import nn"),
        ("data", "from insphere.detectors.base import AbstractDetector"),
        ("nets", "from sklearn.base import BaseEstimator"),
        ("training", "from insphere import detectors"),
        ("nets", "from insphere.training import loop"),
        ("metrics", "import torch.nn"),
        ("model_file", "import pickle"),
        ("errors", "from insphere import load"),
        ("data", "from . import rows"),
        ("training", "from insphere.explain import explain"),
        ("detectors", "from insphere.explain import overlay"),
        ("checking", "import torch"),
    ],
)
def test_the_walls_can_break(room: str, code: str) -> None:
    assert len(broken_walls(room, code)) == 1


def test_what_is_handed_on_is_imported_inside_functions() -> None:
    for path in (SOURCE / "detectors").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        at_import = {name for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom) for name in imports(node)}
        assert HANDED_ON["detectors"].isdisjoint(at_import)


def module_name(path: Path) -> str:
    return ".".join(("insphere", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def import_graph(code_of: Mapping[str, str]) -> dict[str, set[str]]:
    """Return which modules each module imports: at its top, inside functions and for type checkers alike.

    That a module makes Python run the `__init__` of its own package first is not an import of it.
    """
    graph: dict[str, set[str]] = {}
    for module, code in code_of.items():
        imported = set()
        for name in imports(ast.parse(code)):
            while name and name not in code_of:
                name = name.rpartition(".")[0]
            imported.add(name)
        graph[module] = imported - {"", module}
    return graph


def circles(graph: Mapping[str, Set[str]]) -> list[list[str]]:
    """Return every set of modules that can reach each other, sorted."""

    def reached_from(start: str) -> set[str]:
        reached, waiting = set(), [start]
        while waiting:
            for module in graph[waiting.pop()] - reached:
                reached.add(module)
                waiting.append(module)
        return reached

    reach = {module: reached_from(module) for module in graph}
    found = {frozenset(other for other in reach[module] if module in reach[other]) for module in graph if module in reach[module]}
    return sorted(sorted(circle) for circle in found)


GRAPH = import_graph({module_name(path): path.read_text(encoding="utf-8") for path in MODULES})


def without(graph: Mapping[str, Set[str]], closing: Set[tuple[str, str]]) -> dict[str, set[str]]:
    return {module: {other for other in imported if (module, other) not in closing} for module, imported in graph.items()}


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(without(GRAPH, CLOSING)) == []


@pytest.mark.parametrize("closing", sorted(CLOSING), ids=" to ".join)
def test_every_circle_that_is_named_still_stands(closing: tuple[str, str]) -> None:
    assert circles(without(GRAPH, CLOSING - {closing})) != []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("from insphere.b import thing", "import insphere.a"),
        ("from insphere import b", "def late():\n    from insphere.a import thing"),
        ("import insphere.b", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from insphere.a import Thing"),
        ("import insphere.c", "import insphere.a"),
    ],
)
def test_circles_are_found_wherever_they_are_closed(first: str, second: str) -> None:
    code_of = {"insphere": "", "insphere.a": first, "insphere.b": second, "insphere.c": "from insphere.b import thing"}
    assert circles(import_graph(code_of)) in ([["insphere.a", "insphere.b"]], [["insphere.a", "insphere.b", "insphere.c"]])
    assert circles(import_graph(code_of | {"insphere.b": ""})) == []


def calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_executes_a_file_or_touches_the_global_random_state(path: Path) -> None:
    forbidden = {"eval", "exec", "torch.load", "torch.manual_seed", "torch.seed", "np.random.seed", "random.seed", "seed_everything"}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # The one exception: a published file of weights, whose hash is checked first, and of which tensors alone are let through.
    excepted = {"torch.load"} if path == SOURCE / "nets" / "backbones.py" else set()
    assert (forbidden - excepted).isdisjoint(calls(tree))
    loads = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"]
    assert all("weights_only=True" in ast.unparse(node) for node in loads)


def modules_after(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_data_and_metrics_work_without_torch() -> None:
    assert "torch" not in modules_after("import insphere.data.sources, insphere.metrics, insphere.model_file")


def test_the_command_line_starts_without_heavy_libraries() -> None:
    heavy = {"torch", "numpy", "scipy", "sklearn", "pyarrow", "matplotlib", "PIL", "lightning_fabric"}
    assert heavy.isdisjoint(modules_after("import insphere.cli"))


def test_importing_insphere_is_free_and_its_names_resolve() -> None:
    import insphere

    assert "torch" not in modules_after("import insphere")
    assert set(insphere.__all__) <= set(dir(insphere))
    assert all(getattr(insphere, name) is not None for name in insphere.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = insphere.nothing
