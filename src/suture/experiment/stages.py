"""Single stages of a recipe, for looking and for scripts: measure, operate."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import torch

from suture.checkpoints import Checkpoint, check_output, open_checkpoint, scratch_folder, staged_file
from suture.errors import CheckpointError, DataError, OutputExists, UnknownName
from suture.evaluation import Model, Results
from suture.experiment import pipeline
from suture.experiment.answers import answered
from suture.experiment.pipeline import Fitted, Representations
from suture.experiment.provenance import paths_of
from suture.experiment.recipe import Recipe, read_recipe
from suture.experiment.runner import baselines
from suture.experiment.setting import Setting, prepare
from suture.merging import MergingMethod
from suture.merging.method import SEED
from suture.surgery import (
    ClosedForm,
    Features,
    Schedule,
    Surgery,
    fit_closed_form,
    fit_surgery,
    gathered,
    load_features,
    load_operation,
    read_origin,
    save_features,
    save_operation,
)
from suture.surgery.pairs import Pair
from suture.tasks import SUITES
from suture.types import Stage, silent


def demo_recipe_file(suite: str) -> Path:
    """Return the recipe that comes with an embedded suite; raises :class:`UnknownName`.

    >>> demo_recipe_file("nlp8").name
    'recipe.yaml'
    """
    if suite not in SUITES:
        raise UnknownName("suite", suite, SUITES)
    return Path(str(files(f"suture.tasks.suites.{suite}") / "recipe.yaml"))


def named_recipe(place: Path, *, strict: bool = False) -> Recipe:
    """Return the recipe of a file or, by its name, of an embedded suite; raises what reading it raises, and :class:`UnknownName`."""
    is_file = place.is_file() or place.suffix or len(place.parts) > 1
    return read_recipe(place if is_file else demo_recipe_file(str(place)), strict=strict)


def measure_only(
    recipe: Recipe,
    merged: Path | None = None,
    surgery: Path | None = None,
    *,
    baselines_too: bool = False,
    strict: bool = False,
    stage: Stage = silent,
) -> Results:
    """Measure one merged model, with the surgery of a file where one is given, and write nothing.

    The model is the folder ``merged``, or what the recipe's first method makes of the experts. What is given is opened, and compared
    with the rest, before anything is encoded.

    Raises :class:`DataError` for a surgery of other tasks or of another merged model, and a ``strict`` one for a surgery that was fitted
    on what it would be evaluated on.
    """
    weights, fitted = _opened(merged), None if surgery is None else _open_fitted(surgery)
    if strict and fitted is not None and fitted.origin.calibration.startswith("transductive"):
        raise DataError(
            f"{surgery} was fitted on the test inputs ({fitted.origin.calibration}), which --strict refuses to evaluate on them"
        )
    if weights is not None and fitted is not None:
        _check_backbone(surgery, fitted, weights)
    setting = prepare(recipe, merged=weights)
    if fitted is not None and (lost := [task.name for task in setting.tasks if task.name not in fitted.operation.tasks]):
        raise DataError(f"{surgery} has no surgery for: {', '.join(lost)}; it has {', '.join(fitted.operation.tasks)}")
    setting = answered(setting, stage)
    representations = Representations(setting, stage)
    with _merged(setting, recipe, weights, stage) as (model, seed, merged_weights):
        if fitted is not None:
            _check_backbone(surgery, fitted, merged_weights)
        records = baselines(setting, representations) if baselines_too else []
        test, expert = representations.shared(model.merge, merged_weights, "test"), representations.individual("test")
        after = None if fitted is None else representations.after(fitted.operation, model.merge, merged_weights, "test")
    records += pipeline.measure(setting, model, seed, test, expert)
    if fitted is not None and after is not None:
        operated = pipeline.operated_model(model.merge, fitted)
        records += pipeline.measure(setting, operated, fitted.origin.seed, after, expert, fitted.operation)
    return Results(records)


def merge_only(
    recipe: Recipe, method: MergingMethod, out: Path, *, dtype: torch.dtype | None = None, replace: bool = False, stage: Stage = silent
) -> None:
    """Merge a recipe's experts by a method into a folder; what it learns from is the recipe's calibration set, drawn by its own seed."""
    check_output(out, replace=replace, inputs=paths_of(recipe))
    seed: int = getattr(method, SEED, recipe.seeds[0])
    setting = prepare(recipe, any_dtype=dtype is not None)
    pipeline.merge(setting, recipe, method, seed, out, stage, dtype=dtype, replace=replace)


def operate_only(recipe: Recipe, merged: Path | None, out: Path, *, replace: bool = False, stage: Stage = silent) -> None:
    """Fit the first surgery of a recipe, of one merged model and with its first seed, and write it, and how it came about, to a file.

    Raises :class:`OutputExists`, before anything is done, when there is something at ``out`` and it is not a surgery file to replace.
    """
    _check_replaced(out, load_operation, "surgery", replace=replace)
    one_seed = recipe.model_copy(update={"seeds": recipe.seeds[:1]})
    with staged_file(out, replace=replace) as file:
        given = _opened(merged)
        setting = prepare(one_seed, merged=given)
        pipeline.calibration_sizes(setting, one_seed)
        with _merged(setting, one_seed, given, stage) as (model, _, weights):
            representations = Representations(setting, stage)
            (fitted,) = pipeline.fit_surgeries(
                setting, one_seed, one_seed.surgery[0], model.merge, weights, representations, one_seed.seeds, stage
            )
        save_operation(file, fitted.operation, fitted.origin)


def features_only(recipe: Recipe, task: str, merged: Path, out: Path, *, replace: bool = False, stage: Stage = silent) -> None:
    """Write what the merged model and a task's expert make of its calibration inputs, drawn by the first seed, to a file.

    Raises :class:`UnknownName` for a task that the recipe does not have.
    """
    _check_replaced(out, load_features, "features", replace=replace)
    recipe = recipe.model_copy(update={"only": [task]})
    with staged_file(out, replace=replace) as file:
        weights = open_checkpoint(merged)
        setting = prepare(recipe, merged=weights)
        if task not in setting.experts:
            raise UnknownName("task", task, [entry.name for entry in recipe.tasks])
        (size,), seed = pipeline.calibration_sizes(setting, recipe).values(), recipe.seeds[0]
        representations, split = Representations(setting, stage), pipeline.SPLIT_OF[recipe.calibration.mode]
        own, expert = representations.shared(str(merged), weights, split)[task], representations.individual(split)[task]
        rows = pipeline.drawn_rows(len(own), size, seed, task)
        save_features(file, Features(task, own[rows], expert[rows], weights.digest, recipe.calibration.label, seed))


def operate_on_features(files: Sequence[Path], procedure: str, rank: int, out: Path, *, replace: bool = False) -> None:
    """Fit surgery of the final representation to files of features, and write it: ``closed_form``, or ``surgery``, the papers' own.

    Raises :class:`UnknownName` for another procedure, and what :func:`suture.surgery.gathered` raises.
    """
    fits: dict[str, Callable[[dict[str, Pair]], Surgery]] = {
        "closed_form": lambda pairs: fit_closed_form(pairs, ClosedForm(rank)),
        "surgery": lambda pairs: fit_surgery(pairs, dataclasses.replace(Schedule.default(), rank=rank), origin.seed),
    }
    if procedure not in fits:
        raise UnknownName("procedure for features", procedure, fits)
    _check_replaced(out, load_operation, "surgery", replace=replace)
    pairs, origin = gathered(files)
    with staged_file(out, replace=replace) as file:
        save_operation(file, fits[procedure](pairs), dataclasses.replace(origin, kind=procedure, rank=rank))


def _opened(merged: Path | None) -> Checkpoint | None:
    return None if merged is None else open_checkpoint(merged)


def _open_fitted(file: Path) -> Fitted:
    surgery, origin = load_operation(file), read_origin(file)
    if origin is None:
        raise DataError(f"{file} does not say how it was fitted; fit it again with `suture operate`")
    return Fitted(surgery, origin)


def _check_replaced(out: Path, load: Callable[[Path], object], kind: str, *, replace: bool) -> None:
    """Raise :class:`OutputExists` for an output that is to be replaced and is no file of its kind."""
    if not replace or not (out.exists() or out.is_symlink()):
        return
    try:
        load(out)
    except CheckpointError as error:
        raise OutputExists(f"{out} is not a {kind} file of Suture's, so it is not replaced; choose another output") from error


def _check_backbone(file: Path | None, fitted: Fitted, weights: Checkpoint) -> None:
    if fitted.origin.backbone != weights.digest:
        raise DataError(
            f"{file} was fitted on other weights (sha256 {fitted.origin.backbone[:12]}…) than those of this merged model "
            f"({weights.digest[:12]}…); fit it again with `suture operate`"
        )


@contextmanager
def _merged(setting: Setting, recipe: Recipe, given: Checkpoint | None, stage: Stage) -> Iterator[tuple[Model, int, Checkpoint]]:
    """Yield a merged model, its seed and its weights: the given ones, or fresh ones, of the first seed, that last as long as the block."""
    if given is not None:
        # A name with a slash in it is no method's, and not that of the base or of the experts.
        place = given.path.resolve()
        yield Model(f"{place.parent.name}/{place.name}"), 0, given
        return
    method, (seed, *_) = pipeline.seeded(recipe.merges[0], recipe.seeds)[0]
    with scratch_folder() as temporary:
        weights = pipeline.merge(setting, recipe, method, seed, temporary / "merged", stage)
        yield pipeline.merged_model(setting, recipe, method), seed, weights
