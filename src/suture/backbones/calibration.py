"""Unlabelled inputs of several tasks under frozen heads: what data-driven merging and joint training run through a network."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from suture.backbones.backbone import Backbone
from suture.backbones.batch_norm import measured_statistics
from suture.backbones.batching import batches_of_like_length
from suture.backbones.heads import Head
from suture.backbones.precision import in_precision
from suture.backbones.walk import BlockWalk, entering_rows, is_linear, stages_of, watched
from suture.errors import DataError

TOKENS_PER_BATCH = 1024
"""Padded tokens that go forward and back together: short enough batches of like lengths that little of them is padding."""


@dataclass(frozen=True)
class TaskCalibration:
    """Inputs of each task and the task's head, in the order of the experts; it fulfils :class:`suture.merging.Calibration`.

    ``backbone`` holds the base's weights. Forward passes run in ``precision``: ``torch.bfloat16`` casts the matrix products to that
    (autocast), which is faster where the processor has such instructions; weights, gradients and losses stay float32.

    Raises :class:`DataError` for a task without inputs or without a head.
    """

    backbone: Backbone
    inputs: Mapping[str, Sequence[Any]]
    heads: Mapping[str, Head]
    precision: torch.dtype = torch.float32
    fixed: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors, by their names on disk, in place of the backbone's own wherever no others are given."""

    def __post_init__(self) -> None:
        for task, inputs in self.inputs.items():
            if not inputs:
                raise DataError(f"task {task!r} has no inputs to learn from")
            if task not in self.heads:
                raise DataError(f"task {task!r} has inputs, but no head")

    @property
    def tasks(self) -> list[str]:
        """The tasks' names."""
        return list(self.inputs)

    @property
    def sizes(self) -> list[int]:
        """How many inputs each task has."""
        return [len(inputs) for inputs in self.inputs.values()]

    @cached_property
    def prepared(self) -> list[list[Any]]:
        """Each task's inputs, prepared for the network."""
        return [self.backbone.prepare(inputs) for inputs in self.inputs.values()]

    @cached_property
    def parameters(self) -> frozenset[str]:
        """The names on disk of the tensors that the encoder reads."""
        return frozenset(self.backbone.names.values())

    @property
    def layers(self) -> list[list[str]]:
        """The names on disk of the linear layers' weights, block by block; what stands before or after the blocks is a block each."""
        return [linear for _, linear in self._blocks]

    @cached_property
    def blocks(self) -> list[list[str]]:
        """The names on disk of all tensors of the same blocks; embeddings, and norms outside the blocks, are in none."""
        names = self.backbone.names
        return [
            [source for name, source in names.items() if name.startswith(tuple(f"{each}." for each in block))] for block, _ in self._blocks
        ]

    @cached_property
    def _blocks(self) -> list[tuple[list[str], list[str]]]:
        """The modules that are blocks, with the names on disk of their linear layers' weights."""

        def block_of(layer: tuple[str, str, nn.Module]) -> list[str]:
            inside = (block for block in self.backbone.block_names if any(layer[0].startswith(f"{each}.") for each in block))
            return next(inside, [layer[0]])

        return [(block, [source for _, source, _ in group]) for block, group in groupby(self._linear(), key=block_of)]

    def batches(self, rows: Sequence[Sequence[int]]) -> Iterator["TaskBatch"]:
        """Yield batches of inputs of like length, whatever their tasks."""
        chosen = [(task, int(row)) for task, own in enumerate(rows) for row in own]
        for places in batches_of_like_length([self.backbone.length(self.prepared[task][row]) for task, row in chosen], TOKENS_PER_BATCH):
            yield TaskBatch(self, [chosen[place] for place in sorted(places)])

    def watch(self, weights: Mapping[str, Tensor], rows: Sequence[Sequence[int]], look: Callable[[str, Tensor], None]) -> None:
        """Run inputs forward and show ``look`` the rows that enter every linear layer; no hook outlives the call."""
        real: list[Tensor | None] = []
        last: list[Tensor] = []

        def show(source: str, layer: nn.Module, entering: Tensor) -> None:
            if not last or last[0] is not entering:
                last[:] = [entering, entering_rows(layer, entering, real[0])]
            look(source, last[1])

        with torch.no_grad(), watched({source: layer for _, source, layer in self._linear()}, show):
            for batch in self.batches(rows):
                real[:] = [batch.real]
                batch.represent(weights)

    @cached_property
    def stages(self) -> list[list[list[tuple[str, str | None]]]]:
        """The linear layers and norms, weight and bias, block by block, as they run; those that one tensor enters stand together."""
        return stages_of(self.backbone, self.prepared[0][0])

    def walk(self, weights: Mapping[str, Tensor], rows: Sequence[Sequence[int]], folder: Path) -> BlockWalk:
        """Take inputs to the first block; raises :class:`UnsupportedFormat` for a network that does not run block by block."""
        return BlockWalk(self.backbone, self.precision, folder).enter(
            {**self.fixed, **weights}, (batch.prepared for batch in self.batches(rows))
        )

    def settled(self, statistics: Mapping[str, Tensor]) -> "TaskCalibration":
        """Return the same with these tensors, by their names on disk, in the network wherever none are given for them."""
        return replace(self, fixed=dict(statistics))

    def statistics(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the statistics of norms over batches, by their names on disk, over all inputs, tasks mixed."""
        return measured_statistics(self.backbone, weights, self.prepared)

    def _linear(self) -> list[tuple[str, str, nn.Module]]:
        """Return the linear layers whose weights are on disk: each one's name in the model, its weight's name on disk, and itself."""
        names, modules = self.backbone.names, self.backbone.model.named_modules()
        return [(n, names[f"{n}.weight"], layer) for n, layer in modules if is_linear(layer) and f"{n}.weight" in names]


@dataclass(frozen=True)
class TaskBatch:
    """Inputs, by task and row in task order, that take one forward pass."""

    calibration: TaskCalibration
    chosen: Sequence[tuple[int, int]]

    @property
    def prepared(self) -> list[Any]:
        """The inputs, prepared for the network."""
        return [self.calibration.prepared[task][row] for task, row in self.chosen]

    @property
    def real(self) -> Tensor | None:
        """Which of the padded tokens are real, shape (n, longest); None where all are."""
        return self.calibration.backbone.real(self.calibration.backbone.collate(self.prepared))

    def represent(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the representations, float32, shape (n, k)."""
        weights = {name: weight.float() for name, weight in {**self.calibration.fixed, **weights}.items()}
        with in_precision(self.calibration.precision):
            return self.calibration.backbone.represent(self.prepared, weights).float()

    def logits(self, weights: Mapping[str, Tensor]) -> list[tuple[int, Tensor]]:
        """Return the tasks in the batch, each with its inputs' logits under its own head."""
        return [(task, logits) for task, _, logits in self.classified(weights)]

    def classified(self, weights: Mapping[str, Tensor]) -> list[tuple[int, list[int], Tensor]]:
        """Return the tasks in the batch, each with its inputs' rows and their logits under its own head."""
        z, found, start = self.represent(weights), [], 0
        heads = [self.calibration.heads[task] for task in self.calibration.tasks]
        for task, group in groupby(self.chosen, key=lambda item: item[0]):
            rows = [row for _, row in group]
            found.append((task, rows, heads[task](z[start : start + len(rows)])))
            start += len(rows)
        return found
