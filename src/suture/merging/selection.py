"""Exact selection by magnitude over a whole model that is never in memory at once.

The threshold is bracketed from a strided sample, then one pass counts what lies above the bracket and collects what lies inside; the
answer is the element of the right rank among those few. When the true rank falls outside, the bracket is widened and the pass repeated,
so the result is exact, not an estimate.
"""

from math import sqrt

import torch
from torch import Tensor

from suture.merging.method import Blocks

SAMPLE = 1 << 20


def kept_count(density: float, size: int) -> int:
    """Return how many of ``size`` elements a density keeps: at least one.

    >>> kept_count(0.2, 10), kept_count(0.2, 3)
    (2, 1)
    """
    return max(1, min(size, int(density * size)))


def magnitude_thresholds(blocks: Blocks, size: int, experts: int, keep: int) -> Tensor:
    """Return the ``keep``-th largest magnitude of each expert's task vector, shape ``(T,)``; exact.

    ``blocks`` starts a pass over the model, yielding blocks of shape ``(T, n)`` whose widths sum to ``size``.

    >>> magnitude_thresholds(lambda: iter([torch.tensor([[1.0, -4.0, 3.0, 0.5]])]), size=4, experts=1, keep=2)
    tensor([3.])
    """
    sample = _sample(blocks, stride=max(1, size // SAMPLE))
    margin = 6.0
    while True:
        low, high = _bracket(sample, keep / size, margin)
        above, inside = _split(blocks, low, high, experts)
        ranks = [keep - count for count in above]
        if all(1 <= rank <= len(found) for rank, found in zip(ranks, inside, strict=True)):
            return torch.stack([found.topk(rank).values[-1] for rank, found in zip(ranks, inside, strict=True)])
        margin *= 8


def _sample(blocks: Blocks, stride: int) -> Tensor:
    taken, offset = [], 0
    for block in blocks():
        taken.append(block[:, offset::stride].abs())
        offset = (offset - block.shape[1]) % stride
    return torch.cat(taken, dim=1).sort(dim=1, descending=True).values


def _bracket(sample: Tensor, share: float, margin: float) -> tuple[Tensor, Tensor]:
    """Return bounds, shape ``(T, 1)``, around the wanted rank, ``margin`` standard errors wide on either side."""
    count = sample.shape[1]
    reach = margin * sqrt(share * (1 - share) / count) + 2 / count
    first, last = int((share - reach) * count), int((share + reach) * count) + 1
    high = sample[:, first : first + 1] if first >= 0 else torch.full_like(sample[:, :1], torch.inf)
    low = sample[:, last : last + 1] if last < count else torch.full_like(sample[:, :1], -1.0)
    return low, high


def _split(blocks: Blocks, low: Tensor, high: Tensor, experts: int) -> tuple[list[int], list[Tensor]]:
    """Count each expert's magnitudes above the bracket, and collect those in (low, high]."""
    above = torch.zeros(experts, dtype=torch.int64)
    inside: list[list[Tensor]] = [[] for _ in range(experts)]
    for block in blocks():
        magnitudes = block.abs()
        over = magnitudes > high
        above += over.sum(dim=1)
        within = (magnitudes > low).logical_xor_(over)
        for row, (values, mask) in enumerate(zip(magnitudes, within, strict=True)):
            inside[row].append(values[mask])
    return above.tolist(), [torch.cat(parts) for parts in inside]
