"""Bias against NumPy, and its laws."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from suture.errors import DataError
from suture.representation import representation_bias


@given(seed=st.integers(0, 1000), n=st.integers(1, 30), k=st.integers(1, 20))
def test_equal_to_the_formula(seed: int, n: int, k: int) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, n, k))
    bias = representation_bias(torch.tensor(a).float(), torch.tensor(b).float())
    assert bias.l1 == pytest.approx(np.abs(a - b).sum() / n, rel=1e-5)
    assert bias.mean_abs == pytest.approx(np.abs(a - b).mean(), rel=1e-5)
    swapped = representation_bias(torch.tensor(b).float(), torch.tensor(a).float())
    assert swapped == bias


def test_no_drift_no_bias() -> None:
    assert representation_bias(torch.ones(3, 2), torch.ones(3, 2)) == (0.0, 0.0)


@pytest.mark.parametrize("shape", [(3, 4), (2, 5), (0, 4)])
def test_sets_that_do_not_belong_together(shape: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="cannot be compared"):
        representation_bias(torch.ones(shape), torch.ones(2, 4) if shape[0] else torch.ones(shape))
