"""The stages of an experiment: merge, encode, fit surgery, measure. Each is a function of what came before."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from suture.backbones import TaskCalibration
from suture.checkpoints import Checkpoint, Weights, open_checkpoint, write_like
from suture.errors import DataError
from suture.evaluation import INDIVIDUAL, Model, Record, accuracy
from suture.experiment.calibration import Mode
from suture.experiment.procedure import Patient, Procedure, ProcedureRecipe
from suture.experiment.provenance import inputs_digest
from suture.experiment.recipe import Recipe
from suture.experiment.setting import Setting
from suture.merging import DataDrivenMethod, MergingMethod, merge_to_folder
from suture.merging.batch_norm import recalibrates
from suture.merging.method import SEED
from suture.randomness import generator_for
from suture.representation import encode_cached, representation_bias
from suture.surgery import Operation, Origin, parts_of, represent
from suture.task_vector import TaskVector
from suture.tasks import Split
from suture.training import fine_tune
from suture.types import Progress, Stage, silent

Encoded = Mapping[str, Tensor]
"""Task name to representations."""

SPLIT_OF: dict[Mode, str] = {"held-out": "calibration", "transductive": "test"}


class Fitted(NamedTuple):
    """What is to be done to a merged model, and how it came about."""

    operation: Operation
    origin: Origin
    procedure: Procedure | None = None
    """The one that has fitted it, sized, and chosen where a recipe leaves that open; None for what was read from a file."""


@dataclass
class Representations:
    """The representations of every model on every task's split, by the model's name."""

    setting: Setting
    stage: Stage
    _known: dict[tuple[str, str], Encoded] = field(default_factory=dict)

    def for_another(self, stage: Stage) -> "Representations":
        """Return what knows the experts' representations, which are those of all merges, and nothing of other models."""
        return Representations(self.setting, stage, {key: z for key, z in self._known.items() if key[0] == INDIVIDUAL})

    def learn_from(self, other: "Representations") -> None:
        """Take over what another knows of the experts."""
        self._known |= other.for_another(silent)._known

    def shared(self, model: str, weights: Weights, split: str) -> Encoded:
        """Return each task's representations under one model."""
        return self._encode(model, dict.fromkeys(self.setting.experts, weights), split)

    def individual(self, split: str) -> Encoded:
        """Return each task's representations under its own expert."""
        return self._encode(INDIVIDUAL, self.setting.experts, split)

    def after(self, operation: Operation, model: str, merged: Checkpoint, split: str) -> Encoded:
        """Return each task's representations after an operation; all but surgery at the end takes a forward pass of its own per task."""
        residuals, surgery = parts_of(operation)
        if residuals is None and surgery is not None and not surgery.deep:
            return {task: surgery(task, z) for task, z in self.shared(model, merged, split).items()}
        splits = {task.name: task.split(split) for task in self.setting.tasks}
        backbone = self.setting.backbone(merged)
        with self.stage(f"Encoding {split}: {model} after surgery", sum(map(len, splits.values()))) as progress:
            return {task: represent(operation, backbone, task, part.inputs, progress) for task, part in splits.items()}

    def known(self, model: str, split: str) -> Encoded:
        """Return what has been encoded before under a model's name."""
        return self._known[model, split]

    def _encode(self, model: str, weights: Mapping[str, Weights], split: str) -> Encoded:
        if (model, split) not in self._known:
            splits = {task.name: task.split(split) for task in self.setting.tasks}
            with self.stage(f"Encoding {split}: {model}", sum(map(len, splits.values()))) as progress:
                self._known[model, split] = dict(self._encode_each(splits, weights, progress))
        return self._known[model, split]

    def _encode_each(self, splits: Mapping[str, Split], weights: Mapping[str, Weights], progress: Progress) -> Iterator[tuple[str, Tensor]]:
        """Encode task by task with one model in memory; weights shared by neighbouring tasks are loaded once."""
        backbone = None
        for task, part in splits.items():
            if backbone is None or backbone.weights is not weights[task]:
                backbone = self.setting.backbone(weights[task])
            yield task, encode_cached(backbone, part.inputs, progress)


def merge(
    setting: Setting,
    recipe: Recipe,
    method: MergingMethod,
    seed: int,
    out: Path,
    stage: Stage = silent,
    *,
    dtype: torch.dtype | None = None,
    replace: bool = False,
) -> Checkpoint:
    """Merge the setting's experts into a folder and open it; data-driven methods learn from the calibration set of the seed."""
    learnt_from, about = None, None
    if learns(setting, recipe, method):
        learnt_from = calibration_set(setting, recipe, seed)
        seen = {task: inputs_digest(own) for task, own in learnt_from.inputs.items()}
        about = {"calibration": {**recipe.calibration.model_dump(mode="json"), "seed": seed, "sha256": seen}}
    experts = list(setting.experts.values())
    merge_to_folder(
        method,
        setting.base,
        experts,
        out,
        calibration=learnt_from,
        dtype=dtype,
        batch_norm=recipe.batch_norm,
        about=about,
        replace=replace,
        stage=stage,
    )
    return open_checkpoint(out)


def train_jointly(setting: Setting, recipe: Recipe, seed: int, out: Path, stage: Stage = silent) -> Checkpoint:
    """Fine-tune the base on all tasks' training data and write it; what is trained is what any expert's fine-tuning changed."""
    assert recipe.joint is not None  # noqa: S101  the caller looked
    splits = {task.name: task.split("train").first(recipe.joint.samples) for task in setting.tasks}
    given = {task: split.inputs for task, split in splits.items()}
    inputs = TaskCalibration(setting.backbone(setting.base), given, setting.heads, getattr(torch, recipe.calibration.precision))
    vectors = [TaskVector(setting.base, expert) for expert in setting.experts.values()]
    # In the base's order: the norm that gradients are clipped to is a sum, and a set has another order in every process.
    read = [name for name in setting.base if name in inputs.parameters - inputs.backbone.statistics]
    start = {name: setting.base[name] for name in read if any(bool(vector[name].any()) for vector in vectors)}
    schedule = recipe.joint.schedule()
    with stage("Joint training", schedule.epochs * sum(inputs.sizes)) as progress:
        trained = fine_tune(inputs, [split.known_labels() for split in splits.values()], start, schedule, seed, progress)
    out.mkdir(parents=True)
    write_like(setting.base, out, ((name, trained.get(name, setting.base[name])) for name in setting.base))
    return open_checkpoint(out)


def seeded(method: MergingMethod, seeds: Sequence[int]) -> list[tuple[MergingMethod, list[int]]]:
    """Return the merges that a recipe's seeds make of a method, each with its seeds: one for each where it draws at random, else one."""
    if SEED not in {field.name for field in fields(method)}:
        return [(method, list(seeds))]
    return [(dataclasses.replace(method, **{SEED: seed}), [seed]) for seed in seeds]


def calibration_set(setting: Setting, recipe: Recipe, seed: int) -> TaskCalibration:
    """Return the calibration inputs that a seed draws of each task, under the base and the heads."""
    inputs = calibration_inputs(setting, recipe, seed)
    return TaskCalibration(setting.backbone(setting.base), inputs, setting.heads, getattr(torch, recipe.calibration.precision))


def calibration_inputs(setting: Setting, recipe: Recipe, seed: int) -> dict[str, list[Any]]:
    """Return the calibration inputs that a seed draws of each task."""
    inputs = {}
    for task, size in calibration_sizes(setting, recipe).items():
        split = next(each for each in setting.tasks if each.name == task).split(SPLIT_OF[recipe.calibration.mode])
        inputs[task] = [split.inputs[row] for row in drawn_rows(len(split), size, seed, task).tolist()]
    return inputs


def calibration_sizes(setting: Setting, recipe: Recipe) -> dict[str, int]:
    """Return how many samples each task is calibrated on; raises :class:`DataError` when a split is smaller than the recipe asks for."""
    sizes = {}
    for task in setting.tasks:
        there = len(task.split(SPLIT_OF[recipe.calibration.mode]))
        sizes[task.name] = recipe.calibration.size(there)
        if sizes[task.name] > there:
            raise DataError(f"task {task.name!r} has {there} samples to calibrate on, but the recipe asks for {sizes[task.name]}")
    return sizes


def fit_surgeries(
    setting: Setting,
    recipe: Recipe,
    procedure: ProcedureRecipe,
    model: str,
    merged: Checkpoint,
    representations: Representations,
    seeds: Sequence[int],
    stage: Stage = silent,
) -> Iterator[Fitted]:
    """Fit the surgery of one merged model by one procedure, once per seed; what the recipe leaves open is chosen with the first."""
    about, sizes = recipe.calibration.label, calibration_sizes(setting, recipe)
    chosen: Procedure | None = None
    for seed in seeds:
        patient = _patient(setting, recipe, model, merged, representations, seed)
        chosen = chosen or procedure.within(patient, seed, stage)
        if chosen.encodes:
            _ = patient.pairs  # encoding has a bar of its own
        with stage(f"Operating on {model}: {chosen.label}", chosen.effort(patient)) as progress:
            operation = chosen.fit(patient, seed, progress)
        yield Fitted(operation, Origin(about, max(sizes.values()), seed, merged.digest, chosen.label, chosen.rank), chosen)


def _patient(setting: Setting, recipe: Recipe, model: str, merged: Checkpoint, representations: Representations, seed: int) -> Patient:
    """Return what a procedure may look at with one seed."""
    return Patient(
        inputs=calibration_inputs(setting, recipe, seed),
        merged_of=lambda: setting.backbone(merged),
        expert_of=lambda task: setting.backbone(setting.experts[task]),
        pairs_of=lambda: calibration_pairs(setting, recipe, model, merged, representations, seed),
        precision=getattr(torch, recipe.calibration.precision),
    )


def calibration_pairs(
    setting: Setting, recipe: Recipe, model: str, merged: Checkpoint, representations: Representations, seed: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each task's calibration set: a seeded draw of rows, as seen by the merged model and by the expert."""
    split, pairs = SPLIT_OF[recipe.calibration.mode], {}
    own, expert = representations.shared(model, merged, split), representations.individual(split)
    for task, size in calibration_sizes(setting, recipe).items():
        rows = drawn_rows(len(own[task]), size, seed, task)
        pairs[task] = own[task][rows], expert[task][rows]
    return pairs


def drawn_rows(among: int, size: int, seed: int, task: str) -> Tensor:
    """Return the rows that a seed draws of a task's samples."""
    return torch.randperm(among, generator=generator_for(seed, task, "calibration"))[:size]


def learns(setting: Setting, recipe: Recipe, method: MergingMethod) -> bool:
    """Say whether a merge sees the calibration set: for the method, or for the statistics of norms over batches (with the first seed's)."""
    return isinstance(method, DataDrivenMethod) or recalibrates(recipe.batch_norm, setting.base)


def merged_model(setting: Setting, recipe: Recipe, method: MergingMethod) -> Model:
    """Return what the tables call a merge, and what it learnt from."""
    if not learns(setting, recipe, method):
        return Model(method.label)
    return Model(method.label, calibration=recipe.calibration.label, samples=max(calibration_sizes(setting, recipe).values()))


def operated_model(merge: str, fitted: Fitted) -> Model:
    """Return what the tables call a merge after surgery."""
    return Model(merge, fitted.origin.kind, fitted.origin.rank or fitted.operation.rank, fitted.origin.calibration, fitted.origin.samples)


def measure(
    setting: Setting, model: Model, seed: int, test: Encoded, expert: Encoded | None = None, operation: Operation | None = None
) -> list[Record]:
    """Return one model's accuracy on every task and, where they are given, its bias against the experts and an operation's parameters."""
    records = []
    for task in setting.tasks:
        z = test[task.name]
        values = {"accuracy": accuracy(setting.heads[task.name](z), task.split("test").known_labels())}
        if expert is not None:
            bias = representation_bias(z, expert[task.name])
            values |= {"bias_l1": bias.l1, "bias_mean_abs": bias.mean_abs}
        if operation is not None:
            values["parameters"] = float(operation.parameters(task.name))
        records += [Record(setting.name, *model, seed, task.name, metric, value) for metric, value in values.items()]
    return records
