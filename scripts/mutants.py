"""Mutation testing of what merges and operates: mutmut changes the code in a small way, and the tests should notice.

python scripts/mutants.py docs/results/mutation.md --sample 250 --seed 2

A seeded sample of all mutants is run, each in a fork of a warmed-up process and with the tests alone that reach its function (settings:
``[tool.mutmut]`` in pyproject.toml). The page tells what came of them; changes that no test noticed stand in ``mutants/survivors.diff``.
Mutants that change nothing that can be observed are told, with the reason, in equivalent_mutants.toml beside this file.
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
PACKAGES = ("merging", "surgery")
FIRST = "suture.merging.weight_averaging.*"
"""A few quick mutants: mutmut finds out about the others on the way to them."""
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")
KINDS = ("killed", "timed out", "survived")
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
        for file in sorted((ROOT / "mutants" / "src" / "suture" / package).glob("*.py.meta")):
            found[f"{package}/{file.name.removesuffix('.meta')}"] = json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


def kind(name: str, code: int | None) -> str:
    """Return what became of a mutant; one that no test reaches survives. Raises ``SystemExit`` for one that was not run to its end."""
    status = status_by_exit_code[code]
    if status in {"not checked", "check was interrupted by user", "suspicious"}:
        raise SystemExit(f"{name} was not run to its end ({status})")
    return {"timeout": "timed out", "no tests": "survived", "segfault": "killed"}.get(status, status)


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
    """Return a share in per cent with its 95 % interval (Wilson's)."""
    if not tested:
        return "–"
    interval = binomtest(noticed, tested).proportion_ci(method="wilson")
    return f"{100 * noticed / tested:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def row(label: str, population: int, kinds: Iterable[str], equivalent: int) -> list[str]:
    """Return one line of the table."""
    counts = Counter(kinds)
    tested = counts.total()
    noticed = counts["killed"] + counts["timed out"]
    numbers = [population, tested, *(counts[each] for each in KINDS), equivalent]
    return [label, *map(str, numbers), score(noticed, tested), score(noticed, tested - equivalent)]


def table(codes: Mapping[str, Mapping[str, int | None]], chosen: Mapping[str, str], equivalent: Iterable[str]) -> list[str]:
    """Return the lines of the table: both packages together, each, and each module."""
    same = set(equivalent)

    def line(label: str, modules: Iterable[str]) -> list[str]:
        names = [name for module in modules for name in codes[module]]
        tested = [name for name in names if name in chosen]
        return row(label, len(names), [chosen[name] for name in tested], len(same.intersection(tested)))

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


def page(codes: Mapping[str, Mapping[str, int | None]], chosen: Mapping[str, str], why: Mapping[str, str], diffs: Mapping[str, str]) -> str:
    """Return the page of results."""
    left = [name for name in sorted(diffs) if name not in why]
    lines = [
        "# Mutation testing of merging and surgery",
        "",
        "mutmut makes one small change of the code at a time (an operator, a number, a text, an argument, an assignment), and runs the",
        "tests that reach the function. A mutant is noticed when a test fails or goes on too long; the score is the share that was",
        f"noticed, with a 95 % interval. Of {sum(map(len, codes.values()))} mutants a seeded sample of {len(chosen)} was tested; one that",
        "no test reaches counts as survived.",
        "",
        *table(codes, chosen, why),
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a sample of mutants, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--sample", type=int, default=250)
    parser.add_argument("--seed", type=int, default=2)
    settings = parser.parse_args(arguments)
    out = settings.page.resolve()
    os.chdir(ROOT)  # mutmut looks for its settings and its folder there
    tested = commit()
    mutmut(FIRST)
    names = sorted(name for each in exit_codes().values() for name in each)
    sample = sorted(random.Random(settings.seed).sample(names, min(settings.sample, len(names))))
    mutmut(*sample)
    codes = exit_codes()
    ended = {name: code for each in codes.values() for name, code in each.items()}
    chosen = {name: kind(name, ended[name]) for name in sample}
    diffs = {name: get_diff_for_mutant(name) for name, each in chosen.items() if each == "survived"}
    (ROOT / "mutants" / "survivors.diff").write_text("\n".join(f"# {name}\n{diff}" for name, diff in diffs.items()), encoding="utf-8")
    text = page(codes, chosen, reasons(diffs), diffs)
    made = f"Made by `python scripts/mutants.py {settings.page} --sample {settings.sample} --seed {settings.seed}` at {tested}."
    out.write_text(f"{text}\n{made}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
