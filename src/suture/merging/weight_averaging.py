"""Weight averaging: the mean of the experts' weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from suture.bibliography import MODEL_SOUPS, Paper
from suture.merging.method import WeighedMethod


@dataclass(frozen=True)
class WeightAveraging(WeighedMethod):
    """θ_m = (1/T) Σ_t θ_t = θ_0 + (1/T) Σ_t τ_t.

    Source: Wortsman et al., 2022, *Model soups*, arXiv 2203.05482 (uniform soup).
    Trap: the script behind the "Weight Averaging" rows of Representation Surgery (arXiv 2402.02705) has one coefficient too few, and
    drops the last task: θ_0 + (1/T) Σ_{t<T} τ_t. ``as_published=True`` does the same, so the last expert given is lost.

    >>> WeightAveraging().weights(4)
    [0.25, 0.25, 0.25, 0.25]
    """

    name: ClassVar[str] = "weight_averaging"
    paper: ClassVar[Paper] = MODEL_SOUPS

    as_published: bool = False

    def weights(self, experts: int) -> Sequence[float]:
        """Return 1 / T for every expert; as published, 0 for the last."""
        weights = [1 / experts] * experts
        return [*weights[:-1], 0.0] if self.as_published else weights
