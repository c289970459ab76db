"""t-SNE: seeded, and groups that differ stay apart."""

import torch

from suture.representation import project


def test_seeded_and_separating(generator: torch.Generator) -> None:
    groups = [10 * place + torch.randn(20, 6, generator=generator) for place in range(2)]
    first, second = project(groups, seed=3)
    assert torch.equal(first, project(groups, seed=3)[0])
    assert float((first.mean(dim=0) - second.mean(dim=0)).norm()) > float(first.std(dim=0).norm())
