"""Low-rank residuals with deep surgery on top: a little of the expert's weights, and corrections of what is still amiss."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

from suture.backbones import Backbone
from suture.backbones.hooks import lasting
from suture.errors import DataError, UnsupportedFormat
from suture.surgery.closed_form import ClosedForm
from suture.surgery.deep import fit_deep_closed_form
from suture.surgery.deep_fit import fit_deep_surgery
from suture.surgery.module import Surgery
from suture.surgery.residual import Change, LowRank, Residuals, as_matrix, low_rank_residuals, tensors_of_blocks
from suture.surgery.schedule import Schedule
from suture.types import Progress, no_progress

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


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
    calibration: Mapping[str, Sequence[Any]],
    merged: Backbone,
    expert_of: Callable[[str], Backbone],
    residual_rank: int,
    settings: ClosedForm,
    schedule: Schedule | None = None,
    seed: int = 0,
    *,
    allot: bool = False,
    precision: torch.dtype = torch.float32,
    scratch: Path | None = None,
    progress: Progress = no_progress,
) -> ResidualSurgery:
    """Return low-rank residuals of the blocks' linear layers and convolutions, and corrections after every block of the network so made.

    Residuals come first: θ_t − θ_m by truncated SVD of rank ``residual_rank``, without data (:func:`suture.surgery.low_rank_residuals`).
    They give attention what no correction behind a block can: where to look. Vectors stay the merged model's, as corrections have
    shifts; on held-out texts their parameters were better spent on rank. Then the deep closed form of that network, its ranks allotted
    or even (:func:`suture.surgery.fit_deep_closed_form`). With a ``schedule`` both are refined together by gradient, on the loss of
    :func:`suture.surgery.fit_deep_surgery`, from there on; with a held-out part never worse on that.

    It joins SurgeryV2 (Yang et al., 2024, arXiv 2410.14389) with low-rank changes as of LoRA (Hu et al., 2021, arXiv 2106.09685).
    Deterministic for a seed, and a task's part whatever tasks stand beside it. The network is as it was after the call. ``progress`` counts
    inputs times (blocks + 1), then those of the refinement.

    Raises :class:`UnsupportedFormat` for blocks without linear layers and convolutions, and what those functions raise.

    >>> texts = {"pets": ["cat", "dog", "emu", "fox"]}
    >>> sorted(fit_residual_surgery(texts, backbone, lambda task: expert, 1, ClosedForm(rank=2)).residuals.of("pets"))
    ['layers.0.0.weight', 'layers.1.0.weight']
    """
    layers, changes, final, blocks = matrix_layers(merged), {}, {}, {}
    for task, own in calibration.items():
        inputs, experts = {task: own}, {task: expert_of(task)}
        plain = low_rank_residuals(merged.weights, {task: experts[task].weights}, layers, residual_rank)
        with _changed(layers, plain.of(task)) as grown:
            surgery = fit_deep_closed_form(inputs, merged, experts.__getitem__, settings, scratch, progress, allot=allot)
            if schedule is not None:
                parts = [part for added in grown.values() for part in added.parameters()]
                refine = partial(fit_deep_surgery, precision=precision, progress=progress)
                surgery = refine(inputs, merged, experts.__getitem__, schedule, seed, start=surgery, trained=parts)
            changes[task] = {name: added.change() for name, added in grown.items()}
        *blocks[task], final[task] = (correction for _, correction in surgery.sites(task))
    return ResidualSurgery(Residuals(changes), Surgery(final, blocks))


class _Added(nn.Module):
    """A change of a layer's matrix that can be trained."""

    def __init__(self, change: LowRank) -> None:
        super().__init__()
        # The network runs in float32 whatever the precision of its weights on disk.
        self.left, self.right = (nn.Parameter(part.float().clone()) for part in change.parts())

    def change(self) -> LowRank:
        """Return the change as it is now."""
        return LowRank(self.left.detach().clone(), self.right.detach().clone())


class _AddedToOutputs(_Added):
    """That of a linear layer, as what it adds to the outputs: r(out + in) products a token in place of a new matrix at every step."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(functional.linear(x, self.right), self.left)


class _AddedToWeights(_Added):
    """That of any other layer, such as a convolution, whose weights are far fewer than its outputs."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.left @ self.right).view_as(weight)


def matrix_layers(network: Backbone) -> dict[str, nn.Module]:
    """Return the linear layers and convolutions of a network's blocks, by the names of their weights on disk.

    Raises :class:`UnsupportedFormat` when there is none.
    """
    inside = set(tensors_of_blocks(network))
    named = {f"{name}.weight": module for name, module in network.model.named_modules() if isinstance(module, (nn.Linear, *CONVOLUTIONS))}
    found: dict[str, nn.Module] = {source: named[name] for name, source in network.names.items() if source in inside and name in named}
    if not found:
        raise UnsupportedFormat(f"{network.folder}: the blocks have no linear layers and no convolutions for residuals to change")
    return found


def factors_of(network: Backbone) -> int:
    """Return the parameters of residuals of rank 1 of all those layers; raises what :func:`matrix_layers` raises."""
    return sum(sum(as_matrix(network.weights.specs[name].shape)) for name in matrix_layers(network))


@contextmanager
def _changed(layers: Mapping[str, nn.Module], changes: Mapping[str, Change]) -> Iterator[Mapping[str, _Added]]:
    """Add changes of their matrices to layers for a moment; yields them as they can be trained."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(_changed_layer(layers[name], change))
            for name, change in changes.items()
            if isinstance(change, LowRank)
        }


@contextmanager
def _changed_layer(layer: nn.Module, change: LowRank) -> Iterator[_Added]:
    # By its exact type: layers of attention are linear ones by descent, but their weights are read past them.
    if type(layer) is nn.Linear:
        outputs = _AddedToOutputs(change)
        with lasting([layer.register_forward_hook(lambda _layer, inputs, output: output + outputs(inputs[0]))]):
            yield outputs
        return
    weights = _AddedToWeights(change)
    register_parametrization(layer, "weight", weights)
    try:
        yield weights
    finally:
        remove_parametrizations(layer, "weight", leave_parametrized=False)
