"""DARE: drop elements of the task vectors at random and rescale the rest; then average, or Ties."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from suture.bibliography import DARE, TIES, Paper
from suture.merging.method import Block, Found, MergingMethod, Statistics, Survey, require, require_seed
from suture.merging.ties import Ties

LANES = 8
"""32-bit random numbers in one step of Philox's counter."""


@dataclass(frozen=True)
class Dare(MergingMethod):
    """θ_m = θ_0 + (1/T) Σ_t m_t ⊙ τ_t / (1 − p), with m_t ~ Bernoulli(1 − p), p = ``drop``: unbiased for weight averaging.

    The mask is a function of ``seed``, the expert, the tensor's name and the element's place alone, so that neither the order of the
    experts nor the size of blocks or the number of threads shows in the result.

    Source: Yu et al., 2024, *Language Models are Super Mario*, arXiv 2311.03099.

    >>> block = Block("w", 0, torch.zeros(64), torch.ones(1, 64), experts=("spam",))
    >>> Dare(drop=0.5).combine(block, None).unique()
    tensor([0., 2.])
    """

    name: ClassVar[str] = "dare"
    paper: ClassVar[Paper] = DARE
    linear: ClassVar[bool] = True

    drop: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        check_drop(self.drop, self.seed)

    def combine(self, block: Block, statistics: Statistics) -> Tensor:  # noqa: ARG002
        """Return the mean of the thinned task vectors."""
        return thinned(block, self.drop, self.seed).mean(dim=0)


@dataclass(frozen=True)
class DareTies(Ties):
    """Ties on task vectors that DARE has thinned.

    ``density`` is Ties' own trim, of what DARE left; 1.0 trims nothing more, which is what mergekit calls dare_ties. The paper's
    combination trims as well (0.2).

    Source: Yu et al., 2024, arXiv 2311.03099, and Yadav et al., 2023, arXiv 2306.01708.
    """

    name: ClassVar[str] = "dare_ties"
    paper: ClassVar[Paper] = DARE
    builds_on: ClassVar[tuple[Paper, ...]] = (TIES,)

    density: float = 1.0
    drop: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_drop(self.drop, self.seed)

    def scan(self, survey: Survey) -> Statistics:
        """Return each expert's smallest kept magnitude among the thinned elements."""
        return super().scan(Thinned(survey, self.drop, self.seed))

    def combine(self, block: Block, statistics: Statistics) -> Tensor:
        """Return λ times the disjoint merge of the thinned and trimmed task vectors."""
        return super().combine(replace(block, task_vectors=thinned(block, self.drop, self.seed)), statistics)


def check_drop(drop: float, seed: int) -> None:
    """Raise :class:`suture.errors.InvalidHyperparameter` for a drop rate outside [0, 1) or a negative seed."""
    require(0 <= drop < 1, f"drop must be in [0, 1), not {drop}")
    require_seed(seed)


def thinned(block: Block, drop: float, seed: int) -> Tensor:
    """Return the task vectors of a block with a share of ``drop`` of the elements at zero and the others divided by 1 − ``drop``."""
    size, kept = block.base.numel(), torch.empty_like(block.task_vectors)
    vectors, rows = (tensor.reshape(len(block.experts), size).numpy() for tensor in (block.task_vectors, kept))
    for expert, vector, row in zip(block.experts, vectors, rows, strict=True):
        # NumPy multiplies by booleans several times faster than torch does.
        np.multiply(vector, _mask(seed, expert, block.name, block.start, size, drop), out=row)
    return kept.div_(1 - drop)


@dataclass
class Thinned:
    """A survey of the task vectors that DARE leaves."""

    survey: Survey
    drop: float
    seed: int

    def __post_init__(self) -> None:
        self.base, self.experts, self.names, self.size = self.survey.base, self.survey.experts, self.survey.names, self.survey.size

    def whole(self, name: str) -> Block:
        """Return one tensor's thinned task vectors."""
        return self._thin(self.survey.whole(name))

    def each(self, function: Callable[[Block], Found], share: float = 1.0) -> Iterator[Found]:
        """Yield the function's result for every thinned block."""
        return self.survey.each(lambda block: function(self._thin(block)), share)

    def _thin(self, block: Block) -> Block:
        return replace(block, task_vectors=thinned(block, self.drop, self.seed))


def _mask(seed: int, expert: str, name: str, start: int, size: int, drop: float) -> NDArray[np.bool_]:
    """Return which of the elements ``start`` … ``start + size`` of a tensor are kept: lane i mod 8 of counter i div 8 of a keyed Philox."""
    key = np.frombuffer(hashlib.sha256(f"{seed}\0{expert}\0{name}".encode()).digest()[:16], dtype=np.uint64)
    first, last = start // LANES, (start + size - 1) // LANES + 1
    raw = np.random.Philox(key=key).advance(first).random_raw(4 * max(0, last - first))
    lanes = raw.astype("<u8", copy=False).view("<u4")[start - LANES * first :][:size]
    return lanes >= round(drop * 2**32)
