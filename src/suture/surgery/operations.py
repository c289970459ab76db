"""What may be done to a merged model for each task: corrections of its representations, changes of its weights, or both."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from suture.backbones import Backbone
from suture.checkpoints import Checkpoint, open_checkpoint
from suture.errors import CorruptCheckpoint, IncompatibleExperts
from suture.representation import encode
from suture.surgery.files import Origin, load_surgery, metadata_of, save_surgery, surgery_of, surgery_parts, write_tensors
from suture.surgery.module import Surgery
from suture.surgery.residual import Residuals
from suture.surgery.residual_files import KIND, PARTS, load_residuals, residual_parts, residuals_of, save_residuals
from suture.surgery.residual_surgery import ResidualSurgery
from suture.types import Progress, no_progress

Operation = Surgery | Residuals | ResidualSurgery
"""All have ``tasks``, a ``rank``, and ``parameters(task)``."""

BOTH = "residual surgery"


def parts_of(operation: Operation) -> tuple[Residuals | None, Surgery | None]:
    """Return what an operation changes of the weights, and the corrections of the network so changed; one of them may be absent."""
    if isinstance(operation, ResidualSurgery):
        return operation.residuals, operation.surgery
    return (operation, None) if isinstance(operation, Residuals) else (None, operation)


def represent(
    operation: Operation, merged: Backbone, task: str, inputs: Sequence[Any], progress: Progress = no_progress
) -> Float[Tensor, "n k"]:
    """Return the representations of a task's inputs after an operation on the merged backbone. ``progress`` counts inputs.

    Raises :class:`suture.errors.UnknownName` for another task, :class:`suture.errors.DataError` when there is none, and
    :class:`suture.errors.IncompatibleExperts` when the operation is not one of this backbone.

    >>> from suture.surgery import Correction
    >>> nothing = Surgery({"pets": Correction.identity(4)})
    >>> bool((represent(nothing, backbone, "pets", ["cat"]) == encode(backbone, ["cat"])).all())
    True
    """
    return represent_by(operation, network_after(operation, merged, task), task, inputs, progress)


def represent_by(operation: Operation, network: Backbone, task: str, inputs: Sequence[Any], progress: Progress) -> Float[Tensor, "n k"]:
    """Return the same by a network that has the task's residuals in it already (:func:`network_after`)."""
    _, surgery = parts_of(operation)
    z = encode(network, inputs, progress, () if surgery is None else surgery.blocks_of(task))
    return z if surgery is None else surgery(task, z)


def network_after(operation: Operation, merged: Backbone, task: str) -> Backbone:
    """Return the merged backbone with a task's residuals in it: a network of its own, or itself where an operation has none.

    Raises what :func:`represent` raises of tasks and backbones.
    """
    residuals, _ = parts_of(operation)
    if residuals is None:
        return merged
    if not isinstance(merged.weights, Checkpoint):
        raise IncompatibleExperts(f"{merged.weights.path}: residuals are changes of full weights, not of an adapter")
    return replace(merged, weights=residuals.weights(task, merged.weights))


def save_operation(file: Path, operation: Operation, origin: Origin | None = None) -> None:
    """Write an operation to one safetensors file, and how it came about into its metadata.

    Where both are written, tensors are named as in files of one: residuals end in ``/left``, ``/right`` or ``/change``.

    >>> import torch
    >>> from tempfile import TemporaryDirectory
    >>> from suture.surgery.residual import low_rank_residuals
    >>> residuals = low_rank_residuals({"w": torch.zeros(2, 2)}, {"spam": {"w": torch.eye(2)}}, ["w"], rank=1)
    >>> with TemporaryDirectory() as folder:
    ...     save_operation(Path(folder) / "surgery.safetensors", residuals)
    ...     load_operation(Path(folder) / "surgery.safetensors").tasks
    ('spam',)
    """
    if isinstance(operation, Residuals):
        save_residuals(file, operation, origin)
    elif isinstance(operation, Surgery):
        save_surgery(file, operation, origin)
    else:
        tensors, about = surgery_parts(operation.surgery)
        write_tensors(file, {**residual_parts(operation.residuals), **tensors}, about, BOTH, operation.tasks, origin)


def load_operation(file: Path) -> Operation:
    """Read what :func:`save_operation` wrote, as the example there shows.

    Raises :class:`suture.errors.CorruptCheckpoint` when it is not whole, or something else.
    """
    tensors = open_checkpoint(file)  # says what is wrong with a file that is none
    kind = metadata_of(file).get("suture")
    if kind == BOTH:
        residuals, surgery = residuals_of(file, _Part(tensors, residual=True)), surgery_of(file, _Part(tensors, residual=False))
        if residuals.tasks != surgery.tasks or not all(residuals.of(task) for task in residuals.tasks):
            raise CorruptCheckpoint(f"{file} is not a whole file of residual surgery: expected residuals and corrections of every task")
        return ResidualSurgery(residuals, surgery)
    return load_residuals(file) if kind == KIND else load_surgery(file)


class _Part(Checkpoint):
    """The tensors of a file that are residuals, or those that are not."""

    def __init__(self, whole: Checkpoint, *, residual: bool) -> None:
        super().__init__(whole.path, whole.files)
        self.file_of = {name: place for name, place in self.file_of.items() if (name.rpartition("/")[2] in PARTS) == residual}
