"""From a recipe to the one model that is shipped: merge, operate, route, measure, save; and a task more, or a task less."""

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from torch import Tensor

from suture.checkpoints import Checkpoint, check_output, local_copy
from suture.errors import DataError, InvalidRecipe, UnknownName
from suture.evaluation import accuracy
from suture.experiment import pipeline
from suture.experiment.pipeline import SPLIT_OF, Fitted, Representations
from suture.experiment.provenance import paths_of
from suture.experiment.recipe import Recipe, anchored
from suture.experiment.setting import Setting, prepare
from suture.experiment.task_recipe import TaskRecipe
from suture.multitask import Facts, MultiTaskModel, Router, TaskFacts, fit_router, from_pretrained, read_description, save_pretrained
from suture.surgery import joined, restricted
from suture.types import Stage, silent

MERGED = "merged"
"""What the merged model is called while it is encoded."""


def build(recipe: Recipe, out: Path, *, route: bool = True, replace: bool = False, stage: Stage = silent) -> Facts:
    """Make and save the model of a recipe's first merge, first surgery and first seed, and return what its card tells.

    With ``route`` (and two tasks or more) it gets a router. Raises any :class:`suture.errors.SutureError`; then ``out`` is as it was.
    """
    check_output(out, replace=replace, inputs=paths_of(recipe))
    with stage("Preparing experts", len(recipe.tasks)) as progress:
        setting = prepare(recipe, progress)
    pipeline.calibration_sizes(setting, recipe)
    method, (seed, *_) = pipeline.seeded(recipe.merges[0], recipe.seeds)[0]
    with tempfile.TemporaryDirectory(prefix="suture-") as temporary:
        merged = pipeline.merge(setting, recipe, method, seed, Path(temporary) / "merged", stage)
        representations = Representations(setting, stage)
        fitted = _fitted(setting, recipe, merged, representations, stage)
        router = _router(setting, recipe, merged, representations, seed) if route and len(setting.tasks) > 1 else None
        model = _model(setting, merged, fitted, router)
        facts = _measured(setting, recipe, model, representations)
        save_pretrained(model, out, facts, replace=replace)
    return facts


def _fitted(setting: Setting, recipe: Recipe, merged: Checkpoint, representations: Representations, stage: Stage) -> Fitted:
    (fitted,) = pipeline.fit_surgeries(setting, recipe, recipe.surgery[0], MERGED, merged, representations, recipe.seeds[:1], stage)
    return fitted


def _router(setting: Setting, recipe: Recipe, merged: Checkpoint, representations: Representations, seed: int) -> Router:
    """Fit a router to what the merged model makes of each task's calibration set."""
    encoded = representations.shared(MERGED, merged, SPLIT_OF[recipe.calibration.mode])
    sizes = pipeline.calibration_sizes(setting, recipe)
    return fit_router({task: z[pipeline.drawn_rows(len(z), sizes[task], seed, task)] for task, z in encoded.items()})


def _model(setting: Setting, merged: Checkpoint, fitted: Fitted, router: Router | None) -> MultiTaskModel:
    heads = {task.name: dataclasses.replace(setting.heads[task.name], classes=tuple(task.classes)) for task in setting.tasks}
    return MultiTaskModel(setting.backbone(merged), heads, fitted.operation, fitted.origin, router)


def _measured(setting: Setting, recipe: Recipe, model: MultiTaskModel, representations: Representations) -> Facts:
    """Measure experts, merged model and the whole, with the task told and without, on the test splits."""
    weights, operation, origin = model.backbone.weights, model.operation, model.origin
    assert isinstance(weights, Checkpoint)  # noqa: S101  just merged
    assert operation is not None and origin is not None  # noqa: S101, PT018  just fitted
    individual, merged = representations.individual("test"), representations.shared(MERGED, weights, "test")
    after = representations.after(operation, MERGED, weights, "test")
    tasks = {}
    for task in setting.tasks:
        head, labels = model.heads[task.name], task.split("test").known_labels()
        shares = {name: accuracy(head(z[task.name]), labels) for name, z in (("individual", individual), ("merged", merged))}
        right = head(after[task.name]).argmax(dim=1) == labels
        found = _found(model.router, task.name, merged)
        tasks[task.name] = TaskFacts(
            samples=len(labels),
            **shares,
            model=right.double().mean().item(),
            identified=None if found is None else found.double().mean().item(),
            routed=None if found is None else (found & right).double().mean().item(),
        )
    samples = f"{recipe.calibration.label}, at most {origin.samples} unlabelled samples a task, seed {origin.seed}"
    return Facts(
        suite=setting.name,
        family=setting.family if recipe.suite else "experts of one base",
        merge=str(recipe.merges[0]),
        surgery=f"{origin.kind}, rank {origin.rank or operation.rank}",
        calibration=f"Surgery{' and router' if model.router else ''} fitted on: {samples}.",
        tasks=tasks,
        licences=_licences(recipe),
        recipe=recipe.model_dump(mode="json"),
    )


def _found(router: Router | None, task: str, merged: Mapping[str, Tensor]) -> Tensor | None:
    return None if router is None else router(merged[task])[0].argmax(dim=1) == router.tasks.index(task)


def _licences(recipe: Recipe) -> list[str]:
    if recipe.suite:
        return [f"Base, experts and data are those of Suture's suite {recipe.suite}; its LICENSES.md names the sources and licences."]
    return ["Those of the base, of the experts and of their data apply; none of them is changed by merging."]


def add_task(model: Path, task: str, out: Path, *, keep_backbone: bool = False, replace: bool = False, stage: Stage = silent) -> Facts:
    """Save the model with a task more, and return what its card tells.

    ``task`` is a YAML file that describes it as recipes do or, for a model of a suite, the name of one of the suite's tasks. The recipe
    that made the model is run with it: the new task vector is merged in and, as the backbone changes, every surgery is fitted anew;
    experts' representations come from the cache. With ``keep_backbone`` nothing is merged: the task gets surgery of its own on the
    backbone as it is, and what the others are told stays the same to the bit.

    Raises :class:`DataError` for a model that does not know its recipe, or has the task already.
    """
    old = local_copy(model)
    recipe = recipe_of(old)
    grown = _with(recipe, task)
    if not keep_backbone:
        return build(grown, out, route=_routes(old), replace=replace, stage=stage)
    return _on_backbone(old, grown, out, replace=replace, stage=stage)


def remove_task(model: Path, task: str, out: Path, *, keep_backbone: bool = False, replace: bool = False, stage: Stage = silent) -> Facts:
    """Save the model with a task less, and return what its card tells; raises what :func:`add_task` raises, and for the last task.

    The recipe that made the model is run without it; with ``keep_backbone`` what is the task's own is left out, and no more.
    """
    old = local_copy(model)
    recipe = recipe_of(old)
    known = read_description(old).tasks
    if task not in known:
        raise UnknownName("task", task, known)
    if len(known) == 1:
        raise DataError(f"{task!r} is the only task of {model}; a model has at least one")
    left = [name for name in known if name != task]
    shrunk = _checked({**recipe.model_dump(mode="json"), "only": left})
    if not keep_backbone:
        return build(shrunk, out, route=_routes(old), replace=replace, stage=stage)
    return _on_backbone(old, shrunk, out, replace=replace, stage=stage)


def recipe_of(model: Path) -> Recipe:
    """Return the recipe that made a saved model; raises :class:`DataError` when the model does not know it."""
    told = read_description(model).facts.recipe
    if told is None:
        raise DataError(f"{model} does not tell the recipe that made it, so nothing can be added or removed; `suture build` keeps it")
    return _checked(told)


def _checked(content: Mapping[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        told = error.errors()[0]
        raise InvalidRecipe(f"the recipe of the model: {'.'.join(map(str, told['loc']))}: {told['msg']}") from error


def _with(recipe: Recipe, task: str) -> Recipe:
    """Return a recipe with a task more."""
    content = recipe.model_dump(mode="json")
    if recipe.suite:
        if recipe.only is None or task in recipe.only:
            raise DataError(f"the model has the task {task!r} already, or all of {recipe.suite}'s")
        return _checked({**content, "only": [*recipe.only, task]})
    file = Path(task)
    try:
        entry: TaskRecipe = anchored(TaskRecipe.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))), file.parent)
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise InvalidRecipe(f"{file} does not describe a task as recipes do: {' '.join(str(error).split())[:300]}") from error
    had = [each for each in content["tasks"] if recipe.only is None or each["name"] in recipe.only]
    if entry.name in [each["name"] for each in had]:
        raise DataError(f"the model has the task {entry.name!r} already")
    return _checked({**content, "tasks": [*had, entry.model_dump(mode="json")], "only": None})


def _routes(model: Path) -> bool:
    return from_pretrained(model).router is not None


def _on_backbone(old: Path, recipe: Recipe, out: Path, *, replace: bool, stage: Stage) -> Facts:
    """Save the tasks of a recipe on the backbone of a model as it is: surgery that is there stays, what is missing is fitted."""
    check_output(out, replace=replace, inputs=[*paths_of(recipe), old])
    before = from_pretrained(old, network=recipe.backbone.network)
    weights = before.backbone.weights
    assert isinstance(weights, Checkpoint)  # noqa: S101  opened as one
    assert before.origin is not None  # noqa: S101  built with surgery
    setting = prepare(recipe, merged=weights)
    representations = Representations(setting, stage)
    new = [task for task in setting.tasks if task.name not in before.tasks]
    assert before.operation is not None  # noqa: S101  the same
    operation = before.operation
    for task in new:
        own = dataclasses.replace(setting, tasks=[task], experts={task.name: setting.experts[task.name]})
        fitted = _fitted(own, recipe, weights, Representations(own, stage), stage)
        operation = joined(operation, fitted.operation)
    tasks = [task.name for task in setting.tasks]
    kept = Fitted(restricted(operation, tasks), before.origin)
    router = None
    if before.router is not None and len(tasks) > 1:
        router = _router(setting, recipe, weights, representations, recipe.seeds[0])
    model = dataclasses.replace(_model(setting, weights, kept, router), backbone=before.backbone)
    facts = _measured(setting, recipe, model, representations)
    save_pretrained(model, out, facts, replace=replace)
    return facts
