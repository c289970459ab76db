"""The stages of an experiment: merge, encode, fit surgery, measure. Each is a function of what came before."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from suture.checkpoints import Checkpoint, Weights, open_checkpoint
from suture.errors import DataError
from suture.evaluation import Record, accuracy
from suture.experiment.recipe import Mode, Recipe
from suture.experiment.setting import Setting
from suture.merging import MergingMethod, merge_to_folder
from suture.representation import encode_cached, representation_bias
from suture.surgery import Surgery, fit_surgery
from suture.tasks import Split, Task
from suture.types import Progress, Stage, silent

Encoded = Mapping[str, Tensor]
"""Task name to representations."""

SURGERY = "surgery"
SPLIT_OF: dict[Mode, str] = {"held-out": "calibration", "transductive": "test"}


@dataclass
class Representations:
    """The representations of every model on every task's split, by the model's name."""

    setting: Setting
    stage: Stage
    surgeries: dict[str, Surgery] = field(default_factory=dict)
    _known: dict[tuple[str, str], Encoded] = field(default_factory=dict)

    def shared(self, model: str, weights: Weights, split: str) -> Encoded:
        """Return each task's representations under one model."""
        return self._encode(model, dict.fromkeys(self.setting.experts, weights), split)

    def individual(self, split: str) -> Encoded:
        """Return each task's representations under its own expert."""
        return self._encode("individual", self.setting.experts, split)

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
            yield task, encode_cached(backbone, part.texts, progress)


def merge(setting: Setting, method: MergingMethod, out: Path, stage: Stage = silent) -> Checkpoint:
    """Merge the setting's experts into a folder and open it."""
    with stage(f"Merging: {method.name}", setting.base.elements) as progress:
        merge_to_folder(method, setting.base, list(setting.experts.values()), out, progress=progress)
    return open_checkpoint(out)


def calibration_pairs(setting: Setting, recipe: Recipe, merged: Encoded, expert: Encoded, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each task's calibration set: a seeded draw of rows, as seen by the merged model and by the expert.

    Raises :class:`DataError` when a split is smaller than the recipe asks for.
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = {}
    for task in setting.tasks:
        size, wanted = len(merged[task.name]), recipe.calibration.samples
        if wanted is not None and wanted > size:
            raise DataError(f"task {task.name!r} has {size} samples to calibrate on, but the recipe asks for {wanted}")
        rows = torch.randperm(size, generator=generator)[: wanted or size]
        pairs[task.name] = merged[task.name][rows], expert[task.name][rows]
    return pairs


def operate(
    setting: Setting,
    recipe: Recipe,
    model: str,
    merged: Checkpoint,
    representations: Representations,
    stage: Stage = silent,
) -> dict[int, Surgery]:
    """Fit the surgery of one merged model, once per seed."""
    split, schedule = SPLIT_OF[recipe.calibration.mode], recipe.surgery.schedule()
    own, expert = representations.shared(model, merged, split), representations.individual(split)
    with stage(f"Operating on {model}", schedule.steps * len(recipe.seeds)) as progress:
        return {seed: fit_surgery(calibration_pairs(setting, recipe, own, expert, seed), schedule, seed, progress) for seed in recipe.seeds}


def measure(
    setting: Setting,
    recipe: Recipe,
    model: str,
    test: Encoded,
    expert: Encoded | None = None,
    surgeries: Mapping[int, Surgery] | None = None,
) -> list[Record]:
    """Return accuracy and, where an expert's representations are given, bias of one model on every task, per seed of surgery."""
    records = []
    fitted: Mapping[int, Surgery | None] = surgeries or {0: None}
    for seed, surgery in fitted.items():
        for task in setting.tasks:
            z = test[task.name] if surgery is None else surgery(task.name, test[task.name])
            values = {"accuracy": accuracy(setting.heads[task.name](z), _labels(task))}
            if expert is not None:
                bias = representation_bias(z, expert[task.name])
                values |= {"bias_l1": bias.l1, "bias_mean_abs": bias.mean_abs}
            about = _provenance(recipe, task, surgery)
            records += [Record(setting.name, model, *about, seed, task.name, metric, value) for metric, value in values.items()]
    return records


def _provenance(recipe: Recipe, task: Task, surgery: Surgery | None) -> tuple[str, int, str, int]:
    """Return surgery, rank, calibration and samples of a row."""
    if surgery is None:
        return "none", 0, "none", 0
    mode = recipe.calibration.mode
    return SURGERY, surgery.rank, mode, recipe.calibration.samples or len(task.split(SPLIT_OF[mode]))


def _labels(task: Task) -> Tensor:
    split: Split = task.split("test")
    return split.known_labels()
