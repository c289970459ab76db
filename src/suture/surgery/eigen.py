"""Eigenvectors of symmetric matrices, whichever LAPACK finds them."""

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor


def eigh(matrix: Float64[Tensor, "k k"]) -> tuple[Float64[Tensor, " k"], Float64[Tensor, "k k"]]:
    """Return the eigenvalues of a symmetric matrix, ascending, and its eigenvectors, in columns.

    MKL's divide and conquer gives up on a rare matrix that is well in order, of rounding in all but a few directions. NumPy, which comes
    with another LAPACK, is then asked.

    Raises :class:`numpy.linalg.LinAlgError` when that finds none either, as for NaN or Inf.

    >>> eigh(torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64)))[0]
    tensor([1., 2.], dtype=torch.float64)
    """
    try:
        values, vectors = torch.linalg.eigh(matrix)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        values, vectors = map(torch.from_numpy, np.linalg.eigh(matrix.numpy(force=True)))
    return values.to(matrix.device), vectors.to(matrix.device)
