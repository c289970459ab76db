"""Selection by magnitude is exact, whatever the distribution."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suture.merging import selection
from suture.merging.selection import kept_count, magnitude_thresholds


@settings(deadline=None, max_examples=150)
@given(
    values=st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=200),
    density=st.floats(0.001, 1.0),
    width=st.integers(1, 60),
    sample=st.sampled_from([1, 7, 1 << 20]),
)
def test_equal_to_a_full_sort(values: list[float], density: float, width: int, sample: int) -> None:
    vectors = torch.tensor([values, values[::-1], [value**3 for value in values]])
    keep = kept_count(density, len(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "SAMPLE", sample)
        found = magnitude_thresholds(lambda: iter(vectors.split(width, dim=1)), len(values), 3, keep)
    expected = np.sort(np.abs(vectors.numpy()), axis=1)[:, -keep]
    np.testing.assert_array_equal(found.numpy(), expected)


def test_a_sample_that_misleads_costs_passes_not_exactness() -> None:
    vector = torch.zeros(1, 4000)
    vector[:, 1::2] = torch.arange(2000.0) + 1  # the strided sample sees only zeros
    passes = 0

    def blocks() -> object:
        nonlocal passes
        passes += 1
        return iter(vector.split(512, dim=1))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "SAMPLE", 2000)
        found = magnitude_thresholds(blocks, 4000, 1, 400)  # type: ignore[arg-type]
    assert found.tolist() == [1601.0]
    assert passes > 2
