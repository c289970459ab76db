"""Mutation testing of what merges and operates: mutmut changes the code in a small way, and the tests should notice.

python scripts/mutants.py docs/results/mutation.md --sample 300 --seed 2
python scripts/mutants.py docs/results/mutation.md --sample 300 --seed 2 --judge    # the same page anew, without a test

A seeded sample of all mutants is run, each in a fork of a warmed-up process and with the tests alone that reach its function (settings:
``[tool.mutmut]`` in pyproject.toml). The page tells what came of them; changes that no test noticed stand in ``mutants/survivors.diff``.
Mutants that change nothing that can be observed are told, with the reason, in equivalent_mutants.toml beside this file: after a look at
the survivors, ``--judge`` writes the page of the last run anew.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from scipy.stats import binomtest

from suture.evaluation import markdown_lines

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "mutants"
"""Where mutmut works."""
TESTED = FOLDER / "commit"
PACKAGES = ("merging", "surgery")
FIRST = "suture.merging.weight_averaging.*"
"""A few quick mutants: mutmut finds out about the others on the way to them."""
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")
KINDS = ("killed", "timed out", "survived")
ENOUGH = 50
STRICT = re.compile(r", (?:strict=\w+)?(?=\))")
"""What may be left out of ``zip(a, b, strict=True)``."""
SAME_LENGTH = "what is zipped is of one length, or the caller is at fault"


def mutmut(*mutants: str) -> None:
    """Have some mutants tested, one after the other."""
    program = shutil.which("mutmut", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])) or "mutmut"
    paths = os.pathsep.join([str(ROOT / "scripts"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    subprocess.run([program, "run", "--max-children", "1", *mutants], cwd=ROOT, check=True, env=environment)


def exit_codes() -> dict[str, dict[str, int | None]]:
    """Return how the tests of every mutant ended, by name and by module; ``None`` for those not run."""
    found = {}
    for package in PACKAGES:
        for file in sorted((FOLDER / "src" / "suture" / package).glob("*.py.meta")):
            found[f"{package}/{file.name.removesuffix('.meta')}"] = json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


def kind(name: str, code: int | None) -> str:
    """Return what became of a mutant; one that no test reaches survives. Raises ``SystemExit`` for one that was not run to its end."""
    status = status_by_exit_code[code]
    if status in {"killed", "survived"}:
        return status
    if status in {"timeout", "no tests"}:
        return {"timeout": "timed out", "no tests": "survived"}[status]
    if code is not None and code < 0:
        return "killed"  # by a signal: the process broke down
    raise SystemExit(f"{name} was not run to its end: {status}")


def changed(diff: str) -> tuple[str, str]:
    """Return the lines that a diff takes away and those that it brings, without the space around them."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    before, after = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return before, after


def reasons(diffs: Mapping[str, str]) -> dict[str, str]:
    """Return why survivors are equivalent, for those that are: as it is told, or because only a guard of ``zip`` is gone."""
    told = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))["mutant"]
    known = {(each["function"], each["was"], each["is"]): each["reason"] for each in told}
    keys = {name: (function_of(name), *changed(diff)) for name, diff in diffs.items()}
    unguarded = [name for name, (_, *lines) in keys.items() if len({STRICT.sub("", line) for line in lines}) == 1]
    return dict.fromkeys(unguarded, SAME_LENGTH) | {name: known[key] for name, key in keys.items() if key in known}


def function_of(name: str) -> str:
    """Return the function of a mutant, ``merging.ties._trim`` of ``suture.merging.ties.x__trim__mutmut_1``."""
    module, _, key = name.removeprefix("suture.").rpartition(".")
    function = key.rpartition("__mutmut_")[0].removeprefix("x").removeprefix("_").replace("ǁ", ".").lstrip(".")
    return f"{module}.{function}"


def score(noticed: int, tested: int) -> str:
    """Return a share in per cent and, where there is enough to tell of one, its 95 % interval (Wilson's)."""
    if not tested:
        return "–"
    share = f"{100 * noticed / tested:.1f}"
    if tested < ENOUGH:
        return share
    interval = binomtest(noticed, tested).proportion_ci(method="wilson")
    return f"{share} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def row(label: str, population: int, kinds: Iterable[str], equivalent: int) -> list[str]:
    """Return one line of the table."""
    counts = Counter(kinds)
    tested = counts.total()
    noticed = counts["killed"] + counts["timed out"]
    numbers = [population, tested, *(counts[each] for each in KINDS), equivalent]
    return [label, *map(str, numbers), score(noticed, tested), score(noticed, tested - equivalent)]


def table(codes: Mapping[str, Mapping[str, int | None]], kinds: Mapping[str, str], equivalent: Iterable[str]) -> list[str]:
    """Return the lines of the table: both packages together, each, and each module."""
    same = set(equivalent)

    def line(label: str, modules: Iterable[str]) -> list[str]:
        names = [name for module in modules for name in codes[module]]
        tested = [name for name in names if name in kinds]
        return row(label, len(names), [kinds[name] for name in tested], len(same.intersection(tested)))

    groups = [("both", list(codes)), *((package, [each for each in codes if each.startswith(package)]) for package in PACKAGES)]
    rows = [line(label, modules) for label, modules in groups] + [line(module, [module]) for module in codes if codes[module]]
    header = ["", "mutants", "tested", *KINDS, "of these equivalent", "score, %", "score without equivalent ones, %"]
    return markdown_lines(header, rows)


def commit() -> str:
    """Return the commit that is checked out, and whether it is what was tested."""
    sources = ["src/suture/merging", "src/suture/surgery", "tests"]
    head, changes = (
        subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
        for arguments in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--", *sources])
    )
    return f"{head}, with changes" if changes else head


def page(codes: Mapping[str, Mapping[str, int | None]], kinds: Mapping[str, str], why: Mapping[str, str], diffs: Mapping[str, str]) -> str:
    """Return the page of results."""
    left = [name for name in sorted(diffs) if name not in why]
    lines = [
        "# Mutation testing of merging and surgery",
        "",
        "mutmut makes one small change of the code at a time (an operator, a number, a text, an argument, an assignment), and runs the",
        "tests that reach the function. A mutant is noticed when a test fails or goes on too long; the score is the share that was",
        f"noticed, with a 95 % interval. A seeded sample of {len(kinds)} of all {sum(map(len, codes.values()))} mutants was tested; one",
        "that no test reaches counts as survived.",
        "",
        *table(codes, kinds, why),
        "",
        "Not mutated, because mutmut leaves decorated functions out: properties, context managers, and what runs under `torch.no_grad()`.",
        "Not run: doctests, shape checks, tests in other folders, and those of merging in other processes.",
    ]
    if why:
        lines += ["", "## Survivors that are equivalent", "", *(f"- {_told(name, diffs[name])}: {why[name]}" for name in sorted(why))]
    if left:
        lines += ["", "## Other survivors", "", *(f"- {_told(name, diffs[name])}" for name in left)]
    return "\n".join(lines) + "\n"


def _told(name: str, diff: str) -> str:
    before, after = changed(diff)
    return f"`{function_of(name)}`: `{before}` → `{after or 'nothing'}`"


def run(sample: int, seed: int) -> tuple[list[str], str]:
    """Have a sample of all mutants tested, from nothing; return their names, and the commit."""
    shutil.rmtree(FOLDER, ignore_errors=True)  # mutmut would keep which tests reach what, from other code
    at = commit()
    mutmut(FIRST)
    TESTED.write_text(at, encoding="utf-8")
    names = drawn(sample, seed)
    mutmut(*names)
    return names, at


def drawn(sample: int, seed: int) -> list[str]:
    """Return the names of the mutants that a seed draws."""
    names = sorted(name for each in exit_codes().values() for name in each)
    return sorted(random.Random(seed).sample(names, min(sample, len(names))))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a sample of mutants, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--judge", action="store_true", help="write the page of the last run anew")
    settings = parser.parse_args(arguments)
    out = settings.page.resolve()
    os.chdir(ROOT)  # mutmut looks for its settings and its folder there
    which = settings.sample, settings.seed
    names, at = (drawn(*which), TESTED.read_text(encoding="utf-8")) if settings.judge else run(*which)
    codes = exit_codes()
    ended = {name: code for each in codes.values() for name, code in each.items()}
    kinds = {name: kind(name, ended[name]) for name in names}
    diffs = {name: get_diff_for_mutant(name) for name, each in kinds.items() if each == "survived"}
    (FOLDER / "survivors.diff").write_text("\n".join(f"# {name}\n{diff}" for name, diff in diffs.items()), encoding="utf-8")
    made = f"Made by `python scripts/mutants.py {settings.page} --sample {settings.sample} --seed {settings.seed}` at {at}."
    out.write_text(f"{page(codes, kinds, reasons(diffs), diffs)}\n{made}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
