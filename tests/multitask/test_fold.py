"""Folding surgery into heads."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from suture.backbones import Head
from suture.errors import DataError
from suture.multitask import fold
from suture.surgery import Correction


@given(seed=st.integers(0, 10**6), rank=st.integers(1, 5), width=st.integers(2, 9), shifted=st.booleans())
def test_folded_and_unfolded_agree(seed: int, rank: int, width: int, shifted: bool) -> None:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    head = Head(drawn(3, width), drawn(3), classes=("a", "b", "c"))
    correction = Correction(drawn(rank, width), drawn(width, rank), drawn(width) if shifted else None, "none")
    z = drawn(7, width)
    folded = fold(head, correction)
    expected = head(correction(z))
    assert (folded(z) - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))
    assert folded.classes == head.classes


def test_what_does_not_fold_is_refused() -> None:
    linear, cosine = Head(torch.eye(2), torch.zeros(2)), Head(torch.eye(2))
    relu, straight = Correction(torch.eye(2), torch.eye(2)), Correction(torch.eye(2), torch.eye(2), activation="none")
    with pytest.raises(DataError, match="cosine head divides"):
        fold(cosine, straight)
    with pytest.raises(DataError, match="ReLU"):
        fold(linear, relu)
    with pytest.raises(DataError, match="width 2, the correction those of 3"):
        fold(linear, Correction(torch.eye(3), torch.eye(3), activation="none"))
