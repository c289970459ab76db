"""RegMean: every linear layer answers its experts' inputs as the experts do, in the sense of least squares."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from suture.bibliography import REGMEAN, Paper
from suture.checkpoints import TensorSpec, open_checkpoint, write_safetensors
from suture.gram import gram
from suture.merging.calibration import Calibration, rows_of_one, sampled_count, sampled_rows
from suture.merging.method import (
    Block,
    DataDrivenMethod,
    Statistics,
    Survey,
    network_weights,
    require,
    require_positive,
    require_seed,
)
from suture.types import Progress

GramMatrices = Mapping[str, Tensor]
"""The second moment XᵀX / n of what enters a linear layer, float64, shape (in, in), by the name of its weight."""

SINGULAR = 1e-10
"""The share of the largest eigenvalue below which a direction was never seen."""

NEARLY_ONE = 1 - 1e-6
"""From this α on the system may be singular."""


@dataclass(frozen=True)
class RegMean(DataDrivenMethod):
    """For the weight of a linear layer, shape (out, in): Wᵀ = (Σ_t G_t)⁻¹ Σ_t G_t W_tᵀ, all other tensors are averaged.

    G_t = X_tᵀ X_t / n, its off-diagonal elements times ``alpha``; X_t, shape (n, in), is what enters the layer in expert t on at most
    ``samples`` unlabelled inputs of task t that ``seed`` draws, over all real tokens. With α = 1, W minimises
    Σ_t ‖X_t Wᵀ − X_t W_tᵀ‖² / n_t; with α = 0 it weighs each input feature by its power.

    The system is solved in float64 for the deviation from the average, D = W − mean W_t: (Σ G_t) Dᵀ = Σ G_t (W_t − mean W)ᵀ. So a
    feature that is zero in every input, of which nothing is known, is averaged. Scaled to a unit diagonal, the rest has no eigenvalue
    below 1 − α, be there fewer tokens than features; with α = 1 the directions that no token has are averaged as well.

    A convolution of one place (1 × 1, stride 1, one group) is a linear layer over the places of a map. Wider ones are averaged.

    Memory: one expert and its Gram matrices; those of all experts wait on disk, in float64, as α = 1 tells seen directions from
    unseen ones by digits that float32 does not have.

    Source: Jin et al., 2023, *Dataless Knowledge Fusion by Merging Weights of Language Models*, arXiv 2212.09849.
    Trap: the paper's formula has XᵀX without the division by n: there the task with the most tokens decides.
    """

    name: ClassVar[str] = "regmean"
    paper: ClassVar[Paper] = REGMEAN
    elementwise: ClassVar[bool] = False

    samples: int = 256
    alpha: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(samples=self.samples)
        require(0 <= self.alpha <= 1, f"alpha must be in [0, 1], not {self.alpha}")
        require_seed(self.seed)

    def effort(self, calibration: Calibration) -> int:
        """Return the number of inputs of all tasks."""
        return sampled_count(calibration, self.samples)

    def estimate(self, survey: Survey, calibration: Calibration, scratch: Path, progress: Progress) -> Statistics:
        """Return each expert's Gram matrices, in order."""
        linear = {name for names in calibration.layers for name in names}
        found = []
        for task, rows in enumerate(sampled_rows(calibration, self.samples, self.seed)):
            weights = network_weights(survey, task, calibration.parameters)
            grams = gram_matrices(calibration, weights, rows_of_one(calibration, task, rows), linear)
            found.append(stored(grams, scratch / f"{task}.safetensors"))
            progress(len(rows))
        return found

    def combine(self, block: Block, statistics: Statistics) -> Tensor:
        """Return the task vector of the regression, or the average."""
        return regress(block, statistics, self.alpha)


def gram_matrices(
    calibration: Calibration, weights: Mapping[str, Tensor], rows: Sequence[Sequence[int]], names: Collection[str]
) -> dict[str, Tensor]:
    """Return XᵀX / n of what enters the named layers of a network with these weights."""
    sums: dict[str, Tensor] = {}
    tokens: dict[str, int] = {}
    look = _adder(sums, tokens, names)
    calibration.watch(weights, rows, look)
    return {name: total.div_(max(1, tokens[name])) for name, total in sums.items()}


def _adder(sums: dict[str, Tensor], tokens: dict[str, int], names: Collection[str]) -> Callable[[str, Tensor], None]:
    """Return a function that adds XᵀX and the number of rows of what it is shown."""
    last: list[Tensor] = []

    def look(name: str, inputs: Tensor) -> None:
        if name not in names:
            return
        # Query, key and value see one tensor: its product is made once.
        if not last or last[0] is not inputs:
            last[:] = [inputs, gram(inputs)]
        sums[name] = sums[name].add_(last[1]) if name in sums else last[1].clone()
        tokens[name] = tokens.get(name, 0) + len(inputs)

    return look


def stored(grams: GramMatrices, file: Path) -> GramMatrices:
    """Write Gram matrices to a file and return them from there, read when asked for."""
    write_safetensors(file, {name: TensorSpec(tuple(gram.shape), gram.dtype) for name, gram in grams.items()}, grams.items())
    return open_checkpoint(file)


def regress(block: Block, grams: Sequence[GramMatrices], alpha: float) -> Tensor:
    """Return the task vector of the regression where every expert has a Gram matrix, else the average."""
    if block.base.numel() == 0 or not all(block.name in own for own in grams):
        return block.task_vectors.mean(dim=0)
    solution: Tensor = regression_mean(block.task_vectors.flatten(2), (own[block.name] for own in grams), alpha)
    return solution.to(block.task_vectors.dtype).view_as(block.base)


def regression_mean(vectors: Float[Tensor, "t out in"], grams: Iterable[Float[Tensor, "in in"]], alpha: float) -> Float[Tensor, "out in"]:
    """Return τ with (Σ G_t) τᵀ = Σ G_t τ_tᵀ, in float64, off-diagonals times α; what the G_t do not determine is averaged.

    >>> vectors = torch.tensor([[[1.0, 1.0, 1.0]], [[3.0, 3.0, 3.0]]])
    >>> grams = [torch.diag(torch.tensor([1.0, 3.0, 0.0])).double(), torch.diag(torch.tensor([1.0, 1.0, 0.0])).double()]
    >>> regression_mean(vectors, grams, alpha=0.9)
    tensor([[2.0000, 1.5000, 2.0000]], dtype=torch.float64)
    """
    mean = vectors.double().mean(dim=0)
    left = torch.zeros(vectors.shape[2], vectors.shape[2], dtype=torch.float64)
    right = torch.zeros(vectors.shape[2], vectors.shape[1], dtype=torch.float64)
    for vector, own in zip(vectors, grams, strict=True):
        shrunk = own * alpha
        shrunk.diagonal().copy_(own.diagonal())
        left += shrunk
        right += shrunk @ (vector.double() - mean).T
    return mean + _solve(left, right, alpha).T


def _solve(left: Float[Tensor, "in in"], right: Float[Tensor, "in out"], alpha: float) -> Float[Tensor, "in out"]:
    """Return x with left · x = right, zero for dead features; scaled to a unit diagonal first, as features differ by magnitudes."""
    power = left.diagonal()
    dead = power == 0
    scale = power.masked_fill(dead, 1).rsqrt()[:, None]
    unit, target = scale * left * scale.T, scale * right
    if alpha < NEARLY_ONE:
        unit.diagonal()[dead] = 1
        solution: Tensor = torch.linalg.solve(unit, target)
    else:
        solution = torch.linalg.pinv(unit, rtol=SINGULAR, hermitian=True) @ target
    return scale * solution
