"""Low-rank residuals with deep surgery on top: a little of the expert's weights, and corrections of what is still amiss."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

from suture.backbones import TextBackbone
from suture.errors import DataError
from suture.surgery.closed_form import ClosedForm
from suture.surgery.deep import fit_deep_closed_form
from suture.surgery.deep_fit import fit_deep_surgery
from suture.surgery.module import Surgery
from suture.surgery.residual import MATRIX, Change, LowRank, Residuals, low_rank_residuals, tensors_of_blocks
from suture.surgery.schedule import Schedule
from suture.types import Progress, no_progress


@dataclass(frozen=True)
class ResidualSurgery:
    """For each task changes of the merged weights, and corrections of the network so changed; see :func:`fit_residual_surgery`.

    Raises :class:`DataError` when both are not of the same tasks.
    """

    residuals: Residuals
    surgery: Surgery

    def __post_init__(self) -> None:
        if self.residuals.tasks != self.surgery.tasks:
            own, others = (", ".join(part.tasks) for part in (self.residuals, self.surgery))
            raise DataError(f"the tasks of the residuals ({own}) are not those of the surgery ({others})")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in order."""
        return self.surgery.tasks

    @property
    def rank(self) -> int:
        """The highest rank of any correction; the residuals have one of their own."""
        return self.surgery.rank

    def parameters(self, task: str) -> int:
        """Return how many numbers a task's changes and corrections hold; raises :class:`suture.errors.UnknownName`."""
        return self.residuals.parameters(task) + self.surgery.parameters(task)


def fit_residual_surgery(
    calibration: Mapping[str, Sequence[str]],
    merged: TextBackbone,
    expert_of: Callable[[str], TextBackbone],
    residual_rank: int,
    settings: ClosedForm,
    schedule: Schedule | None = None,
    seed: int = 0,
    *,
    precision: torch.dtype = torch.float32,
    scratch: Path | None = None,
    progress: Progress = no_progress,
) -> ResidualSurgery:
    """Return low-rank residuals of all matrices of the blocks, and corrections after every block of the network that they make.

    Residuals come first: θ_t − θ_m by truncated SVD of rank ``residual_rank``, without data (:func:`suture.surgery.low_rank_residuals`).
    They give attention what no correction behind a block can: where to look. Vectors stay the merged model's, as corrections have
    shifts; on held-out texts their parameters were better spent on rank.
    Then the deep closed form of that network (:func:`suture.surgery.fit_deep_closed_form`). With a ``schedule`` both are refined together
    by gradient, on the loss of :func:`suture.surgery.fit_deep_surgery`, from there on; with a held-out part never worse on that.

    ``merged`` is as it was afterwards. ``progress`` counts inputs times (blocks + 1), then those of the refinement. Raises what those
    functions raise.
    """
    matrices = [name for name in tensors_of_blocks(merged) if len(merged.weights.specs[name].shape) == MATRIX]
    changes, final, blocks = {}, {}, {}
    for task, texts in calibration.items():
        inputs, experts = {task: texts}, {task: expert_of(task)}
        plain = low_rank_residuals(merged.weights, {task: experts[task].weights}, matrices, residual_rank)
        with _changed(merged, plain.of(task)) as grown:
            surgery = fit_deep_closed_form(inputs, merged, experts.__getitem__, settings, scratch, progress)
            if schedule is not None:
                parts = [part for added in grown.values() for part in added.parameters()]
                surgery = fit_deep_surgery(
                    inputs,
                    merged,
                    experts.__getitem__,
                    schedule,
                    seed,
                    start=surgery,
                    trained=parts,
                    precision=precision,
                    progress=progress,
                )
            changes[task] = {name: added.kept() for name, added in grown.items()}
        *blocks[task], final[task] = (correction for _, correction in surgery.sites(task))
    return ResidualSurgery(Residuals(changes), Surgery(final, blocks))


class _Added(nn.Module):
    """A matrix of a network, and a change of it that can be trained."""

    def __init__(self, change: LowRank) -> None:
        super().__init__()
        self.left, self.right = nn.Parameter(change.left.clone()), nn.Parameter(change.right.clone())

    def forward(self, matrix: Tensor) -> Tensor:
        return matrix + self.change().whole()

    def change(self) -> LowRank:
        return LowRank(self.left, self.right)

    def kept(self) -> LowRank:
        """Return the change by itself."""
        return LowRank(self.left.detach().clone(), self.right.detach().clone())


@contextmanager
def _changed(network: TextBackbone, changes: Mapping[str, Change]) -> Iterator[Mapping[str, _Added]]:
    """Add changes of matrices, by names on disk, to a network for a moment; yields them as they can be trained."""
    places = {name: network.model.get_submodule(name.rpartition(".")[0]) for name, source in network.names.items() if source in changes}
    added: dict[str, _Added] = {}
    try:
        for name, module in places.items():
            change = changes[network.names[name]]
            assert isinstance(change, LowRank)  # noqa: S101  the caller named matrices
            added[name] = _Added(change)
            register_parametrization(module, name.rpartition(".")[2], added[name], unsafe=True)
        yield {network.names[name]: each for name, each in added.items()}
    finally:
        for name in added:
            remove_parametrizations(places[name], name.rpartition(".")[2], leave_parametrized=False)
