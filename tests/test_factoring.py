"""Eigenvectors and singular vectors: what is found where the first library gives up."""

import numpy as np
import pytest
import torch

from suture.factoring import eigh, svd


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def refuse(_: torch.Tensor, **__: object) -> None:
    raise torch.linalg.LinAlgError("The algorithm failed to converge")


@pytest.mark.parametrize("refused", [False, True])
def test_eigenvectors_are_found_whoever_gives_up(refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = normal(5, 12)
    matrix = rows.T @ rows
    if refused:
        monkeypatch.setattr(torch.linalg, "eigh", refuse)
    values, vectors = eigh(matrix)
    assert values.dtype == vectors.dtype == torch.float64
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix.numpy()), atol=1e-12)
    np.testing.assert_allclose(vectors * values @ vectors.T, matrix, atol=1e-12)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(12), atol=1e-12)


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_singular_vectors_are_found_whoever_gives_up(
    shape: tuple[int, int], dtype: torch.dtype, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = normal(*shape).to(dtype)
    if refused:
        monkeypatch.setattr(torch.linalg, "svd", refuse)
    left, values, right = svd(matrix)
    assert left.shape == (shape[0], 5)
    assert right.shape == (5, shape[1])
    assert left.dtype == values.dtype == right.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    np.testing.assert_allclose(values, np.linalg.svd(matrix.double().numpy(), compute_uv=False), atol=tolerance)
    np.testing.assert_allclose(left * values @ right, matrix, atol=tolerance)
    np.testing.assert_allclose(left.T @ left, np.eye(5), atol=tolerance)
    np.testing.assert_allclose(right @ right.T, np.eye(5), atol=tolerance)


def test_what_is_not_finite_has_none() -> None:
    broken = torch.full((3, 3), torch.nan, dtype=torch.float64)
    with pytest.raises(np.linalg.LinAlgError):
        eigh(broken)
    with pytest.raises(np.linalg.LinAlgError):
        svd(broken)
