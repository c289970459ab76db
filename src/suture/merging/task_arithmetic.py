"""Task arithmetic: the scaled sum of the task vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from suture.bibliography import TASK_ARITHMETIC, Paper
from suture.merging.method import WeighedMethod, require_finite


@dataclass(frozen=True)
class TaskArithmetic(WeighedMethod):
    """θ_m = θ_0 + λ Σ_t τ_t, with λ = ``scale``; the papers use 0.3 for eight tasks.

    Source: Ilharco et al., 2023, *Editing models with task arithmetic*, arXiv 2212.04089.
    Trap: λ is not divided by T, so a λ that is right for eight experts is timid for two; λ = 1/T is weight averaging.

    >>> TaskArithmetic(scale=0.5).weights(3)
    [0.5, 0.5, 0.5]
    """

    name: ClassVar[str] = "task_arithmetic"
    paper: ClassVar[Paper] = TASK_ARITHMETIC

    scale: float = 0.3

    def __post_init__(self) -> None:
        require_finite("scale", self.scale)

    def weights(self, experts: int) -> Sequence[float]:
        """Return λ for every expert."""
        return [self.scale] * experts
