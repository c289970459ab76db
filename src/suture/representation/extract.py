"""Representations, computed once per weights and inputs and kept on disk."""

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from suture.backbones import Backbone
from suture.checkpoints import KIND, cache_folder, open_sealed, write_sealed
from suture.errors import CheckpointError, DataError, OutputError, SutureWarning
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
        z = open_sealed(file)[0]["z"]
    except (CheckpointError, KeyError):
        z = encode(backbone, inputs, progress)
        try:
            write_sealed(file, {"z": z}, {KIND: "representations"})
        except OutputError as error:
            warnings.warn(f"representations are not kept: {error}", SutureWarning, stacklevel=2)
    else:
        progress(len(inputs))
    return z
