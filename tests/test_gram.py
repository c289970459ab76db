"""Gram matrices: what they are, at widths around those of a panel, and in stacks."""

import numpy as np
import pytest
import torch

from suture.gram import PANEL, gram


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("width", [1, 2, PANEL - 1, PANEL, PANEL + 1, 2 * PANEL, 2 * PANEL + 7])
def test_gram_is_the_product_with_the_transpose(width: int) -> None:
    rows = normal(9, width)
    found, wide = gram(rows), rows.numpy().astype(np.float64)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, wide.T @ wide, rtol=1e-13, atol=1e-13)


def test_gram_is_as_symmetric_as_what_it_is_of() -> None:
    found = gram(normal(50, PANEL + 40))
    assert torch.equal(found[PANEL:, :PANEL], found[:PANEL, PANEL:].T)
    assert bool((torch.linalg.eigvalsh(found) > -1e-9).all())


def test_gram_of_a_stack_is_the_stack_of_grams() -> None:
    rows = normal(2, 3, 5, PANEL + 3)
    found = gram(rows)
    for place in np.ndindex(2, 3):
        torch.testing.assert_close(found[place], gram(rows[place]), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_gram_of_nothing_is_zero(shape: tuple[int, int]) -> None:
    assert torch.equal(gram(normal(*shape)), torch.zeros(shape[1], shape[1], dtype=torch.float64))
