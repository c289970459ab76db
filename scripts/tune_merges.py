"""Choose the merges' hyperparameters on the calibration split of a suite, and report what the choice gives on the test split.

The calibration labels are used here, and only here, so that surgery is compared with merges at their best. The test split is encoded
for the chosen settings alone.

    python scripts/tune_merges.py nlp8 docs/results/nlp8-merges.md
    python scripts/tune_merges.py vision8 docs/results/vision8-merges.md
"""

import argparse
import tempfile
from pathlib import Path

from suture.checkpoints import Checkpoint
from suture.evaluation import accuracy
from suture.experiment import pipeline
from suture.experiment.recipe import Recipe
from suture.experiment.setting import Setting, prepare
from suture.merging import DareTies, IsoC, MergingMethod, TaskArithmetic, Ties, TsvM, WeightAveraging
from suture.representation import encode_cached
from suture.tasks import SUITES

GRIDS: dict[str, list[MergingMethod]] = {
    "weight averaging": [WeightAveraging()],
    "task arithmetic": [TaskArithmetic(scale) for scale in (0.1, 0.2, 0.3, 0.4, 0.5)],
    "Ties (sum)": [Ties(density=0.2, scale=scale) for scale in (0.1, 0.3, 0.5, 0.7, 1.0)],
    "Ties (mean)": [Ties(density=0.2, scale=scale, merge_rule="mean") for scale in (0.5, 1.0, 2.0, 3.0)],
    "DARE-Ties": [DareTies(scale=scale) for scale in (0.1, 0.3, 0.5)],
    "TSV-M": [TsvM(scale=scale) for scale in (0.3, 0.5, 0.7, 1.0)],
    "Iso-C": [IsoC(scale=scale) for scale in (0.5, 1.0, 1.5, 2.0)],
}


def mean_accuracy(setting: Setting, weights: dict[str, Checkpoint], split: str) -> float:
    """Return the average accuracy, in %, of one set of weights per task on a split."""
    values = []
    for task in setting.tasks:
        part = task.split(split)
        z = encode_cached(setting.backbone(weights[task.name]), part.inputs)
        values.append(accuracy(setting.heads[task.name](z), part.known_labels()))
    return 100 * sum(values) / len(values)


def merged_accuracy(setting: Setting, recipe: Recipe, method: MergingMethod, split: str) -> float:
    """Merge into a temporary folder and measure."""
    with tempfile.TemporaryDirectory() as temporary:
        weights = pipeline.merge(setting, recipe, method, 0, Path(temporary) / "merged")
        return mean_accuracy(setting, dict.fromkeys(setting.experts, weights), split)


def report(setting: Setting, recipe: Recipe) -> list[str]:
    """Measure every setting, and return the lines of the table."""
    lines = []
    for name, grid in GRIDS.items():
        calibration = {str(method): merged_accuracy(setting, recipe, method, "calibration") for method in grid}
        for label, value in calibration.items():
            print(f"{label}: {value:.2f} on the calibration split", flush=True)
        best = max(grid, key=lambda method: calibration[str(method)])
        tried = ", ".join(f"{value:.1f}" for value in calibration.values())
        lines.append(f"| {name} | `{best}` | {tried} | {merged_accuracy(setting, recipe, best, 'test'):.1f} |")
        print(lines[-1], flush=True)
    experts = {name: weights for name, weights in setting.experts.items() if isinstance(weights, Checkpoint)}
    lines.append(f"| pretrained | | | {mean_accuracy(setting, dict.fromkeys(setting.experts, setting.base), 'test'):.1f} |")
    lines.append(f"| individual | | | {mean_accuracy(setting, experts, 'test'):.1f} |")
    return lines


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("out", type=Path)
    chosen = parser.parse_args()
    recipe = Recipe(suite=chosen.suite, merges=["weight_averaging"])
    setting = prepare(recipe)
    head = [
        f"# {chosen.suite}: merges at their best setting",
        "",
        f"{setting.family}.",
        "Average accuracy of eight tasks, %. Each method's setting is the best of the grid by labelled calibration accuracy (third column,",
        "in the grid's order); the test split is measured for that setting alone. One set of experts (seed 0).",
        "",
        "| method | chosen setting | calibration accuracy over the grid | test accuracy |",
        "|---|---|---|---:|",
    ]
    foot = f"Made by `python scripts/tune_merges.py {chosen.suite} docs/results/{chosen.suite}-merges.md`."
    text = "\n".join([*head, *report(setting, recipe), "", foot, ""])
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
