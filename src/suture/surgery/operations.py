"""What may be done to a merged model for each task, whatever it is: corrections of its representations, or changes of its weights."""

from pathlib import Path

from suture.checkpoints import open_checkpoint
from suture.surgery.files import Origin, load_surgery, metadata_of, save_surgery
from suture.surgery.module import Surgery
from suture.surgery.residual import Residuals
from suture.surgery.residual_files import KIND, load_residuals, save_residuals

Operation = Surgery | Residuals
"""Both have ``tasks``, a ``rank``, and ``parameters(task)``."""


def save_operation(file: Path, operation: Operation, origin: Origin | None = None) -> None:
    """Write an operation to one safetensors file, and how it came about into its metadata."""
    if isinstance(operation, Residuals):
        save_residuals(file, operation, origin)
    else:
        save_surgery(file, operation, origin)


def load_operation(file: Path) -> Operation:
    """Read what :func:`save_operation` wrote; raises :class:`suture.errors.CorruptCheckpoint` when it is not whole, or something else."""
    open_checkpoint(file)  # says what is wrong with a file that is none
    return load_residuals(file) if metadata_of(file).get("suture") == KIND else load_surgery(file)
