"""Where a fit stands, in a file: a fit that was killed goes on from there as if nothing had happened."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from suture.checkpoints import open_sealed, write_sealed
from suture.errors import CheckpointError, CorruptCheckpoint, OutputExists, reading
from suture.surgery.module import Correction
from suture.surgery.schedule import Schedule

KIND = "fit of surgery"


@dataclass
class State:
    """All that the next iterations of T tasks depend on but the samples, whose order the seed gives."""

    down: Float[Tensor, "t r k"]
    up: Float[Tensor, "t k r"]
    shift: Float[Tensor, "t s k"]
    """A row for each, or none where no shift is trained."""
    down_mean: Float[Tensor, "t r k"]
    """Adam's means of the gradients, and of their squares."""
    down_square: Float[Tensor, "t r k"]
    up_mean: Float[Tensor, "t k r"]
    up_square: Float[Tensor, "t k r"]
    shift_mean: Float[Tensor, "t s k"]
    shift_square: Float[Tensor, "t s k"]
    steps: Int64[Tensor, " t"]
    """Steps of Adam so far."""
    running: Bool[Tensor, " t"]
    """Which tasks have not ended; the modules of the others are the result."""
    best_down: Float[Tensor, "t r k"]
    best_up: Float[Tensor, "t k r"]
    best_shift: Float[Tensor, "t s k"]
    best_loss: Float64[Tensor, " t"]
    best_at: Int64[Tensor, " t"]
    """The iterations that came before the best state."""

    @classmethod
    def of(cls, starts: Sequence[Correction]) -> "State":
        """Return the start of a fit of every task's module; shifts are trained where all have one."""
        down, up = torch.stack([each.down for each in starts]), torch.stack([each.up for each in starts])
        shifts = [each.shift[None] for each in starts if each.shift is not None]
        shift = torch.stack(shifts) if shifts else torch.zeros(len(starts), 0, down.shape[-1])
        return cls(
            down,
            up,
            shift,
            down_mean=torch.zeros_like(down),
            down_square=torch.zeros_like(down),
            up_mean=torch.zeros_like(up),
            up_square=torch.zeros_like(up),
            shift_mean=torch.zeros_like(shift),
            shift_square=torch.zeros_like(shift),
            steps=torch.zeros(len(starts), dtype=torch.int64),
            running=torch.ones(len(starts), dtype=torch.bool),
            best_down=down.clone(),
            best_up=up.clone(),
            best_shift=shift.clone(),
            best_loss=torch.full((len(starts),), torch.inf, dtype=torch.float64),
            best_at=torch.zeros(len(starts), dtype=torch.int64),
        )

    @property
    def trained(self) -> list[str]:
        """The names of what is trained."""
        return ["down", "up", "shift"] if self.shift.numel() else ["down", "up"]

    @property
    def parts(self) -> list[Tensor]:
        """What is trained: stacks of matrices, or of rows."""
        return [getattr(self, name) for name in self.trained]

    @property
    def best(self) -> list[Tensor]:
        """The best of each part so far."""
        return [getattr(self, f"best_{name}") for name in self.trained]

    @property
    def moments(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Each part with Adam's two means."""
        return [(getattr(self, name), getattr(self, f"{name}_mean"), getattr(self, f"{name}_square")) for name in self.trained]


def identity_of(calibration: Mapping[str, tuple[Tensor, Tensor]], schedule: Schedule, seed: int) -> str:
    """Return a digest of all that a fit depends on: tasks, representations, schedule, seed, version of Suture."""
    shapes = {task: [(list(z.shape), str(z.dtype)) for z in pair] for task, pair in calibration.items()}
    total = hashlib.sha256(json.dumps([version("suture"), asdict(schedule), seed, list(shapes.items())]).encode())
    for pair in calibration.values():
        for z in pair:
            total.update(z.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def write_state(file: Path, state: State, iteration: int, identity: str) -> None:
    """Put the state after some iterations into a file, whole or not at all; raises :class:`suture.errors.OutputError`."""
    tensors = {field.name: getattr(state, field.name) for field in fields(state)}
    write_sealed(file, tensors, {"suture": KIND, "iteration": str(iteration), "identity": identity})


def read_state(file: Path, identity: str) -> tuple[State, int] | None:
    """Return the state in a file and how many iterations came before it; None when there is no file.

    Raises :class:`OutputExists` when the file is something else, or belongs to another fit: it may be hours of work, and is not
    written over. Raises :class:`CorruptCheckpoint` when it is not whole.
    """
    if not os.path.lexists(file):
        return None
    try:
        tensors, told = open_sealed(file)
    except CheckpointError as error:
        raise CorruptCheckpoint(f"{error}; remove it to start anew") from error
    if told.get("suture") != KIND or told.get("identity") != identity:
        what = "of other samples, schedule, seed or version of Suture" if told.get("suture") == KIND else "nor of any other"
        raise OutputExists(f"{file} is not the state of this fit, {what}; choose another file to resume from, or remove it")
    with reading(file, "the whole state of a fit; remove it to start anew"):
        # Steps are taken in place, and not in a mapped file.
        state = State(**{field.name: tensors[field.name].clone() for field in fields(State)})
        return state, int(told["iteration"])
