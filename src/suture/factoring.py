"""Eigenvectors and singular vectors, whichever LAPACK finds them.

MKL's divide and conquer gives up on a rare matrix that is well in order, of rounding in all but a few directions. NumPy, which comes with
another LAPACK, is then asked. Both raise :class:`numpy.linalg.LinAlgError` when that finds none either, as for NaN or Inf.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor


def eigh(matrix: Float64[Tensor, "k k"]) -> tuple[Float64[Tensor, " k"], Float64[Tensor, "k k"]]:
    """Return the eigenvalues of a symmetric matrix, ascending, and its eigenvectors, in columns.

    >>> eigh(torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64)))[0]
    tensor([1., 2.], dtype=torch.float64)
    """
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        values, vectors = map(torch.from_numpy, np.linalg.eigh(matrix.numpy(force=True)))
    return values.to(matrix.device), vectors.to(matrix.device)


def svd(matrix: Float[Tensor, "m n"]) -> tuple[Float[Tensor, "m r"], Float[Tensor, " r"], Float[Tensor, "r n"]]:
    """Return U, the singular values, descending, and Vᵀ of the thin decomposition, r = min(m, n).

    >>> svd(torch.tensor([[0.0, 2.0], [1.0, 0.0]]))[1]
    tensor([2., 1.])
    """
    try:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        left, values, right = map(torch.from_numpy, np.linalg.svd(matrix.numpy(force=True), full_matrices=False))
    return left.to(matrix.device), values.to(matrix.device), right.to(matrix.device)
