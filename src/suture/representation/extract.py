"""Representations, computed once per weights and inputs and kept on disk."""

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from suture.backbones import Backbone
from suture.checkpoints import cache_folder
from suture.errors import DataError, SutureWarning
from suture.inputs import Input, identities
from suture.types import Progress, no_progress


def encode(
    backbone: Backbone,
    inputs: Sequence[Input],
    progress: Progress = no_progress,
    corrections: Sequence[Callable[[Tensor], Tensor]] = (),
) -> Float[Tensor, "n k"]:
    """Return the representations of inputs, in their order; batches are of inputs of like length. ``progress`` counts them.

    With ``corrections``, one for every block, each block's output is corrected before it goes on.
    Raises :class:`DataError` when there is none.

    >>> encode(backbone, ["cat", "dog", "horse"]).shape
    torch.Size([3, 4])
    """
    if not inputs:
        raise DataError("there are no inputs to encode")
    order: list[int] = []
    rows: list[Tensor] = []
    with torch.no_grad():
        for places, batch in backbone.batches(inputs):
            order += places
            rows.append(backbone.corrected(batch, corrections) if corrections else backbone.pooled(batch))
            progress(len(places))
    encoded = torch.cat(rows)
    return torch.empty_like(encoded).index_copy_(0, torch.tensor(order), encoded)


def encode_cached(
    backbone: Backbone, inputs: Sequence[Input], progress: Progress = no_progress, folder: Path | None = None
) -> Float[Tensor, "n k"]:
    """Return :func:`encode`'s result, from the cache when the same weights have met the same inputs before.

    The key is the digest of weights, configuration, tokenizer or image processor, pooling and inputs, so a changed input is never
    mistaken; files appear whole or not at all, so processes may share the folder.
    """
    key = hashlib.sha256(json.dumps([backbone.digest, *identities(inputs)]).encode()).hexdigest()
    file = (folder or cache_folder()) / "representations" / key[:2] / f"{key}.safetensors"
    try:
        z = load_file(file)["z"]
    except (OSError, SafetensorError, KeyError):
        z = encode(backbone, inputs, progress)
        try:
            _store(file, z)
        except OSError as error:
            warnings.warn(
                f"representations are not kept, as {file.parent} cannot be written: {error.strerror}", SutureWarning, stacklevel=2
            )
    else:
        progress(len(inputs))
    return z


def _store(file: Path, z: Tensor) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=file.parent, suffix=".part")
    os.close(descriptor)
    try:
        save_file({"z": z}, name)
        Path(name).replace(file)
    finally:
        Path(name).unlink(missing_ok=True)
