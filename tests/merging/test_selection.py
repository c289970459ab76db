"""Selection by magnitude is exact, whatever the distribution."""

from collections.abc import Callable, Iterator
from math import ceil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from suture.merging.method import Block
from suture.merging.selection import Counts, kept_count, magnitude_thresholds


class Held:
    """A survey over task vectors held in memory, of one tensor, which counts its passes."""

    def __init__(self, vectors: Tensor, width: int) -> None:
        self.vectors, self.width, self.passes = vectors, width, 0
        self.names, self.size = ["w"], vectors.shape[1]
        self.base = {"w": torch.zeros(self.size)}
        self.experts = [{"w": vector} for vector in vectors]

    def whole(self, name: str) -> Block:
        return Block(name, 0, self.base[name], self.vectors)

    def each(self, function: Callable[[Block], object], share: float = 1.0) -> Iterator[object]:
        self.passes += 1
        for start in range(0, self.size, self.width):
            part = self.vectors[:, start : start + self.width].clone()
            yield function(Block("w", start, torch.zeros(part.shape[1]), part[:, : ceil(share * part.shape[1])]))


@settings(deadline=None, max_examples=200)
@given(
    values=st.lists(st.one_of(st.floats(-3, 3, width=32), st.sampled_from([0.0, 1.0, -1.0])), min_size=1, max_size=200),
    density=st.floats(0.001, 1.0),
    width=st.integers(1, 90),
)
def test_equal_to_a_full_sort(values: list[float], density: float, width: int) -> None:
    vectors = torch.tensor([values, values[::-1], [value**3 for value in values]])
    keep = kept_count(density, len(values))
    found = magnitude_thresholds(Held(vectors, width), keep)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.numpy(), np.sort(np.abs(vectors.numpy()), axis=1)[:, -keep])


def test_a_rank_is_looked_up_above_at_the_ends_and_inside() -> None:
    low, high = torch.tensor(1.0), torch.tensor(6.0)
    counts = Counts(above=2, at_high=3, inside=torch.tensor([2.0, 5.0, 4.0, 3.0]), at_low=2)
    found = [counts.of_rank(rank, low, high) for rank in range(13)]
    values = [None if value is None else float(value) for value in found]
    assert values == [None, None, None, 6.0, 6.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 1.0, None]


def test_a_sample_that_misleads_costs_passes_not_exactness() -> None:
    vector = torch.arange(64_000.0).reshape(1, -1)
    vector.reshape(-1, 640)[:, :10] = 0  # the head of every block, which is the sample, is not like its rest
    survey = Held(vector, 640)
    assert magnitude_thresholds(survey, 32_000).item() == vector.abs().flatten().topk(32_000).values[-1]  # type: ignore[arg-type]
    assert survey.passes >= 3


def test_one_look_is_enough_for_a_large_model() -> None:
    vector = torch.randn(2, 400_000, generator=torch.Generator().manual_seed(0))
    survey = Held(vector, 4096)
    found = magnitude_thresholds(survey, 80_000)  # type: ignore[arg-type]
    assert torch.equal(found, vector.abs().topk(80_000, dim=1).values[:, -1])
    assert survey.passes == 2


@pytest.mark.parametrize("keep", [50_000, 30_100])  # amid the plateau, and where it is the lower end of the bracket alone
def test_a_plateau_is_not_collected(keep: int) -> None:
    vector = torch.zeros(1, 100_000)
    vector[0, :30_000] = torch.randn(30_000, generator=torch.Generator().manual_seed(0)).abs() + 1
    survey = Held(vector[:, torch.randperm(100_000, generator=torch.Generator().manual_seed(1))], 4096)
    assert magnitude_thresholds(survey, keep).tolist() == [0.0]  # type: ignore[arg-type]
    assert survey.passes == 2


def test_ranks_are_told_from_both_ends_of_a_bracket_and_none_outside() -> None:
    counts, low, high = Counts(1, 1, torch.tensor([2.0, 3.0]), 2), torch.tensor(1.0), torch.tensor(4.0)
    found = [counts.of_rank(rank, low, high) for rank in range(1, 8)]
    assert [None if each is None else each.item() for each in found] == [None, 4.0, 3.0, 2.0, 1.0, 1.0, None]
