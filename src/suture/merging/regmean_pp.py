"""RegMean++: RegMean block after block, on what the blocks that are merged already hand on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from suture.bibliography import REGMEAN, REGMEAN_PP, Paper
from suture.merging.calibration import Calibration, rows_of_one, sampled_rows
from suture.merging.method import Block, Statistics, Survey, network_weights
from suture.merging.regmean import RegMean, gram_matrices, regress, stored
from suture.types import Progress


@dataclass(frozen=True)
class RegMeanPlusPlus(RegMean):
    """As RegMean, but X_t of block l comes from a network whose blocks before l are merged, and whose block l is expert t's own.

    RegMean fits each layer to inputs that the merged network never sees, as its earlier layers answer otherwise than any expert's;
    here a block is fitted to the inputs that it will have. Biases, norms and embeddings are averaged; those in no block are merged from
    the start.

    Memory: the merged weights twice, one expert's block and its Gram matrices. Time: a forward pass per input and block.

    Source: Nguyen et al., 2025, *RegMean++*, arXiv 2508.03121.
    """

    name: ClassVar[str] = "regmean_pp"
    paper: ClassVar[Paper] = REGMEAN_PP
    builds_on: ClassVar[tuple[Paper, ...]] = (REGMEAN,)

    def effort(self, calibration: Calibration) -> int:
        """Return the number of inputs of all tasks, times that of blocks."""
        return super().effort(calibration) * len(calibration.layers)

    def estimate(self, survey: Survey, calibration: Calibration, scratch: Path, progress: Progress) -> Statistics:
        """Return the merged task vectors of the linear layers, by name."""
        drawn = sampled_rows(calibration, self.samples, self.seed)
        inside = {name for names in calibration.blocks for name in names}
        outside = [name for name in survey.names if name in calibration.parameters and name not in inside]
        merged = dict(_averaged(survey, outside))
        found = {}
        for number, (names, linear) in enumerate(zip(calibration.blocks, calibration.layers, strict=True)):
            grams = []
            for task, rows in enumerate(drawn):
                weights = merged | network_weights(survey, task, names)
                own = gram_matrices(calibration, weights, rows_of_one(calibration, task, rows), linear)
                grams.append(stored(own, scratch / f"{number}-{task}.safetensors"))
                progress(len(rows))
            for name in names:
                block = survey.whole(name)
                vector = regress(block, grams, self.alpha)
                merged[name] = _moved(block, vector)
                if name in linear:
                    found[name] = vector
        return found

    def combine(self, block: Block, statistics: Statistics) -> Tensor:
        """Return the task vector of the regression, or the average."""
        return statistics[block.name] if block.name in statistics else block.task_vectors.mean(dim=0)


def _averaged(survey: Survey, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
    for name in names:
        block = survey.whole(name)
        yield name, _moved(block, block.task_vectors.mean(dim=0))


def _moved(block: Block, vector: Tensor) -> Tensor:
    """Return base plus task vector, in the precision of the task vector."""
    return block.base.to(vector.dtype) + vector
