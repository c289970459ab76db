"""SurgeryV2 by gradient (Yang et al., 2024, arXiv 2410.14389): a module after every block and one at the end, fitted together."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from suture.backbones import BlockwiseBackbone, in_precision
from suture.errors import DataError, InvalidHyperparameter, SutureWarning
from suture.randomness import generator_for, shuffled_rows
from suture.surgery.deep import check_networks, chosen_sites
from suture.surgery.module import Correction, Surgery, start_of_fit
from suture.surgery.schedule import Schedule, split_held_out
from suture.surgery.sites import Sites, mean_tokens, sites_of
from suture.types import Progress, no_progress


def fit_deep_surgery(
    calibration: Mapping[str, Sequence[Any]],
    merged: BlockwiseBackbone,
    expert_of: Callable[[str], BlockwiseBackbone],
    schedule: Schedule,
    seed: int,
    *,
    start: Surgery | None = None,
    trained: Sequence[Tensor] = (),
    layers: Sequence[int] | None = None,
    precision: torch.dtype = torch.float32,
    progress: Progress = no_progress,
) -> Surgery:
    """Return corrections after every block and of the final representation z, fitted end to end, task by task.

    The loss of an input is Σ_l mean |m_l(merged) − m_l(expert)| + mean |z_merged − z_expert|, m_l the mean over the real tokens behind
    block l, all means over k and over the batch. The corrected tokens go on into the next block, so the loss of a block reaches the
    corrections of all blocks before it. The expert's side is computed once.

    Modules start as those of the paper (:func:`suture.surgery.module.start_of_fit`), or as ``start``: another deep surgery, such as a
    closed form, that is refined. That brings its own activations and shifts; those of the schedule are of modules without a ``start``.
    With ``schedule.loss`` l2 the means are of squares. With a held-out part in the schedule the best state on it is kept, the start
    being one: the result is never worse there. ``trained`` are parameters of the merged network, changed in place along with the modules
    of a single task. Blocks run in ``precision`` as far as autocast does it. A seed fixes start, batches and held-out part of a task by
    its name. ``progress`` counts inputs, ``schedule.batch_size`` a step; those that an early stop saves count as done.

    With ``layers`` only the modules behind these blocks (their numbers, from 0) and that of z are fitted, and only their sites count in
    the loss; behind the others stands the identity, of rank 0 and without parameters, or what ``start`` has there.

    Raises :class:`DataError` for a task without inputs, networks of different depth, or a start that is not deep;
    :class:`InvalidHyperparameter` for a schedule that ties tasks together, takes one pass or asks for a closed form to start from, for
    layers that there are not, or ``trained`` with several tasks.

    >>> surgery = fit_deep_surgery({"pets": ["cat", "dog"]}, backbone, lambda task: expert, Schedule(rank=2, iterations=2), seed=0)
    >>> [correction.rank for _, correction in surgery.sites("pets")]
    [2, 2, 2]
    """
    _check_asked(list(calibration), schedule, trained)
    final, blocks = {}, {}
    for task, inputs in calibration.items():
        expert = expert_of(task)
        check_networks(task, inputs, merged, expert)
        chosen = chosen_sites(layers, merged.blocks.depth)
        targets, generator = sites_of(expert, inputs), generator_for(seed, task)
        widths = [site.shape[1] for site in targets]
        modules = _copied(task, start, widths) if start else _started(widths, chosen, schedule, generator)
        kept, watched = (rows.tolist() for rows in split_held_out(len(inputs), schedule, generator_for(seed, task, "held-out")))
        fit = _TaskFit(merged, inputs, targets, modules, chosen, trained, schedule, kept, watched, generator, precision)
        *blocks[task], final[task] = fit.run(progress)
    return Surgery(final, blocks)


def _check_asked(tasks: Sequence[str], schedule: Schedule, trained: Sequence[Tensor]) -> None:
    """Raise :class:`InvalidHyperparameter` for what deep surgery does not do."""
    if len(trained) and len(tasks) > 1:
        raise InvalidHyperparameter(f"parameters of the network are trained for one task at a time, not for {', '.join(tasks)}")
    if schedule.stale_momentum or schedule.one_pass:
        raise InvalidHyperparameter("deep surgery is fitted task by task, in batches drawn again and again: no stale_momentum, no one_pass")
    if schedule.start == "closed_form":
        raise InvalidHyperparameter("deep surgery starts from a closed form that is given to it: start=fit_deep_closed_form(...)")


def _started(widths: Sequence[int], chosen: Sequence[bool], schedule: Schedule, generator: torch.Generator) -> list[Correction]:
    """Return the start at every site; it draws for all, so a module does not depend on what others are chosen."""
    starts = [start_of_fit(width, schedule.rank, generator, schedule.activation, shift=schedule.shift) for width in widths]
    return [start if fits else Correction.identity(start.width, start.activation) for start, fits in zip(starts, chosen, strict=True)]


def _copied(task: str, start: Surgery, widths: Sequence[int]) -> list[Correction]:
    """Return a surgery's corrections of a task, to be changed in place."""
    found = [correction for _, correction in start.sites(task)]
    if [correction.width for correction in found] != widths:
        raise DataError(f"task {task!r}: the surgery to start from has {len(found)} corrections; expected one of every width in {widths}")
    return [
        replace(each, down=each.down.clone(), up=each.up.clone(), shift=None if each.shift is None else each.shift.clone())
        for each in found
    ]


@dataclass(frozen=True)
class _TaskFit:
    """The fit of one task; ``modules``, and parameters of the network that are ``trained``, are changed in place."""

    merged: BlockwiseBackbone
    inputs: Sequence[Any]
    targets: Sites
    modules: Sequence[Correction]
    chosen: Sequence[bool]
    """Which of the modules are fitted, and their sites looked at."""
    trained: Sequence[Tensor]
    schedule: Schedule
    kept: Sequence[int]
    """The places of the inputs to fit on."""
    watched: Sequence[int]
    """The places of those that are held out."""
    generator: torch.Generator
    precision: torch.dtype

    def run(self, progress: Progress) -> list[Correction]:
        """Return the fitted corrections: the best on the held-out inputs, or the last."""
        fitted = [module for module, fits in zip(self.modules, self.chosen, strict=True) if fits]
        own = [each for module in fitted for each in (module.down, module.up, module.shift) if each is not None]
        parameters = [*own, *self.trained]
        for parameter in parameters:
            parameter.requires_grad_()
        optimizer = torch.optim.Adam(parameters, lr=self.schedule.learning_rate, betas=self.schedule.betas)
        rate = LambdaLR(optimizer, self.schedule.rate_at)
        best = _Best(parameters)
        if self.watched:
            best.look(self._held_out_loss())
        drawn = shuffled_rows(len(self.kept), self.schedule.batch_size, self.generator)
        for iteration in range(1, self.schedule.iterations + 1):
            for _ in range(self.schedule.steps_per_iteration):
                optimizer.zero_grad()
                self._backward([self.kept[row] for row in next(drawn).tolist()])
                optimizer.step()
                rate.step()
                progress(self.schedule.batch_size)
            if self.watched and (iteration % self.schedule.look_every == 0 or iteration == self.schedule.iterations):
                best.look(self._held_out_loss())
                if best.since * self.schedule.look_every >= self.schedule.patience:
                    left = (self.schedule.iterations - iteration) * self.schedule.steps_per_iteration
                    progress(left * self.schedule.batch_size)
                    break
        if self.watched or not all(bool(parameter.isfinite().all()) for parameter in parameters):
            best.restore()
        if best.spoilt:
            warnings.warn("a fit of deep surgery diverged; the best state before that is kept", SutureWarning, stacklevel=2)
        return [replace(each, down=each.down.detach(), up=each.up.detach(), shift=_detached(each.shift)) for each in self.modules]

    def _backward(self, places: Sequence[int]) -> None:
        for share, losses in self._losses(places):
            (share * losses).backward()

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        return sum(share * float(losses) for share, losses in self._losses(self.watched))

    def _losses(self, places: Sequence[int]) -> Iterator[tuple[float, Tensor]]:
        """Yield the mean loss of each batch of some inputs, and its share of them."""
        for within, batch in self.merged.batches([self.inputs[place] for place in places]):
            rows = torch.tensor([places[place] for place in within])
            with in_precision(self.precision):
                sites = mean_tokens(self.merged, batch, self.modules)
            looked_at = zip(sites, self.targets, self.chosen, strict=True)
            errors = [self.schedule.cost(site - target[rows]).mean() for site, target, counts in looked_at if counts]
            yield len(within) / len(places), torch.stack(errors).sum()


class _Best:
    """The parameters at the lowest loss that was seen, and how many looks ago that was."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = parameters
        self.kept = [parameter.detach().clone() for parameter in parameters]
        self.loss = float("inf")
        self.since = 0
        self.spoilt = False

    def look(self, loss: float) -> None:
        """Keep the parameters as they are now if the loss is lower than ever."""
        self.since += 1
        self.spoilt |= not math.isfinite(loss)
        if loss < self.loss:
            self.loss, self.since, self.kept = loss, 0, [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def restore(self) -> None:
        """Put the kept parameters back."""
        self.spoilt |= not all(bool(parameter.isfinite().all()) for parameter in self.parameters)
        for parameter, kept in zip(self.parameters, self.kept, strict=True):
            parameter.copy_(kept)


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()
