"""Residual experts on disk: one safetensors file of all tasks' changes."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from suture.checkpoints import Checkpoint, open_sealed
from suture.errors import CorruptCheckpoint, DataError
from suture.surgery.files import Origin, write_tensors
from suture.surgery.residual import Change, LowRank, Residuals, Whole

KIND = "residuals"
LEFT, RIGHT, CHANGE = PARTS = "left", "right", "change"


def save_residuals(file: Path, residuals: Residuals, origin: Origin | None = None) -> None:
    """Write a matrix's factors to ``<task>/<name>/left`` and ``/right``, the change of anything else to ``<task>/<name>/change``.

    Tasks, in order, and the origin go into the metadata. Raises :class:`DataError` for a tensor with a slash in its name.
    """
    write_tensors(file, residual_parts(residuals), {}, KIND, residuals.tasks, origin)


def residual_parts(residuals: Residuals) -> dict[str, Tensor]:
    """Return the tensors that :func:`save_residuals` writes; raises what that raises."""
    return dict(_named(residuals))


def _named(residuals: Residuals) -> Iterator[tuple[str, Tensor]]:
    for task in residuals.tasks:
        for name, change in residuals.of(task).items():
            if "/" in name:
                raise DataError(f"the tensor {name!r} has a slash in its name, which a file of residuals uses itself")
            kinds = (LEFT, RIGHT) if isinstance(change, LowRank) else (CHANGE,)
            yield from ((f"{task}/{name}/{kind}", part) for kind, part in zip(kinds, change.parts(), strict=True))


def load_residuals(file: Path) -> Residuals:
    """Read what :func:`save_residuals` wrote; raises :class:`CorruptCheckpoint` when it is not whole, or something else."""
    tensors, told = open_sealed(file)
    if told.get("suture") != KIND:
        raise CorruptCheckpoint(f"{file} is not a whole file of residuals: it does not say that it is one, and of which tasks")
    return residuals_of(file, tensors, told)


def residuals_of(file: Path, tensors: Checkpoint, told: Mapping[str, str]) -> Residuals:
    """Return the residuals that tensors of a file make, with what it says of them; raises what :func:`load_residuals` raises."""
    changes: dict[str, dict[str, Change]] = {task: {} for task in _tasks(file, told)}
    kinds: dict[tuple[str, str], set[str]] = {}
    for key in tensors:
        task, name, kind = key.rsplit("/", 2) if key.count("/") > 1 else ("", "", key)
        kinds.setdefault((task, name), set()).add(kind)
    for (task, name), found in kinds.items():
        if task not in changes or found not in ({LEFT, RIGHT}, {CHANGE}):
            what = f"{name or 'a tensor'!r} of {task!r} has {', '.join(sorted(found))}"
            raise CorruptCheckpoint(f"{file} is not a whole file of residuals: {what}; expected {LEFT} and {RIGHT}, or {CHANGE}")
        changes[task][name] = _read(file, tensors, f"{task}/{name}", whole=found == {CHANGE})
    if len({tuple(sorted((name, change.shape) for name, change in own.items())) for own in changes.values()}) > 1:
        raise CorruptCheckpoint(f"{file} is not a whole file of residuals: expected changes of the same tensors for every task")
    return Residuals(changes)


def _tasks(file: Path, told: Mapping[str, str]) -> list[str]:
    try:
        tasks = json.loads(told["tasks"])
    except (KeyError, ValueError, RecursionError):
        tasks = None
    if not isinstance(tasks, list) or not all(isinstance(task, str) for task in tasks):
        raise CorruptCheckpoint(f"{file} is not a whole file of residuals: it does not say which tasks it is of")
    return tasks


def _read(file: Path, tensors: Checkpoint, prefix: str, *, whole: bool) -> Change:
    """Return one change, its shapes checked before anything is read."""
    names = [f"{prefix}/{kind}" for kind in ((CHANGE,) if whole else (LEFT, RIGHT))]
    first, last = tensors.specs[names[0]], tensors.specs[names[-1]]
    fits = first.dtype.is_floating_point and first.dtype == last.dtype
    if not fits or not (whole or (len(first.shape) == len(last.shape) == 2 and first.shape[1] == last.shape[0])):
        found = " and ".join(f"{list(tensors.specs[name].shape)} {tensors.specs[name].dtype}" for name in names)
        raise CorruptCheckpoint(f"{file} is not a whole file of residuals: {prefix!r} has {found}; expected factors (out, r) and (r, in)")
    # Copies: what is read outlives its file, which may be replaced.
    parts = [tensors[name].clone() for name in names]
    return Whole(parts[0]) if whole else LowRank(parts[0], parts[1])
