"""Surgery modules: the low-rank corrections of a merged network's representations, per task."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from suture.errors import DataError, UnknownName

Activation = Literal["relu", "none"]
"""What stands between the two matrices: ReLU in the papers' modules, nothing in those that are solved for."""

FINAL = -1
"""The site of the final representation; block l's outputs are site l."""


@dataclass(frozen=True)
class Correction:
    """X̂ = X − φ(X W_downᵀ) W_upᵀ + b for rows X of width k: ``down`` is (r, k), ``up`` is (k, r), ``shift`` b is (k,) or absent.

    With φ = ReLU and no shift it is Eq. 3 of Representation Surgery (Yang et al., 2024, arXiv 2402.02705): there are no bias terms, so
    Φ(cX) = cΦ(X) for c > 0. Closed forms have φ the identity, and a shift, which takes apart the means of both models.

    >>> halve = Correction(torch.eye(3), 0.5 * torch.eye(3), activation="none")
    >>> halve(torch.ones(1, 3))
    tensor([[0.5000, 0.5000, 0.5000]])
    """

    down: Float[Tensor, "r k"]
    up: Float[Tensor, "k r"]
    shift: Float[Tensor, " k"] | None = None
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        if self.up.shape != self.down.shape[::-1] or (self.shift is not None and self.shift.shape != self.down.shape[1:]):
            raise DataError(f"matrices of {list(self.down.shape)} and {list(self.up.shape)} make no correction; expected (r, k) and (k, r)")

    @classmethod
    def identity(cls, width: int, activation: Activation = "relu") -> "Correction":
        """Return the one that leaves everything as it is: of rank 0, without a parameter.

        >>> Correction.identity(4)(torch.ones(1, 4)), Correction.identity(4).parameters
        (tensor([[1., 1., 1., 1.]]), 0)
        """
        return cls(torch.zeros(0, width), torch.zeros(width, 0), activation=activation)

    @property
    def rank(self) -> int:
        """The rank r."""
        return self.down.shape[0]

    @property
    def width(self) -> int:
        """The width k."""
        return self.down.shape[1]

    @property
    def parameters(self) -> int:
        """How many numbers it holds: 2rk, and k for a shift."""
        return self.down.numel() + self.up.numel() + (0 if self.shift is None else self.shift.numel())

    def __call__(self, x: Float[Tensor, "*n k"]) -> Float[Tensor, "*n k"]:
        """Return the corrected rows, in their own precision; computed in that of the correction."""
        corrected = operate(x.to(self.down.dtype), self.down, self.up, self.activation)
        return (corrected if self.shift is None else corrected + self.shift).to(x.dtype)


@dataclass(frozen=True)
class Surgery:
    """One task's corrections each: of the final representation and, in deep surgery (SurgeryV2), after every block before it.

    ``final`` maps each task to the correction of its representation z; ``blocks`` maps each task to one correction per block, in
    forward order, or is empty. Corrections are applied to raw representations; the head normalises afterwards.

    >>> surgery = Surgery({"spam": Correction(torch.zeros(2, 8), torch.zeros(8, 2))})
    >>> z = torch.ones(3, 8)
    >>> bool((surgery("spam", z) == z).all())
    True
    """

    final: Mapping[str, Correction]
    blocks: Mapping[str, Sequence[Correction]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.blocks and self.blocks.keys() != self.final.keys():
            raise DataError(f"the tasks of the blocks' corrections ({', '.join(self.blocks)}) are not those of the final ones")
        shapes = {tuple(correction.width for _, correction in self.sites(task)) for task in self.final}
        if len(shapes) != 1:
            raise DataError("a surgery has corrections of the same sites and widths for every task, at least one")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in order."""
        return tuple(self.final)

    @property
    def deep(self) -> bool:
        """Whether there are corrections after blocks: such a surgery needs a forward pass of its own for every task."""
        return bool(self.blocks)

    @property
    def rank(self) -> int:
        """The highest rank of any correction."""
        return max(correction.rank for task in self.tasks for _, correction in self.sites(task))

    def sites(self, task: str) -> Iterator[tuple[int, Correction]]:
        """Yield the corrections of a task with the number of the block each follows, in forward order; the last one's is FINAL.

        Raises :class:`UnknownName` for another task.
        """
        yield from enumerate(self.blocks_of(task))
        yield FINAL, self.final[task]

    def blocks_of(self, task: str) -> Sequence[Correction]:
        """Return the corrections after a task's blocks; none for surgery of the final representation only."""
        if task not in self.final:
            raise UnknownName("task", task, self.tasks)
        return self.blocks.get(task, ())

    def parameters(self, task: str) -> int:
        """Return how many numbers a task's corrections hold."""
        return sum(correction.parameters for _, correction in self.sites(task))

    def __call__(self, task: str, z: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Return the corrected final representations of one task; those of deep surgery come from a forward pass with its blocks'.

        Raises :class:`UnknownName` for another task, :class:`DataError` for representations of another width.
        """
        if task not in self.final:
            raise UnknownName("task", task, self.tasks)
        if z.shape[1] != self.final[task].width:
            raise DataError(f"this surgery takes representations of width {self.final[task].width}, not {z.shape[1]}")
        return self.final[task](z)


def operate(
    z: Float[Tensor, "*s n k"], down: Float[Tensor, "*t r k"], up: Float[Tensor, "*t k r"], activation: Activation = "relu"
) -> Float[Tensor, "*s n k"]:
    """Return Z − W_up φ(W_down Z) for one task, or for a stack of tasks with s = t (Eq. 3); a row is a sample, or a token."""
    hidden = z @ down.mT
    return z - (torch.relu(hidden) if activation == "relu" else hidden) @ up.mT


def start_of_fit(width: int, rank: int, generator: torch.Generator, activation: Activation = "relu", *, shift: bool = False) -> Correction:
    """Return the start of a fit: W_down Kaiming-uniform with a = √5, that is U(−1/√k, 1/√k); W_up zero, so it is the identity."""
    bound = 1 / math.sqrt(width)
    down = torch.empty(rank, width).uniform_(-bound, bound, generator=generator)
    return Correction(down, torch.zeros(width, rank), torch.zeros(width) if shift else None, activation)
