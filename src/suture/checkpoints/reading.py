"""Lazy reading of safetensors files and of Hugging Face folders, single or sharded.

A checkpoint is a mapping of the tensor names *on disk* to tensors. Nothing but headers is read when it is opened; indexing maps
one tensor into memory (private, copy on write: no change ever reaches the file).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from suture.checkpoints.header import check_header, header_of, parsed, text_of
from suture.checkpoints.hub import local_copy, on_hub
from suture.checkpoints.names import is_plain
from suture.errors import CheckpointNotFound, CorruptCheckpoint, UnsafePath, UnsupportedFormat, reading

SINGLE = "model.safetensors"
"""The weights of a model in one file."""
INDEX = "model.safetensors.index.json"
OPEN_CLIP_WEIGHTS = "open_clip_model.safetensors"
OPEN_CLIP = "open_clip_config.json"
"""What tells a folder of open_clip from one of transformers."""
PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
SAMPLE = 4096  # bytes of each tensor that a fingerprint reads
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


@dataclass(frozen=True)
class TensorSpec:
    """Shape and dtype of a tensor that has not been read."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class Checkpoint(Mapping[str, Tensor]):
    """The tensors of one or more safetensors files, in the order of the disk.

    Raises :class:`CorruptCheckpoint` when a header does not parse or two files hold the same name.
    """

    def __init__(self, path: Path, files: list[Path]) -> None:
        self.path, self.files = path, files
        self._handles = {file: _open(file) for file in files}
        self.file_of: dict[str, Path] = {}
        for file, handle in self._handles.items():
            for name in handle.offset_keys():
                if name in self.file_of:
                    raise CorruptCheckpoint(f"{path}: tensor {name!r} stands in {self.file_of[name].name} and in {file.name}")
                self.file_of[name] = file

    def __getitem__(self, name: str) -> Tensor:
        file = self.file_of[name]
        try:
            tensor: Tensor = self._handles[file].get_tensor(name)
        except SafetensorError as error:
            raise CorruptCheckpoint(f"{file}: tensor {name!r} cannot be read: {error}") from error
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.file_of)

    def __len__(self) -> int:
        return len(self.file_of)

    def __reduce__(self) -> tuple[type["Checkpoint"], tuple[Path, list[Path]]]:
        """Where it is unpickled, perhaps by a process of another working folder, the files are opened anew."""
        return type(self), (self.path.absolute(), [file.absolute() for file in self.files])

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, {len(self)} tensors in {len(self.files)} file(s))"

    @property
    def folder(self) -> Path:
        """Where configuration and the like lie: the model folder, or that of a single file."""
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def described(self) -> bool:
        """Whether a configuration lies there."""
        return any((self.folder / name).is_file() for name in ("config.json", OPEN_CLIP))

    @cached_property
    def specs(self) -> dict[str, TensorSpec]:
        """Shape and dtype of every tensor, from the headers."""
        return {name: self._spec(name) for name in self}

    def _spec(self, name: str) -> TensorSpec:
        view = self._handles[self.file_of[name]].get_slice(name)
        stored = view.get_dtype()
        if stored not in DTYPES:
            raise UnsupportedFormat(f"{self.file_of[name]}: tensor {name!r} is stored as {stored}, which Suture does not read")
        return TensorSpec(tuple(view.get_shape()), DTYPES[stored])

    @property
    def elements(self) -> int:
        """The number of elements of all tensors together."""
        return sum(torch.Size(spec.shape).numel() for spec in self.specs.values())

    @cached_property
    def digest(self) -> str:
        """The sha256 of the files' contents, in order: the identity of these weights."""
        return sha256_of(*self.files)

    @cached_property
    def fingerprint(self) -> str:
        """A cheap identity: sha256 over every tensor's name, dtype, shape and first 4 KiB, by their names.

        In which order, or in which files, they lie on the disk is no part of it. It tells models apart, as training changes nearly every
        tensor; it does not prove integrity, as most bytes are never read: :attr:`digest` does. Raises :class:`CorruptCheckpoint` or
        :class:`CheckpointNotFound` when a file has been spoilt or removed since it was opened.
        """
        samples = [sample for file in self.files for sample in _samples(file)]
        return hashlib.sha256("\n".join(sorted(samples)).encode()).hexdigest()


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a safetensors file, a folder with ``model.safetensors`` or an index of shards, or a repository of the hub (``hf://``).

    Raises :class:`CheckpointNotFound`, :class:`CorruptCheckpoint`, :class:`UnsafePath` (an index that names files outside the
    folder) or :class:`UnsupportedFormat` (a pickle: loading one runs code).
    """
    fetched, path = on_hub(Path(path)), local_copy(Path(path))
    if path.is_file():
        if path.suffix in PICKLES:
            raise UnsupportedFormat(f"{path} is a pickle, and loading a pickle runs code: `suture convert` makes safetensors of it")
        return Checkpoint(path, [path])
    if not path.is_dir():
        raise CheckpointNotFound(f"{path}: no such file or folder; expected a safetensors file or a model folder")
    if (path / INDEX).is_file():
        return Checkpoint(path, _shards(path / INDEX))
    for single in (SINGLE, OPEN_CLIP_WEIGHTS):
        if (path / single).is_file():
            return Checkpoint(path, [path / single])
    refuse_pickles(path)
    hint = "; if it holds a pickle there, `suture convert` fetches it and makes safetensors of it" if fetched else ""
    raise CheckpointNotFound(f"{path}: neither {SINGLE} nor {INDEX} in this folder{hint}")


def refuse_pickles(folder: Path) -> None:
    """Raise :class:`UnsupportedFormat` when a folder without the weights looked for holds pickles."""
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles:
        raise UnsupportedFormat(
            f"{folder} holds only pickles ({', '.join(pickles)}); loading one runs code: `suture convert` makes safetensors of them"
        )


def root_of(folder: Path) -> Path:
    """Return what the links of a model's folder may not leave."""
    # The hub's cache keeps a repository's files as blobs beside its snapshots, which link to them.
    return (folder.parents[1] if folder.parent.name == "snapshots" else folder).resolve()


def sha256_of(*files: Path) -> str:
    """Return the sha256 of files' contents; of more than one file, the sha256 of their digests' lines.

    Raises :class:`CheckpointNotFound` when one cannot be read.
    """
    digests = []
    for file in files:
        with reading(file, "a file to take a digest of"), file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _samples(file: Path) -> Iterator[str]:
    """Yield a line for every tensor of a file: what it is, and the digest of its start."""
    with reading(file, "the safetensors file that was opened any longer"), file.open("rb") as stream:
        header = header_of(stream, file.stat().st_size)
        for name, entry in parsed(header).items():
            if name == "__metadata__":
                continue
            start, end = entry["data_offsets"]
            stream.seek(8 + len(header) + start)
            content = hashlib.sha256(stream.read(min(end - start, SAMPLE))).hexdigest()
            yield json.dumps([name, entry["dtype"], entry["shape"], content])


def _open(file: Path) -> safe_open:
    with reading(file, "a whole safetensors file"):
        check_header(file)
        return safe_open(file, framework="pt")


def _shards(index: Path) -> list[Path]:
    """Return the shards that an index names, once it is sure that they lie in its folder and hold what it says."""
    weight_map, names = read_index(index)
    folder = index.parent
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise CorruptCheckpoint(f"{index} names shards that are not there: {', '.join(absent)}")
    held = Checkpoint(folder, [folder / name for name in names])
    lost = [name for name, file in weight_map.items() if held.file_of.get(name) != folder / file]
    if lost or len(held) != len(weight_map):
        stray = [name for name in held if name not in weight_map]
        raise CorruptCheckpoint(f"{index} and its shards disagree on: {', '.join(map(repr, lost + stray))}")
    return held.files


def read_index(index: Path) -> tuple[dict[str, str], list[str]]:
    """Return where an index of shards says that each tensor is, and the names of the shards, in order.

    Raises :class:`CorruptCheckpoint` for what is no index, and :class:`UnsafePath` for one that names what is not a file in its folder.
    """
    with reading(index, "an index with a weight_map"):
        weight_map = dict(parsed(text_of(index))["weight_map"].items())
        if not weight_map:
            raise ValueError("it names no tensors")
    folder, names = index.parent, list(weight_map.values())
    if all(map(is_plain, names)):
        names = sorted(set(names))
    for name in names:
        if not is_plain(name) or not (folder / name).resolve().is_relative_to(root_of(folder)):
            raise UnsafePath(f"{index} names the shard {name!r}, which is not a plain file name in {folder}")
    return weight_map, names
