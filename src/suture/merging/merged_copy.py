"""One merged copy of the weights, made anew for every step of a method that learns by gradients."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from suture.merging.batch_norm import learnt
from suture.merging.calibration import Calibration, entropy_backward
from suture.merging.method import Block, Survey, require
from suture.randomness import generator_for, shuffled_rows
from suture.types import Progress


@dataclass
class MergedCopy:
    """θ = θ_0 + Σ_t λ_t τ_t, tensor by tensor, and what its loss says of λ.

    Memory: the copy and its gradient, two models; the task vectors (T more) lie in a file that is mapped. All tensors are flat:
    ``base`` has the shape (n,), ``vectors`` (T, n).
    """

    calibration: Calibration
    base: Mapping[str, Tensor]
    vectors: Mapping[str, Tensor]
    weights: dict[str, Tensor] = field(init=False)
    """The copy, by name, in the tensors' own shapes; losses flow back to it."""

    @classmethod
    def of(cls, survey: Survey, calibration: Calibration, vectors_of: Callable[[Block], Tensor], scratch: Path) -> "MergedCopy":
        """Take the tensors that the network reads and the experts changed; ``vectors_of`` makes a block's task vectors.

        The task vectors go to a file in ``scratch`` and are read from there as memory allows.
        """
        base, shapes = {}, {}
        with _Shelf.open(scratch / "task_vectors") as shelf:
            for name in learnt(survey.names):
                if name in calibration.parameters and survey.base[name].numel():
                    block = survey.whole(name)
                    own = vectors_of(block)
                    if bool(own.any()):
                        base[name], shapes[name] = block.base.reshape(-1).to(own.dtype), block.base.shape
                        shelf.put(name, own.reshape(len(own), -1))
        copy = cls(calibration, base, shelf.tensors())
        copy.weights = {name: torch.empty(shape, dtype=base[name].dtype).requires_grad_() for name, shape in shapes.items()}
        return copy

    @property
    def names(self) -> list[str]:
        """The tensors of the copy, in order."""
        return list(self.base)

    @property
    def sizes(self) -> dict[str, int]:
        """How many elements each tensor of the copy has."""
        return {name: len(base) for name, base in self.base.items()}

    @torch.no_grad()
    def merge(self, coefficients: Float[Tensor, "l t"], masks: Mapping[str, Tensor] | None = None) -> None:
        """Set the copy; one row of coefficients per tensor, in order. Masks, flat, go over every task vector alike."""
        for name, own in zip(self.names, coefficients, strict=True):
            target, base = self.weights[name].detach().view(-1), self.base[name]
            if masks is None:
                torch.addmv(base, self.vectors[name].T, own.to(base.dtype), out=target)
            else:
                torch.addcmul(base, masks[name].to(base.dtype), self.vectors[name].T @ own.to(base.dtype), out=target)

    def backward(self, rows: Sequence[Sequence[int]]) -> float:
        """Leave the gradient of the summed entropy of the given inputs in the weights' ``grad``, and return the sum."""
        for weight in self.weights.values():
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad.zero_()
        return entropy_backward(self.calibration, self.weights, rows)

    def gradient(self, name: str) -> Tensor:
        """Return ∂L/∂θ of one tensor, flat."""
        gradient = self.weights[name].grad
        assert gradient is not None  # noqa: S101  backward() set it
        return gradient.view(-1)

    def coefficient_gradient(self, masks: Mapping[str, Tensor] | None = None) -> Float64[Tensor, "l t"]:
        """Return ∂L/∂λ_t^l = ⟨∂L/∂θ^l, m^l ⊙ τ_t^l⟩, exact as θ is linear in λ; m is one without masks."""
        gradients = ((name, self.gradient(name) if masks is None else self.gradient(name) * masks[name]) for name in self.names)
        return torch.stack([(self.vectors[name] @ gradient).double() for name, gradient in gradients])


@dataclass
class _Shelf:
    """Tensors that are written to a file one after another, and mapped from there into memory; they may be changed in place."""

    file: Path
    stream: BinaryIO
    places: dict[str, tuple[int, torch.dtype, tuple[int, ...]]] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def open(cls, file: Path) -> Iterator["_Shelf"]:
        with file.open("wb") as stream:
            yield cls(file, stream)

    def put(self, name: str, tensor: Tensor) -> None:
        """Write one tensor; a mapped file that grew by itself would crash, not fail, where the disk is full."""
        self.stream.write(bytes(-self.stream.tell() % 8))  # float64 wants to begin at a multiple of its size
        self.places[name] = self.stream.tell(), tensor.dtype, tuple(tensor.shape)
        self.stream.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)

    def tensors(self) -> dict[str, Tensor]:
        """Return all, mapped."""
        if not self.places:
            return {}
        mapped = torch.from_numpy(np.memmap(self.file, mode="r+"))
        found = {}
        for name, (start, dtype, shape) in self.places.items():
            size = torch.Size(shape).numel() * dtype.itemsize
            found[name] = mapped[start : start + size].view(dtype).reshape(shape)
        return found


def drawn_rows(calibration: Calibration, batch: int, seed: int) -> Iterator[list[list[int]]]:
    """Yield rows of every task without end, each task's in an order of its own: tasks beside it do not change them."""
    drawn = [
        shuffled_rows(size, batch, generator_for(seed, task, "merging"))
        for task, size in zip(calibration.tasks, calibration.sizes, strict=True)
    ]
    while True:
        yield [next(rows).tolist() for rows in drawn]


def check_coefficients(scope: str, initial: float) -> None:
    """Raise :class:`suture.errors.InvalidHyperparameter` for coefficients of no known scope, or that start outside [0, 1]."""
    require(scope in {"layer", "task"}, f"scope must be 'layer' or 'task', not {scope!r}")
    require(0 <= initial <= 1, f"initial must be in [0, 1], not {initial}")


def coefficients_by_name(survey: Survey, copy: MergedCopy, found: Float[Tensor, "l t"], initial: float) -> dict[str, Tensor]:
    """Return the coefficients of every tensor, shape ``(T,)``: those found for the copy's, ``initial`` for the others."""
    untouched = torch.full((len(survey.experts),), initial, dtype=torch.float64)
    return {**dict.fromkeys(survey.names, untouched), **dict(zip(copy.names, found, strict=True))}


@dataclass(frozen=True)
class Schedule:
    """How coefficients are learnt."""

    initial: float
    steps: int
    learning_rate: float
    task_wise: bool


def learn_coefficients(copy: MergedCopy, rows: Iterator[list[list[int]]], schedule: Schedule, progress: Progress) -> Float[Tensor, "l t"]:
    """Return the coefficients in [0, 1] that Adam comes to, one row per tensor of the copy; all rows are alike when ``task_wise``."""
    layers, tasks = len(copy.names), len(copy.calibration.tasks)
    raw = torch.full((1 if schedule.task_wise else layers, tasks), schedule.initial, requires_grad=True)
    optimizer = torch.optim.Adam([raw], lr=schedule.learning_rate)
    for _ in range(schedule.steps if layers else 0):
        optimizer.zero_grad()
        clamped = raw.clamp(0, 1).expand(layers, tasks)
        copy.merge(clamped.detach())
        copy.backward(next(rows))
        clamped.backward(copy.coefficient_gradient().to(raw.dtype))
        optimizer.step()
        progress(1)
    return raw.detach().clamp(0, 1).expand(layers, tasks)
