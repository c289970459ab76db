"""What DARE leaves of task vectors, tensor by tensor."""

from typing import Any

import torch
from torch import Tensor

from merging.test_selection import Held
from suture.merging.dare import Thinned, thinned


class Told(Held):
    """A survey whose experts are told apart by their names."""

    def whole(self, name: str) -> Any:
        block = super().whole(name)
        return type(block)(block.name, block.start, block.base, block.task_vectors, ("a", "b"))


def test_a_whole_tensor_is_thinned_as_a_block_of_it_is() -> None:
    vectors: Tensor = torch.randn(2, 40, generator=torch.Generator().manual_seed(0))
    survey = Told(vectors, 40)
    whole = Thinned(survey, 0.5, 3).whole("w")  # type: ignore[arg-type]
    assert torch.equal(whole.task_vectors, thinned(survey.whole("w"), 0.5, 3))
    kept = whole.task_vectors != 0
    assert 0 < int(kept.sum()) < vectors.numel()
    assert torch.equal(whole.task_vectors[kept], 2 * vectors[kept])
