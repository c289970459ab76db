"""Files written through to the disk: texts, and safetensors one tensor at a time."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suture.checkpoints.reading import DTYPES, TensorSpec
from suture.errors import OutputExists

DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
NO_LINKS = {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL}
"""What file systems that have no hard links answer."""
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What a write says that finds the disk, the user's part of it, or the file full."""
SHA256 = "sha256"
"""Where the metadata of a safetensors file tells the file's own digest."""
BLANK = "0" * 64
"""What stands in the place of a digest while it is taken of what holds it."""


def write_text(file: Path, text: str) -> None:
    """Write a small text file through to the disk; raises ``OSError`` that names the file, and where there is no room, what it takes."""
    content = text.encode()
    with _told(file, len(content)), file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def write_safetensors(
    file: Path,
    specs: Mapping[str, TensorSpec],
    tensors: Iterable[tuple[str, Tensor]],
    metadata: Mapping[str, str] | None = None,
    *,
    sealed: bool = False,
) -> str:
    """Write tensors as they come, in the order of ``specs``, holding one at a time; return the file's sha256.

    A ``sealed`` file tells its own digest in its metadata: the sha256 of the file with zeros in the digest's place.

    Raises ``ValueError`` when the tensors are not those that ``specs`` announced, and ``OSError``, before the first tensor is asked for
    where that can be known, that names the file and says how many bytes it takes when there is no room for it.
    """
    head, size = _head(specs, {"format": "pt", **({SHA256: BLANK} if sealed else {}), **(metadata or {})})
    check_room(file, size)
    with _told(file, size):
        stream = file.open("wb")
    with stream:
        digest = hashlib.sha256()

        def write(content: bytes | memoryview) -> None:
            digest.update(content)
            with _told(file, size):
                stream.write(content)

        write(head)
        announced = iter(specs.items())
        for name, tensor in tensors:
            if next(announced, None) != (name, TensorSpec(tuple(tensor.shape), tensor.dtype)):
                raise ValueError(f"{name}: {tuple(tensor.shape)} {tensor.dtype} is not the tensor announced at this place")
            write(_bytes(tensor))
        if (left := next(announced, None)) is not None:
            raise ValueError(f"{left[0]}: announced, but never written")
        with _told(file, size):
            if sealed:
                stream.seek(head.index(BLANK.encode()))
                stream.write(digest.hexdigest().encode())
            stream.flush()
            os.fsync(stream.fileno())
    return digest.hexdigest()


def _head(specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> tuple[bytes, int]:
    """Return what a file begins with, the length of its header and that, and how long it is with its tensors."""
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, spec in specs.items():
        start, end = end, end + size_of(spec)
        header[name] = {"dtype": DTYPE_NAMES[spec.dtype], "shape": spec.shape, "data_offsets": (start, end)}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    head = len(encoded).to_bytes(8, "little") + encoded
    return head, len(head) + end


def check_room(file: Path, size: int) -> None:
    """Raise ``OSError``, as a write would, when so many bytes more do not fit where a file is to be."""
    if size > shutil.disk_usage(file.parent).free:
        raise _no_room(errno.ENOSPC, file, size)


def put_file(stage: Path, out: Path, *, replace: bool) -> None:
    """Put the staged file at ``out``; without ``replace`` under a second name first, which never takes the place of another file."""
    if not replace:
        try:
            os.link(stage, out)
        except FileExistsError as error:
            raise OutputExists(f"{out} came into being while it was written; choose another output") from error
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
        else:
            stage.unlink()
            return
    stage.replace(out)


def flush(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def size_of(spec: TensorSpec) -> int:
    """Return how many bytes a tensor takes on disk.

    >>> size_of(TensorSpec((2, 3), torch.float32))
    24
    """
    return torch.Size(spec.shape).numel() * spec.dtype.itemsize


@contextmanager
def _told(file: Path, size: int) -> Iterator[None]:
    """Let a write that fails name its file, as only opening does by itself, and tell what it takes."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise _no_room(error.errno, file, size) from error
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from error


def _no_room(code: int, file: Path, size: int) -> OSError:
    free = shutil.disk_usage(file.parent).free
    return OSError(code, f"{os.strerror(code)}: {size:,} bytes are needed for {file.name}, and {free:,} are free", str(file))


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data
