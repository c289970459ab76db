"""A study: whose experts are looked at, with how much data, how many seeds and how long the slow baselines run."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from suture.backbones import Head
from suture.backbones.walk import is_linear
from suture.errors import InvalidRecipe, SutureError
from suture.experiment import Recipe, told_of_answers
from suture.experiment.answers import answered
from suture.experiment.calibration import CalibrationRecipe, Mode
from suture.experiment.own import SUPPORT
from suture.experiment.pipeline import Representations
from suture.experiment.provenance import paths_of, settings_of
from suture.experiment.setting import Setting, prepare
from suture.merging.batch_norm import recalibrates
from suture.surgery.residual import parameters_of_residuals
from suture.surgery.residual_surgery import matrix_layers
from suture.types import Stage, silent

MODES: tuple[Mode, ...] = ("held-out", "transductive")
DEEPER = {"deep_closed_form", "surgery_v2"}
"""Procedures that look behind every block."""
WHOLE = "100%"
BROUGHT = {"name", "suite", "base", "backbone", "tasks", "only", "batch_norm", "test_samples"}
"""What a study takes from a recipe as it stands; merges, surgery, seeds and calibration are its own."""


@dataclass(frozen=True)
class Study:
    """What all measurements of a run of ``suture paper`` have in common; small, so that it travels with every step.

    ``content`` holds the recipe's keys that say whose experts, which data and which heads.
    """

    name: str
    family: str
    content: Mapping[str, Any]
    tasks: Sequence[str]
    weights: str
    """The digest of base and experts."""
    data: str
    """The digest of all tasks' samples and heads, and of how the backbone is opened."""
    seeds: tuple[int, ...]
    samples: int
    """Calibration samples of a task, held-out."""
    pool: int
    """The first samples of each calibration split, from which they are drawn."""
    test_sizes: Mapping[str, int]
    precision: str = "bfloat16"
    quick: bool = False
    papers: str = ""
    """The architecture whose published figures stand beside, if the suite is the papers'."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings of merging methods and procedures of surgery that differ from their defaults, by name; of joint training, as ``joint``."""
    depth: int = 0
    """The backbone's blocks; 0 where deep surgery finds none."""
    widths: int = 0
    """Those of all places that deep surgery corrects, together."""
    parameters: int = 0
    """The backbone's."""
    linear: bool = False
    """Whether its blocks hold linear layers."""
    rows: bool = False
    """Whether its blocks hold layers that are linear maps of rows: linear ones, or convolutions of one place."""
    matrices: int = 0
    """The parameters of residuals of rank 1 of all matrices and convolutions in its blocks."""
    whole: int = 0
    """The parameters of all else in its blocks, which residuals alone keep whole."""
    labelled: bool = False
    """Whether every task has a labelled training split, for joint training."""

    def recipe(
        self,
        merge: Mapping[str, Any],
        procedure: Mapping[str, Any] | None = None,
        *,
        mode: Mode = "held-out",
        samples: int | str | None = None,
        seed: int | None = None,
        only: Sequence[str] | None = None,
        calibration: Mapping[str, Any] | None = None,
        joint: Mapping[str, Any] | None = None,
    ) -> Recipe:
        """Return what is measured, as a recipe of one merge, one procedure and one seed; ``calibration`` adds to what is learnt from."""
        learnt: dict[str, Any] = {"mode": mode, "precision": self.precision, **(calibration or {})}
        if mode == "held-out":
            asked = CalibrationRecipe(samples=self.samples if samples is None else samples)
            learnt |= {"samples": asked.size(self.pool), "pool": self.pool}
        elif samples not in (None, WHOLE):  # one thing has one name, so that it is measured once
            learnt["samples"] = samples
        content = {
            **self.content,
            "merges": [dict(merge)],
            "surgery": [dict(procedure or {"procedure": "closed_form"})],
            "calibration": learnt,
            "seeds": [self.seeds[0] if seed is None else seed],
        }
        if joint is not None:
            content["joint"] = dict(joint)
        if only is not None:
            content["only"] = list(only)
        return Recipe.model_validate(content)

    def merging(self, recipe: Recipe) -> Recipe:
        """Return the recipe of the merge alone: what learns does so from the study's own calibration set, whatever surgery is fitted on."""
        learnt: dict[str, Any] = {"mode": recipe.calibration.mode, "precision": self.precision}
        if recipe.calibration.mode == "held-out":
            learnt |= {"samples": self.samples, "pool": self.pool}
        return recipe.model_copy(update={"calibration": CalibrationRecipe.model_validate(learnt), "surgery": recipe.surgery[:1]})

    def affords(self, budget: str) -> bool:
        """Say whether a share of a backbone's parameters, such as ``"1%"``, buys surgery in its blocks a rank.

        A small network's does not: a correction of rank 1 takes 3 numbers for each feature.
        """
        return 3 * self.widths <= self.share(budget) and (self.affords_residuals(budget) or not self.linear)

    def affords_residuals(self, budget: str) -> bool:
        """Say whether it buys residuals of rank 1, and what they keep whole."""
        return 0 < self.matrices <= self.share(budget) - self.whole

    def share(self, budget: str) -> float:
        """Return the parameters that a budget comes to."""
        return float(budget.rstrip("%")) / 100 * self.parameters

    @property
    def places(self) -> list[Path]:
        """Every file and folder that the study's recipe names."""
        return paths_of(self.recipe({"method": "weight_averaging"}))

    @property
    def told(self) -> list[str]:
        """What a reader of any table must know."""
        sizes = sorted(self.test_sizes.values())
        test = f"{sizes[0]:,}" if sizes[0] == sizes[-1] else f"{sizes[0]:,} to {sizes[-1]:,}"
        notes = [
            f"{self.name}: {self.family}; {len(self.tasks)} tasks, {test} samples of each test split.",
            f"Held-out: {self.samples} unlabelled samples a task that are not in its test split. Transductive: the test inputs "
            "themselves, without labels, as the papers do it.",
            self._seeds_told,
            f"What learns by gradient through the backbone runs its forward passes in {self.precision}{self._cast}.",
            *told_of_answers(self.recipe({"method": "weight_averaging"})),
        ]
        if self.settings:
            told = (f"{name} {', '.join(f'{key} {value}' for key, value in own.items())}" for name, own in self.settings.items())
            notes.append(f"{'Quick: shorter' if self.quick else 'Other'} schedules and settings than the papers': {'; '.join(told)}.")
        if self.quick and self.depth:
            notes.append("Quick: what corrects behind blocks is measured on task arithmetic alone.")
        return notes

    @property
    def _cast(self) -> str:
        return "" if self.precision == "float32" else " (autocast)"

    @property
    def _seeds_told(self) -> str:
        if len(self.seeds) == 1:
            return "One seed of calibration subset and start."
        learnt = (
            "merges that learn, and joint training, are made once, with the first seed; surgery behind blocks is fitted with it alone, "
            "unless a table has a column of seeds"
        )
        return f"Mean ± standard deviation over {len(self.seeds)} seeds of the surgery's calibration subset and start; {learnt}."


def study_of(recipe: Recipe, *, quick: bool = False, papers: str = "", settings: Mapping[str, Mapping[str, Any]] | None = None) -> Study:
    """Return the study of a recipe's experts and data; ``quick`` shortens what is looked at and what learns by gradient.

    Raises :class:`InvalidRecipe` for a recipe of one task, or without calibration files, and what
    :func:`suture.experiment.setting.prepare` raises.
    """
    if bare := [task.name for task in recipe.tasks if task.calibration is None]:
        raise InvalidRecipe(f"held-out and transductive calibration are compared: give a 'calibration' file to {', '.join(bare)}")
    content = {key: value for key, value in recipe.model_dump(mode="json").items() if key in BROUGHT and value is not None}
    if quick:
        content["test_samples"] = min(recipe.test_samples or QUICK_TEST, QUICK_TEST)
    elif recipe.suite:
        content.pop("test_samples", None)  # what keeps a demonstration short
    first = Recipe.model_validate({**content, "merges": ["weight_averaging"], "calibration": {"pool": recipe.calibration.pool}})
    setting = opened(first)
    if first.batch_norm == "recalibrate" and not recalibrates(first.batch_norm, setting.base):
        del content["batch_norm"]  # one thing has one name, so that it is measured once
    if len(setting.tasks) < 2:
        raise InvalidRecipe("the tables and figures take two tasks or more")
    shape = _shape(setting)
    pool = min(len(task.split("calibration")) for task in setting.tasks)
    pool = min(pool, QUICK_POOL) if quick else pool
    size = min(recipe.calibration.size(pool), pool, QUICK_SAMPLES if quick else pool)
    return Study(
        name=setting.name,
        family=setting.family,
        content=content,
        tasks=[task.name for task in setting.tasks],
        weights=key_of(setting.base.digest, {task: own.digest for task, own in setting.experts.items()}),
        data=_data_key(setting, first),
        seeds=tuple(recipe.seeds[:1] if quick else recipe.seeds),
        samples=size,
        pool=pool,
        test_sizes={task.name: len(task.split("test")) for task in setting.tasks},
        quick=quick,
        papers=papers,
        settings={**({"joint": recipe.joint.model_dump(exclude_none=True)} if recipe.joint else {}), **(settings or {})},
        precision=recipe.calibration.precision if "precision" in recipe.calibration.model_fields_set else _quickest(shape),
        labelled=all("train" in task.splits for task in setting.tasks),
        **shape,
    )


def _quickest(shape: Mapping[str, Any]) -> str:
    # Half precision speeds up a transformer's products; gradients of convolutions, most of all depthwise ones, take twice as long in it.
    return "bfloat16" if shape.get("linear") else "float32"


QUICK_TEST, QUICK_POOL, QUICK_SAMPLES = 64, 48, 48
"""Test samples of a task, calibration samples, and how many of these are drawn."""


def opened(recipe: Recipe) -> Setting:
    """Return a recipe's setting, kept as long as the process lasts: the steps of a study differ in few of its parts."""
    return _opened(_content(recipe)).setting


@contextmanager
def representations(recipe: Recipe, stage: Stage) -> Iterator[Representations]:
    """Yield what reads the representations of a recipe's models; the experts' are read once in a process."""
    kept = _opened(_content(recipe))
    own = kept.for_another(stage)
    yield own
    kept.learn_from(own)


def seen_of(recipe: Recipe) -> dict[str, Any]:
    """Return what of a recipe's calibration decides which inputs there are to draw from."""
    return recipe.calibration.model_dump(mode="json", include={"mode", "source", "text", "image", "pool", "damage"})


def _content(recipe: Recipe) -> str:
    """Return what decides a recipe's setting."""
    content = recipe.model_dump(mode="json", exclude={"merges", "seeds", "surgery"})
    return json.dumps({**content, "calibration": seen_of(recipe)}, sort_keys=True)


@lru_cache(maxsize=16)
def _opened(content: str) -> Representations:
    setting = prepare(Recipe.model_validate({**json.loads(content), "merges": ["weight_averaging"]}))
    return Representations(answered(setting), silent)


MEASURES = 1
"""Raised whenever a change of the code changes what comes out of a step: what was kept before is then of no use."""


def key_of(*parts: Any) -> str:
    """Return the digest of plain values: equal parts, equal keys."""
    return hashlib.sha256(json.dumps([MEASURES, *parts], sort_keys=True, default=str).encode()).hexdigest()


def _data_key(setting: Setting, recipe: Recipe) -> str:
    """Return the digest of all samples and heads, and of how the backbone is opened."""
    told = {key: value for key, value in settings_of(setting, recipe).items() if key != "recipe"}
    return key_of(told, {task.name: _head_key(setting.heads[task.name], made=SUPPORT in task.splits) for task in setting.tasks})


def _head_key(head: Head, *, made: bool) -> str:
    """Return what tells a head from others.

    One that was made of support samples is known by these: its own numbers differ in their last bits from machine to machine.
    """
    given = [] if made else [None if each is None else [list(each.shape), each.double().tolist()] for each in (head.weight, head.bias)]
    return key_of(given, head.scale, list(head.classes))


def _shape(setting: Setting) -> dict[str, Any]:
    """Return what a study tells of the backbone: its parameters, and of its blocks what surgery finds there."""
    backbone = setting.backbone(setting.base)
    shape: dict[str, Any] = {"parameters": sum(parameter.numel() for parameter in backbone.model.parameters())}
    with suppress(SutureError):
        shape |= {"depth": backbone.blocks.depth, "widths": sum(backbone.widths)}
        layers = matrix_layers(backbone).values()
        shape |= {"linear": any(isinstance(layer, nn.Linear) for layer in layers), "rows": any(is_linear(layer) for layer in layers)}
        shape |= dict(zip(("whole", "matrices"), parameters_of_residuals(backbone), strict=True))
    return shape
