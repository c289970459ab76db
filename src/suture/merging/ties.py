"""Ties-Merging: trim, elect sign, merge what agrees."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import hardshrink

from suture.bibliography import TIES, Paper
from suture.merging.method import Block, MergingMethod, Statistics, Survey, require, require_finite
from suture.merging.selection import kept_count, magnitude_thresholds


@dataclass(frozen=True)
class Ties(MergingMethod):
    """θ_m = θ_0 + λ · merge(elect(trim(τ_1 … τ_T))).

    - *trim*: each expert keeps the ``density`` largest |τ_t| (elements equal to the smallest kept one stay too), the rest become 0;
    - *elect*: γ = sign(Σ_t trimmed τ_t), element by element;
    - *merge*: the sum (``merge_rule="sum"``, "dis-sum", as the vision papers use it) or the mean ("mean", "dis-mean", over the experts
      that kept the element) of the trimmed values whose sign is γ; λ = ``scale``.

    ``scope="model"`` ranks the elements of the whole model together, as the paper does; ``scope="tensor"`` ranks each tensor by
    itself, as mergekit and PEFT do, which keeps the wrong tensors when layers moved by different amounts.

    Source: Yadav et al., 2023, *TIES-Merging*, arXiv 2306.01708.

    >>> vectors = torch.tensor([[4.0, -1.0, 3.0], [2.0, 0.5, -5.0]])
    >>> Ties(density=0.67, scale=1.0, scope="tensor").combine(Block("w", 0, torch.zeros(3), vectors), None)
    tensor([ 6.,  0., -5.])
    """

    name: ClassVar[str] = "ties"
    paper: ClassVar[Paper] = TIES

    density: float = 0.2
    scale: float = 0.3
    scope: str = "model"
    merge_rule: str = "sum"

    def __post_init__(self) -> None:
        check_density(self.density)
        require_finite("scale", self.scale)
        require(self.scope in {"model", "tensor"}, f"scope must be 'model' or 'tensor', not {self.scope!r}")
        require(self.merge_rule in {"sum", "mean"}, f"merge_rule must be 'sum' or 'mean', not {self.merge_rule!r}")

    @property
    def elementwise(self) -> bool:  # type: ignore[override]
        """Ranking inside a tensor needs the whole tensor."""
        return self.scope == "model"

    @property
    def passes(self) -> int:
        """One for the threshold, one for the merge."""
        return 2 if self.scope == "model" and self.density < 1 else 1

    def scan(self, survey: Survey) -> Statistics:
        """Return each expert's smallest kept magnitude, shape ``(T,)``; nothing when tensors are ranked by themselves."""
        if self.scope == "tensor" or survey.size == 0:
            return None
        return whole_model_thresholds(survey, self.density)

    def combine(self, block: Block, statistics: Statistics) -> Tensor:
        """Return λ times the disjoint merge of the trimmed task vectors."""
        if block.base.numel() == 0:
            return block.base
        magnitudes, elected = trim_and_elect(block, self.density, statistics)
        merged = magnitudes.sum(dim=0).mul_(elected).mul_(self.scale)
        if self.merge_rule == "mean":
            merged /= magnitudes.sign_().sum(dim=0).clamp_(min=1)
        combined: Tensor = merged.reshape(block.base.shape)
        return combined


def check_density(density: float) -> None:
    """Raise :class:`suture.errors.InvalidHyperparameter` for a density outside (0, 1]."""
    require(0 < density <= 1, f"density must be in (0, 1], not {density}")


def whole_model_thresholds(survey: Survey, density: float) -> Tensor:
    """Return each expert's smallest kept magnitude, shape ``(T,)``, ranking all elements of the model together."""
    if density == 1:
        return torch.zeros(len(survey.experts))
    return magnitude_thresholds(survey, kept_count(density, survey.size))


def trim_and_elect(block: Block, density: float, thresholds: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the magnitudes that are kept and agree with the elected sign, shape ``(T, n)``, the others zero, and that sign, ``(n,)``.

    ``thresholds``, shape ``(T,)``, are the smallest magnitudes kept; without them they are those of the block, which is a whole tensor.
    """
    rows = block.task_vectors.reshape(len(block.task_vectors), -1)
    if thresholds is None:
        thresholds = rows.abs().topk(kept_count(density, rows.shape[1]), dim=1).values[:, -1]
    trimmed = torch.stack([_trim(row, float(smallest)) for row, smallest in zip(rows, thresholds, strict=True)])
    elected = trimmed.sum(dim=0).sign_()
    return trimmed.mul_(elected).clamp_(min=0), elected


def _trim(row: Tensor, smallest: float) -> Tensor:
    """Set what is smaller in magnitude than the smallest kept element to zero."""
    # hardshrink drops what is equal to its bound as well; the number just below keeps it.
    dtype = row.numpy().dtype.type
    return row if smallest == 0 else hardshrink(row, float(np.nextafter(dtype(smallest), dtype(0))))
