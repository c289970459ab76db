"""Eigenvectors and singular vectors, whichever LAPACK finds them.

MKL's divide and conquer gives up on a rare matrix that is well in order, of rounding in all but a few directions. NumPy, which comes with
another LAPACK, is then asked. Both raise :class:`numpy.linalg.LinAlgError` when that finds none either, as for NaN or Inf.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor


def eigh(matrix: Float64[Tensor, "k k"]) -> tuple[Float64[Tensor, " k"], Float64[Tensor, "k k"]]:
    """Return the eigenvalues of a symmetric matrix, ascending, and its eigenvectors, in columns.

    >>> eigh(torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64)))[0]
    tensor([1., 2.], dtype=torch.float64)
    """
    values, vectors = _found(matrix, torch.linalg.eigh, np.linalg.eigh)
    return values, vectors


def svd(matrix: Float[Tensor, "m n"]) -> tuple[Float[Tensor, "m r"], Float[Tensor, " r"], Float[Tensor, "r n"]]:
    """Return U, the singular values, descending, and Vᵀ of the thin decomposition, r = min(m, n).

    >>> svd(torch.tensor([[0.0, 2.0], [1.0, 0.0]]))[1]
    tensor([2., 1.])
    """
    left, values, right = _found(matrix, partial(torch.linalg.svd, full_matrices=False), partial(np.linalg.svd, full_matrices=False))
    return left, values, right


def _found(matrix: Tensor, first: Callable[[Tensor], tuple[Tensor, ...]], second: Callable[[Any], tuple[Any, ...]]) -> tuple[Tensor, ...]:
    try:
        return first(matrix)
    except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
        return tuple(torch.from_numpy(part).to(matrix.device) for part in second(matrix.numpy(force=True)))
