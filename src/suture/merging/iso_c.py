"""Iso-C: the sum of the task vectors with a flat spectrum."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from suture.bibliography import ISOTROPIC_MERGING, Paper
from suture.factoring import svd
from suture.merging.matrices import MatrixMethod


@dataclass(frozen=True)
class IsoC(MatrixMethod):
    """For a matrix: Σ_t τ_t = U Σ Vᵀ, and θ_m = θ_0 + λ · σ̄ · U Vᵀ, σ̄ the mean singular value, λ = ``scale``. Others are averaged.

    Directions with no singular value to speak of are left out: U and V are arbitrary there. (The mean is over all of them, as in
    the paper.)

    Source: Marczak et al., 2025, *No Task Left Behind: Isotropic Model Merging*, arXiv 2502.04959.

    >>> IsoC().merged(torch.diag(torch.tensor([3.0, 1.0]))[None].double()).abs()
    tensor([[2., 0.],
            [0., 2.]], dtype=torch.float64)
    """

    name: ClassVar[str] = "iso_c"
    paper: ClassVar[Paper] = ISOTROPIC_MERGING

    def merged(self, vectors: Float64[Tensor, "t out in"]) -> Float64[Tensor, "out in"]:
        """Return σ̄ · U Vᵀ of the sum."""
        left, values, right = svd(vectors.sum(dim=0))
        # The sum was formed from float32 task vectors: what is below their rounding is no direction.
        real = values > values[0] * torch.finfo(torch.float32).eps
        flat: Tensor = values.mean() * left[:, real] @ right[real]
        return flat
