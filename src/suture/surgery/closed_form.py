"""Surgery without an optimiser: reduced-rank ridge regression of what the merged network misses on what it has."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from suture.errors import DataError, InvalidHyperparameter
from suture.surgery.module import Correction

SHRINKAGES = (1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""What cross-validation chooses from, in shares of the inputs' mean variance."""

FOLDS = 4


@dataclass
class Moments:
    """First and second moments of rows X (merged) and Y (expert), both (n, k), as sums in float64; rows come in any portions.

    Memory: 2k² numbers, whatever n. Of YᵀY only the trace is needed.
    """

    count: int
    x: Float64[Tensor, " k"]
    y: Float64[Tensor, " k"]
    xx: Float64[Tensor, "k k"]
    xy: Float64[Tensor, "k k"]
    yy: Float64[Tensor, ""]

    @classmethod
    def zero(cls, width: int) -> "Moments":
        """Return the moments of no rows."""
        square = (width, width)
        parts = (torch.zeros(size, dtype=torch.float64) for size in ((width,), (width,), square, square, ()))
        return cls(0, *parts)

    def add(self, x: Float[Tensor, "n k"], y: Float[Tensor, "n k"]) -> None:
        """Add rows; one row is a rank-one update."""
        x, y = x.double(), y.double()
        self.count += len(x)
        self.x += x.sum(dim=0)
        self.y += y.sum(dim=0)
        self.xx.addmm_(x.T, x)
        self.xy.addmm_(x.T, y)
        self.yy += (y * y).sum()

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(*(mine + theirs for mine, theirs in zip(_parts(self), _parts(other), strict=True)))

    def __sub__(self, other: "Moments") -> "Moments":
        return Moments(*(mine - theirs for mine, theirs in zip(_parts(self), _parts(other), strict=True)))


def _parts(moments: Moments) -> tuple[int, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return moments.count, moments.x, moments.y, moments.xx, moments.xy, moments.yy
