"""AdaMerging: coefficients per task, or per task and tensor, that make the merged model decided about unlabelled inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from suture.bibliography import ADA_MERGING, TIES, Paper
from suture.merging.calibration import Calibration
from suture.merging.merged_copy import MergedCopy, Schedule, check_coefficients, coefficients_by_name, drawn_rows, learn_coefficients
from suture.merging.method import Block, DataDrivenMethod, Statistics, Survey, require_positive, require_seed
from suture.merging.ties import check_density, trim_and_elect, whole_model_thresholds
from suture.types import Progress


@dataclass(frozen=True)
class Learnt:
    """Coefficients by tensor, shape ``(T,)``, and what the task vectors were trimmed at, if they were."""

    coefficients: Mapping[str, Tensor]
    thresholds: Tensor | None = None


@dataclass(frozen=True)
class AdaMerging(DataDrivenMethod):
    """θ_m^l = θ_0^l + Σ_t λ_t^l τ_t^l for every tensor l, with the λ in [0, 1] that minimise Σ_t mean H(softmax(head_t(f(x; θ_m)))).

    H is the entropy of the prediction on unlabelled inputs x of task t: no labels are used. ``scope="layer"`` learns a λ for each
    task and tensor, ``"task"`` one for each task. λ starts at ``initial``, is clamped to [0, 1], and is learnt by Adam
    (``learning_rate``) for ``steps`` steps of ``batch_size`` inputs of every task. Tensors that the network does not read, or no expert
    changed, stay at ``initial``.

    The gradient is exact without T copies of the network in the graph: ∂L/∂λ_t^l = ⟨∂L/∂θ^l, τ_t^l⟩. Memory: two
    models beside the network; the task vectors (T more) are mapped from a file.

    Source: Yang et al., 2024, *AdaMerging*, arXiv 2310.02575, Eq. 3 and 4.
    Trap: the authors' scripts learn on the test inputs; that is what ``calibration.mode: transductive`` does.
    """

    name: ClassVar[str] = "ada_merging"
    paper: ClassVar[Paper] = ADA_MERGING

    scope: str = "layer"
    initial: float = 0.3
    steps: int = 500
    batch_size: int = 16
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        check_coefficients(self.scope, self.initial)
        require_positive(steps=self.steps, batch_size=self.batch_size, learning_rate=self.learning_rate)
        require_seed(self.seed)

    def effort(self, calibration: Calibration) -> int:  # noqa: ARG002
        """Return the number of steps."""
        return self.steps

    def estimate(self, survey: Survey, calibration: Calibration, scratch: Path, progress: Progress) -> Statistics:
        """Learn the coefficients."""
        thresholds = self.thresholds(survey)
        copy = MergedCopy.of(survey, calibration, lambda block: self.vectors(block, thresholds), scratch)
        schedule = Schedule(self.initial, self.steps, self.learning_rate, self.scope == "task")
        found = learn_coefficients(copy, drawn_rows(calibration, self.batch_size, self.seed), schedule, progress)
        return Learnt(coefficients_by_name(survey, copy, found, self.initial), thresholds)

    def combine(self, block: Block, statistics: Statistics) -> Tensor:
        """Return Σ_t λ_t τ_t."""
        if block.base.numel() == 0:
            return block.base
        vectors = self.vectors(block, statistics.thresholds)
        weighed: Tensor = torch.tensordot(statistics.coefficients[block.name].to(vectors.dtype), vectors, dims=1)
        return weighed

    def thresholds(self, survey: Survey) -> Tensor | None:  # noqa: ARG002
        """Return what :meth:`vectors` needs to know of the whole model."""
        return None

    def vectors(self, block: Block, thresholds: Tensor | None) -> Tensor:  # noqa: ARG002
        """Return the task vectors that are weighed, shape ``(T, *base.shape)``."""
        return block.task_vectors


@dataclass(frozen=True)
class AdaMergingPlusPlus(AdaMerging):
    """AdaMerging on task vectors that Ties has trimmed and relieved of their minority signs.

    Each expert keeps the ``density`` largest |τ_t| of the whole model, and of these the elements whose sign is that of Σ_t trimmed τ_t.

    Source: Yang et al., 2024, arXiv 2310.02575 ("AdaMerging++"); Yadav et al., 2023, arXiv 2306.01708.
    """

    name: ClassVar[str] = "ada_merging_pp"
    builds_on: ClassVar[tuple[Paper, ...]] = (TIES,)

    density: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_density(self.density)

    def thresholds(self, survey: Survey) -> Tensor | None:
        """Return each expert's smallest kept magnitude, shape ``(T,)``."""
        return whole_model_thresholds(survey, self.density)

    def vectors(self, block: Block, thresholds: Tensor | None) -> Tensor:
        """Return the trimmed task vectors, zero where they disagree with the elected sign."""
        magnitudes, elected = trim_and_elect(block, self.density, thresholds)
        return magnitudes.mul_(elected).reshape(block.task_vectors.shape)
