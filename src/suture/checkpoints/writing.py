"""Writing that leaves the whole new output, or what stood there before.

A folder is staged under a hidden sibling on the same file system, flushed to the disk, and renamed into place. Only folders that
carry a manifest of ours are ever replaced.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from suture.checkpoints.reading import DTYPES, INDEX, PICKLES, Checkpoint, TensorSpec, sha256_of
from suture.errors import OutputError, OutputExists

MANIFEST = "manifest.json"
OTHER_WEIGHTS = PICKLES | {".safetensors", ".h5", ".msgpack", ".onnx", ".gguf", ".ot"}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Manifest(BaseModel):
    """What an output folder holds and what it was made from.

    ``files`` maps each file's path in the folder to its sha256, ``inputs`` each input's path to its sha256.
    """

    model_config = ConfigDict(extra="forbid")

    writer: str = "suture"
    version: str = version("suture")
    libraries: dict[str, str] = {}
    settings: dict[str, Any] = {}
    inputs: dict[str, str] = {}
    files: dict[str, str] = {}


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a folder that Suture wrote, else None."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None
    return manifest if manifest.writer == "suture" else None


def check_output(out: Path, *, replace: bool) -> None:
    """Raise :class:`OutputExists` unless ``out`` is free, or is a folder of ours and may be replaced."""
    if not (out.exists() or out.is_symlink()):
        return
    if not replace:
        raise OutputExists(f"{out} exists already; choose another output or pass --replace")
    if read_manifest(out) is None:
        raise OutputExists(f"{out} was not written by Suture (no {MANIFEST} of ours in it), so it is not replaced; choose another output")


@contextmanager
def staged_folder(out: str | Path, manifest: Manifest, *, replace: bool = False) -> Iterator[Path]:
    """Yield a hidden folder beside ``out`` to write into; when the block ends without error it becomes ``out``.

    The manifest, completed with the digest of every file, is written last. On any error nothing remains and ``out`` is as it was.
    Raises :class:`OutputExists` or :class:`OutputError`.
    """
    out = Path(out)
    check_output(out, replace=replace)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{out.name}.staging-", dir=out.parent))
    except OSError as error:
        raise OutputError(f"cannot write beside {out}: {error.strerror}") from error
    try:
        yield stage
        files = sorted(file for file in stage.rglob("*") if file.is_file())
        manifest.files = {file.relative_to(stage).as_posix(): sha256_of(file) for file in files}
        write_text(stage / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
        _commit(stage, out)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


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
) -> None:
    """Write tensors as they come, in the order of ``specs``, holding one at a time.

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
        stream.write(len(encoded).to_bytes(8, "little") + encoded)
        announced = iter(specs.items())
        for name, tensor in tensors:
            if next(announced, None) != (name, TensorSpec(tuple(tensor.shape), tensor.dtype)):
                raise ValueError(f"{name}: {tuple(tensor.shape)} {tensor.dtype} is not the tensor announced at this place")
            stream.write(_bytes(tensor))
        if (left := next(announced, None)) is not None:
            raise ValueError(f"{left[0]}: announced, but never written")
        os.fsync(stream.fileno())


def copy_companions(source: Checkpoint, target: Path) -> None:
    """Copy what stands beside the weights of a model folder: configuration, tokenizer and the like; the index of shards goes last."""
    if not source.path.is_dir():
        return
    for file in sorted(source.path.rglob("*")):
        relative = file.relative_to(source.path)
        hidden = any(part.startswith(".") for part in relative.parts)
        if not file.is_file() or hidden or file.suffix in OTHER_WEIGHTS or file.name in {INDEX, MANIFEST, "README.md"}:
            continue
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target / relative)
    if len(source.files) > 1:
        write_text(target / INDEX, (source.path / INDEX).read_text(encoding="utf-8"))


def _size(spec: TensorSpec) -> int:
    count = 1
    for length in spec.shape:
        count *= length
    return count * spec.dtype.itemsize


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _commit(stage: Path, out: Path) -> None:
    """Put the staged folder in place of ``out``, and drop what stood there."""
    umask = os.umask(0)
    os.umask(umask)
    stage.chmod(0o777 & ~umask)
    if out.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}.replaced-", dir=out.parent))
        out.rename(old / "old")
        try:
            stage.rename(out)
        except OSError:
            (old / "old").rename(out)
            raise
        finally:
            shutil.rmtree(old, ignore_errors=True)
    else:
        stage.rename(out)
    folder = os.open(out.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
