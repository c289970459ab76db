"""A router on disk: one safetensors file."""

import json
import math
from pathlib import Path

from suture.checkpoints import TensorSpec, open_checkpoint, write_safetensors
from suture.errors import CorruptCheckpoint, NonFiniteTensor
from suture.multitask.router import Router
from suture.surgery.files import metadata_of

PARTS = ("weight", "offset", "means", "directions", "variances", "reach")


def save_router(file: Path, router: Router) -> None:
    """Write a router's tensors under the names of its fields; its tasks and its two numbers go into the metadata."""
    tensors = {name: getattr(router, name) for name in PARTS}
    specs = {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    numbers = {"temperature": repr(router.temperature), "noise": repr(router.noise)}
    write_safetensors(file, specs, tensors.items(), {"suture": "router", "tasks": json.dumps(router.tasks), **numbers})


def load_router(file: Path) -> Router:
    """Read what :func:`save_router` wrote; raises :class:`CorruptCheckpoint` when it is not whole."""
    tensors, told = open_checkpoint(file), metadata_of(file)
    try:
        tasks = tuple(json.loads(told["tasks"]))
        temperature, noise = float(told["temperature"]), float(told["noise"])
        shapes = {name: tensors.specs[name].shape for name in PARTS}
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise CorruptCheckpoint(
            f"{file} is not a whole router: {', '.join(PARTS)} expected, and in the metadata what they are of"
        ) from error
    count, width = len(tasks), shapes["weight"][-1] if shapes["weight"] else 0
    kept = shapes["variances"][0] if shapes["variances"] else 0
    expected = {"weight": (count, width), "offset": (count,), "means": (count, width), "directions": (kept, width), "variances": (kept,)}
    if shapes != {**expected, "reach": (count,)} or not all(isinstance(task, str) for task in tasks):
        raise CorruptCheckpoint(f"{file} is not a whole router: its tensors are not of {count} tasks and one width")
    if not all(spec.dtype.is_floating_point for spec in tensors.specs.values()) or not (
        0 < temperature < math.inf and 0 < noise < math.inf
    ):
        raise CorruptCheckpoint(f"{file} is not a whole router: its numbers make no sense")
    # Copies: a router outlives its file, which may be replaced.
    weight, offset, means, directions, variances, reach = (tensors[name].clone() for name in PARTS)
    if not all(bool(part.isfinite().all()) for part in (weight, offset, means, directions, variances, reach)):
        raise NonFiniteTensor(f"{file} holds NaN or Inf")
    return Router(tasks, weight, offset, temperature, means, directions, variances, noise, reach)
