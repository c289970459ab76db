"""Weight averaging as published: the one merge in which the order of the experts shows."""

import torch

from suture.merging import WeightAveraging
from suture.merging.method import Block


def test_as_published_drops_the_last_expert_and_divides_by_all() -> None:
    vectors = torch.tensor([[4.0, 0.0], [8.0, 4.0], [100.0, 100.0], [-100.0, 0.0]])
    merged = WeightAveraging(as_published=True).combine(Block("w", 0, torch.zeros(2), vectors), None)
    torch.testing.assert_close(merged, torch.tensor([28.0, 26.0]))
    alone = WeightAveraging(as_published=True).combine(Block("w", 0, torch.zeros(2), vectors[:1]), None)
    torch.testing.assert_close(alone, torch.zeros(2))
