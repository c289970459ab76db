"""Single files of ours: safetensors that say what they are of, and prove by a digest of their own that they are as they were written."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from suture.checkpoints.header import header_of, parsed
from suture.checkpoints.reading import Checkpoint, TensorSpec, open_checkpoint
from suture.checkpoints.staging import staged_file
from suture.checkpoints.writing import BLANK, SHA256, write_safetensors
from suture.errors import CorruptCheckpoint, reading

KIND = "suture"
"""Where the metadata says what a file of ours is."""
CHUNK = 1 << 20


def write_sealed(file: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors, and what there is to say of them, whole or not at all, in the place of any file before.

    Raises :class:`suture.errors.OutputError` when it cannot be written.
    """
    specs = {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    with staged_file(file, replace=True, wait=True) as stage:
        write_safetensors(stage, specs, tensors.items(), about, sealed=True)


def open_sealed(file: Path) -> tuple[Checkpoint, dict[str, str]]:
    """Open a file, and return what it says of itself too.

    Raises what :func:`suture.checkpoints.open_checkpoint` raises, and :class:`CorruptCheckpoint` when it is not as it was written.
    """
    tensors = open_checkpoint(file)
    told = told_by(file)
    if SHA256 in told:
        check_seal(file)
    return tensors, told


def told_by(file: Path) -> dict[str, str]:
    """Return what a safetensors file says of itself: its metadata. Raises :class:`CorruptCheckpoint` and :class:`CheckpointNotFound`."""
    with reading(file, "a whole safetensors file"), file.open("rb") as stream:
        metadata = parsed(header_of(stream, file.stat().st_size)).get("__metadata__", {})
        return {str(name): str(value) for name, value in metadata.items()}


def check_seal(file: Path) -> None:
    """Raise :class:`CorruptCheckpoint` unless a file has the digest that its metadata tells, or when it tells none."""
    with reading(file, "a whole safetensors file"), file.open("rb") as stream:
        header = header_of(stream, file.stat().st_size)
        key = f'"{SHA256}":"'.encode()  # no text holds this: its quotes would be escaped
        start = header.find(key) + len(key)
        if start < len(key):
            raise CorruptCheckpoint(f"{file} is not as it was written: the digest of its own is gone from its metadata")
        told, blank = header[start : start + len(BLANK)], header[:start] + BLANK.encode() + header[start + len(BLANK) :]
        stream.seek(0)
        digest = hashlib.sha256(stream.read(8) + blank)
        stream.seek(8 + len(header))
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest().encode() != told:
        raise CorruptCheckpoint(f"{file} is not as it was written: its digest is not the one that its metadata tells")
