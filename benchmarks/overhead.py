"""What surgery costs when a model is used: latency and memory of a saved multi-task model beside the bare backbone.

    python benchmarks/overhead.py --out docs/results/benchmark-overhead.md

Latency is the time from inputs to logits of one task, with surgery and without, in turns in one process; heads are the same. Memory is
the anonymous memory of a process that has answered for all tasks, beside one that has run the backbone alone. Surgery is solved for on
64 calibration inputs a task, rank 16; merges are weight averages.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from measuring import quietness, report, table, undisturbed, verdict
from suture.experiment import Recipe, build
from suture.inputs import Input
from suture.multitask import MultiTaskModel
from suture.tasks import load_suite
from suture.types import silent

V1_LIMIT, V2_LIMIT, MEMORY_LIMIT = 1.02, 1.10, 1.05
ROUNDS, RUNS = {1: 101, 32: 25}, 3
"""How often times are taken, by the number of inputs, and memory."""
PROCEDURES = {"V1": "closed_form", "V2": "deep_closed_form"}

WORKER = """
import sys
from suture import MultiTaskModel
from suture.representation import encode
from suture.tasks import load_suite
model, suite, whole = MultiTaskModel.from_pretrained(sys.argv[1]), sys.argv[2], sys.argv[3] == "whole"
inputs = list(load_suite(suite).tasks[0].split("calibration").inputs[:32])
for _ in range(5):
    answers = model.predict_all(inputs) if whole else encode(model.backbone, inputs)
print(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1])
"""


def ratio(model: MultiTaskModel, inputs: Sequence[Input]) -> float:
    """Return the median over rounds of the time with surgery ÷ that without, measured next to one another."""
    bare, task = replace(model, operation=None, origin=None), model.tasks[0]
    found = []
    for number in range(ROUNDS[len(inputs)] + 3):
        pair = {}
        for name in ("bare", "whole") if number % 2 else ("whole", "bare"):
            own = bare if name == "bare" else model
            started = time.perf_counter()
            own.logits(inputs, task)
            pair[name] = time.perf_counter() - started
        found.append(pair["whole"] / pair["bare"])
    return statistics.median(found[3:])


def memory(folder: Path, suite: str, which: str) -> int:
    """Return the anonymous memory, in kB, of a process that has answered: the least of several, as allocators differ from run to run."""
    command = [sys.executable, "-c", WORKER, str(folder), suite, which]
    return min(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(RUNS))


def measured(suite: str, folder: Path) -> list[list[str]]:
    """Return a suite's rows."""
    rows = []
    inputs = list(load_suite(suite).tasks[0].split("calibration").inputs)
    for name, procedure in PROCEDURES.items():
        recipe = Recipe.model_validate(
            {
                "suite": suite,
                "merges": ["weight_averaging"],
                "calibration": {"samples": 64},
                "surgery": {"procedure": procedure, "rank": 16},
                "test_samples": 32,
                "seeds": [0],
            }
        )
        build(recipe, folder / f"{suite}-{name}", route=False, stage=silent)
        model, limit = MultiTaskModel.from_pretrained(folder / f"{suite}-{name}"), V1_LIMIT if name == "V1" else V2_LIMIT
        for size in ROUNDS:
            _, found = undisturbed(partial(ratio, model, inputs[:size]))
            rows.append([f"{suite}: {name} latency, {size} inputs", f"{found:.3f}", f"{limit:.2f}", verdict(found, limit)])
        if name == "V1":
            bare, whole = (memory(folder / f"{suite}-{name}", suite, which) for which in ("bare", "whole"))
            found = whole / bare
            rows.append(
                [f"{suite}: V1 memory of {len(model.tasks)} tasks", f"{found:.3f}", f"{MEMORY_LIMIT:.2f}", verdict(found, MEMORY_LIMIT)]
            )
    return rows


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--suites", nargs="+", default=["nlp8", "vision8"])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for suite in chosen.suites for row in measured(suite, Path(folder))]
    lines = [
        "# Overhead: a multi-task model beside the bare backbone",
        "",
        f"Ratios; of times the median of {ROUNDS[1]} pairs for one input, of {ROUNDS[32]} for 32; one thread.",
        "",
    ]
    lines += table(["", "ratio", "at most", ""], rows)
    lines += [quietness(), "", "Made by `python benchmarks/overhead.py --out docs/results/benchmark-overhead.md`."]
    report(lines, chosen.out)


if __name__ == "__main__":
    main()
