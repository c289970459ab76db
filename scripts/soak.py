"""The figures to hold, as a long run: the gates of the test suite with other counts, and a report of what they came to.

python scripts/soak.py                                   # all of it: hours
python scripts/soak.py --share 0.01                      # a hundredth of every count
python scripts/soak.py --gates kills writers             # some of it, anew; the others' rows stay as they are

What every gate last came to, at which commit, is kept beside the report, as json.
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
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GATES = ROOT / "tests" / "gates"
REPORT = ROOT / "docs" / "results" / "soak.md"
SHOWN = 6
"""The most outcomes of a gate that the report names."""


@dataclass
class Row:
    """What all parts of a gate came to."""

    whole: int
    run: str
    """The command, where it was given, and how long it took."""
    trials: int = 0
    seconds: float = 0.0
    found: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Row":
        """Return the row of a report before."""
        return cls(**told | {"found": Counter(told["found"])})


def gates() -> list[str]:
    """Return the names of the gates."""
    return sorted(file.stem.removeprefix("test_") for file in GATES.glob("test_*.py"))


def rows_of(lines: list[str], run: str) -> dict[str, Row]:
    """Put the parts of each gate together."""
    rows: dict[str, Row] = {}
    for line in lines:
        told = json.loads(line)
        row = rows.setdefault(told["figure"], Row(told["whole"], run))
        row.trials += told["trials"]
        row.seconds += told["seconds"]
        row.found.update(told["found"])
        row.faults += told["faults"]
    return rows


def report_of(rows: dict[str, Row]) -> str:
    """Return the report in Markdown."""
    runs = list(dict.fromkeys(row.run for row in rows.values()))
    lines = [
        "# Figures to hold, as a long run",
        "",
        *(f"{number}. {run}" for number, run in enumerate(runs, start=1)),
        "",
        "*All of it* is what a run with `--share 1` makes. The seed of a trial is its number; `make test` makes the first ones.",
        "",
        "| gate | run | trials made | all of it | seconds | came to | broke a promise |",
        "|---|---:|---:|---:|---:|---|---:|",
    ]
    for name, row in rows.items():
        common = row.found.most_common()
        came = ", ".join(f"{kind} {count:,}" for kind, count in common[:SHOWN]) + (" …" if len(common) > SHOWN else "")
        whole = f"{row.whole:,}" if row.whole else "every one"
        number = runs.index(row.run) + 1
        lines.append(f"| {name} | {number} | {row.trials:,} | {whole} | {row.seconds:.0f} | {came} | {len(row.faults)} |")
    faults = [f"{name}: {fault}" for name, row in rows.items() for fault in row.faults]
    if faults:
        lines += ["", "## Broken promises", "", *(f"- `{fault[:500]}`" for fault in faults[:100])]
    return "\n".join(lines) + "\n"


def commit() -> str:
    """Return the commit that the work tree is at; reports of gates before are no change of what is run."""
    tree = ("--", ".", f":!{REPORT.parent.relative_to(ROOT)}")
    at, changed = (_git(*command) for command in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", *tree)))
    return (at or "unknown") + (", changed" if changed else "")


def _git(*command: str) -> str:
    return subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def versions() -> str:
    """Return the versions of what the gates run on."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "safetensors", "pydantic", "pyyaml"))
    return f"Python {platform.python_version()}, {libraries}"


def main() -> None:
    """Run the gates and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="how much of every count")
    parser.add_argument("--gates", nargs="+", choices=gates(), default=gates(), metavar="GATE", help=", ".join(gates()))
    parser.add_argument("--out", type=Path, default=REPORT)
    given = parser.parse_args()
    start, at = time.perf_counter(), commit()
    with tempfile.TemporaryDirectory() as folder:
        parts = Path(folder) / "parts.jsonl"
        parts.touch()
        environment = {"SUTURE_SOAK": str(given.share), "SUTURE_SOAK_REPORT": str(parts), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-q", "-s", *(str(GATES / f"test_{name}.py") for name in given.gates)]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=False)
        lines = parts.read_text(encoding="utf-8").splitlines()
    chosen = f" --gates {' '.join(given.gates)}" if given.gates != gates() else ""
    minutes = (time.perf_counter() - start) / 60
    made = rows_of(lines, f"`python scripts/soak.py --share {given.share:g}{chosen}` at commit {at}, {versions()}: {minutes:.0f} minutes.")
    keep = given.out.with_suffix(".json")
    before = {name: Row.of(told) for name, told in json.loads(keep.read_text(encoding="utf-8")).items()} if keep.exists() else {}
    rows = before | made
    keep.write_text(json.dumps({name: vars(row) for name, row in rows.items()}, indent=1) + "\n", encoding="utf-8")
    given.out.write_text(report_of(rows), encoding="utf-8")
    print(f"soak: {sum(row.trials for row in made.values()):,} trials, {sum(len(row.faults) for row in made.values())} broke a promise")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
