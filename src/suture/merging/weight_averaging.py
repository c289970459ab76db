"""Weight averaging: the mean of the experts' weights."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from suture.merging.method import Block, MergingMethod, Paper, Statistics


@dataclass(frozen=True)
class WeightAveraging(MergingMethod):
    """θ_m = (1/T) Σ_t θ_t = θ_0 + (1/T) Σ_t τ_t.

    Source: Wortsman et al., 2022, *Model soups*, arXiv 2203.05482 (uniform soup).
    Trap: the script behind the "Weight Averaging" rows of Representation Surgery (arXiv 2402.02705) has one coefficient too few, and
    drops the last task: θ_0 + (1/T) Σ_{t<T} τ_t. ``as_published=True`` does the same, so the last expert given is lost.

    >>> import torch
    >>> vectors = torch.tensor([[1.0, 0.0], [3.0, 1.0]])
    >>> WeightAveraging().combine(Block("w", 0, torch.zeros(2), vectors), None)
    tensor([2.0000, 0.5000])
    """

    name: ClassVar[str] = "weight_averaging"
    linear: ClassVar[bool] = True
    paper: ClassVar[Paper] = Paper("Model soups", "2203.05482", 2022)

    as_published: bool = False

    def combine(self, block: Block, statistics: Statistics) -> Tensor:  # noqa: ARG002
        """Return the mean over the first dimension."""
        if self.as_published:
            return block.task_vectors[:-1].sum(dim=0).div_(len(block.task_vectors))
        return block.task_vectors.mean(dim=0)
