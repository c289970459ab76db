"""The figures to hold, as a long run: the gates of the test suite with other counts, and a report of what they came to.

python scripts/soak.py                                   # all of it: days
python scripts/soak.py --share 0.01                      # a hundredth of every count
python scripts/soak.py --share 0.05 --gates kills writers
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GATES = ROOT / "tests" / "gates"
REPORT = ROOT / "docs" / "results" / "soak.md"
SHOWN = 6
"""The most outcomes of a gate that the report names."""


@dataclass
class Row:
    """What all parts of a gate came to."""

    whole: int
    trials: int = 0
    seconds: float = 0.0
    found: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def gates() -> list[str]:
    """Return the names of the gates."""
    return sorted(file.stem.removeprefix("test_") for file in GATES.glob("test_*.py"))


def rows_of(lines: list[str]) -> dict[str, Row]:
    """Put the parts of each gate together."""
    rows: dict[str, Row] = {}
    for line in lines:
        told = json.loads(line)
        row = rows.setdefault(told["figure"], Row(told["whole"]))
        row.trials += told["trials"]
        row.seconds += told["seconds"]
        row.found.update(told["found"])
        row.faults += told["faults"]
    return rows


def report_of(rows: dict[str, Row], command: str, seconds: float) -> str:
    """Return the report in Markdown."""
    told = ", ".join(f"{name} {version(name)}" for name in ("torch", "safetensors", "pydantic", "pyyaml"))
    lines = [
        "# Figures to hold, as a long run",
        "",
        f"`{command}` at commit {commit()}, Python {platform.python_version()}, {told}: {seconds / 60:.0f} minutes.",
        "*All of it* is what a run with `--share 1` makes. The seed of a trial is its number; `make test` makes the first ones.",
        "",
        "| gate | trials made | all of it | seconds | came to | broke a promise |",
        "|---|---:|---:|---:|---|---:|",
    ]
    for name, row in rows.items():
        common = row.found.most_common()
        came = ", ".join(f"{kind} {count:,}" for kind, count in common[:SHOWN]) + (" …" if len(common) > SHOWN else "")
        whole = f"{row.whole:,}" if row.whole else "every one"
        lines.append(f"| {name} | {row.trials:,} | {whole} | {row.seconds:.0f} | {came} | {len(row.faults)} |")
    faults = [f"{name}: {fault}" for name, row in rows.items() for fault in row.faults]
    if faults:
        lines += ["", "## Broken promises", "", *(f"- `{fault[:500]}`" for fault in faults[:100])]
    return "\n".join(lines) + "\n"


def commit() -> str:
    """Return the commit that the work tree is at."""
    told = subprocess.run(["git", "describe", "--always", "--dirty=, changed"], cwd=ROOT, capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"


def main() -> None:
    """Run the gates and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="how much of every count")
    parser.add_argument("--gates", nargs="+", choices=gates(), default=gates(), metavar="GATE", help=", ".join(gates()))
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        parts = Path(folder) / "parts.jsonl"
        parts.touch()
        environment = {"SUTURE_SOAK": str(given.share), "SUTURE_SOAK_REPORT": str(parts), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "-s", *(str(GATES / f"test_{name}.py") for name in given.gates)]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=False)
        rows = rows_of(parts.read_text(encoding="utf-8").splitlines())
    chosen = f" --gates {' '.join(given.gates)}" if given.gates != gates() else ""
    given.out.write_text(report_of(rows, f"python scripts/soak.py --share {given.share:g}{chosen}", time.perf_counter() - start))
    print(f"soak: {sum(row.trials for row in rows.values()):,} trials, {sum(len(row.faults) for row in rows.values())} broke a promise")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
