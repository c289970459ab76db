"""The surgery module of Representation Surgery, all tasks stacked (Yang et al., 2024, arXiv 2402.02705, Eq. 3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from suture.checkpoints import TensorSpec, open_checkpoint, write_safetensors
from suture.errors import CorruptCheckpoint, DataError, UnknownName

DOWN, UP = "down", "up"


@dataclass(frozen=True)
class Surgery:
    """Ẑ = Z − W_up ReLU(W_down Z), one pair of matrices per task: ``down`` is (T, r, k), ``up`` is (T, k, r).

    There are no bias terms, so Φ(cZ) = cΦ(Z) for c > 0. It is applied to the raw representation; the head normalises afterwards.

    >>> surgery = untrained(["spam", "news"], width=8, rank=2, generator=torch.Generator().manual_seed(0))
    >>> z = torch.ones(3, 8)
    >>> bool((surgery("spam", z) == z).all())
    True
    """

    tasks: tuple[str, ...]
    down: Float[Tensor, "t r k"]
    up: Float[Tensor, "t k r"]

    @property
    def rank(self) -> int:
        """The rank r."""
        return self.down.shape[1]

    @property
    def parameters_per_task(self) -> int:
        """How many numbers one task adds to the model: 2·r·k."""
        return 2 * self.down[0].numel()

    def __call__(self, task: str, z: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Return the corrected representations of one task.

        Raises :class:`UnknownName` for another task, :class:`DataError` for representations of another width.
        """
        if task not in self.tasks:
            raise UnknownName("task", task, self.tasks)
        if z.shape[1] != self.down.shape[2]:
            raise DataError(f"this surgery takes representations of width {self.down.shape[2]}, not {z.shape[1]}")
        place = self.tasks.index(task)
        return operate(z, self.down[place], self.up[place])


def operate(z: Float[Tensor, "*t n k"], down: Float[Tensor, "*t r k"], up: Float[Tensor, "*t k r"]) -> Float[Tensor, "*t n k"]:
    """Return Z − W_up ReLU(W_down Z) for one task or for a stack of tasks (Eq. 3); a row is a sample."""
    return z - torch.relu(z @ down.mT) @ up.mT


def untrained(tasks: Sequence[str], width: int, rank: int, generator: torch.Generator) -> Surgery:
    """Return the start of the fit: W_down Kaiming-uniform with a = √5, that is U(−1/√k, 1/√k); W_up zero, so the module is the identity."""
    bound = 1 / math.sqrt(width)
    down = torch.empty(len(tasks), rank, width).uniform_(-bound, bound, generator=generator)
    return Surgery(tuple(tasks), down, torch.zeros(len(tasks), width, rank))


def save_surgery(file: Path, surgery: Surgery) -> None:
    """Write ``<task>.down`` and ``<task>.up`` of every task to one safetensors file."""
    tensors = {}
    for place, task in enumerate(surgery.tasks):
        tensors[f"{task}.{DOWN}"], tensors[f"{task}.{UP}"] = surgery.down[place], surgery.up[place]
    specs = {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    write_safetensors(file, specs, tensors.items(), {"suture": "surgery", "rank": str(surgery.rank)})


def load_surgery(file: Path) -> Surgery:
    """Read what :func:`save_surgery` wrote; raises :class:`CorruptCheckpoint` when a task's pair is not whole."""
    tensors = open_checkpoint(file)
    tasks = tuple(name.removesuffix(f".{DOWN}") for name in tensors if name.endswith(f".{DOWN}"))
    try:
        return Surgery(tasks, *(torch.stack([tensors[f"{task}.{side}"] for task in tasks]) for side in (DOWN, UP)))
    except (KeyError, RuntimeError) as error:
        raise CorruptCheckpoint(f"{file} is not a whole surgery file: {error}") from error
