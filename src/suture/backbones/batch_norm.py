"""Running statistics of norms over batches, measured anew in a network with other weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from suture.backbones.backbone import Backbone
from suture.backbones.hooks import lasting
from suture.errors import DataError, UnsupportedFormat

BATCH = 128
"""Inputs that are normalised together: enough of every task to stand for all."""

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""PyTorch's own norms over batches, and what is made of them."""


def measured_statistics(backbone: Backbone, weights: Mapping[str, Tensor], prepared: Sequence[Sequence[Any]]) -> dict[str, Tensor]:
    """Return running means and variances, by their names on disk, of a network with these weights over prepared inputs of several tasks.

    Batches hold inputs of all tasks in turn, and are normalised by their own mean and variance on the way, as in training; what is
    returned is of all inputs together. Variances are the unbiased ones that PyTorch keeps.

    Raises :class:`UnsupportedFormat` for statistics of other norms than PyTorch's own, :class:`DataError` for a single input.

    Source: Jordan et al., 2023, *REPAIR*, arXiv 2211.08403, section 3 (resetting the statistics of a merged network).
    """
    mixed = [each for each in chain.from_iterable(zip_longest(*prepared)) if each is not None]
    if len(mixed) < 2:
        raise DataError("batch_norm: recalibrate needs more than one input")
    norms = {name: module for name, module in backbone.model.named_modules() if isinstance(module, NORMS) and module.track_running_stats}
    sums = {name: _Moments() for name in norms}
    given = {name: tensor.float() for name, tensor in weights.items() if name not in backbone.statistics}
    with torch.no_grad(), _batch_statistics(norms, {name: sums[name].add for name in norms}):
        # Of nearly one size, as a last one of a single input has no variance.
        for rows in torch.arange(len(mixed)).chunk(-(-len(mixed) // BATCH)):
            backbone.represent([mixed[row] for row in rows.tolist()], given)
    found: dict[str, Tensor] = {}
    for name, moments in sums.items():
        for kind, value in (("running_mean", moments.mean), ("running_var", moments.variance)):
            if moments.count and (source := backbone.names.get(f"{name}.{kind}")) is not None:
                found[source] = value.float()
    if left := sorted(backbone.statistics - found.keys()):
        raise UnsupportedFormat(
            f"batch_norm: recalibrate measures PyTorch's own norms over batches, and these are of others: {', '.join(left)}"
        )
    return found


@dataclass
class _Moments:
    """Sums over everything but the channels, in float64."""

    count: int = 0
    first: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    second: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    def add(self, hidden: Tensor) -> None:
        """Add what enters a norm, shape (n, k) or (n, k, …)."""
        rows = hidden.double().transpose(0, 1).flatten(1)
        self.count += rows.shape[1]
        self.first, self.second = self.first + rows.sum(dim=1), self.second + rows.square().sum(dim=1)

    @property
    def mean(self) -> Tensor:
        return self.first / self.count

    @property
    def variance(self) -> Tensor:
        spread = (self.second - self.first.square() / self.count).clamp(min=0)
        return spread / max(1, self.count - 1)


@contextmanager
def _batch_statistics(norms: Mapping[str, Any], look: Mapping[str, Callable[[Tensor], None]]) -> Iterator[None]:
    """Let norms go by their batches for a moment, and show what enters them; they keep no count of it, and no hook outlives the block."""

    def shown(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: look[name](inputs[0])

    for module in norms.values():
        module.track_running_stats = False
        module.train()
    try:
        with lasting([module.register_forward_pre_hook(shown(name)) for name, module in norms.items()]):
            yield
    finally:
        for module in norms.values():
            module.track_running_stats = True
            module.eval()
