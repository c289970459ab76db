"""Surgery on disk: one safetensors file of all tasks' corrections, which tells how they came about."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import cast, get_args

from safetensors import safe_open
from torch import Tensor

from suture.checkpoints import TensorSpec, Weights, open_checkpoint, write_safetensors
from suture.errors import CorruptCheckpoint, DataError
from suture.surgery.module import FINAL, Activation, Correction, Surgery

KIND = "surgery"
DOWN, UP, SHIFT = "down", "up", "shift"
BLOCK = re.compile(rf"\.blocks\.\d+\.{DOWN}\Z")
"""What stands behind a task's name where the correction is of a block."""


@dataclass(frozen=True)
class Origin:
    """How a surgery came about, as its file tells: on which samples of the calibration, with which seed, for which backbone."""

    calibration: str
    samples: int
    """The most samples of any task."""
    seed: int
    backbone: str
    """The digest of the merged weights."""
    kind: str = "surgery"
    """The procedure that fitted it."""
    rank: int = 0
    """The rank that was asked for; 0 where that is not known. A closed form may have done with less."""


def save_surgery(file: Path, surgery: Surgery, origin: Origin | None = None) -> None:
    """Write each correction to ``<task>.down``, ``.up`` and, if it has one, ``.shift``; block l's to ``<task>.blocks.<l>.down`` and so on.

    The origin and the activation go into the metadata. Raises :class:`DataError` when corrections differ in their activation.

    >>> import torch
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save_surgery(Path(folder) / "surgery.safetensors", Surgery({"spam": Correction(torch.zeros(2, 8), torch.zeros(8, 2))}))
    ...     load_surgery(Path(folder) / "surgery.safetensors").rank
    2
    """
    write_tensors(file, *surgery_parts(surgery), KIND, surgery.tasks, origin)


def surgery_parts(surgery: Surgery) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors that :func:`save_surgery` writes, and what it tells of them; raises what that raises."""
    activations = {correction.activation for task in surgery.tasks for _, correction in surgery.sites(task)}
    if len(activations) != 1:
        raise DataError(f"a surgery file holds corrections of one activation, not of {' and '.join(sorted(activations))}")
    named = list(_named(surgery))
    tensors = dict(named)
    if len(tensors) < len(named):
        raise DataError("no task may be called as a block of another: the names of their tensors would be the same")
    return tensors, {"rank": str(surgery.rank), "activation": activations.pop()}


def write_tensors(
    file: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str], kind: str, tasks: Sequence[str], origin: Origin | None
) -> None:
    """Write an operation's tensors, and into the metadata what is to be told of it."""
    specs = {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    known = {} if origin is None else {name: str(value) for name, value in asdict(origin).items()}
    write_safetensors(file, specs, tensors.items(), {"suture": kind, **about, "tasks": json.dumps(tasks), **known})


def _named(surgery: Surgery) -> Iterator[tuple[str, Tensor]]:
    for task in surgery.tasks:
        for site, correction in surgery.sites(task):
            prefix = task if site == FINAL else f"{task}.blocks.{site}"
            yield f"{prefix}.{DOWN}", correction.down
            yield f"{prefix}.{UP}", correction.up
            if correction.shift is not None:
                yield f"{prefix}.{SHIFT}", correction.shift


def load_surgery(file: Path) -> Surgery:
    """Read what :func:`save_surgery` wrote, as the example there shows.

    Raises :class:`CorruptCheckpoint` when a correction is not whole or of other shapes.
    """
    tensors = open_checkpoint(file)
    if (kind := metadata_of(file).get("suture", KIND)) != KIND:
        raise CorruptCheckpoint(f"{file} is a file of {kind}, not of surgery alone; open it with load_operation")
    return surgery_of(file, tensors)


def surgery_of(file: Path, tensors: Weights) -> Surgery:
    """Return the surgery that tensors of a file make; raises what :func:`load_surgery` raises."""
    activation = _activation(file)
    tasks = _tasks(file, tensors)
    final = {task: _read(file, tensors, task, activation) for task in tasks if f"{task}.{DOWN}" in tensors}
    blocks: dict[str, dict[int, Correction]] = {}
    for name in [name for name in tensors if name.endswith(f".{DOWN}") and name.removesuffix(f".{DOWN}") not in final]:
        task = next((task for task in tasks if name.startswith(task) and BLOCK.fullmatch(name, len(task))), None)
        if task is None:
            raise CorruptCheckpoint(f"{file} is not a whole surgery file: {name!r} is of no task that is whole")
        found = int(name[len(task) :].split(".")[2])
        blocks.setdefault(task, {})[found] = _read(file, tensors, name.removesuffix(f".{DOWN}"), activation)
    _check_whole(file, tasks, final, blocks)
    return Surgery(final, {task: [own[place] for place in sorted(own)] for task, own in blocks.items()})


def _tasks(file: Path, tensors: Weights) -> list[str]:
    """Return the tasks that the file says it is of; one that does not say has a final correction of each."""
    told = metadata_of(file).get("tasks")
    if told is None:
        return [name.removesuffix(f".{DOWN}") for name in tensors if name.endswith(f".{DOWN}") and not BLOCK.search(name)]
    try:
        tasks = json.loads(told)
    except ValueError:
        tasks = None
    if not isinstance(tasks, list) or not all(isinstance(task, str) for task in tasks):
        raise CorruptCheckpoint(f"{file} is not a whole surgery file: it does not say which tasks it is of")
    return tasks


def _activation(file: Path) -> Activation:
    told = metadata_of(file).get("activation", "relu")
    for activation in get_args(Activation):
        if told == activation:
            return cast(Activation, activation)
    raise CorruptCheckpoint(f"{file} is not a whole surgery file: no activation is called {told!r}")


def _read(file: Path, tensors: Weights, prefix: str, activation: Activation) -> Correction:
    """Return one correction, its shapes checked before anything is read."""
    names = f"{prefix}.{DOWN}", f"{prefix}.{UP}", f"{prefix}.{SHIFT}"
    down, up, shift = (tensors.specs.get(name) for name in names)
    assert down is not None  # noqa: S101  the caller saw its name
    if up is None:
        raise CorruptCheckpoint(f"{file} is not a whole surgery file: {prefix}.{UP} expected")
    fits = len(down.shape) == 2 and up == TensorSpec(down.shape[::-1], down.dtype) and down.dtype.is_floating_point
    if not fits or (shift is not None and shift != TensorSpec(down.shape[1:], down.dtype)):
        told = " and ".join(str(list(spec.shape)) for spec in (down, up, shift) if spec is not None)
        raise CorruptCheckpoint(f"{file} is not a whole surgery file: {prefix!r} has {told}; expected (r, k) and (k, r), of one precision")
    # Copies: a surgery outlives its file, which may be replaced.
    parts = [tensors[name].clone() for name in names if name in tensors.specs]
    return Correction(parts[0], parts[1], parts[2] if len(parts) > 2 else None, activation)


def _check_whole(file: Path, tasks: list[str], final: dict[str, Correction], blocks: dict[str, dict[int, Correction]]) -> None:
    """Raise when tasks differ in what is there of them."""
    if not final or final.keys() != set(tasks):
        raise CorruptCheckpoint(f"{file} is not a whole surgery file: a pair of matrices per task expected")
    widths = {correction.width for correction in final.values()}
    depths = {tuple(sorted(blocks.get(task, {}))) for task in final}
    whole = len(widths) == 1 and len(depths) == 1 and blocks.keys() <= final.keys()
    if not whole or (depth := depths.pop()) != tuple(range(len(depth))):
        raise CorruptCheckpoint(f"{file} is not a whole surgery file: expected corrections of the same sites and widths for every task")


def read_origin(file: Path) -> Origin | None:
    """Return how a surgery file came about; None when it does not tell. Raises :class:`CorruptCheckpoint` when it tells nonsense."""
    open_checkpoint(file)  # says what is wrong with a file that is none
    told = metadata_of(file)
    names = [each.name for each in fields(Origin)]
    if not told.keys() & set(names) - {"rank"}:
        return None
    try:
        return Origin(
            told["calibration"],
            int(told["samples"]),
            int(told["seed"]),
            told["backbone"],
            told.get("kind", "surgery"),
            int(told.get("rank", 0)),
        )
    except (KeyError, ValueError) as error:
        raise CorruptCheckpoint(f"{file} does not say how it was fitted: expected {', '.join(names)} in its metadata") from error


def metadata_of(file: Path) -> dict[str, str]:
    """Return what a safetensors file tells of itself."""
    with safe_open(file, framework="pt") as handle:
        return handle.metadata() or {}
