"""New weights in the layout of a base: the same shards, configuration and tokenizer beside them."""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from suture.checkpoints.companions import copy_companions
from suture.checkpoints.reading import OPEN_CLIP_WEIGHTS, SINGLE, Checkpoint, TensorSpec
from suture.checkpoints.writing import check_room, size_of, write_safetensors


def write_like(base: Checkpoint, folder: Path, tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None = None) -> dict[str, str]:
    """Write tensors, which come in the base's order, into a folder; floating-point ones are of ``dtype`` where one is given.

    Returns the sha256 of each file of weights, taken while it was written, by its name.

    Raises ``ValueError`` when they are not the base's by name, shape and dtype, and ``OSError``, before the first is asked for, when there
    is no room for all of them.
    """
    check_room(folder / "the weights", sum(size_of(_written(spec, dtype)) for spec in base.specs.values()))
    digests = {}
    for file, own in groupby(tensors, key=lambda item: base.file_of[item[0]]):
        target = name_in_folder(base, file)
        digests[target] = write_part(base, file, folder / target, own, dtype)
    copy_companions(base, folder)
    return digests


def write_part(base: Checkpoint, file: Path, target: Path, tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None = None) -> str:
    """Write the tensors that one file of the base holds, in its order, and return the sha256; raises as :func:`write_like` does."""
    specs = {name: _written(spec, dtype) for name, spec in base.specs.items() if base.file_of[name] == file}
    return write_safetensors(target, specs, tensors)


def name_in_folder(weights: Checkpoint, file: Path) -> str:
    """Return what a file of weights is called in a model's folder: a lone one as libraries look for it, whatever it was called."""
    return file.name if len(weights.files) > 1 or file.name == OPEN_CLIP_WEIGHTS else SINGLE


def _written(spec: TensorSpec, dtype: torch.dtype | None) -> TensorSpec:
    return TensorSpec(spec.shape, dtype) if dtype is not None and spec.dtype.is_floating_point else spec
