"""The surgery module of Representation Surgery, all tasks stacked (Yang et al., 2024, arXiv 2402.02705, Eq. 3)."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
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


@dataclass(frozen=True)
class Origin:
    """How a surgery came about, as its file tells: on which samples of the calibration, with which seed, for which backbone."""

    calibration: str
    samples: int
    """The most samples of any task."""
    seed: int
    backbone: str
    """The digest of the merged weights."""


def save_surgery(file: Path, surgery: Surgery, origin: Origin | None = None) -> None:
    """Write ``<task>.down`` and ``<task>.up`` of every task to one safetensors file, and the origin into its metadata."""
    tensors = {}
    for place, task in enumerate(surgery.tasks):
        tensors[f"{task}.{DOWN}"], tensors[f"{task}.{UP}"] = surgery.down[place], surgery.up[place]
    specs = {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    known = {} if origin is None else {name: str(value) for name, value in asdict(origin).items()}
    write_safetensors(file, specs, tensors.items(), {"suture": "surgery", "rank": str(surgery.rank), **known})


def load_surgery(file: Path) -> Surgery:
    """Read what :func:`save_surgery` wrote; raises :class:`CorruptCheckpoint` when a task's pair is not whole or of other shapes."""
    tensors = open_checkpoint(file)
    tasks = tuple(name.removesuffix(f".{DOWN}") for name in tensors if name.endswith(f".{DOWN}"))
    if not tasks or (lost := [f"{task}.{UP}" for task in tasks if f"{task}.{UP}" not in tensors]):
        raise CorruptCheckpoint(
            f"{file} is not a whole surgery file: {', '.join(lost) if tasks else 'a pair of matrices per task'} expected"
        )
    first = tensors.specs[f"{tasks[0]}.{DOWN}"]
    for task in tasks:
        down, up = tensors.specs[f"{task}.{DOWN}"], tensors.specs[f"{task}.{UP}"]
        if len(down.shape) != 2 or down != first or up != TensorSpec(down.shape[::-1], down.dtype) or not down.dtype.is_floating_point:
            raise CorruptCheckpoint(
                f"{file} is not a whole surgery file: {task!r} has matrices of {list(down.shape)} and {list(up.shape)}; "
                f"expected (r, k) and (k, r), the same for all tasks"
            )
    return Surgery(tasks, *(torch.stack([tensors[f"{task}.{side}"] for task in tasks]) for side in (DOWN, UP)))


def read_origin(file: Path) -> Origin | None:
    """Return how a surgery file came about; None when it does not tell. Raises :class:`CorruptCheckpoint` when it tells nonsense."""
    open_checkpoint(file)  # says what is wrong with a file that is none
    with safe_open(file, framework="pt") as handle:
        told = handle.metadata() or {}
    names = [field.name for field in fields(Origin)]
    if not told.keys() & set(names):
        return None
    try:
        return Origin(told["calibration"], int(told["samples"]), int(told["seed"]), told["backbone"])
    except (KeyError, ValueError) as error:
        raise CorruptCheckpoint(f"{file} does not say how it was fitted: expected {', '.join(names)} in its metadata") from error
