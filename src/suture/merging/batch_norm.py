"""Running statistics of norms over batches: they are measured, not learnt, so no method of merging weights is asked about them."""

import re
from typing import Literal

from torch import Tensor

from suture.errors import IncompatibleExperts
from suture.merging.method import MergingMethod
from suture.merging.task_arithmetic import TaskArithmetic
from suture.merging.weight_averaging import WeightAveraging

BatchNorm = Literal["mean", "base"]
"""What becomes of the running means and variances: the mean of the experts', or the base's own."""

STATISTICS = re.compile(r"(^|\.)running_(mean|var)$")
VARIANCE = re.compile(r"(^|\.)running_var$")
POLICIES: dict[BatchNorm, MergingMethod] = {"mean": WeightAveraging(), "base": TaskArithmetic(scale=0.0)}


def method_for(name: str, method: MergingMethod, policy: BatchNorm) -> MergingMethod:
    """Return what merges a tensor: the method or, for a statistic, the policy.

    >>> method_for("norm.running_var", TaskArithmetic(), "mean"), method_for("norm.weight", TaskArithmetic(), "mean")
    (WeightAveraging(as_published=False), TaskArithmetic(scale=0.3))
    """
    return POLICIES[policy] if STATISTICS.search(name) else method


def check_variance(name: str, merged: Tensor) -> None:
    """Raise :class:`IncompatibleExperts` when a variance has come out negative: then an expert's, or the base's, is."""
    if VARIANCE.search(name) and bool((merged < 0).any()):
        raise IncompatibleExperts(f"tensor {name!r} is a variance, and that of an expert or of the base is negative: it is spoilt")
