"""Imports go down only: the floors of the house, read off the source."""

import ast
from pathlib import Path

SRC = Path(__file__).parents[1] / "src" / "suture"
FLOORS = {
    "errors": 0,
    "types": 0,
    "task_vector": 0,
    "bibliography": 0,
    "factoring": 0,
    "gram": 0,
    "randomness": 0,
    "inputs": 0,
    "checkpoints": 1,
    "engine": 2,
    "merging": 2,
    "backbones": 2,
    "tasks": 2,
    "representation": 2,
    "surgery": 3,
    "training": 3,
    "evaluation": 3,
    "multitask": 4,
    "report": 5,
    "serving": 5,
    "experiment": 6,
    "paper": 7,
    "cli": 8,
}
# Packages of one floor may use each other in this direction only.
SAME_FLOOR = {("representation", "backbones"), ("merging", "engine"), ("inputs", "errors")}
# The entry points see everything: they only re-export, or start the command line.
ENTRIES = {"__init__", "__main__"}
# Used before a command is chosen; nothing heavy may be imported at their top level.
LIGHT = {
    "__init__.py",
    "__main__.py",
    "errors.py",
    "types.py",
    "cli/__init__.py",
    "cli/app.py",
    "cli/checks.py",
    "cli/console.py",
    "cli/engines.py",
    "cli/looking.py",
    "cli/merging.py",
    "cli/paper.py",
    "cli/ship.py",
}
HEAVY = {"torch", "transformers", "numpy", "sklearn", "matplotlib", "pydantic", "safetensors"}


def package_of(file: Path) -> str:
    return file.relative_to(SRC).parts[0].removesuffix(".py")


def imported(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
            modules |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "suture"}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return {module.split(".")[1] for module in modules if module.startswith("suture.")} & FLOORS.keys()


def test_every_package_has_a_floor() -> None:
    packages = {package_of(file) for file in SRC.rglob("*.py")} - ENTRIES
    assert packages == set(FLOORS)


def test_imports_go_down() -> None:
    wrong = []
    for file in SRC.rglob("*.py"):
        here = package_of(file)
        if here in ENTRIES:
            continue
        upward = [there for there in imported(file) - {here} if FLOORS[there] >= FLOORS[here] and (here, there) not in SAME_FLOOR]
        wrong += [f"{file.relative_to(SRC)} imports suture.{there}" for there in upward]
    assert not wrong


def test_transformers_is_imported_where_it_is_used() -> None:
    top_level = []
    for file in SRC.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = {
            name.split(".")[0]
            for node in tree.body
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in getattr(node, "names", [])])
        }
        banned = HEAVY if file.relative_to(SRC).as_posix() in LIGHT else {"transformers", "pyarrow", "sklearn"}
        if names & banned:
            top_level.append(f"{file.relative_to(SRC)}: {names & banned}")
    assert not top_level


def test_no_function_is_longer_than_a_screen() -> None:
    for file in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                assert node.end_lineno - node.lineno < 50, f"{file}: {node.name}"


def test_no_file_is_long_and_no_name_is_a_catch_all() -> None:
    for file in SRC.rglob("*.py"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 300, file
        assert file.stem not in {"utils", "util", "helpers", "misc", "common"}
