"""Deep surgery (SurgeryV2, Yang et al., 2024, arXiv 2410.14389) in closed form: a correction after every block, then one at the end."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from suture.backbones import BlockwiseBackbone, Passage, rows_of
from suture.errors import DataError, InvalidHyperparameter
from suture.surgery.closed_form import SHRINKAGES, ClosedForm, Moments, Regression, Solution, solve
from suture.surgery.module import Correction, Surgery
from suture.surgery.pairs import check_inputs
from suture.types import Progress, no_progress

PILOT = 2
"""One input of so many says how ranks are allotted."""

MOST = 4
"""How many times the average rank a site may get."""

Seen = tuple[Tensor, Tensor, Tensor]
"""Rows of the merged network, rows of the expert, and the number of the input each belongs to."""


@torch.no_grad()
def fit_deep_closed_form(
    calibration: Mapping[str, Sequence[Any]],
    merged: BlockwiseBackbone,
    expert_of: Callable[[str], BlockwiseBackbone],
    settings: ClosedForm | None = None,
    scratch: Path | None = None,
    progress: Progress = no_progress,
    *,
    allot: bool = False,
    layers: Sequence[int] | None = None,
) -> Surgery:
    """Return corrections after every block and of the final representation, solved for in forward order, task by task.

    ``calibration`` maps each task to its unlabelled inputs. After block l, X are the real tokens of the merged network, corrected after
    all blocks before it, and Y those of the expert on the same inputs: the correction is the regression of Y − X on X
    (:mod:`suture.surgery.closed_form`), its shrinkage and rank found by cross-validation over inputs; then the same for the final
    representation. So every correction is fitted to what will really reach it, and every input goes through both networks once.

    With ``allot`` the rank is the average of a task's sites in place of the rank of each: every other input goes through both networks
    once before, to say what the components of each site are worth (:func:`allotted`).

    With ``layers`` only what these blocks (their numbers, from 0) put out is corrected, and the final representation; behind the others
    stands the identity, of rank 0 and without parameters.

    What the blocks hand on waits in files in ``scratch`` (a temporary folder without it): memory holds one batch and the moments,
    whatever the number of inputs. ``progress`` counts inputs times (blocks + 1), those of the look before too.
    Raises :class:`DataError` for a task without inputs, or networks of different depth; :class:`InvalidHyperparameter` for layers that
    there are not.

    >>> from suture.surgery.sites import bias_by_block
    >>> texts = ["cat", "dog", "emu", "fox", "hen", "owl", "pig", "yak"]
    >>> surgery = fit_deep_closed_form({"pets": texts}, backbone, lambda task: expert, ClosedForm(rank=4))
    >>> before, after = (bias_by_block(backbone, expert, texts, how) for how in (None, [each for _, each in surgery.sites("pets")]))
    >>> all(left < 0.1 * was for left, was in zip(after, before, strict=True))
    True
    """
    settings, final, blocks = settings or ClosedForm(), {}, {}
    for task, inputs in calibration.items():
        expert = expert_of(task)
        check_networks(task, inputs, merged, expert)
        chosen = chosen_sites(layers, merged.blocks.depth)
        with tempfile.TemporaryDirectory(dir=scratch, prefix="surgery-") as folder:
            fit = _TaskFit(merged, expert, list(merged.batches(inputs)), settings, Path(folder), progress, chosen)
            ranks = fit.ranks(list(merged.batches(inputs[::PILOT]))) if allot and len(inputs) >= PILOT else [settings.rank] * len(chosen)
            *blocks[task], final[task] = (
                solution.regression.correction() if corrected else Correction.identity(len(solution.regression.mu), "none")
                for solution, corrected in zip(fit.solutions(ranks), chosen, strict=True)
            )
    return Surgery(final, blocks)


def allotted(gains: Sequence[Float64[Tensor, " _"]], total: int, costs: Sequence[int] | None = None) -> list[int]:
    """Return the rank of every site from what each of its components is worth, as a share of the variance there.

    A component of a site costs ``costs`` (1 without them), and all together at most ``total``. Components are taken in order, so a site's
    curve of cumulated gains is what counts: it is raised to its concave hull, whose slopes, per cost, are then taken from the steepest
    down. What no site has a use for is left.

    >>> allotted([torch.tensor([0.5, 0.1, 0.0]).double(), torch.tensor([0.0, 0.4, -0.1]).double()], 3)
    [1, 2]
    """
    steps: list[tuple[float, int, int]] = []
    costs = costs or [1] * len(gains)
    for site, own in enumerate(gains):
        heights, end = [0.0, *own.cumsum(dim=0).tolist()], 0
        while end < len(own):
            slope, best = max(((heights[after] - heights[end]) / (after - end), after) for after in range(end + 1, len(heights)))
            if slope <= 0:
                break
            steps.append((slope / costs[site], site, best - end))
            end = best
    ranks = [0] * len(gains)
    for _, site, size in sorted(steps, key=lambda step: (-step[0], step[1])):
        taken = min(size, total // costs[site])
        ranks[site], total = ranks[site] + taken, total - taken * costs[site]
    return ranks


def chosen_sites(layers: Sequence[int] | None, depth: int) -> list[bool]:
    """Return of every block, and of the final representation, whether it is corrected: that always, and all without ``layers``.

    Raises :class:`InvalidHyperparameter` for numbers of no block, or one that stands twice.

    >>> chosen_sites([1], 3)
    [False, True, False, True]
    """
    if layers is None:
        return [True] * (depth + 1)
    if len(set(layers)) < len(layers) or not set(layers) <= set(range(depth)):
        told = f"0 to {depth - 1}" if depth else "none, as there are no blocks"
        raise InvalidHyperparameter(f"layers must be different numbers of blocks, {told}; not {', '.join(map(str, layers))}")
    return [number in layers for number in range(depth)] + [True]


def check_networks(task: str, inputs: Sequence[Any], merged: BlockwiseBackbone, expert: BlockwiseBackbone) -> None:
    """Raise :class:`DataError` for a task without inputs, or networks of different depth."""
    check_inputs(task, inputs)
    if merged.blocks.depth != expert.blocks.depth:
        raise DataError(f"task {task!r}: the merged network has {merged.blocks.depth} blocks, the expert {expert.blocks.depth}")


@dataclass(frozen=True)
class _TaskFit:
    """Both networks on one task's inputs, side by side."""

    merged: BlockwiseBackbone
    expert: BlockwiseBackbone
    batches: Sequence[tuple[list[int], Any]]
    settings: ClosedForm
    folder: Path
    progress: Progress
    chosen: Sequence[bool]
    """Which sites are corrected."""

    def ranks(self, pilot: Sequence[tuple[list[int], Any]]) -> list[int]:
        """Return the rank of every site that a look at some batches allots to it, the average being that of the settings."""
        look = replace(self.settings, rank=MOST * self.settings.rank, shrinkages=max(self.settings.shrinkages, SHRINKAGES, key=len))
        found = list(replace(self, batches=pilot, settings=look).solutions([look.rank] * len(self.chosen)))
        costs = [len(solution.regression.mu) for solution in found]
        total = self.settings.rank * sum(cost for cost, corrected in zip(costs, self.chosen, strict=True) if corrected)
        return allotted([solution.gains for solution in found], total, costs)

    def solutions(self, ranks: Sequence[int]) -> Iterator[Solution]:
        """Yield what is found at every site in forward order, of at most these ranks; the corrections of each reach the next.

        Of sites that are not corrected it is the identity, and no component is worth anything.
        """
        ours, theirs = (
            _Stream(self.merged, self.batches, self.folder / "merged"),
            _Stream(self.expert, self.batches, self.folder / "expert"),
        )
        before: Correction | None = None
        for number in range(self.merged.blocks.depth):
            seen = self._tokens(ours.through(number, before), theirs.through(number, None))
            found = self._solved(seen, ranks[number]) if self.chosen[number] else self._passed(seen)
            before = found.regression.correction() if self.chosen[number] else None
            yield found
        yield self._solved(self._representations(ours.out(before), theirs.out(None)), ranks[-1])

    def _tokens(self, ours: Iterable[Tensor], theirs: Iterable[Tensor]) -> Iterator[Seen]:
        """Yield what stands after a block at real tokens."""
        for (places, batch), own, expert in zip(self.batches, ours, theirs, strict=True):
            real, numbers = self.merged.real(batch), torch.tensor(places)[:, None, None].expand(*own.shape[:2], 1)
            yield rows_of(own, real), rows_of(expert, real), rows_of(numbers, real).flatten()

    def _representations(self, ours: Iterable[Tensor], theirs: Iterable[Tensor]) -> Iterator[Seen]:
        for (places, _), own, expert in zip(self.batches, ours, theirs, strict=True):
            yield own, expert, torch.tensor(places)

    def _passed(self, seen: Iterable[Seen]) -> Solution:
        """Let everything through a block, and return the identity."""
        width = 0
        for own, _, places in seen:
            width = own.shape[1]
            self.progress(len(places.unique()))
        return Solution(Regression.identity(width), self.settings.shrinkages[0], torch.zeros(0, dtype=torch.float64))

    def _solved(self, seen: Iterable[Seen], rank: int) -> Solution:
        """Return what is found at one site; an input is in one fold with all its tokens."""
        folds: list[Moments] = []
        for own, expert, places in seen:
            fold_of = places % self.settings.folds
            portions = [Moments.of(own[fold_of == fold], expert[fold_of == fold]) for fold in range(self.settings.folds)]
            folds = [before + portion for before, portion in zip(folds, portions, strict=True)] if folds else portions
            self.progress(len(places.unique()))
        return solve(folds, replace(self.settings, rank=rank))


@dataclass(frozen=True)
class _Stream:
    """All batches on their way through one network; between two blocks they lie in files."""

    network: BlockwiseBackbone
    batches: Sequence[tuple[list[int], Any]]
    folder: Path

    def through(self, number: int, before: Correction | None) -> Iterator[Tensor]:
        """Take every batch through a block, after the correction of the one before, and yield what comes out of it."""
        self.folder.mkdir(exist_ok=True)
        for place, passage in enumerate(self._passages(number, before)):
            passage = self.network.blocks.step(number, passage)
            np.save(self._file(place), passage.hidden.numpy())
            yield passage.tokens

    def out(self, before: Correction | None) -> Iterator[Tensor]:
        """Yield the representations of every batch, after the correction of the last block."""
        for passage in self._passages(self.network.blocks.depth, before):
            yield self.network.blocks.leave(passage)

    def _passages(self, number: int, before: Correction | None) -> Iterator[Passage]:
        for place, (_, batch) in enumerate(self.batches):
            passage = self.network.blocks.enter(batch)
            if number:
                passage = passage.moved(torch.from_numpy(np.load(self._file(place))))
            yield passage if before is None else passage.corrected(before)

    def _file(self, place: int) -> Path:
        return self.folder / f"{place}.npy"
