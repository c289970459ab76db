"""Eigenvectors: what is found where the first library gives up."""

import numpy as np
import pytest
import torch

from suture.surgery.eigen import eigh


def symmetric(width: int, rank: int) -> torch.Tensor:
    rows = torch.randn(rank, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return rows.T @ rows


def refuse(_: torch.Tensor) -> None:
    raise torch.linalg.LinAlgError("linalg.eigh: The algorithm failed to converge")


@pytest.mark.parametrize("refused", [False, True])
def test_eigenvectors_are_found_whoever_gives_up(refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = symmetric(width=12, rank=5)
    if refused:
        monkeypatch.setattr(torch.linalg, "eigh", refuse)
    values, vectors = eigh(matrix)
    assert values.dtype == vectors.dtype == torch.float64
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix.numpy()), atol=1e-12)
    np.testing.assert_allclose(vectors * values @ vectors.T, matrix, atol=1e-12)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(12), atol=1e-12)


def test_what_is_not_finite_has_none() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        eigh(torch.full((3, 3), torch.nan, dtype=torch.float64))
