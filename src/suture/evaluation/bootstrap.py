"""How sure a difference of accuracies is: paired bootstrap intervals (Efron and Tibshirani, 1993, chapters 8 and 13)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from suture.errors import DataError, InvalidHyperparameter
from suture.randomness import generator_for

Correct = Bool[Tensor, "_ _"] | Bool[np.ndarray, "_ _"]
"""Which samples a model got right, shape (seeds, n); rows are seeds."""

CELLS = 2**22
"""Places of samples drawn at a time: they take 16 MB."""


@dataclass(frozen=True)
class Interval:
    """A difference of accuracies, as shares, and the bounds of its confidence interval.

    >>> Interval(0.02, 0.01, 0.03).sure, Interval(0.02, -0.01, 0.05).sure
    (True, False)
    """

    difference: float
    low: float
    high: float

    @property
    def sure(self) -> bool:
        """Whether zero lies outside."""
        return not self.low <= 0 <= self.high


def paired_interval(one: Correct, other: Correct, seed: int = 0, *, confidence: float = 0.95, resamples: int = 2000) -> Interval:
    """Return by how much ``one`` is more accurate than ``other`` on the same n samples, with the percentile interval of the bootstrap.

    What is resampled are samples, each with both models' mean over their seeds: the interval is of other samples, not of other seeds.
    Models may have different numbers of seeds. The same seed draws the same samples whatever is compared, so exchanging the two
    changes the signs and nothing else.

    Raises :class:`DataError` unless both are boolean, of shape (seeds, n), of the same samples, at least one;
    :class:`InvalidHyperparameter` for a confidence that is not within 0 and 1, or no resamples.

    >>> right, half = np.ones((1, 100), dtype=bool), np.arange(100)[None] % 2 == 0
    >>> found = paired_interval(right, half)
    >>> found.difference, 0.35 < found.low < 0.5 < found.high < 0.65
    (0.5, True)
    """
    return average_interval({"": (one, other)}, seed, confidence=confidence, resamples=resamples)


def average_interval(
    tasks: Mapping[str, tuple[Correct, Correct]], seed: int = 0, *, confidence: float = 0.95, resamples: int = 2000
) -> Interval:
    """Return the same of the average accuracy over tasks: the samples of each task are resampled by themselves.

    A task's draws depend on the seed and its name. Raises what :func:`paired_interval` raises, and :class:`DataError` for no tasks.

    >>> right, half = np.ones((1, 100), dtype=bool), torch.arange(100)[None] % 2 == 0
    >>> average_interval({"a": (right, half), "b": (half, half)}).difference
    0.25
    """
    if not tasks:
        raise DataError("there are no tasks to average over")
    if not 0 < confidence < 1:
        raise InvalidHyperparameter(f"confidence must be between 0 and 1, not {confidence}")
    if resamples < 1:
        raise InvalidHyperparameter(f"resamples must be at least 1, not {resamples}")
    found = {task: _differences(task, *pair) for task, pair in tasks.items()}
    drawn = np.mean([_resampled(own, _generator(seed, task), resamples) for task, own in found.items()], axis=0)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(float(np.mean([own.mean() for own in found.values()])), float(low), float(high))


def _differences(task: str, one: Correct, other: Correct) -> Float64[np.ndarray, " n"]:
    """Return each sample's difference of the two means over seeds."""
    sides = [np.asarray(side.cpu() if isinstance(side, Tensor) else side) for side in (one, other)]
    if any(side.dtype != np.bool_ or side.ndim != 2 or side.size == 0 for side in sides) or sides[0].shape[1] != sides[1].shape[1]:
        told = " and ".join(f"{side.dtype} {list(side.shape)}" for side in sides)
        raise DataError(f"{f'task {task!r}: ' if task else ''}expected booleans of shape (seeds, n) of the same samples, found {told}")
    first, second = (side.mean(axis=0, dtype=np.float64) for side in sides)
    return np.asarray(first - second, dtype=np.float64)


def _generator(seed: int, task: str) -> np.random.Generator:
    numbers = torch.randint(2**32, (4,), generator=generator_for(seed, task, "bootstrap"))
    return np.random.default_rng(numbers.tolist())


def _resampled(differences: Float64[np.ndarray, " n"], generator: np.random.Generator, resamples: int) -> Float64[np.ndarray, " r"]:
    """Return the means of so many draws of n samples with replacement."""
    n, means = len(differences), list[np.ndarray]()
    step = max(1, CELLS // n)
    for start in range(0, resamples, step):
        places = generator.integers(0, n, (min(step, resamples - start), n), dtype=np.int32)
        means.append(differences[places].mean(axis=1))
    return np.concatenate(means)
