"""From a recipe to the one model that is shipped: merge, operate, route, measure, save; and a task more, or a task less."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from suture.checkpoints import Checkpoint, check_output, scratch_folder
from suture.errors import DataError, InvalidRecipe, UnknownName, reading
from suture.evaluation import accuracy
from suture.experiment import pipeline
from suture.experiment.answers import answered, told_of_answers
from suture.experiment.pipeline import SPLIT_OF, Fitted, Representations
from suture.experiment.provenance import paths_of
from suture.experiment.recipe import Recipe, anchored, recorded_recipe
from suture.experiment.setting import Setting, prepare
from suture.experiment.strict_yaml import read_yaml
from suture.experiment.task_recipe import TaskRecipe
from suture.multitask import (
    ALL,
    AUTO,
    Facts,
    MultiTaskModel,
    Router,
    TaskFacts,
    fit_router,
    folder_of,
    from_pretrained,
    read_description,
    save_pretrained,
    trusted,
)
from suture.multitask.folder import ROUTER
from suture.surgery import Operation, Origin, joined, restricted
from suture.types import Stage, silent

MERGED = "merged"
"""What the merged model is called while it is encoded."""


def build(recipe: Recipe, out: Path, *, route: bool = True, replace: bool = False, stage: Stage = silent) -> Facts:
    """Make and save the model of a recipe's first merge, first surgery and first seed, and return what its card tells.

    With ``route`` (and two tasks or more) it gets a router. Raises any :class:`suture.errors.SutureError`; then ``out`` is as it was.
    """
    check_output(out, replace=replace, inputs=paths_of(recipe))
    names = recipe.only or [entry.name for entry in recipe.tasks]
    if taken := {AUTO, ALL} & set(names):
        raise DataError(f"a task of a model to ship cannot be called {taken.pop()!r}")
    with stage("Preparing experts", len(recipe.tasks)) as progress:
        setting = prepare(recipe, progress)
    pipeline.calibration_sizes(setting, recipe)
    setting = answered(setting, stage)
    method, (seed, *_) = pipeline.seeded(recipe.merges[0], recipe.seeds)[0]
    with scratch_folder() as temporary:
        merged = pipeline.merge(setting, recipe, method, seed, temporary / "merged", stage)
        representations = Representations(setting, stage)
        fitted = _fitted(setting, recipe, merged, representations, stage)
        routing = _routing(setting, recipe, merged, representations, seed) if route and len(setting.tasks) > 1 else None
        router = None if routing is None else fit_router(routing)
        model = _with_facts(_model(setting, merged, fitted, router), setting, recipe, representations, routing, stage)
        save_pretrained(model, out, replace=replace)
    return model.facts


def _fitted(setting: Setting, recipe: Recipe, merged: Checkpoint, representations: Representations, stage: Stage) -> Fitted:
    (fitted,) = pipeline.fit_surgeries(setting, recipe, recipe.surgery[0], MERGED, merged, representations, recipe.seeds[:1], stage)
    return fitted


def _routing(setting: Setting, recipe: Recipe, merged: Checkpoint, representations: Representations, seed: int) -> dict[str, Tensor]:
    """Return what a router is fitted on: what the merged model makes of each task's calibration set."""
    encoded = representations.shared(MERGED, merged, SPLIT_OF[recipe.calibration.mode])
    sizes = pipeline.calibration_sizes(setting, recipe)
    return {task: z[pipeline.drawn_rows(len(z), sizes[task], seed, task)] for task, z in encoded.items()}


def _model(setting: Setting, merged: Checkpoint, fitted: Fitted, router: Router | None) -> MultiTaskModel:
    heads = {task.name: dataclasses.replace(setting.heads[task.name], classes=tuple(task.classes)) for task in setting.tasks}
    return MultiTaskModel(setting.backbone(merged), heads, fitted.operation, fitted.origin, router)


def _with_facts(
    model: MultiTaskModel,
    setting: Setting,
    recipe: Recipe,
    representations: Representations,
    routing: Mapping[str, Tensor] | None,
    stage: Stage,
) -> MultiTaskModel:
    """Measure experts, merged model and the whole, with the task told and without, on the test splits."""
    weights, operation, origin = _parts(model)
    individual, merged = representations.individual("test"), representations.shared(MERGED, weights, "test")
    after = representations.after(operation, MERGED, weights, "test")
    tasks = {}
    for task in setting.tasks:
        head, labels = model.heads[task.name], task.split("test").known_labels()
        shares = {name: accuracy(head(z[task.name]), labels) for name, z in (("individual", individual), ("merged", merged))}
        right = head(after[task.name]).argmax(dim=1) == labels
        routed = {} if model.router is None else _routed(model.router, task.name, merged[task.name], right)
        tasks[task.name] = TaskFacts(samples=len(labels), **shares, model=_share(right), **routed)
    tasks = _with_unseen(tasks, routing or {}, merged, stage)
    samples = f"{recipe.calibration.label}, at most {origin.samples} unlabelled samples a task, seed {origin.seed}"
    facts = Facts(
        suite=setting.name,
        family=setting.family if recipe.suite else "experts of one base",
        merge=str(recipe.merges[0]),
        surgery=f"{origin.kind}, rank {origin.rank or operation.rank}",
        calibration=" ".join([f"Surgery{' and router' if model.router else ''} fitted on: {samples}.", *told_of_answers(recipe)]),
        tasks=tasks,
        licences=_licences(recipe),
        recipe=recipe.model_dump(mode="json"),
    )
    return dataclasses.replace(model, facts=facts)


def _routed(router: Router, task: str, z: Tensor, right: Tensor) -> dict[str, float]:
    """Return how a router does on a task's test inputs: ``right`` says of which of them the class is."""
    probable, strange = router(z)
    found = probable.argmax(dim=1) == router.tasks.index(task)
    return {"identified": _share(found), "routed": _share(found & right), "strange": _share(strange)}


def _with_unseen(
    tasks: Mapping[str, TaskFacts], routing: Mapping[str, Tensor], merged: Mapping[str, Tensor], stage: Stage
) -> dict[str, TaskFacts]:
    """Measure how often each task's test inputs are taken for strangers by a router that was fitted without the task."""
    if len(routing) <= 2:
        return dict(tasks)
    found = {}
    with stage("Routing without each task", len(routing)) as progress:
        for task, own in tasks.items():
            others = fit_router({name: z for name, z in routing.items() if name != task})
            found[task] = own.model_copy(update={"unseen": _share(others(merged[task])[1])})
            progress(1)
    return found


def _share(which: Tensor) -> float:
    return which.double().mean().item()


def _parts(model: MultiTaskModel) -> tuple[Checkpoint, Operation, Origin]:
    """Return a model's weights, and its operation; raises :class:`DataError` for one without."""
    weights = model.backbone.weights
    if model.operation is None or model.origin is None or not isinstance(weights, Checkpoint):
        raise DataError("this model has no surgery of its own any more, so a task cannot be added to it as it is; build it anew")
    return weights, model.operation, model.origin


def _licences(recipe: Recipe) -> list[str]:
    if recipe.suite:
        return [f"Base, experts and data are those of Suture's suite {recipe.suite}; its LICENSES.md names the sources and licences."]
    return ["Those of the base, of the experts and of their data apply; none of them is changed by merging."]


def add_task(
    model: str | Path, task: str, out: Path, *, keep_backbone: bool = False, network: str = "", replace: bool = False, stage: Stage = silent
) -> Facts:
    """Save the model with a task more, and return what its card tells.

    ``task`` is a YAML file that describes it as recipes do or, for a model of a suite, the name of one of the suite's tasks. The recipe
    that made the model is run with it: the new task vector is merged in and, as the backbone changes, every surgery is fitted anew;
    experts' representations come from the cache. With ``keep_backbone`` nothing is merged: the task gets surgery of its own on the
    backbone as it is, and what the others are told stays the same to the bit. ``network`` is as in
    :func:`suture.multitask.from_pretrained`.

    Raises :class:`DataError` for a model that does not know its recipe, or has the task already.
    """
    old = folder_of(model)
    grown = _with(recipe_of(old, network), task)
    if not keep_backbone:
        return build(grown, out, route=(old / ROUTER).is_file(), replace=replace, stage=stage)
    check_output(out, replace=replace, inputs=[*paths_of(grown), old])
    before = from_pretrained(old, network)
    weights, operation, origin = _parts(before)
    setting = answered(prepare(grown, merged=weights), stage)
    (entry,) = (each for each in setting.tasks if each.name not in before.tasks)
    own = dataclasses.replace(setting, tasks=[entry], experts={entry.name: setting.experts[entry.name]})
    fitted = _fitted(own, grown, weights, Representations(own, stage), stage)
    heads = {**before.heads, entry.name: _model(own, weights, fitted, None).heads[entry.name]}
    representations, routing = Representations(setting, stage), None
    if before.router is not None:
        routing = _routing(setting, grown, weights, representations, grown.seeds[0])
    router = None if routing is None else fit_router(routing)
    whole = MultiTaskModel(before.backbone, heads, joined(operation, fitted.operation), origin, router)
    whole = _with_facts(whole, setting, grown, representations, routing, stage)
    save_pretrained(whole, out, replace=replace)
    return whole.facts


def remove_task(
    model: str | Path, task: str, out: Path, *, keep_backbone: bool = False, network: str = "", replace: bool = False, stage: Stage = silent
) -> Facts:
    """Save the model with a task less, and return what its card tells; raises what :func:`add_task` raises, and for the last task.

    The recipe that made the model is run without it. With ``keep_backbone`` what is the task's own is left out of the folder, and no
    more: neither recipe nor data are needed, and what the card told of routing is no longer known.
    """
    old = folder_of(model)
    known = read_description(old).tasks
    if task not in known:
        raise UnknownName("task", task, known)
    if len(known) == 1:
        raise DataError(f"{task!r} is the only task of {model}; a model has at least one")
    left = [name for name in known if name != task]
    if not keep_backbone:
        shrunk = _checked({**recipe_of(old, network).model_dump(mode="json"), "only": left})
        return build(shrunk, out, route=(old / ROUTER).is_file(), replace=replace, stage=stage)
    check_output(out, replace=replace, inputs=[old])
    before = from_pretrained(old, network)
    whole = dataclasses.replace(
        before,
        heads={name: before.heads[name] for name in left},
        operation=None if before.operation is None else restricted(before.operation, left),
        router=None if before.router is None or len(left) == 1 else before.router.without(task),
        facts=_facts_of(before.facts, left),
    )
    save_pretrained(whole, out, replace=replace)
    return whole.facts


def _facts_of(facts: Facts, tasks: Sequence[str]) -> Facts:
    """Return what is still known of some of the tasks: not how well they are told from one another."""
    unknown = {"identified": None, "routed": None, "strange": None, "unseen": None}
    own = {task: facts.tasks[task].model_copy(update=unknown) for task in tasks if task in facts.tasks}
    recipe = None if facts.recipe is None else {**facts.recipe, "only": list(tasks)}
    return facts.model_copy(update={"tasks": own, "recipe": recipe})


def recipe_of(model: Path, network: str = "") -> Recipe:
    """Return the recipe that made a saved model, which names base, experts and data by their places.

    Raises :class:`DataError` when the model does not know it, :class:`suture.errors.UnsupportedFormat` when it names a network of one's
    own that is not ``network``.
    """
    told = read_description(model).facts.recipe
    if told is None:
        raise DataError(f"{model} does not tell the recipe that made it, so it cannot be run again; `suture build` keeps it")
    recipe = _checked(told)
    trusted(model, recipe.backbone.network, network)
    return recipe


def _checked(content: Mapping[str, Any]) -> Recipe:
    return recorded_recipe(content, "the recipe of the model")


def _with(recipe: Recipe, task: str) -> Recipe:
    """Return a recipe with a task more."""
    content = recipe.model_dump(mode="json")
    if recipe.suite:
        if recipe.only is None or task in recipe.only:
            raise DataError(f"the model has the task {task!r} already, or all of {recipe.suite}'s")
        return _checked({**content, "only": [*recipe.only, task]})
    file = Path(task)
    told = "a description of a task as recipes have it"
    given = read_yaml(file, told)
    with reading(file, told, InvalidRecipe, InvalidRecipe):
        entry: TaskRecipe = anchored(TaskRecipe.model_validate(given), file.parent)
    had = [each for each in content["tasks"] if recipe.takes(each["name"])]
    if entry.name in [each["name"] for each in had]:
        raise DataError(f"the model has the task {entry.name!r} already")
    return _checked({**content, "tasks": [*had, entry.model_dump(mode="json")], "only": None})
