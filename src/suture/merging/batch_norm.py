"""Running statistics of norms over batches: they are measured, not learnt, so no method of merging weights is asked about them."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from torch import Tensor

from suture.checkpoints import Weights
from suture.errors import IncompatibleExperts
from suture.merging.method import MergingMethod, Survey
from suture.merging.task_arithmetic import TaskArithmetic
from suture.merging.weight_averaging import WeightAveraging

BatchNorm = Literal["mean", "base", "recalibrate"]
"""What becomes of the running means and variances: the mean of the experts', the base's own, or measured anew in the merged network, on
unlabelled inputs of all tasks (Jordan et al., 2023, *REPAIR*, arXiv 2211.08403)."""

STATISTICS = re.compile(r"(^|\.)running_(mean|var)$")
VARIANCE = re.compile(r"(^|\.)running_var$")
AVERAGE = WeightAveraging()
POLICIES: dict[BatchNorm, MergingMethod] = {"mean": AVERAGE, "base": TaskArithmetic(scale=0.0), "recalibrate": AVERAGE}
"""Methods that merge them; to be measured anew they start as the mean."""


def method_for(name: str, method: MergingMethod, policy: BatchNorm) -> MergingMethod:
    """Return what merges a tensor: the method or, for a statistic, the policy.

    >>> method_for("norm.running_var", TaskArithmetic(), "mean"), method_for("norm.weight", TaskArithmetic(), "mean")
    (WeightAveraging(as_published=False), TaskArithmetic(scale=0.3))
    """
    return POLICIES[policy] if STATISTICS.search(name) else method


def learnt(names: Sequence[str]) -> list[str]:
    """Return the names that are no statistics.

    >>> learnt(["norm.weight", "norm.running_var"])
    ['norm.weight']
    """
    return [name for name in names if not STATISTICS.search(name)]


def recalibrates(policy: BatchNorm, names: Iterable[str]) -> bool:
    """Say whether statistics among these tensors are measured anew, on the calibration set: for other policies they are merged.

    >>> recalibrates("recalibrate", ["norm.running_var"]), recalibrates("recalibrate", ["norm.weight"])
    (True, False)
    """
    return policy == "recalibrate" and any(STATISTICS.search(name) for name in names)


def merged_statistics(survey: Survey, policy: BatchNorm) -> dict[str, Tensor]:
    """Return the running statistics as a policy merges them, by name."""
    blocks = [survey.whole(name) for name in survey.names if STATISTICS.search(name)]
    vectors = ((block, POLICIES[policy].combine(block, None)) for block in blocks)
    return {block.name: block.base.to(vector.dtype) + vector for block, vector in vectors}


def check_variances(base: Weights, experts: Sequence[Weights]) -> None:
    """Raise :class:`IncompatibleExperts` when a variance is negative, of whatever model, and whatever the policy."""
    for weights in (base, *experts):
        for name in weights:
            if VARIANCE.search(name) and bool((weights[name] < 0).any()):
                raise IncompatibleExperts(f"{weights.path}: the tensor {name!r} is a variance, and it is negative: the file is spoilt")
