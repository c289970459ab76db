"""Files written through to the disk: texts, and safetensors one tensor at a time."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suture.checkpoints.reading import DTYPES, TensorSpec

DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_text(file: Path, text: str) -> None:
    """Write a small text file through to the disk."""
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        os.fsync(stream.fileno())


def write_safetensors(
    file: Path,
    specs: Mapping[str, TensorSpec],
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str] | None = None,
) -> str:
    """Write tensors as they come, in the order of ``specs``, holding one at a time; return the file's sha256.

    Raises ``ValueError`` when the tensors are not those that ``specs`` announced.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    end = 0
    for name, spec in specs.items():
        start, end = end, end + _size(spec)
        header[name] = {"dtype": DTYPE_NAMES[spec.dtype], "shape": spec.shape, "data_offsets": (start, end)}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with file.open("wb") as stream:
        head = len(encoded).to_bytes(8, "little") + encoded
        digest = hashlib.sha256(head)
        stream.write(head)
        announced = iter(specs.items())
        for name, tensor in tensors:
            if next(announced, None) != (name, TensorSpec(tuple(tensor.shape), tensor.dtype)):
                raise ValueError(f"{name}: {tuple(tensor.shape)} {tensor.dtype} is not the tensor announced at this place")
            content = _bytes(tensor)
            digest.update(content)
            stream.write(content)
        if (left := next(announced, None)) is not None:
            raise ValueError(f"{left[0]}: announced, but never written")
        os.fsync(stream.fileno())
    return digest.hexdigest()


def _size(spec: TensorSpec) -> int:
    count = 1
    for length in spec.shape:
        count *= length
    return count * spec.dtype.itemsize


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
