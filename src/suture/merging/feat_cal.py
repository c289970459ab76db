"""FeatCal: a merged model answers its own inputs as the experts would, layer after layer in forward order, in closed form."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

from suture.bibliography import FEATCAL, Paper
from suture.gram import gram
from suture.merging.calibration import Calibration, Layer, Walk, rows_of_one, sampled_count, sampled_rows
from suture.merging.method import (
    SEED,
    Block,
    DataDrivenMethod,
    MergingMethod,
    Statistics,
    Survey,
    network_weights,
    require,
    require_finite,
    require_positive,
    require_seed,
)
from suture.merging.regmean import stored
from suture.merging.task_arithmetic import TaskArithmetic
from suture.types import Progress


@dataclass(frozen=True)
class FeatCal(DataDrivenMethod):
    """The layers of a merge, linear and norms, solved anew in forward order, on what the calibrated ones before them hand on.

    The weight of a linear layer, shape (in + 1, out), its bias as the last row, solves

        (Σ_t C_t/‖C_t‖ + μ I) W = Σ_t X_tᵀ X_mix,t W_t/‖C_t‖ + μ (ρ W_m + (1 − ρ) W_0),    C_t = X_tᵀ X_t.

    X_t, shape (n, in + 1), is what enters the layer on inputs of task t in the merged model, all layers before this one being calibrated
    already, and a column of ones; X_mix,t = (1 − α) X_t + α X_expert,t blends in what enters it in the expert. W_t, W_m and W_0 are the
    weights of the expert, of the merge that it starts from (``start``) and of the base. So every layer makes of the merged model's
    inputs what the expert would make of better ones, and does not go far from W_m, or, with ρ > 1, from a longer step than that.
    μ = ``ridge``, ρ = ``anchor``, α = ``blend``; ‖C‖ is the Frobenius norm, without the ones.

    A LayerNorm is the diagonal form: for each feature the same system for its scale and bias, two unknowns, on the normalised inputs;
    their power is near one, so ‖C_t‖ is the number of tokens. A convolution of one place (1 × 1, stride 1, one group) is a linear layer
    over the places of a map. Wider ones, norms over batches, and what stands outside the blocks (embeddings, last norm, pooler) are merged
    by ``start``. At most ``samples`` unlabelled inputs of every task, which ``seed`` draws; it is the seed of ``start`` as well.

    The systems are solved in float64 for the deviation from the base. Time: about seven encodings of the inputs, and two products
    like X_tᵀ X_t in float64. Memory: the moments of one layer, two or three times (in, in), its weights in all experts, and one batch; the
    hidden states of all inputs wait on disk twice.

    Source: Gu et al., 2026, *FeatCal: Feature Calibration for Post-Merging Models*, arXiv 2605.13030 (μ 0.05, ρ 2.0 to 2.2, α 0.25 to 0.3).
    Where we differ: the authors' code calibrates the layers of one block all at once, solves for biases after weights, does not blend
    the inputs of norms, and gives tokens that a CLS pooling drops a weight of 0.01 in the last block.
    Traps: α is the expert's share; on the suite `nlp8` (64 calibration samples, others for the accuracy) 0.7 gave 75.5 %, 0.3 74.6 %.
    With ρ = 1 and a large μ nothing happens. ``samples`` are inputs, but each token counts.

    >>> str(FeatCal(start=TaskArithmetic(scale=0.5), samples=64))
    'feat_cal(start=task_arithmetic(scale=0.5), samples=64, ridge=0.05, anchor=2.0, blend=0.3, seed=0)'
    """

    name: ClassVar[str] = "feat_cal"
    paper: ClassVar[Paper] = FEATCAL
    elementwise: ClassVar[bool] = False

    start: MergingMethod = TaskArithmetic()  # noqa: RUF009  frozen
    samples: int = 256
    ridge: float = 0.05
    anchor: float = 2.0
    blend: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        require(not isinstance(self.start, DataDrivenMethod), f"start must be a method that needs no data, not {self.start.name}")
        require_positive(samples=self.samples, ridge=self.ridge)
        require_finite("anchor", self.anchor)
        require(0 <= self.blend <= 1, f"blend must be in [0, 1], not {self.blend}")
        require_seed(self.seed)
        if any(own.name == SEED for own in fields(self.start)):
            object.__setattr__(self, "start", replace(self.start, **{SEED: self.seed}))

    def effort(self, calibration: Calibration) -> int:
        """Return the number of inputs of all tasks, times that of layers with inputs of their own."""
        return sampled_count(calibration, self.samples) * sum(map(len, calibration.stages))

    def estimate(self, survey: Survey, calibration: Calibration, scratch: Path, progress: Progress) -> Statistics:
        """Return the start, and the calibrated task vectors by name, on disk."""
        start = _Start(self.start, survey, self.start.scan(survey))
        drawn = sampled_rows(calibration, self.samples, self.seed)
        pairs = list(_entered(start, calibration, drawn, scratch))
        found: dict[str, Mapping[str, Tensor]] = {}
        for number, stages in enumerate(calibration.stages):
            weights, calibrated = start.weights(pairs[0].merged.names), {}
            for layers in stages:
                systems = [_System(self, start, layer) for layer in layers]
                for task, pair in enumerate(pairs):
                    moments = pair.moments(layers[0][0], weights)
                    for system in systems:
                        system.add(task, moments)
                    progress(len(drawn[task]))
                for name, vector in (solved for system in systems for solved in system.solved()):
                    calibrated[name] = vector
                    weights[name] = survey.base[name].to(vector.dtype) + vector
            for pair in pairs:
                pair.step(weights)
            found |= dict.fromkeys(calibrated, stored(calibrated, scratch / f"{number}.safetensors"))
        return start, found

    def combine(self, block: Block, statistics: Statistics) -> Tensor:
        """Return the calibrated task vector, or the start's."""
        start, found = statistics
        vector: Tensor = found[block.name][block.name] if block.name in found else start.vector(block)
        return vector


class _Start(NamedTuple):
    """The merge that is calibrated."""

    method: MergingMethod
    survey: Survey
    statistics: Statistics

    def vector(self, block: Block) -> Tensor:
        """Return the merged task vector of a block."""
        return self.method.combine(block, self.statistics)

    def weights(self, names: Collection[str]) -> dict[str, Tensor]:
        """Return merged tensors."""
        blocks = (self.survey.whole(name) for name in self.survey.names if name in names)
        vectors = ((block, self.vector(block)) for block in blocks)
        return {block.name: block.base.to(vector.dtype) + vector for block, vector in vectors}


class _Moments(NamedTuple):
    """C = Xᵀ X and E = Xᵀ (X_expert − X), divided by ‖C‖: shape (in + 1, in + 1) of a linear layer, (k, 2, 2) of a norm."""

    own: Float64[Tensor, "*k p p"]
    drift: Float64[Tensor, "*k p p"]


class _Pair(NamedTuple):
    """The merged model and an expert, side by side on their way through inputs of the expert's task."""

    merged: Walk
    expert: Walk
    survey: Survey
    task: int

    def moments(self, layer: str, weights: dict[str, Tensor]) -> _Moments:
        """Return the moments of what enters a layer, by its weight's name, in a merged model whose block has these weights."""
        own, norm = self._own(), self.survey.base[layer].dim() == 1
        total, drift, tokens = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64), 0
        for x, better in zip(self.merged.inputs(weights, layer), self.expert.inputs(own, layer), strict=True):
            seen = _columns(x.double(), 1, norm)
            total = total + gram(seen)
            drift = drift + seen.mT @ _columns(better.double() - x.double(), 0, norm)
            tokens += len(x)
        size = torch.tensor(float(tokens)) if norm else total[:-1, :-1].norm()
        size = size if size > 0 else torch.ones(())
        return _Moments(total / size, drift / size)

    def step(self, weights: dict[str, Tensor]) -> None:
        """Take both through the block."""
        self.merged.step(weights)
        self.expert.step(self._own())

    def _own(self) -> dict[str, Tensor]:
        return network_weights(self.survey, self.task, self.expert.names)


class _System:
    """The system of one layer, for the deviation from the base.

    With C_t and E_t divided by ‖C_t‖: (Σ_t C_t + μ I) (W − W_0) = Σ_t (C_t + α E_t) (W_t − W_0) + α Σ_t E_t W_0 + μ ρ (W_m − W_0).

    So experts that changed nothing change nothing, bit for bit: then E_t and all deviations are zero.
    """

    def __init__(self, method: FeatCal, start: _Start, layer: Layer) -> None:
        self.blend = method.blend
        self.blocks = [start.survey.whole(name) for name in layer if name is not None]
        self.right = method.ridge * method.anchor * self._rows(start.vector)
        self.left = method.ridge * torch.eye(self.right.shape[-2], dtype=torch.float64)
        self.drift = torch.zeros_like(self.left)

    def add(self, task: int, moments: _Moments) -> None:
        """Add a task's part."""
        size = self.right.shape[-2]
        own, drift = moments.own[..., :size, :size], self.blend * moments.drift[..., :size, :size]
        self.left, self.drift = self.left + own, self.drift + drift
        self.right += (own + drift) @ self._rows(lambda block: block.task_vectors[task])

    def solved(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the task vectors of weight and bias, by name."""
        right = self.right + self.drift @ self._rows(lambda block: block.base)
        rows = torch.linalg.solve(self.left, right)
        norm, width = rows.dim() == 3, self.blocks[0].base[0].numel()
        parts = rows.squeeze(2).T if norm else (rows[:width].T, rows[width:])
        for block, part in zip(self.blocks, parts, strict=False):
            yield block.name, part.reshape(block.base.shape).to(block.task_vectors.dtype)

    def _rows(self, of: Callable[[Block], Tensor]) -> Float64[Tensor, "*k p out"]:
        """Return something of weight and bias as the unknowns stand: (in + 1, out) of a linear layer, (k, 2, 1) of a norm."""
        weight, *bias = (of(block).double() for block in self.blocks)
        if weight.dim() == 1:
            return torch.stack([weight, *bias], dim=1).unsqueeze(2)
        return torch.cat([weight.flatten(1).T, *(own.unsqueeze(0) for own in bias)])


def _columns(x: Float64[Tensor, "n k"], last: int, norm: bool) -> Float64[Tensor, "*k n p"]:
    """Return the inputs beside a constant: (n, in + 1) for a linear layer; for a norm each feature by itself, (k, n, 2)."""
    constant = torch.full_like(x if norm else x[:, :1], last)
    return torch.stack([x.T, constant.T], dim=2) if norm else torch.cat([x, constant], dim=1)


def _entered(start: _Start, calibration: Calibration, drawn: Sequence[Sequence[int]], scratch: Path) -> Iterator[_Pair]:
    """Yield for every task both models before their first block."""
    inside = {name for names in calibration.blocks for name in names}
    outside = calibration.parameters - inside
    merged = start.weights(outside)
    for task, rows in enumerate(drawn):
        alone = rows_of_one(calibration, task, rows)
        own = network_weights(start.survey, task, outside)
        yield _Pair(
            calibration.walk(merged, alone, scratch / f"merged-{task}"),
            calibration.walk(own, alone, scratch / f"expert-{task}"),
            start.survey,
            task,
        )
