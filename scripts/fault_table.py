"""Make docs/faults.md of scripts/faults.yaml and of the tests that are marked with its rows.

python scripts/fault_table.py            # write it
python scripts/fault_table.py --check    # fail if it is not as it would be written, or a row has no test
"""

import argparse
import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "scripts" / "faults.yaml"
PAGE = ROOT / "docs" / "faults.md"
HEAD = """# Faults and bad input

What happens, and the tests that say so. Every error is one class of the tree in `suture.errors`; the command line prints its message, which
names the file, the tensor or the key, and exits with the code of its class: 2 for what was asked for, 3 for weights, 4 for data, 5 for
outputs ([SECURITY.md](../SECURITY.md) tells the rest). Made by `scripts/fault_table.py`.

| # | fault | what happens | tests |
|---|---|---|---|
"""


def marked(file: Path) -> Iterator[tuple[str, int]]:
    """Yield the tests of a file with the rows that they are marked with: ``@pytest.mark.fault(25, 27)``."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else []:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault" and isinstance(node, ast.FunctionDef):
                yield from ((node.name, int(ast.literal_eval(row))) for row in mark.args)


def page() -> str:
    """Return the page; raises ``ValueError`` for a row without a test, and for a mark without a row."""
    rows = yaml.safe_load(ROWS.read_text(encoding="utf-8"))
    tests = defaultdict[int, list[str]](list)
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, row in marked(file):
            tests[row].append(f"[{name.removeprefix('test_').replace('_', ' ')}](../{file.relative_to(ROOT).as_posix()})")
    if bare := sorted(set(range(1, len(rows) + 1)) ^ set(tests)):
        raise ValueError(f"rows without a test, or tests of no row: {bare}")
    lines = [f"| {number} | {row['fault']} | {row['happens']} | {', '.join(tests[number])} |" for number, row in enumerate(rows, 1)]
    return HEAD + "\n".join(lines) + "\n"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    if parser.parse_args().check:
        if PAGE.read_text(encoding="utf-8") != page():
            raise SystemExit(f"{PAGE} is not up to date: run python scripts/fault_table.py")
    else:
        PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
