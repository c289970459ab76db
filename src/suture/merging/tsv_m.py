"""TSV-Merge: each task keeps its share of singular directions, and the directions of all tasks are made orthogonal."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from suture.bibliography import TASK_SINGULAR_VECTORS, Paper
from suture.factoring import svd
from suture.merging.matrices import MatrixMethod


@dataclass(frozen=True)
class TsvM(MatrixMethod):
    """For a matrix: τ_t = U_t Σ_t V_tᵀ cut to its first ⌊r / T⌋ singular values; U = [U_1 … U_T] and V = [V_1 … V_T] are replaced by the
    nearest matrices with orthonormal columns, U⊥ and V⊥ (the Procrustes problem: of U = P D Qᵀ, U⊥ = P Qᵀ); then
    θ_m = θ_0 + λ · U⊥ diag(Σ_1 … Σ_T) V⊥ᵀ, λ = ``scale``. Tensors that are not matrices are averaged.

    Source: Gargiulo et al., 2025, *Task Singular Vectors*, arXiv 2412.00081.

    >>> one, other = torch.diag(torch.tensor([3.0, 1.0])), torch.diag(torch.tensor([1.0, 5.0]))
    >>> TsvM().merged(torch.stack([one, other]).double()).abs()
    tensor([[3., 0.],
            [0., 5.]], dtype=torch.float64)
    """  # noqa: D205

    name: ClassVar[str] = "tsv_m"
    paper: ClassVar[Paper] = TASK_SINGULAR_VECTORS

    def merged(self, vectors: Float64[Tensor, "t out in"]) -> Float64[Tensor, "out in"]:
        """Return U⊥ diag(Σ_1 … Σ_T) V⊥ᵀ."""
        share = max(1, min(vectors.shape[1:]) // len(vectors))
        left, values, right = (torch.cat(parts, dim=-1) for parts in zip(*(_leading(vector, share) for vector in vectors), strict=True))
        product: Tensor = _orthonormal(left) * values @ _orthonormal(right).T
        return product


def _leading(matrix: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first singular directions, as columns, and values."""
    left, values, right = svd(matrix)
    return left[:, :count], values[:count], right[:count].T


def _orthonormal(matrix: Tensor) -> Tensor:
    left, _, right = svd(matrix)
    nearest: Tensor = left @ right
    return nearest
