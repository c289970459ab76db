"""The mask of concrete subspace learning, where it is at its limits."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from suture.merging.concrete import ConcreteMask
from suture.merging.merged_copy import MergedCopy


@settings(deadline=None, max_examples=50)
@given(size=st.integers(1, 3), temperature=st.sampled_from([1e-3, 0.01, 0.1, 0.5]), seed=st.integers(0, 1000))
def test_a_mask_has_mean_one_however_small_the_tensor_and_low_the_temperature(size: int, temperature: float, seed: int) -> None:
    mask = ConcreteMask({"w": size}, temperature, seed, 1e-3)
    for _ in range(5):
        drawn = mask.draw()["w"]
        assert bool(drawn.isfinite().all())
        assert abs(float(drawn.mean()) - 1) < 1e-5


def test_where_nothing_has_a_mask_there_is_nothing_to_learn() -> None:
    mask = ConcreteMask({}, 0.5, 0, 1e-3)
    mask.step(MergedCopy.__new__(MergedCopy), torch.ones(0, 2))  # it is not even looked at
    assert mask.draw() == {}
