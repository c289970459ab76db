"""Iso-C: the sum of the task vectors with a flat spectrum."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from suture.bibliography import ISOTROPIC_MERGING, Paper
from suture.merging.method import Block, MergingMethod, Statistics, require_finite


@dataclass(frozen=True)
class IsoC(MergingMethod):
    """For a matrix: Σ_t τ_t = U Σ Vᵀ, and θ_m = θ_0 + λ · σ̄ · U Vᵀ, σ̄ the mean singular value, λ = ``scale``. Others are averaged.

    Directions with no singular value to speak of are left out: U and V are arbitrary there. (The mean is over all of them, as in
    the paper.)

    Source: Marczak et al., 2025, *No Task Left Behind: Isotropic Model Merging*, arXiv 2502.04959.
    """

    name: ClassVar[str] = "iso_c"
    paper: ClassVar[Paper] = ISOTROPIC_MERGING
    elementwise: ClassVar[bool] = False

    scale: float = 1.0

    def __post_init__(self) -> None:
        require_finite("scale", self.scale)

    def combine(self, block: Block, statistics: Statistics) -> Tensor:  # noqa: ARG002
        """Return the merged task vector of a whole tensor; the decomposition runs in float64."""
        if block.base.dim() != 2 or block.base.numel() == 0:
            return block.task_vectors.mean(dim=0)
        left, values, right = torch.linalg.svd(block.task_vectors.double().sum(dim=0), full_matrices=False)
        # The sum was formed from float32 task vectors: what is below their rounding is no direction.
        real = values > values[0] * torch.finfo(torch.float32).eps
        merged: Tensor = values.mean() * left[:, real] @ right[real]
        return merged.mul_(self.scale).to(block.task_vectors.dtype)
