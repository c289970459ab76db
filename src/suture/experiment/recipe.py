"""Recipes: what to merge, operate and evaluate, in YAML; checked whole before any weight is read.

``template.yaml`` beside this file is a commented one (``suture recipe`` prints it). Paths are relative to the recipe's folder.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    model_serializer,
    model_validator,
)

from suture.checkpoints import on_hub
from suture.errors import InvalidRecipe, UsageError
from suture.experiment.best import BestProcedure
from suture.experiment.calibration import CalibrationRecipe
from suture.experiment.procedures import PROCEDURES, AnyProcedure, Procedures
from suture.experiment.strict import Strict
from suture.experiment.strict_yaml import read_yaml
from suture.experiment.surgery_procedures import PaperSurgery
from suture.experiment.task_recipe import PARTS, BackboneRecipe, DataSetRecipe, HeadRecipe, TaskRecipe
from suture.merging import MergingMethod, make_method
from suture.merging.batch_norm import BatchNorm
from suture.merging.method import SEED
from suture.training import FineTuning


def _method(value: object) -> MergingMethod:
    """Read ``ties`` or ``{method: ties, density: 0.2}``."""
    if isinstance(value, MergingMethod):
        return value
    settings = {"method": value} if isinstance(value, str) else value
    if isinstance(settings, Mapping) and SEED in settings:
        raise ValueError("a method's seed is one of the recipe's 'seeds'; take it out")
    if not isinstance(settings, Mapping) or not isinstance(settings.get("method"), str):
        raise ValueError("expected the name of a method, or a mapping with the key 'method'")  # noqa: TRY004
    if strange := [key for key in settings if not isinstance(key, str)]:
        raise ValueError(f"unknown hyperparameter {strange[0]!r}: expected a name")
    name, values = settings["method"], {key: value for key, value in settings.items() if key != "method"}
    try:
        return make_method(name, values)
    except UsageError as error:  # pydantic adds where it stands to a ValueError
        raise ValueError(str(error)) from error


def _method_settings(method: MergingMethod) -> dict[str, Any]:
    values = {field.name: getattr(method, field.name) for field in fields(method) if field.name != SEED}
    return {
        "method": method.name,
        **{key: _method_settings(value) if isinstance(value, MergingMethod) else value for key, value in values.items()},
    }


Method = Annotated[Any, BeforeValidator(_method), PlainSerializer(_method_settings)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
"""What every library's generator takes."""


class JointRecipe(Strict):
    """Traditional multi-task learning beside the merges, on the tasks' labelled ``train`` files (:class:`suture.training.FineTuning`)."""

    epochs: int = Field(3, ge=1)
    batch_size: int = Field(32, ge=1)
    learning_rate: float = Field(1e-4, gt=0, allow_inf_nan=False)
    samples: int | None = Field(None, ge=1)
    """The first of each task's that are trained on; without a number, all."""

    def schedule(self) -> FineTuning:
        """Return the schedule that these numbers describe."""
        return FineTuning(**self.model_dump(exclude={"samples"}))


def _papers_own() -> list[AnyProcedure]:
    return [PaperSurgery()]


class Recipe(Strict):
    """A whole experiment; without a ``name`` it is called by its suite's.

    >>> recipe = Recipe.model_validate({"suite": "nlp8", "merges": ["ties", {"method": "task_arithmetic", "scale": 0.4}]})
    >>> [method.label for method in recipe.merges], [procedure.label for procedure in recipe.surgery]
    (['ties', 'task_arithmetic(scale=0.4)'], ['surgery'])
    """

    name: str | None = None
    suite: str | None = None
    base: Path | None = None
    backbone: BackboneRecipe = BackboneRecipe()
    tasks: list[TaskRecipe] = Field(default_factory=list)
    only: list[str] | None = Field(None, min_length=1)
    """The names of the tasks to take, where that is not all of them."""
    merges: list[Method] = Field(min_length=1)
    batch_norm: BatchNorm = "mean"
    """What becomes of running statistics of norms over batches: the mean of the experts', the base's, or measured anew."""
    calibration: CalibrationRecipe = CalibrationRecipe()
    surgery: Procedures = Field(default_factory=_papers_own)
    joint: JointRecipe | None = None
    test_samples: int | None = Field(None, ge=1)
    seeds: list[Seed] = Field([0, 1, 2], min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> "Recipe":
        if (self.suite is None) == (self.base is None and not self.tasks):
            raise ValueError("give either 'suite', or 'base' and 'tasks'")
        if self.suite is not None and "backbone" in self.model_fields_set:
            raise ValueError("a suite brings its own 'backbone'; take it out")
        if self.suite is None and not (self.base and self.tasks):
            raise ValueError("'base' and 'tasks' go together")
        for kind, values in (
            ("task names", [task.name for task in self.tasks]),
            ("names in 'only'", self.only or []),
            ("seeds", self.seeds),
            ("merges", list(map(str, self.merges))),
            ("procedures of surgery", [f"{each.label} of {each.size}" for each in self.surgery]),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"{kind} must differ from one another: {', '.join(map(str, values))}")
        if self.tasks and (strange := set(self.only or []) - {task.name for task in self.tasks}):
            raise ValueError(f"'only' names no tasks of this recipe: {', '.join(sorted(strange))}")
        if self.calibration.of_tasks and (bare := [task.name for task in self.tasks if task.calibration is None]):
            raise ValueError(f"held-out calibration needs a 'calibration' file; missing for: {', '.join(bare)}")
        if self.joint is not None and (bare := [task.name for task in self.tasks if task.train is None]):
            raise ValueError(f"joint training needs a labelled 'train' file; missing for: {', '.join(bare)}")
        return self

    @property
    def unlabelled(self) -> list[str]:
        """The tasks that are taken whose test samples have no labels."""
        return [task.name for task in self.tasks if not task.labelled and self.takes(task.name)]

    def takes(self, task: str) -> bool:
        """Say whether a task is not left out by ``only``."""
        return self.only is None or task in self.only

    @model_serializer(mode="wrap")
    def _as_given(self, serialise: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Leave out what a suite brings: what is written is a recipe again."""
        content = serialise(self)
        without = {"base", "backbone", "tasks"} if self.suite is not None else {"suite"}
        return {key: value for key, value in content.items() if key not in without}


def read_recipe(file: Path, *, strict: bool = False) -> Recipe:
    """Read and check a recipe, and make its paths absolute; a ``strict`` one evaluates nothing on what was learnt from.

    Raises :class:`InvalidRecipe` naming file and key.

    >>> [task.name for task in read_recipe(template_file()).tasks]
    ['films', 'books']
    """
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise InvalidRecipe(f"{file}: expected keys such as 'base', 'tasks' and 'merges', found {type(content).__name__}")
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise InvalidRecipe(f"{file}: {'; '.join(_explain(fault) for fault in error.errors())}") from error
    if strict and recipe.calibration.mode == "transductive":
        raise InvalidRecipe(
            f"{file}: 'calibration.mode' is transductive, so what is learnt from is what is evaluated, which --strict refuses; "
            "set it to held-out"
        )
    whole: Recipe = anchored(recipe, file.parent)
    return whole


def recorded_recipe(content: Mapping[str, Any], where: str) -> Recipe:
    """Return a recipe that was written down before; raises :class:`InvalidRecipe`, which says ``where``, when it is none any more."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise InvalidRecipe(f"{where}: {'; '.join(_explain(fault) for fault in error.errors())}") from error


def within_budget(recipe: Recipe, budget: str) -> Recipe:
    """Return the recipe with a budget (``0.5%``) in place of its first procedure's rank, or with ``best`` if it names none.

    Raises :class:`InvalidRecipe` for nonsense.

    >>> recipe = Recipe.model_validate({"suite": "nlp8", "merges": ["ties"]})
    >>> within_budget(recipe, "0.5%").surgery[0].label, within_budget(recipe, "0.5%").surgery[0].size
    ('best', '0.50% of the parameters')
    """
    try:
        if "surgery" not in recipe.model_fields_set:
            return recipe.model_copy(update={"surgery": [BestProcedure.model_validate({"procedure": "best", "budget": budget})]})
        first, *others = recipe.surgery
        settings = {**first.model_dump(exclude={"rank"}, exclude_unset=True), "procedure": first.procedure, "budget": budget}
        return recipe.model_copy(update={"surgery": [type(first).model_validate(settings), *others]})
    except ValidationError as error:
        raise InvalidRecipe(f"--budget: {'; '.join(_explain(fault) for fault in error.errors())}") from error


def _explain(fault: Any) -> str:
    # Behind a place in a list of unlike parts stands the name of the part, which is no key.
    unnamed = [2] if fault["loc"][:1] == ("surgery",) else [place for place, each in enumerate(fault["loc"]) if each in PARTS]
    where = ".".join(str(each) for place, each in enumerate(fault["loc"]) if place not in unnamed)
    if fault["type"] == "extra_forbidden":
        near = get_close_matches(str(fault["loc"][-1]), _keys(), n=1)
        return f"unknown key '{where}'" + (f"; did you mean '{near[0]}'?" if near else "")
    message = str(fault["msg"]).removeprefix("Value error, ")
    return f"'{where}': {message}" if where else message


def template_file() -> Path:
    """Return a commented recipe to start from."""
    return Path(__file__).with_name("template.yaml")


def _keys() -> list[str]:
    parts: tuple[type[Strict], ...] = (
        Recipe,
        BackboneRecipe,
        HeadRecipe,
        DataSetRecipe,
        TaskRecipe,
        CalibrationRecipe,
        JointRecipe,
        *PROCEDURES,
    )
    return [key for part in parts for key in part.model_fields]


def anchored(part: Any, folder: Path) -> Any:
    """Return a part of a recipe with every path in it made absolute."""
    if isinstance(part, Path):
        return part if on_hub(part) else folder.absolute() / part
    if isinstance(part, list):
        return [anchored(item, folder) for item in part]
    if isinstance(part, Strict):
        values = {key: anchored(getattr(part, key), folder) for key in type(part).model_fields}
        # What was not given stays so: only what has changed is set.
        return part.model_copy(update={key: value for key, value in values.items() if value != getattr(part, key)})
    return part
