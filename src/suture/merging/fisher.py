"""Fisher merging: every weight is averaged with the certainty that each expert has of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from suture.bibliography import FISHER_MERGING, Paper
from suture.checkpoints import TensorSpec, open_checkpoint, write_safetensors
from suture.factoring import svd
from suture.merging.calibration import Calibration, rows_of_one, sampled_count, sampled_rows
from suture.merging.method import Block, DataDrivenMethod, Statistics, Survey, network_weights, require_positive, require_seed
from suture.types import Progress

ROUNDING = 1e-12
"""The share of the Fisher information of logits below which a direction is a rounding error."""


@dataclass(frozen=True)
class Fisher(DataDrivenMethod):
    """θ_m = Σ_t F̃_t θ_t / Σ_t F̃_t = θ_0 + Σ_t F̃_t τ_t / Σ_t F̃_t, element by element.

    F_t is the diagonal of the Fisher information of expert t, on at most ``samples`` unlabelled inputs x of task t that ``seed`` draws:
    F_t = mean over x of Σ_y p(y|x; θ_t) (∂ log p(y|x; θ_t) / ∂θ)². F̃_t = max(F_t / ‖F_t‖₂, ``floor``), the norm being that of
    the whole model: an expert with flat predictions would be outvoted otherwise. Tensors that the network does not read are averaged.

    Memory: one expert, its gradient and its F; time: a backward pass per input and class but one. Every F̃_t waits on disk.

    Source: Matena & Raffel, 2022, *Merging Models with Fisher-Weighted Averaging*, arXiv 2111.09832. Their code divides by
    the same norm and has the same floor, but under F itself, before the norm: there it outweighs all of a confident expert's F, which
    is small everywhere; so the floor comes after the norm here, and means the same for every expert. FusionBench adds it to F.
    Trap: each input's and class's gradient is squared by itself; FusionBench squares the sum over a batch and its classes, which is
    another quantity.
    """

    name: ClassVar[str] = "fisher"
    paper: ClassVar[Paper] = FISHER_MERGING

    samples: int = 256
    floor: float = 1e-6
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(samples=self.samples, floor=self.floor)
        require_seed(self.seed)

    def effort(self, calibration: Calibration) -> int:
        """Return the number of inputs of all tasks."""
        return sampled_count(calibration, self.samples)

    def estimate(self, survey: Survey, calibration: Calibration, scratch: Path, progress: Progress) -> Statistics:
        """Write every F̃_t to a file, and return them in the order of the experts: mappings of names to tensors."""
        found = []
        for task, rows in enumerate(sampled_rows(calibration, self.samples, self.seed)):
            weights = network_weights(survey, task, calibration.parameters)
            fisher = diagonal_fisher(calibration, task, rows, weights, progress)
            norm = torch.stack([part.double().norm() for part in fisher.values()]).norm() if fisher else torch.tensor(0.0)
            specs = {name: TensorSpec(tuple(part.shape), part.dtype) for name, part in fisher.items()}
            normalised = ((name, part.div_(norm if norm > 0 else 1).clamp_(min=self.floor)) for name, part in fisher.items())
            write_safetensors(scratch / f"{task}.safetensors", specs, normalised)
            found.append(open_checkpoint(scratch / f"{task}.safetensors"))
        return found

    def combine(self, block: Block, statistics: Statistics) -> Tensor:
        """Return Σ_t F̃_t τ_t / Σ_t F̃_t."""
        if block.base.numel() == 0 or block.name not in statistics[0]:
            return block.task_vectors.mean(dim=0)
        part = slice(block.start, block.start + block.base.numel())
        certainty = torch.stack([fisher[block.name].reshape(-1)[part] for fisher in statistics]).reshape(block.task_vectors.shape)
        merged: Tensor = (certainty * block.task_vectors).sum(dim=0) / certainty.sum(dim=0)
        return merged


def diagonal_fisher(
    calibration: Calibration, task: int, rows: Sequence[int], weights: Mapping[str, Tensor], progress: Progress
) -> dict[str, Tensor]:
    """Return the mean over inputs of Σ_y p(y) (∂ log p(y) / ∂θ)², for every tensor of ``weights``."""
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    total = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in leaves.items()}
    for row in rows:
        for batch in calibration.batches(rows_of_one(calibration, task, [row])):
            for _, logits in batch.logits(leaves):
                _add_squares(total, leaves, logits[0])
        progress(1)
    return {name: part.div_(max(1, len(rows))) for name, part in total.items()}


def _add_squares(total: Mapping[str, Tensor], leaves: Mapping[str, Tensor], logits: Float[Tensor, " c"]) -> None:
    """Add one input's Σ_y p(y) (∂ log p(y) / ∂θ)²."""
    for direction in fisher_directions(logits.detach()):
        gradients = torch.autograd.grad(logits, list(leaves.values()), direction, retain_graph=True, allow_unused=True)
        for part, gradient in zip(total.values(), gradients, strict=True):
            if gradient is not None:
                part.addcmul_(gradient, gradient)


def fisher_directions(logits: Float[Tensor, " c"]) -> Float[Tensor, "r c"]:
    """Return r < C directions d with Σ d dᵀ = Σ_y p(y) s_y s_yᵀ, where s_y = ∂ log p(y) / ∂ logits.

    The squares of gradients along these sum to what those of log p(y), weighed by p(y), sum to: (Jᵀ d)² is the diagonal of
    Jᵀ d dᵀ J. C classes have C − 1 directions at most, two classes one.

    >>> fisher_directions(torch.zeros(2)).abs()
    tensor([[0.5000, 0.5000]])
    """
    p = logits.double().softmax(dim=0)
    # Row y is √p(y) s_y; unlike diag(p) − p pᵀ, this keeps its digits when one class has nearly all of p.
    scores = p.sqrt()[:, None] * (torch.eye(len(p), dtype=p.dtype) - p)
    _, values, directions = svd(scores)
    kept = values.square() > ROUNDING * values.square().sum()
    scaled: Tensor = values[:, None] * directions
    return scaled[kept].to(logits.dtype)
