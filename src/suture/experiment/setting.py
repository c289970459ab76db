"""From a recipe to the things it names: opened weights, tasks with their data, frozen heads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from suture.backbones import Backbone, Head, open_aligned, prototype_head
from suture.checkpoints import Checkpoint, Weights, open_checkpoint
from suture.errors import UnknownName
from suture.experiment.damage import damaged
from suture.experiment.own import SUPPORT, given_head, read_task
from suture.experiment.recipe import Recipe
from suture.experiment.sources import sourced
from suture.experiment.task_recipe import BackboneRecipe
from suture.merging.matching import check_experts
from suture.representation import encode_cached
from suture.tasks import Suite, Task, load_suite
from suture.types import Progress, no_progress

USUAL_SCALE = 20.0
"""What cosines with prototypes are multiplied by."""


@dataclass(frozen=True)
class Setting:
    """What an experiment runs on; all experts match the base, nothing has been merged yet."""

    name: str
    family: str
    base: Checkpoint
    folder: Path
    experts: Mapping[str, Weights]
    tasks: Sequence[Task]
    heads: Mapping[str, Head]
    network: BackboneRecipe
    """How all weights are opened as networks."""

    def backbone(self, weights: Weights) -> Backbone:
        """Return the network with other weights in it."""
        return self.network.open(self.folder, weights)


def prepare(recipe: Recipe, progress: Progress = no_progress, merged: Weights | None = None, *, any_dtype: bool = False) -> Setting:
    """Open everything that a recipe names and make the heads. ``progress`` counts experts made ready (suites unpack theirs once).

    All weights, and those of a merged model where they are given, are compared with the base before anything is encoded; with
    ``any_dtype`` they may be of another precision.
    Raises :class:`suture.errors.CheckpointError` or :class:`suture.errors.DataError`.
    """
    also = [] if merged is None else [merged]
    if recipe.suite:
        return _from_suite(recipe, load_suite(recipe.suite, progress), also)
    return _from_files(recipe, also, any_dtype)


def _from_suite(recipe: Recipe, suite: Suite, also: Sequence[Weights]) -> Setting:
    base = suite.base
    for name in recipe.only or []:
        if name not in suite.experts:
            raise UnknownName("task", name, suite.experts)
    experts = {task: open_checkpoint(folder) for task, folder in suite.experts.items() if recipe.takes(task)}
    check_experts(base, [*experts.values(), *also])
    taken = [task for task in suite.tasks if recipe.takes(task.name)]
    tasks = [_shortened(task, recipe) for task in sourced(taken, recipe.calibration)]
    network = BackboneRecipe.model_validate({"pooling": suite.pooling, "max_length": suite.max_length, "network": suite.network})
    backbone = network.open(base.path, base)
    heads = {task.name: _prototypes(task, backbone, suite.head_scale) for task in tasks}
    name = recipe.name or suite.name
    return Setting(name, suite.family, base, base.path, experts, tasks, heads, network)


def _from_files(recipe: Recipe, also: Sequence[Weights], any_dtype: bool) -> Setting:
    assert recipe.base is not None  # noqa: S101  the recipe was checked
    base, entries = open_checkpoint(recipe.base), [entry for entry in recipe.tasks if recipe.takes(entry.name)]
    experts = {entry.name: open_aligned(base, entry.expert, recipe.backbone.network) for entry in entries}
    check_experts(base, [*experts.values(), *also], any_dtype=any_dtype)
    folder = base.folder
    backbone = recipe.backbone.open(folder, base)
    network = recipe.backbone.model_copy(update={"pooling": backbone.pooled_by})
    given = {entry.name: given_head(entry, recipe.backbone, backbone) for entry in entries}
    read = {entry.name: read_task(entry, given[entry.name], recipe.calibration.own) for entry in entries}
    heads = {entry.name: given[entry.name] or _prototypes(read[entry.name], backbone, entry.head.scale or USUAL_SCALE) for entry in entries}
    tasks = [_shortened(task, recipe) for task in sourced(list(read.values()), recipe.calibration)]
    name = recipe.name or "unnamed"
    return Setting(name, f"experts of {recipe.base}", base, folder, experts, tasks, heads, network)


def _prototypes(task: Task, backbone: Backbone, scale: float) -> Head:
    support = task.split(SUPPORT)
    head = prototype_head(encode_cached(backbone, support.inputs), support.known_labels(), len(task.classes), scale)
    return replace(head, classes=tuple(task.classes))


def _shortened(task: Task, recipe: Recipe) -> Task:
    """Return the task with no more test and calibration samples than the recipe looks at, and these as spoilt as it wants."""
    most = {"test": recipe.test_samples, "calibration": recipe.calibration.pool}
    splits = {name: split.first(most.get(name)) for name, split in task.splits.items()}
    if recipe.calibration.damage is not None and "calibration" in splits:
        spoilt = damaged(splits["calibration"].inputs, recipe.calibration.damage, recipe.seeds[0])
        splits["calibration"] = replace(splits["calibration"], inputs=spoilt)
    return Task(task.name, task.classes, splits)
