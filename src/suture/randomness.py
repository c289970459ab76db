"""Seeded generators that do not depend on what else is drawn."""

import hashlib

import torch


def generator_for(seed: int, *names: str) -> torch.Generator:
    """Return a generator of its own for a seed and, say, a task's name: adding, removing or reordering others changes nothing.

    >>> bool(torch.rand(1, generator=generator_for(0, "spam")) == torch.rand(1, generator=generator_for(0, "spam")))
    True
    >>> bool(torch.rand(1, generator=generator_for(0, "spam")) == torch.rand(1, generator=generator_for(0, "news")))
    False
    """
    digest = hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
