"""A tiny network with unlabelled inputs of several tasks: a calibration in plain torch.

h = tanh(x matrixᵀ), z = h secondᵀ + vector, logits_t = z head_tᵀ. Other tensors of a model are not read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from suture.randomness import generator_for

PARAMETERS = ("matrix", "second", "vector")


@cache
def inputs_of(task: str) -> Tensor:
    """The inputs of a task, shape (n, 5): tasks have different numbers of them."""
    generator = generator_for(0, task, "inputs")
    return 0.5 * torch.randn(9 + len(task) + ord(task[-1]) % 7, 5, generator=generator, dtype=torch.float64)


@cache
def head_of(task: str) -> Tensor:
    """The head of a task, shape (c, 11): tasks have different numbers of classes."""
    generator = generator_for(0, task, "head")
    return 0.3 * torch.randn(2 + ord(task[-1]) % 3, 11, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class Network:
    """A calibration of tasks that are known by their names."""

    base: Mapping[str, Tensor]
    tasks: Sequence[str]
    parameters: frozenset[str] = frozenset(PARAMETERS)
    layers: Sequence[Sequence[str]] = (("matrix",), ("second",))
    blocks: Sequence[Sequence[str]] = (("matrix",), ("second", "vector"))
    stages: Sequence[Sequence[Sequence[tuple[str, str | None]]]] = (((("matrix", None),),), ((("second", "vector"),),))
    inputs: Callable[[str], Tensor] = field(default=inputs_of)

    @property
    def sizes(self) -> list[int]:
        return [len(self.inputs(task)) for task in self.tasks]

    def batches(self, rows: Sequence[Sequence[int]]) -> Iterator["Rows"]:
        # Two tasks may share a batch, and one task may need several.
        chosen = [(task, row) for task, own in enumerate(rows) for row in own]
        for start in range(0, len(chosen), 5):
            yield Rows(self, chosen[start : start + 5])

    def watch(self, weights: Mapping[str, Tensor], rows: Sequence[Sequence[int]], look: Callable[[str, Tensor], None]) -> None:
        for batch in self.batches(rows):
            batch.represent(weights, look)

    def settled(self, statistics: Mapping[str, Tensor]) -> "Network":
        raise AssertionError("this network measures nothing")

    def statistics(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return {}

    def walk(self, weights: Mapping[str, Tensor], rows: Sequence[Sequence[int]], folder: Path) -> "Steps":
        folder.mkdir()  # every walk has one of its own
        return Steps(self, [batch.inputs for batch in self.batches(rows)])


@dataclass
class Steps:
    network: Network
    hidden: list[Tensor]
    number: int = 0

    @property
    def names(self) -> Sequence[str]:
        return self.network.blocks[self.number]

    def inputs(self, weights: Mapping[str, Tensor], layer: str) -> Iterator[Tensor]:
        assert layer == self.network.layers[self.number][0]
        dtype = torch.promote_types(weights[layer].dtype, torch.float32)
        yield from (hidden.to(dtype) for hidden in self.hidden)

    def step(self, weights: Mapping[str, Tensor]) -> None:
        if self.number == 0:
            dtype = torch.promote_types(weights["matrix"].dtype, torch.float32)
            self.hidden = [(x.to(dtype) @ weights["matrix"].to(dtype).T).tanh() for x in self.hidden]
        self.number += 1


@dataclass(frozen=True)
class Rows:
    network: Network
    chosen: Sequence[tuple[int, int]]

    @property
    def inputs(self) -> Tensor:
        return torch.stack([self.network.inputs(self.network.tasks[task])[row] for task, row in self.chosen])

    def represent(self, weights: Mapping[str, Tensor], look: Callable[[str, Tensor], None] = lambda name, inputs: None) -> Tensor:
        matrix, second, vector = (weights.get(name, self.network.base[name]) for name in PARAMETERS)
        dtype = torch.promote_types(matrix.dtype, torch.float32)
        x = self.inputs.to(dtype)
        look("matrix", x)
        hidden = (x @ matrix.to(dtype).T).tanh()
        look("second", hidden)
        return hidden @ second.to(dtype).T + vector.to(dtype)

    def logits(self, weights: Mapping[str, Tensor]) -> list[tuple[int, Tensor]]:
        z = self.represent(weights)
        found = []
        for task in dict.fromkeys(task for task, _ in self.chosen):
            own = [place for place, (other, _) in enumerate(self.chosen) if other == task]
            found.append((task, z[own] @ head_of(self.network.tasks[task]).to(z.dtype).T))
        return found
