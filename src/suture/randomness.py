"""Seeded generators that do not depend on what else is drawn, and the orders they draw."""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor


def generator_for(seed: int, *names: str) -> torch.Generator:
    """Return a generator of its own for a seed and, say, a task's name: adding, removing or reordering others changes nothing.

    >>> bool(torch.rand(1, generator=generator_for(0, "spam")) == torch.rand(1, generator=generator_for(0, "spam")))
    True
    >>> bool(torch.rand(1, generator=generator_for(0, "spam")) == torch.rand(1, generator=generator_for(0, "news")))
    False
    """
    digest = hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def shuffled_rows(size: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of row numbers without end; every row comes up once before any comes up again, in a new order each time.

    >>> rows = shuffled_rows(3, 2, torch.Generator().manual_seed(0))
    >>> sorted(torch.cat([next(rows), next(rows), next(rows)]).tolist())
    [0, 0, 1, 1, 2, 2]
    """
    queue = torch.empty(0, dtype=torch.int64)
    while True:
        while len(queue) < batch:
            queue = torch.cat([queue, torch.randperm(size, generator=generator)])
        yield queue[:batch]
        queue = queue[batch:]
