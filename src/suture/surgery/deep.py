"""Deep surgery (SurgeryV2, Yang et al., 2024, arXiv 2410.14389) in closed form: a correction after every block, then one at the end."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suture.backbones import BlockwiseBackbone, Passage
from suture.errors import DataError
from suture.surgery.closed_form import ClosedForm, Moments, solve
from suture.surgery.module import Correction, Surgery
from suture.types import Progress, no_progress

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
) -> Surgery:
    """Return corrections after every block and of the final representation, solved for in forward order, task by task.

    ``calibration`` maps each task to its unlabelled inputs. After block l, X are the real tokens of the merged network, corrected after
    all blocks before it, and Y those of the expert on the same inputs: the correction is the regression of Y − X on X
    (:mod:`suture.surgery.closed_form`), its shrinkage and rank found by cross-validation over inputs; then the same for the final
    representation. So every correction is fitted to what will really reach it, and every input goes through both networks once.

    What the blocks hand on waits in files in ``scratch`` (a temporary folder without it): memory holds one batch and the moments,
    whatever the number of inputs. ``progress`` counts inputs times (blocks + 1).
    Raises :class:`DataError` for a task without inputs, or networks of different depth.
    """
    settings, final, blocks = settings or ClosedForm(), {}, {}
    for task, inputs in calibration.items():
        expert = expert_of(task)
        check_networks(task, inputs, merged, expert)
        with tempfile.TemporaryDirectory(dir=scratch, prefix="surgery-") as folder:
            fit = _TaskFit(merged, expert, list(merged.batches(inputs)), settings, Path(folder), progress)
            *blocks[task], final[task] = fit.corrections()
    return Surgery(final, blocks)


def check_networks(task: str, inputs: Sequence[Any], merged: BlockwiseBackbone, expert: BlockwiseBackbone) -> None:
    """Raise :class:`DataError` for a task without inputs, or networks of different depth."""
    if not inputs:
        raise DataError(f"task {task!r} has no inputs to calibrate on")
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

    def corrections(self) -> Iterator[Correction]:
        """Yield the corrections in forward order."""
        ours, theirs = (
            _Stream(self.merged, self.batches, self.folder / "merged"),
            _Stream(self.expert, self.batches, self.folder / "expert"),
        )
        before: Correction | None = None
        for number in range(self.merged.blocks.depth):
            before = self._solved(self._tokens(ours.through(number, before), theirs.through(number, None)))
            yield before
        yield self._solved(self._representations(ours.out(before), theirs.out(None)))

    def _tokens(self, ours: Iterable[Tensor], theirs: Iterable[Tensor]) -> Iterator[Seen]:
        """Yield what stands after a block at real tokens."""
        for (places, batch), own, expert in zip(self.batches, ours, theirs, strict=True):
            real = self.merged.real(batch)
            yield own[real], expert[real], torch.tensor(places)[:, None].expand(real.shape)[real]

    def _representations(self, ours: Iterable[Tensor], theirs: Iterable[Tensor]) -> Iterator[Seen]:
        for (places, _), own, expert in zip(self.batches, ours, theirs, strict=True):
            yield own, expert, torch.tensor(places)

    def _solved(self, seen: Iterable[Seen]) -> Correction:
        """Return the correction of one site; an input is in one fold with all its tokens."""
        folds: list[Moments] = []
        for own, expert, places in seen:
            fold_of = places % self.settings.folds
            portions = [Moments.of(own[fold_of == fold], expert[fold_of == fold]) for fold in range(self.settings.folds)]
            folds = [before + portion for before, portion in zip(folds, portions, strict=True)] if folds else portions
            self.progress(len(places.unique()))
        return solve(folds, self.settings)[0].correction()


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
            hidden = self.network.blocks.step(number, passage).hidden
            np.save(self._file(place), hidden.numpy())
            yield hidden

    def out(self, before: Correction | None) -> Iterator[Tensor]:
        """Yield the representations of every batch, after the correction of the last block."""
        for passage in self._passages(self.network.blocks.depth, before):
            yield self.network.blocks.leave(passage)

    def _passages(self, number: int, before: Correction | None) -> Iterator[Passage]:
        for place, (_, batch) in enumerate(self.batches):
            passage = self.network.blocks.enter(batch)
            if number:
                passage = passage.moved(torch.from_numpy(np.load(self._file(place))))
            yield passage if before is None else passage.moved(before(passage.hidden))

    def _file(self, place: int) -> Path:
        return self.folder / f"{place}.npy"
