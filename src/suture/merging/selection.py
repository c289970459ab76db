"""Exact selection by magnitude over a whole model that is never in memory at once.

The threshold is bracketed from a sample, then one pass counts what lies above the bracket and at its ends and collects what lies
inside; the answer is the element of the right rank among those few, or one of the ends. When the true rank falls outside, the bracket
is widened and the pass repeated, so the result is exact, not an estimate.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suture.merging.method import Block, Survey

SHARE = 1 / 64
"""Share of the elements that the bracket is estimated from."""

MARGIN = 12.0
"""Standard errors on either side of the wanted rank; neighbouring elements are alike, so the sample is worth less than its size."""


def kept_count(density: float, size: int) -> int:
    """Return how many of ``size`` elements a density keeps: at least one.

    >>> kept_count(0.2, 10), kept_count(0.2, 3), kept_count(0.29, 100)
    (2, 1, 29)
    """
    # 0.29 · 100 is 28.999… in floating point.
    return max(1, min(size, int(round(density * size, 6))))


@dataclass
class Counts:
    """Of one expert: how many magnitudes lie above the bracket and at its ends, and those inside."""

    above: int
    at_high: int
    inside: Tensor
    at_low: int

    def of_rank(self, rank: int, low: Tensor, high: Tensor) -> Tensor | None:
        """Return the magnitude of a rank (1 is the largest); None when it lies outside the bracket."""
        rank -= self.above
        if rank < 1:
            return None
        if rank <= self.at_high:
            return high
        rank -= self.at_high
        if rank <= len(self.inside):
            return self.inside.topk(rank).values[-1]
        return low if rank - len(self.inside) <= self.at_low else None


def magnitude_thresholds(survey: Survey, keep: int) -> Tensor:
    """Return the ``keep``-th largest magnitude of each expert's task vector, shape ``(T,)``; exact."""
    sample = torch.cat(list(survey.each(lambda block: block.task_vectors.abs(), SHARE)), dim=1)
    margin = MARGIN
    while True:
        low, high = _bracket(sample, keep / survey.size, margin)
        counts = _count(survey, low, high)
        found = [own.of_rank(keep, low[row, 0], high[row, 0]) for row, own in enumerate(counts)]
        thresholds = [value for value in found if value is not None]
        if len(thresholds) == len(found):
            return torch.stack(thresholds)
        margin *= 8


def _bracket(sample: Tensor, share: float, margin: float) -> tuple[Tensor, Tensor]:
    """Return bounds, shape ``(T, 1)``, around the wanted rank, ``margin`` standard errors wide on either side."""
    count = sample.shape[1]
    reach = margin * sqrt(share * (1 - share) / count) + 2 / count
    first, last = int((share - reach) * count), int((share + reach) * count) + 1
    high = _of_rank(sample, first) if first >= 0 and share > reach else torch.full_like(sample[:, :1], torch.inf)
    low = _of_rank(sample, last) if last < count else torch.full_like(sample[:, :1], -1.0)
    return low, high


def _of_rank(sample: Tensor, rank: int) -> Tensor:
    """Return each row's element of a rank, shape ``(T, 1)``; 0 is the largest."""
    # NumPy selects an order of magnitude faster than torch sorts.
    place = sample.shape[1] - 1 - rank
    return torch.from_numpy(np.partition(sample.numpy(), place, axis=1)[:, place : place + 1])


def _count(survey: Survey, low: Tensor, high: Tensor) -> list[Counts]:
    """Make one pass over the model."""
    bounds = [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
    ends = np.zeros((len(survey.experts), 3), dtype=np.int64)
    inside: list[list[NDArray[np.floating]]] = [[] for _ in survey.experts]

    def look(block: Block) -> list[tuple[tuple[int, int, int], NDArray[np.floating]]]:
        return [_look(row, *bound) for row, bound in zip(block.task_vectors.numpy(), bounds, strict=True)]

    for rows in survey.each(look):
        for row, (counts, values) in enumerate(rows):
            ends[row] += counts
            inside[row].append(values)
    collected = [torch.from_numpy(np.concatenate(parts)) for parts in inside]
    return [Counts(int(a), int(h), values, int(s)) for (a, h, s), values in zip(ends, collected, strict=True)]


def _look(row: NDArray[np.floating], low: float, high: float) -> tuple[tuple[int, int, int], NDArray[np.floating]]:
    """Count one expert's magnitudes above the bracket and at its ends, and return those inside.

    NumPy compares and counts booleans several times faster than torch does.
    """
    magnitudes = np.abs(row)
    over = magnitudes > high
    values = magnitudes[np.flatnonzero((magnitudes >= low) ^ over)]
    at_high, at_low = values == high, values == low
    counts = int(np.count_nonzero(over)), int(np.count_nonzero(at_high)), int(np.count_nonzero(at_low))
    return counts, values[~(at_high | at_low)]
