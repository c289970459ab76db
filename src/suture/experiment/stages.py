"""Single stages of a recipe, for looking and for scripts: measure, operate."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from suture.checkpoints import Checkpoint, open_checkpoint
from suture.errors import DataError, OutputExists, UnknownName
from suture.evaluation import Results
from suture.experiment import pipeline
from suture.experiment.pipeline import Representations
from suture.experiment.recipe import Recipe
from suture.experiment.run import baselines
from suture.experiment.setting import Setting, prepare
from suture.merging.matching import check_experts
from suture.surgery import load_surgery, save_surgery
from suture.tasks import SUITES
from suture.types import Stage, silent


def demo_recipe_file(suite: str) -> Path:
    """Return the recipe that comes with an embedded suite; raises :class:`UnknownName`."""
    if suite not in SUITES:
        raise UnknownName("suite", suite, SUITES)
    return Path(str(files(f"suture.tasks.suites.{suite}") / "recipe.yaml"))


def measure_only(
    recipe: Recipe,
    merged: Path | None = None,
    surgery: Path | None = None,
    *,
    baselines_too: bool = False,
    stage: Stage = silent,
) -> Results:
    """Measure one merged model, with the surgery of a file where one is given, and write nothing.

    The model is the folder ``merged``, or what the recipe's first method makes of the experts.
    """
    setting = prepare(recipe)
    chosen = load_surgery(surgery) if surgery is not None else None
    if chosen is not None and (lost := [task.name for task in setting.tasks if task.name not in chosen.tasks]):
        raise DataError(f"{surgery} has no surgery for: {', '.join(lost)}; it has {', '.join(chosen.tasks)}")
    representations = Representations(setting, stage)
    records = baselines(setting, recipe, representations) if baselines_too else []
    with _merged(setting, recipe, merged, stage) as (name, weights):
        test, expert = representations.shared(name, weights, "test"), representations.individual("test")
    records += pipeline.measure(setting, recipe, name, test, expert)
    if chosen is not None:
        records += pipeline.measure(setting, recipe, name, test, expert, {recipe.seeds[0]: chosen})
    return Results(records)


def operate_only(recipe: Recipe, merged: Path | None, out: Path, *, stage: Stage = silent) -> None:
    """Fit the surgery of one merged model with the recipe's first seed and write it to a file.

    Raises :class:`OutputExists` when there is such a file already.
    """
    if out.exists():
        raise OutputExists(f"{out} exists already; choose another output")
    one_seed = recipe.model_copy(update={"seeds": recipe.seeds[:1]})
    setting = prepare(one_seed)
    with _merged(setting, one_seed, merged, stage) as (name, weights):
        (surgery,) = pipeline.operate(setting, one_seed, name, weights, Representations(setting, stage), stage).values()
    out.parent.mkdir(parents=True, exist_ok=True)
    save_surgery(out, surgery)


@contextmanager
def _merged(setting: Setting, recipe: Recipe, folder: Path | None, stage: Stage) -> Iterator[tuple[str, Checkpoint]]:
    """Yield a merged model's name and weights: those of a folder, or fresh ones that last as long as the block."""
    if folder is not None:
        weights = open_checkpoint(folder)
        check_experts(setting.base, [weights])
        yield folder.name, weights
        return
    method = recipe.merges[0]
    with tempfile.TemporaryDirectory(prefix="suture-") as temporary:
        yield str(method), pipeline.merge(setting, method, Path(temporary) / "merged", stage)
