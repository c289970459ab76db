"""Task arithmetic: the scaled sum of the task vectors."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from suture.merging.method import Block, MergingMethod, Paper, Statistics, require_finite


@dataclass(frozen=True)
class TaskArithmetic(MergingMethod):
    """θ_m = θ_0 + λ Σ_t τ_t, with λ = ``scale``; the papers use 0.3 for eight tasks.

    Source: Ilharco et al., 2023, *Editing models with task arithmetic*, arXiv 2212.04089.
    Trap: λ is not divided by T, so a λ that is right for eight experts is timid for two; λ = 1/T is weight averaging.

    >>> import torch
    >>> vectors = torch.tensor([[1.0, 0.0], [3.0, 1.0]])
    >>> TaskArithmetic(scale=0.5).combine(Block("w", 0, torch.zeros(2), vectors), None)
    tensor([2.0000, 0.5000])
    """

    name: ClassVar[str] = "task_arithmetic"
    linear: ClassVar[bool] = True
    paper: ClassVar[Paper] = Paper("Editing models with task arithmetic", "2212.04089", 2023)

    scale: float = 0.3

    def __post_init__(self) -> None:
        require_finite("scale", self.scale)

    def combine(self, block: Block, statistics: Statistics) -> Tensor:  # noqa: ARG002
        """Return λ times the sum over the first dimension."""
        return block.task_vectors.sum(dim=0).mul_(self.scale)
