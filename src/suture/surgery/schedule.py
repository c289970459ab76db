"""How long and on what surgery modules are fitted: the authors' loop, one of ours that stops early, and one pass over a stream."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from suture.errors import InvalidHyperparameter
from suture.surgery.module import Activation

Loss = Literal["l1", "l2"]
Start = Literal["zero", "closed_form"]

LEAST_HELD_OUT, MOST_HELD_OUT = 8, 512
"""Fewer samples say too little to be worth taking from the training; more tell nothing new, but take time at every look."""


@dataclass(frozen=True)
class Schedule:
    """The fit of the paper: L1, Adam, batches of 16, 500 iterations.

    The authors' loop takes two optimizer steps per iteration, so ``iterations=500`` is 1,000 steps and 16,000 samples per task;
    ``steps_per_iteration=1`` is what the paper's text says. :meth:`reference`, :meth:`default` and :meth:`online` name the choices
    that belong together.

    Raises :class:`InvalidHyperparameter` for values out of their range, and for options that do not go together.

    >>> Schedule(rank=8, iterations=100).steps
    200
    """

    rank: int = 16
    iterations: int = 500
    steps_per_iteration: int = 2
    batch_size: int = 16
    learning_rate: int | float = 1e-3
    decay: bool = False
    """Whether the learning rate falls to zero, along half a cosine, until the last step."""
    betas: tuple[int | float, int | float] = (0.9, 0.999)
    stale_momentum: bool = False
    """Whether every step of a task also moves the others' modules, by what is left of their momentum."""
    held_out: int | float = 0
    """The share of a task's samples that is never trained on, but says which state is kept and when to stop; 0 to train on all to the
    end and keep the last."""
    look_every: int = 10
    """Iterations from one look (at the held-out loss, or of a watcher) to the next."""
    patience: int = 100
    """Iterations without a gain on the held-out samples after which a task stops."""
    one_pass: bool = False
    """Whether the samples are a stream, in the order of the rows: each is met once, and ``iterations`` says nothing."""
    activation: Activation = "relu"
    """What stands between the two matrices; the papers' is ReLU."""
    loss: Loss = "l1"
    """The mean absolute error of the papers, or the mean squared one."""
    shift: bool = False
    """Whether a vector b is trained too, which is added at the end and starts at zero; the papers have none."""
    start: Start = "zero"
    """The papers', where W_up is zero, so it is the identity; or the closed form of the samples that are trained on."""

    def __post_init__(self) -> None:
        for name in ("rank", "iterations", "steps_per_iteration", "batch_size", "look_every", "patience"):
            if getattr(self, name) < 1:
                raise InvalidHyperparameter(f"{name} must be at least 1, not {getattr(self, name)}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InvalidHyperparameter(f"learning_rate must be a positive number, not {self.learning_rate}")
        for name, values in (("betas", self.betas), ("held_out", (self.held_out,))):
            if not all(0 <= value < 1 for value in values):
                raise InvalidHyperparameter(f"{name} must be at least 0 and less than 1, not {getattr(self, name)}")
        for name, kinds in (("activation", Activation), ("loss", Loss), ("start", Start)):
            if getattr(self, name) not in get_args(kinds):
                raise InvalidHyperparameter(f"{name} must be {' or '.join(get_args(kinds))}, not {getattr(self, name)!r}")
        self._check_together()

    def _check_together(self) -> None:
        """Raise for options that do not go together."""
        if self.one_pass and (self.steps_per_iteration > 1 or self.held_out):
            raise InvalidHyperparameter("one_pass takes every sample once: it goes with one step per iteration and nothing held_out")
        if self.decay and (self.one_pass or self.stale_momentum):
            raise InvalidHyperparameter("decay needs the number of a task's own steps: no one_pass, no stale_momentum")
        if self.stale_momentum and (self.one_pass or self.held_out):
            raise InvalidHyperparameter("stale_momentum ties the tasks together, so none can end by itself: no one_pass, nothing held_out")
        if self.start == "closed_form" and (self.activation != "none" or not self.shift):
            raise InvalidHyperparameter(
                "a closed form to start from has no ReLU but a shift: it goes with activation='none' and shift=True"
            )
        if self.start == "closed_form" and self.one_pass:
            raise InvalidHyperparameter("a stream cannot start from the closed form of samples that are still to come: no one_pass")

    @classmethod
    def reference(cls, rank: int = 16, *, stale_momentum: bool = False) -> "Schedule":
        """Return the loop of the authors' code: 500 iterations of two batches of 16 per task, one Adam over all modules, no early stop.

        In their loop the tasks of an iteration come one after another. In the torch of their time ``zero_grad`` left gradients of
        zero, so a step for one task moved the modules of the others too, by their decaying momentum; with ``stale_momentum`` so it
        is here: a module depends on the tasks beside it, and on their order. Without it (torch 2) each task takes the steps that it
        would take alone.

        >>> Schedule.reference() == Schedule()
        True
        """
        return cls(rank=rank, stale_momentum=stale_momentum)

    @classmethod
    def default(cls, rank: int = 16) -> "Schedule":
        """Return ours: twice as long at most, on seven eighths of the samples; a task stops when the last eighth gains no more.

        A quarter held out was worse than an eighth on 64 to 256 samples a task of ``nlp8``; higher or decaying learning rates were no
        better.

        >>> Schedule.default(rank=4).held_out
        0.125
        """
        return cls(rank=rank, iterations=1000, held_out=1 / 8)

    @classmethod
    def online(cls, rank: int = 16, batch_size: int = 1) -> "Schedule":
        """Return the paper's Table 5: samples arrive one by one (or few by few), each makes one step and is never seen again.

        >>> Schedule.online(batch_size=4).iterations_for(10)
        3
        """
        return cls(rank=rank, steps_per_iteration=1, batch_size=batch_size, one_pass=True)

    @property
    def steps(self) -> int:
        """Optimizer steps of each task in all, at most; in one pass :meth:`iterations_for` counts them."""
        return self.iterations * self.steps_per_iteration

    def rate_at(self, step: int) -> float:
        """Return the share of the learning rate that a step takes.

        >>> Schedule(iterations=1, decay=True).rate_at(1)
        0.5
        """
        return (1 + math.cos(math.pi * min(step / self.steps, 1))) / 2 if self.decay else 1.0

    def cost(self, error: Float[Tensor, "*_"]) -> Float[Tensor, "*_"]:
        """Return what each number of an error adds to the loss, which is their mean.

        >>> Schedule(loss="l2").cost(torch.tensor([-3.0, 1.0]))
        tensor([9., 1.])
        """
        return error.abs() if self.loss == "l1" else error.square()

    def iterations_for(self, samples: int) -> int:
        """Return the most iterations that a task of so many samples takes."""
        return math.ceil(samples / self.batch_size) if self.one_pass else self.iterations


def split_held_out(size: int, schedule: Schedule, generator: torch.Generator) -> tuple[Int[Tensor, " n"], Int[Tensor, " h"]]:
    """Return the rows to train on and those to look at: all, where too few would be held out; none, where none is wanted."""
    if not schedule.held_out:
        return torch.arange(size), torch.arange(0)
    held = min(int(schedule.held_out * size), MOST_HELD_OUT)
    if held < LEAST_HELD_OUT:
        return torch.arange(size), torch.arange(size)
    order = torch.randperm(size, generator=generator)
    return order[held:], order[:held]
