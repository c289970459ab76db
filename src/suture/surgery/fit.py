"""Fitting the surgery modules without labels (Yang et al., 2024, arXiv 2402.02705, Eq. 2), all tasks in one batched fit."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from suture.errors import DataError, InvalidHyperparameter
from suture.randomness import generator_for, shuffled_rows
from suture.surgery.module import Correction, Surgery, operate, start_of_fit
from suture.types import Progress, no_progress

Pair = tuple[Float[Tensor, "_ _"], Float[Tensor, "_ _"]]
"""One task's calibration representations, shape (N_t, k): of the merged backbone, of the expert."""


@dataclass(frozen=True)
class Schedule:
    """The fit of the paper: L1, Adam, batches of 16, 500 iterations.

    The authors' loop takes two optimizer steps per iteration, so ``iterations=500`` is 1,000 steps and 16,000 samples per task;
    ``steps_per_iteration=1`` is what the paper's text says.
    """

    rank: int = 16
    iterations: int = 500
    steps_per_iteration: int = 2
    batch_size: int = 16
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        for name in ("rank", "iterations", "steps_per_iteration", "batch_size"):
            if getattr(self, name) < 1:
                raise InvalidHyperparameter(f"{name} must be at least 1, not {getattr(self, name)}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InvalidHyperparameter(f"learning_rate must be a positive number, not {self.learning_rate}")

    @property
    def steps(self) -> int:
        """Optimizer steps in all."""
        return self.iterations * self.steps_per_iteration


def fit_surgery(calibration: Mapping[str, Pair], schedule: Schedule, seed: int, progress: Progress = no_progress) -> Surgery:
    """Return the modules that bring the merged representations to the experts': min Σ_t (1/|B|k) ‖Ẑ_merged − Z_expert‖₁.

    ``calibration`` maps each task to its representations under the merged backbone and under the expert, row by row of the same
    unlabelled inputs. A seed fixes start and batches of each task by its name: what other tasks are fitted beside it does not
    change a task's module (but for rounding). ``progress`` counts steps.

    Raises :class:`DataError` for no samples, or representations that do not belong together.

    >>> z = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> surgery = fit_surgery({"half": (z, 0.5 * z)}, Schedule(rank=32, learning_rate=1e-2), seed=0)
    >>> bool((surgery("half", z) - 0.5 * z).abs().mean() < 0.25 * (0.5 * z).abs().mean())
    True
    """
    with one_thread():
        width, generators = _check(calibration), [generator_for(seed, task) for task in calibration]
        starts = [start_of_fit(width, schedule.rank, own) for own in generators]
        merged, expert = (torch.cat([pair[side] for pair in calibration.values()]).float() for side in (0, 1))
        down, up = (torch.stack(parts).requires_grad_() for parts in zip(*((start.down, start.up) for start in starts), strict=True))
        optimizer = torch.optim.Adam([down, up], lr=schedule.learning_rate, betas=schedule.betas)
        batches = _batches([len(pair[0]) for pair in calibration.values()], schedule.batch_size, generators)
        for _ in range(schedule.steps):
            rows = next(batches)
            error = operate(merged[rows], down, up) - expert[rows]
            optimizer.zero_grad()
            # Adam is blind to a task's share of the sum: each task takes the steps it would take alone.
            error.abs().mean(dim=(1, 2)).sum().backward()
            optimizer.step()
            progress(1)
    return Surgery({task: Correction(*pair) for task, *pair in zip(calibration, down.detach(), up.detach(), strict=True)})


def _check(calibration: Mapping[str, Pair]) -> int:
    """Return the common width; the representations must be non-empty, finite and of like shape."""
    widths = {z.shape[1] for pair in calibration.values() for z in pair}
    if len(widths) != 1:
        raise DataError(f"surgery needs representations of one width; found {sorted(widths) or 'none'}")
    for task, (merged, expert) in calibration.items():
        if len(merged) == 0 or merged.shape != expert.shape:
            raise DataError(
                f"task {task!r}: {len(merged)} merged and {len(expert)} expert representations; expected the same inputs, at least one"
            )
        if not bool(merged.isfinite().all() and expert.isfinite().all()):
            raise DataError(f"task {task!r}: the calibration representations hold NaN or Inf")
    return widths.pop()


def _batches(sizes: list[int], batch: int, generators: Sequence[torch.Generator]) -> Iterator[Int[Tensor, "t b"]]:
    """Yield rows of the concatenated sets, one batch per task at a time; each task goes through its samples in a new order every epoch."""
    starts = torch.tensor([0, *sizes]).cumsum(0)[:-1]
    drawn = [shuffled_rows(size, batch, own) for size, own in zip(sizes, generators, strict=True)]
    while True:
        yield torch.stack([start + next(rows) for start, rows in zip(starts, drawn, strict=True)])


@contextmanager
def one_thread() -> Iterator[None]:
    """Run small steps on one thread: on two they wait for each other far longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
