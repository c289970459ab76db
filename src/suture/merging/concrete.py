"""Concrete subspace learning: one shared, learnt mask over all task vectors; then task arithmetic or AdaMerging."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from suture.bibliography import ADA_MERGING, CONCRETE, TASK_ARITHMETIC, Paper
from suture.merging.calibration import Calibration
from suture.merging.merged_copy import MergedCopy, Schedule, check_coefficients, coefficients_by_name, drawn_rows, learn_coefficients
from suture.merging.method import (
    Block,
    DataDrivenMethod,
    Statistics,
    Survey,
    require_finite,
    require_positive,
    require_seed,
)
from suture.randomness import generator_for
from suture.types import Progress


@dataclass
class ConcreteMask:
    """A relaxed Bernoulli mask per tensor: m = σ((x + log u − log(1 − u)) / temperature), u ~ U(0, 1), divided by its mean.

    The logits x start at 0. Each tensor draws from a generator of its own, so that the others do not change its mask. Memory: the
    logits, their gradient, Adam's two moments, and the mask: five models.
    """

    sizes: Mapping[str, int]
    temperature: float
    seed: int
    learning_rate: float
    mask: dict[str, Tensor] = field(default_factory=dict)
    """The last draw, flat, with mean one."""

    def __post_init__(self) -> None:
        self.logits = {name: torch.zeros(size) for name, size in self.sizes.items()}
        self._generators = {name: generator_for(self.seed, name, "mask") for name in self.sizes}
        self._means: dict[str, Tensor] = {}
        # Written out, Adam goes over the whole model a dozen times; fused, once.
        self._optimizer = torch.optim.Adam(self.logits.values(), lr=self.learning_rate, fused=True) if self.sizes else None

    def draw(self) -> dict[str, Tensor]:
        """Draw a new mask, and return it."""
        for name, logits in self.logits.items():
            noise = torch.rand(logits.shape, generator=self._generators[name]).logit_()
            relaxed = noise.add_(logits).div_(self.temperature).sigmoid_()
            mean = relaxed.mean()
            # At a low temperature a small tensor's whole mask may round to zero: then it has none.
            empty = bool(mean == 0)
            self._means[name] = torch.ones(()) if empty else mean
            self.mask[name] = torch.ones_like(relaxed) if empty else relaxed.div_(mean)
        return self.mask

    def step(self, copy: MergedCopy, coefficients: Tensor) -> None:
        """Move the logits against the gradient of a loss that has been taken back to the copy.

        With g = ∂L/∂θ ⊙ Σ_t λ_t τ_t = ∂L/∂m̂ for m̂ = m / μ: ∂L/∂m = (g − mean(g ⊙ m̂)) / μ, and ∂m/∂x = m (1 − m) / temperature.
        """
        if self._optimizer is None:
            return
        for (name, logits), own in zip(self.logits.items(), coefficients, strict=True):
            normed, mean = self.mask[name], self._means[name]
            gradient = (copy.vectors[name].T @ own.to(copy.base[name].dtype)).mul_(copy.gradient(name)).to(logits.dtype)
            gradient -= gradient.dot(normed) / len(normed)
            # m (1 − m) / μ = m̂ (1 − μ m̂).
            logits.grad = gradient.mul_(normed).mul_(1 - mean * normed).div_(self.temperature)
        self._optimizer.step()


@dataclass(frozen=True)
class ConcreteTaskArithmetic(DataDrivenMethod):
    """θ_m = θ_0 + λ Σ_t m ⊙ τ_t, with one mask m for all tasks, learnt to make the merged model decided about unlabelled inputs.

    λ = ``scale``. The logits of the mask start at 0 and are learnt by Adam (``learning_rate``) for ``steps`` steps of ``batch_size``
    inputs of every task; each step draws a mask of the relaxed Bernoulli distribution (``temperature``) and divides it by its mean, tensor
    by tensor. The mask that is used in the end is one more draw. Tensors that the network does not read, or no expert changed, have
    no mask.

    Memory: eight models beside the network.

    Source: Tang et al., 2023, *Concrete Subspace Learning based Interference Elimination for Multi-task Model Fusion*, arXiv 2312.06173.
    """

    name: ClassVar[str] = "concrete_task_arithmetic"
    paper: ClassVar[Paper] = CONCRETE
    builds_on: ClassVar[tuple[Paper, ...]] = (TASK_ARITHMETIC,)

    scale: float = 0.3
    steps: int = 2000
    batch_size: int = 16
    learning_rate: float = 1e-3
    temperature: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        require_finite("scale", self.scale)
        positive = {name: getattr(self, name) for name in ("steps", "batch_size", "learning_rate", "temperature")}
        require_positive(**positive)
        require_seed(self.seed)

    def effort(self, calibration: Calibration) -> int:  # noqa: ARG002
        """Return the number of steps."""
        return self.steps

    def estimate(self, survey: Survey, calibration: Calibration, scratch: Path, progress: Progress) -> Statistics:
        """Learn the mask, by tensor."""
        # One mask for all tasks and one λ: the sum of the task vectors is all that is needed of them.
        copy = MergedCopy.of(survey, calibration, lambda block: block.task_vectors.sum(dim=0, keepdim=True), scratch)
        mask = ConcreteMask(copy.sizes, self.temperature, self.seed, self.learning_rate)
        rows, scales = drawn_rows(calibration, self.batch_size, self.seed), torch.full((len(copy.names), 1), self.scale)
        for _ in range(self.steps if copy.names else 0):
            copy.merge(scales, mask.draw())
            copy.backward(next(rows))
            mask.step(copy, scales)
            progress(1)
        return mask.draw()

    def combine(self, block: Block, statistics: Statistics) -> Tensor:
        """Return λ times the masked sum of the task vectors."""
        return masked(block, block.task_vectors.sum(dim=0), statistics).mul_(self.scale)


@dataclass(frozen=True)
class ConcreteAdaMerging(DataDrivenMethod):
    """θ_m^l = θ_0^l + Σ_t λ_t^l m^l ⊙ τ_t^l: a shared mask learnt for what AdaMerging makes of it, then AdaMerging under the mask.

    For ``steps`` steps, a mask is drawn, λ takes one step of Adam (``inner_learning_rate``) from ``initial``, and the mask's logits one
    step (``learning_rate``) at that λ, without gradients through the first. Then, under one drawn mask, λ is learnt as AdaMerging does
    it, for ``coefficient_steps`` steps of ``coefficient_learning_rate``. λ stays in [0, 1]; ``scope`` is "layer" or "task".

    Memory: eight models beside the network; the task vectors (T more) are mapped from a file.

    Source: Tang et al., 2023, arXiv 2312.06173, Algorithm 1, with the numbers of the authors' code.
    Trap: their inner step has a learning rate of 1, so that Adam takes λ to an end of its range.
    """

    name: ClassVar[str] = "concrete_ada_merging"
    paper: ClassVar[Paper] = CONCRETE
    builds_on: ClassVar[tuple[Paper, ...]] = (ADA_MERGING,)

    scope: str = "layer"
    initial: float = 0.3
    steps: int = 2000
    coefficient_steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 1e-3
    inner_learning_rate: float = 1.0
    coefficient_learning_rate: float = 1e-3
    temperature: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        check_coefficients(self.scope, self.initial)
        names = ("steps", "coefficient_steps", "batch_size", "temperature")
        rates = ("learning_rate", "inner_learning_rate", "coefficient_learning_rate")
        require_positive(**{name: getattr(self, name) for name in (*names, *rates)})
        require_seed(self.seed)

    def effort(self, calibration: Calibration) -> int:  # noqa: ARG002
        """Return the number of forward and backward passes."""
        return 2 * self.steps + self.coefficient_steps

    def estimate(self, survey: Survey, calibration: Calibration, scratch: Path, progress: Progress) -> Statistics:
        """Learn the mask, then the coefficients; return both by tensor."""
        copy = MergedCopy.of(survey, calibration, lambda block: block.task_vectors, scratch)
        rows = drawn_rows(calibration, self.batch_size, self.seed)
        mask = self._learn_mask(copy, rows, progress)
        for name, vectors in copy.vectors.items():
            vectors.mul_(mask[name])
        schedule = Schedule(self.initial, self.coefficient_steps, self.coefficient_learning_rate, self.scope == "task")
        found = learn_coefficients(copy, rows, schedule, progress)
        return coefficients_by_name(survey, copy, found, self.initial), mask

    def combine(self, block: Block, statistics: Statistics) -> Tensor:
        """Return the masked Σ_t λ_t τ_t."""
        coefficients, mask = statistics
        return masked(block, torch.tensordot(coefficients[block.name].to(block.task_vectors.dtype), block.task_vectors, dims=1), mask)

    def _learn_mask(self, copy: MergedCopy, rows: Iterator[list[list[int]]], progress: Progress) -> dict[str, Tensor]:
        """Return one draw of the learnt mask, by tensor."""
        mask = ConcreteMask(copy.sizes, self.temperature, self.seed, self.learning_rate)
        layers, tasks = len(copy.names), len(copy.calibration.tasks)
        raw = torch.empty(1 if self.scope == "task" else layers, tasks, requires_grad=True)
        inner = torch.optim.Adam([raw], lr=self.inner_learning_rate)
        for _ in range(self.steps if layers else 0):
            inner.zero_grad()
            raw.data.fill_(self.initial)
            start, drawn = raw.expand(layers, tasks), mask.draw()
            copy.merge(start.detach(), drawn)
            copy.backward(next(rows))
            start.backward(copy.coefficient_gradient(drawn).to(raw.dtype))
            inner.step()
            adapted = raw.detach().clamp(0, 1).expand(layers, tasks)
            copy.merge(adapted, drawn)
            copy.backward(next(rows))
            mask.step(copy, adapted)
            progress(2)
        return mask.draw()


def masked(block: Block, merged: Tensor, mask: Mapping[str, Tensor]) -> Tensor:
    """Return a block's merged task vector under the block's part of its mask."""
    if block.name not in mask:
        return merged
    part = mask[block.name][block.start : block.start + block.base.numel()]
    return merged * part.reshape(block.base.shape).to(merged.dtype)
