"""Low-rank residual experts that see data: what is kept of a matrix is what the inputs of its layer make most of."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from suture.backbones import Backbone, batches_of_like_length
from suture.backbones.calibration import TOKENS_PER_BATCH
from suture.backbones.walk import BlockWalk, is_linear, layers_within, stages_of
from suture.checkpoints import Weights, scratch_folder
from suture.errors import InvalidHyperparameter
from suture.gram import gram
from suture.surgery.pairs import check_inputs
from suture.surgery.residual import (
    Change,
    Residuals,
    Whole,
    check_rank,
    difference,
    low_rank_residuals,
    tensors_of_blocks,
    truncated,
)
from suture.task_vector import accumulation_dtype
from suture.types import Progress, no_progress

SHRINKAGE = 0.1
"""What is added to the inputs' covariance, as a share of their mean variance."""

NOTHING = 1e-12
"""The share of the second moment below which a variance is but rounding."""


@torch.no_grad()
def calibrated_residuals(
    calibration: Mapping[str, Sequence[Any]],
    merged: Backbone,
    expert_of: Callable[[str], Backbone],
    rank: int,
    shrinkage: int | float = SHRINKAGE,
    scratch: Path | None = None,
    progress: Progress = no_progress,
) -> Residuals:
    """Return Δ_t ≈ θ_t − θ_m of all tensors of the blocks, matrices of that rank as the expert's own activations want them.

    ``calibration`` maps each task to its unlabelled inputs. For a linear layer, X the rows that enter it in the expert at real tokens,
    Δ_r has the least ‖(X − 1μᵀ)(Δ − Δ_r)ᵀ‖² + penalty, an SVD of ΔL with L Lᵀ = C/c + λI: C is the covariance of X, c its mean
    variance, λ the ``shrinkage``. What Δ_r misses of the mean, (Δ − Δ_r)μ, goes into the bias, which is kept whole anyway; without
    a bias, C is the second moment. A convolution of one place is such a layer, its rows the places of a map. Matrices of other layers
    are truncated as by :func:`suture.surgery.low_rank_residuals`, all else is whole. Deterministic.

    The second moment as a weight on low-rank errors is common in compression (such as Wang et al., 2024, *SVD-LLM*, arXiv 2403.07378).
    Inputs of the expert, and not of the merged network as changed so far: on held-out texts of three tasks both came equally close,
    and the expert's need no order among layers.

    Moments are in float64; activations wait in files in ``scratch`` (a folder in the cache without it): memory holds one batch and the
    moment of one layer, whatever the number of inputs. No hook outlives the call. ``progress`` counts inputs times blocks.
    Raises :class:`DataError` for a task without inputs, :class:`InvalidHyperparameter` for a negative rank or a shrinkage that is not
    positive, :class:`suture.errors.UnsupportedFormat` for a network that does not run block by block, and what
    :func:`suture.surgery.low_rank_residuals` raises.
    """
    check_rank(rank)
    if not (math.isfinite(shrinkage) and shrinkage > 0):
        raise InvalidHyperparameter(f"shrinkage must be a positive number, not {shrinkage}")
    names, changes = tensors_of_blocks(merged), {}
    for task, inputs in calibration.items():
        check_inputs(task, inputs)
        expert = expert_of(task)
        plain = low_rank_residuals(merged.weights, {task: expert.weights}, names, rank)
        fit = _TaskFit(task, merged.weights, expert.weights, rank, shrinkage, dict(plain.of(task)))
        with scratch_folder(scratch) as folder:
            for layers, portions in _entering(expert, inputs, folder / "walk", progress):
                fit.see(layers, portions)
        changes[task] = fit.changes
    return Residuals(changes)


def _entering(
    expert: Backbone, inputs: Sequence[Any], folder: Path, progress: Progress
) -> Iterator[tuple[list[tuple[str, str | None]], Iterator[Tensor]]]:
    """Yield the linear layers that see one tensor, weight and bias by their names on disk, and what enters them, in forward order."""
    prepared = expert.prepare(inputs)
    batches = batches_of_like_length([expert.length(each) for each in prepared], TOKENS_PER_BATCH)
    walk = BlockWalk(expert, torch.float32, folder).enter({}, ([prepared[place] for place in places] for places in batches))
    for number, stages in enumerate(stages_of(expert, prepared[0])):
        within = layers_within(expert, number)
        for layers in stages:
            linear = [(weight, bias) for weight, bias in layers if is_linear(within[weight])]
            if linear:
                yield linear, walk.inputs({}, linear[0][0])
        walk.step({})
        progress(len(prepared))


@dataclass(frozen=True)
class Inputs:
    """Mean μ and second moment XᵀX/n, in float64, of the n rows that enter a layer."""

    mean: Float64[Tensor, " in"]
    square: Float64[Tensor, "in in"]

    @classmethod
    def of(cls, portions: Iterable[Float[Tensor, "_ in"]]) -> "Inputs":
        """Return those of rows that come in portions, at least one; memory does not grow with their number."""
        count, total, square = 0, torch.zeros(()), torch.zeros(())
        for rows in portions:
            wide = rows.double()
            count, total, square = count + len(wide), total + wide.sum(dim=0), square + gram(wide)
        return cls(total / count, square / count)

    def root(self, shrinkage: int | float, *, centred: bool) -> Float64[Tensor, "in in"] | None:
        """Return the Cholesky factor L of C/c + λI: C is the covariance, or the second moment, and c its mean diagonal.

        None where nothing varies.
        """
        spread = self.square - torch.outer(self.mean, self.mean) if centred else self.square.clone()
        scale = spread.diagonal().mean()
        if not bool(scale > NOTHING * self.square.diagonal().mean()):
            return None
        spread /= scale
        spread.diagonal().add_(shrinkage)
        lower: Tensor = torch.linalg.cholesky(spread)
        return lower


@dataclass(frozen=True)
class _TaskFit:
    """The fit of one task; ``changes``, by names on disk, are replaced as the inputs of their layers come to be known."""

    task: str
    merged: Weights
    expert: Weights
    rank: int
    shrinkage: int | float
    changes: dict[str, Change]

    def see(self, layers: Sequence[tuple[str, str | None]], portions: Iterable[Tensor]) -> None:
        """Put the changes that these inputs make most of in the place of the plain ones."""
        inputs = Inputs.of(portions)
        for weight, bias in layers:
            vector = self.changes.get(bias or "")
            delta = difference(self.task, weight, self.merged, self.expert).flatten(1)
            root = inputs.root(self.shrinkage, centred=vector is not None)
            kept = truncated(delta, self.rank, accumulation_dtype(self.merged.specs[weight].dtype), root)
            self.changes[weight] = kept
            if bias is not None and vector is not None:
                lost = (delta - kept.whole().double()) @ inputs.mean
                self.changes[bias] = Whole((vector.whole().double() + lost).to(vector.whole().dtype))
