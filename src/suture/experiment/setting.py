"""From a recipe to the things it names: opened weights, tasks with their data, frozen heads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from suture.backbones import Head, Pooling, TextBackbone, load_heads, prototype_head
from suture.checkpoints import Checkpoint, Weights, open_checkpoint, open_expert
from suture.errors import DataError
from suture.experiment.recipe import Recipe, TaskRecipe
from suture.merging.matching import check_experts
from suture.representation import encode_cached
from suture.tasks import Split, Suite, Task, load_suite, read_split
from suture.types import Progress, no_progress

SUPPORT = "support"


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
    pooling: Pooling
    max_length: int

    def backbone(self, weights: Weights) -> TextBackbone:
        """Return the encoder with other weights in it."""
        return TextBackbone(self.folder, weights, self.pooling, self.max_length)


def prepare(recipe: Recipe, progress: Progress = no_progress) -> Setting:
    """Open everything that a recipe names and make the heads. ``progress`` counts experts made ready (suites unpack theirs once).

    Raises :class:`suture.errors.CheckpointError` or :class:`suture.errors.DataError`.
    """
    return _from_suite(recipe, load_suite(recipe.suite, progress)) if recipe.suite else _from_files(recipe)


def _from_suite(recipe: Recipe, suite: Suite) -> Setting:
    base = open_checkpoint(suite.base)
    experts = {task: open_checkpoint(folder) for task, folder in suite.experts.items()}
    tasks = [_shortened(task, recipe) for task in suite.tasks]
    backbone = TextBackbone(suite.base, base, "mean", suite.max_length)
    heads = {task.name: _prototypes(backbone, task.split(SUPPORT), len(task.classes), suite.head_scale) for task in tasks}
    return Setting(suite.name, suite.family, base, suite.base, experts, tasks, heads, backbone.pooling, backbone.max_length)


def _from_files(recipe: Recipe) -> Setting:
    assert recipe.base is not None  # noqa: S101  the recipe was checked
    base = open_checkpoint(recipe.base)
    experts = {task.name: open_expert(base, task.expert) for task in recipe.tasks}
    check_experts(base, list(experts.values()))
    folder = recipe.base if recipe.base.is_dir() else recipe.base.parent
    backbone = TextBackbone(folder, base, recipe.backbone.pooling, recipe.backbone.max_length)
    tasks, heads = [], {}
    for entry in recipe.tasks:
        task = _read_task(entry, recipe.calibration.mode == "held-out")
        heads[entry.name] = _head(entry, task, backbone)
        tasks.append(_shortened(task, recipe))
    return Setting(recipe.name, f"experts of {recipe.base}", base, folder, experts, tasks, heads, backbone.pooling, backbone.max_length)


def _read_task(entry: TaskRecipe, held_out: bool) -> Task:
    """Read a task's files; the class names are the recipe's, else those found in the support or test file."""
    named = entry.classes
    splits: dict[str, Split] = {}
    if entry.head.support is not None:
        splits[SUPPORT], named = read_split(entry.head.support, named, text=entry.text, label=entry.label)
    splits["test"], classes = read_split(entry.test, named, text=entry.text, label=entry.label)
    if entry.calibration is not None:
        found, _ = read_split(entry.calibration, classes, text=entry.text, label=entry.label)
        splits["calibration"] = Split(found.texts)
        if held_out and (shared := len(set(found.texts) & set(splits["test"].texts))):
            raise DataError(
                f"task {entry.name!r}: {shared} texts of {entry.calibration} stand in {entry.test} too; "
                "take them out, or set calibration.mode to transductive"
            )
    return Task(entry.name, tuple(classes), splits)


def _head(entry: TaskRecipe, task: Task, backbone: TextBackbone) -> Head:
    if entry.head.file is None:
        return _prototypes(backbone, task.split(SUPPORT), len(task.classes), entry.head.scale)
    heads = load_heads(entry.head.file)
    if entry.name not in heads:
        raise DataError(f"{entry.head.file} has no head for task {entry.name!r}; it has {', '.join(heads)}")
    return heads[entry.name]


def _prototypes(backbone: TextBackbone, support: Split, classes: int, scale: float) -> Head:
    return prototype_head(encode_cached(backbone, support.texts), support.known_labels(), classes, scale)


def _shortened(task: Task, recipe: Recipe) -> Task:
    """Return the task with no more test and calibration samples than the recipe looks at."""
    most = {"test": recipe.test_samples, "calibration": recipe.calibration.pool}
    return Task(task.name, task.classes, {name: split.first(most.get(name)) for name, split in task.splits.items()})
