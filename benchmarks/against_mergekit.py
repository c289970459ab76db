"""Whole commands beside mergekit's: `suture merge` and `mergekit-yaml`, start-up included, on eight experts of Llama's shape.

mergekit wants an environment of its own:

    python -m venv mergekit-env
    mergekit-env/bin/pip install torch==2.13.0
    mergekit-env/bin/pip install mergekit==0.1.5 "transformers>=5"
    python benchmarks/against_mergekit.py FOLDER --mergekit mergekit-env/bin/mergekit-yaml      # 4 GB of checkpoints
    …  --out docs/results/benchmark-mergekit.md

The checkpoints have Llama's shape because mergekit 0.1.5 fails on BERT while it plans ("can only concatenate list (not tuple)"), and
merges no architecture that it does not know.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from checkpoints import make_llama
from measuring import Work, in_turns, quietness, report, table, verdict
from suture.checkpoints import open_checkpoint

PROGRAM = "mergekit-env/bin/mergekit-yaml"
LIMIT = 0.35
"""What `suture merge task_arithmetic` may take of mergekit's time."""

SETTINGS = {
    "as it comes": (),
    "quick": ("--lazy-unpickle", "--no-copy-tokenizer", "--no-write-model-card", "--quiet"),
    "quick, threads": ("--lazy-unpickle", "--no-copy-tokenizer", "--no-write-model-card", "--quiet", "-j", "2", "--async-write"),
}
"""Ways to run mergekit, of which the fastest counts."""

ABOUT = f"""Wall time of whole commands, start-up included, on base and 8 experts of Llama's shape (109 M), float32, {os.cpu_count()}
cores, no GPU, in turns, inputs in the page cache. mergekit 0.1.5 runs with torch 2.13.0 and transformers 5, in whichever way a trial of
task arithmetic finds fastest. Suture's time includes flushing the output to the disk and its digest; mergekit does neither."""

TIES_NOTE = """Suture's ties ranks the elements of the whole model together, as the paper does, in two passes; mergekit ranks each tensor
by itself. dare_ties trims nothing after the drop in either."""


@dataclass(frozen=True)
class Pair:
    """One merge in both programs' words, and how often to run it."""

    suture: tuple[str, ...]
    mergekit: dict[str, Any]
    expert: dict[str, Any]
    repeats: int


PAIRS = {
    "task_arithmetic": Pair(("task_arithmetic",), {"merge_method": "task_arithmetic"}, {"weight": 0.3}, 3),
    "linear": Pair(("weight_averaging",), {"merge_method": "linear"}, {"weight": 1.0}, 3),
    "dare_ties": Pair(("dare_ties",), {"merge_method": "dare_ties"}, {"weight": 0.3, "density": 0.1}, 1),
    "ties": Pair(("ties",), {"merge_method": "ties", "parameters": {"normalize": False}}, {"weight": 0.3, "density": 0.2}, 1),
}


def run(command: Sequence[str], out: Path) -> None:
    """Run a command that writes a folder anew."""
    shutil.rmtree(out, ignore_errors=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")


@dataclass(frozen=True)
class Bench:
    """The checkpoints, where mergekit stands, and where outputs go."""

    base: Path
    experts: list[Path]
    program: Path
    folder: Path

    def mergekit(self, name: str, flags: Sequence[str]) -> Work:
        """Return a run of mergekit."""
        pair, config, out = PAIRS[name], self.folder / "config.yml", self.folder / "mergekit"
        settings: dict[str, Any] = {**pair.mergekit, "dtype": "float32"}
        if settings["merge_method"] != "linear":
            settings["base_model"] = str(self.base)
        settings["models"] = [{"model": str(expert), "parameters": pair.expert} for expert in self.experts]

        def work() -> None:
            config.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
            run([str(self.program), str(config), str(out), *flags], out)

        return work

    def suture(self, name: str) -> Work:
        """Return a run of Suture."""
        out = self.folder / "suture"
        program = str(Path(sys.executable).with_name("suture"))
        method, *settings = PAIRS[name].suture
        command = [program, "merge", method, "--base", str(self.base), "--out", str(out), *settings, *map(str, self.experts)]
        return partial(run, command, out)


def difference(one: Path, other: Path) -> float:
    """Return the largest absolute difference between two models of the same tensors."""
    ours, theirs = open_checkpoint(one), open_checkpoint(other)
    if set(ours) != set(theirs):
        raise SystemExit(f"{one} and {other} hold different tensors: {sorted(set(ours) ^ set(theirs))[:5]}")
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def fastest_settings(bench: Bench) -> tuple[str, list[str]]:
    """Return the name of the settings that mergekit is fastest with, and the lines that say so."""
    times = in_turns({name: bench.mergekit("task_arithmetic", flags) for name, flags in SETTINGS.items()}, 1)
    return min(times, key=lambda name: times[name]), table(
        ("mergekit's settings", "s"), ((name, f"{spent:.1f}") for name, spent in times.items())
    )


def main() -> None:
    """Print the tables, and write them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mergekit", type=Path, required=True, metavar="PATH/TO/mergekit-yaml")
    parser.add_argument("--merge", choices=PAIRS, action="append", help="only this one; all by default")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    base, experts = make_llama(options.folder.resolve(), 8)
    bench = Bench(base, experts, options.mergekit.absolute(), options.folder.resolve())
    chosen, trial = fastest_settings(bench)
    rows, agreement = [], ""
    for name in options.merge or PAIRS:
        times = in_turns({"suture": bench.suture(name), "mergekit": bench.mergekit(name, SETTINGS[chosen])}, PAIRS[name].repeats)
        ratio = times["suture"] / times["mergekit"]
        judged = (f"{LIMIT:g}", verdict(ratio, LIMIT)) if name == "task_arithmetic" else ("", "")
        rows.append((name, f"{times['suture']:.2f}", f"{times['mergekit']:.2f}", f"{ratio:.2f}", *judged, str(PAIRS[name].repeats)))
        if name in {"task_arithmetic", "linear"}:
            apart = difference(bench.folder / "suture", bench.folder / "mergekit")
            agreement += f"Largest absolute difference of the two outputs, {name}: {apart:.1e}.\n"
    lines = ["# Whole commands beside mergekit", "", ABOUT, "", *trial]
    lines += table(("merge", "suture, s", "mergekit, s", "suture ÷ mergekit", "at most", "", "medians of"), rows)
    made = f"Made by `python benchmarks/against_mergekit.py FOLDER --mergekit {PROGRAM} --out docs/results/benchmark-mergekit.md`."
    report([*lines, agreement, TIES_NOTE, "", quietness(), "", made], options.out)


if __name__ == "__main__":
    main()
