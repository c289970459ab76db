"""What surgery is fitted on: the same inputs as the merged backbone represents them, and as the expert does."""

from collections.abc import Mapping, Sized

from jaxtyping import Float
from torch import Tensor

from suture.errors import DataError

Pair = tuple[Float[Tensor, "_ _"], Float[Tensor, "_ _"]]
"""One task's calibration representations, shape (N_t, k): of the merged backbone, of the expert."""


def check_inputs(task: str, inputs: Sized) -> None:
    """Raise :class:`DataError` for a task without calibration inputs."""
    if len(inputs) == 0:
        raise DataError(f"task {task!r} has no inputs to calibrate on")


def check_pairs(calibration: Mapping[str, Pair]) -> int:
    """Return the common width.

    Raises :class:`DataError` unless all representations are non-empty, finite, of one width, and those of a task of like shape.
    """
    widths = {z.shape[1] for pair in calibration.values() for z in pair}
    if len(widths) != 1:
        raise DataError(f"surgery needs representations of one width; found {sorted(widths) or 'none'}")
    for task, (merged, expert) in calibration.items():
        if len(merged) == 0 or merged.shape != expert.shape:
            raise DataError(
                f"task {task!r}: {len(merged)} merged and {len(expert)} expert representations; expected the same inputs, at least one"
            )
        if not bool(merged.isfinite().all() and expert.isfinite().all()):
            raise DataError(f"task {task!r}: the calibration representations hold NaN or Inf")
    return widths.pop()
