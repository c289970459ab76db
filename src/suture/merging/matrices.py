"""Methods that merge matrices as a whole, by their singular values, and average all else."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float64
from torch import Tensor

from suture.merging.method import Block, MergingMethod, Statistics, require_finite

MATRIX = 2
"""The dimensions of a matrix."""


@dataclass(frozen=True)
class MatrixMethod(MergingMethod):
    """For a matrix θ_m = θ_0 + λ · merged(τ_1 … τ_T), λ = ``scale``; tensors that are not matrices are averaged.

    The weight of a convolution of one place, shape (out, in, 1, 1), is a matrix.
    """

    elementwise: ClassVar[bool] = False

    scale: float = 1.0

    def __post_init__(self) -> None:
        require_finite("scale", self.scale)

    @abstractmethod
    def merged(self, vectors: Float64[Tensor, "t out in"]) -> Float64[Tensor, "out in"]:
        """Return one matrix for the task vectors of one."""

    def combine(self, block: Block, statistics: Statistics) -> Tensor:  # noqa: ARG002
        """Return the merged task vector of a whole tensor; decompositions run in float64."""
        shape = block.base.shape
        if len(shape) < MATRIX or math.prod(shape[MATRIX:]) != 1 or block.base.numel() == 0:
            return block.task_vectors.mean(dim=0)
        return self.merged(block.task_vectors.flatten(2).double()).mul_(self.scale).to(block.task_vectors.dtype).view(shape)
