"""Old checkpoints, pickles, into safetensors: read in a confined process, and never here."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from suture.checkpoints.companions import copy_files
from suture.checkpoints.hub import local_copy
from suture.checkpoints.manifest import Manifest
from suture.checkpoints.reading import INDEX, PICKLES, SINGLE, Checkpoint, open_checkpoint, read_index, sha256_of
from suture.checkpoints.staging import staged_file, staged_folder
from suture.checkpoints.writing import write_text
from suture.errors import CheckpointNotFound, CorruptCheckpoint, UnsupportedFormat, reading
from suture.types import Progress, no_progress

OLD, OLD_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
SUFFIX = ".safetensors"


class Converted(NamedTuple):
    """What came of a conversion."""

    tensors: int
    left_out: list[str]
    """The names of what is no tensor."""


def convert(source: str | Path, out: str | Path, key: str = "", *, replace: bool = False, progress: Progress = no_progress) -> Converted:
    """Write the tensors of a pickle (``.pt``, ``.pth``, ``.bin``, ``.ckpt``) or of a model folder of such to ``out``.

    The source may be a repository of the hub (``hf://``), of which these files are fetched.

    ``out`` that ends in ``.safetensors`` is a file, else a model folder, with the configuration and tokenizer that lie beside the
    source; shards stay shards. Names are kept; only ``module.``, where every name begins with it, is taken off. ``key`` names the
    place of the tensors (with dots) in a pickle that holds several. Modules pickled whole, as ``torch.save(model)`` does, give the
    tensors of their ``state_dict``, non-persistent buffers left out. ``progress`` counts files (:func:`pickles_of`).

    Nothing of the pickle is run: see :mod:`suture.checkpoints.unpickling`. Raises :class:`UnsupportedFormat` for a pickle that wants
    more than tensors and modules of networks' libraries, or holds no tensors; :class:`CorruptCheckpoint` for one that cannot be read;
    :class:`CheckpointNotFound`; and what writing raises. On any error nothing is written.
    """
    source, out = local_copy(Path(source), pickles=True), Path(out)
    files = pickles_of(source)
    if out.suffix == SUFFIX:
        if len(files) > 1:
            raise UnsupportedFormat(f"{source} has {len(files)} shards: give a folder to write to")
        with staged_file(out, replace=replace) as stage:
            found = _read_apart(files[0], stage, key)
            progress(1)
        return found
    manifest = Manifest(settings={"converted": key or True}, inputs={str(file): sha256_of(file) for file in files})
    with staged_folder(out, manifest, replace=replace, inputs=[source]) as stage:
        folder = source if source.is_dir() else source.parent
        if (folder / "config.json").is_file():
            copy_files(folder, stage)
        names = [SINGLE] if len(files) == 1 else [f"model-{n:05}-of-{len(files):05}{SUFFIX}" for n in range(1, len(files) + 1)]
        parts = []
        for file, name in zip(files, names, strict=True):
            parts.append(_read_apart(file, stage / name, key))
            progress(1)
        if len(files) > 1:
            _write_index(stage, names)
    return Converted(sum(part.tensors for part in parts), [name for part in parts for name in part.left_out])


def pickles_of(source: Path) -> list[Path]:
    """Return the pickles of a file or folder, in order; raises as :func:`convert` does where there is none."""
    source = local_copy(source, pickles=True)
    if source.is_file():
        if source.suffix not in PICKLES:
            raise UnsupportedFormat(f"{source}: expected a file that ends in {', '.join(sorted(PICKLES))}, or a folder with {OLD}")
        return [source]
    if (source / OLD_INDEX).is_file():
        _, names = read_index(source / OLD_INDEX)
        if not names or (absent := [name for name in names if not (source / name).is_file()]):
            raise CorruptCheckpoint(f"{source / OLD_INDEX} names shards that are not there: {', '.join(absent) if names else 'none'}")
        return [source / name for name in names]
    if (source / OLD).is_file():
        return [source / OLD]
    raise CheckpointNotFound(f"{source}: no such pickle, and no folder with {OLD}")


def _read_apart(source: Path, target: Path, key: str) -> Converted:
    """Read a pickle in a process of its own, which writes the tensors."""
    passed = {name: os.environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1", "PATH": os.defpath} | passed
    command = [sys.executable, "-P", "-B", "-m", "suture.checkpoints.unpickling", str(source.absolute()), str(target.absolute()), key]
    with reading(source, "a pickle that a process could be started for"):
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)  # noqa: S603
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or [f"code {done.returncode}"])[-1]
        raise CorruptCheckpoint(f"{source} cannot be read: the process that read it ended with {last}") from None
    if "refused" in answer:
        raise UnsupportedFormat(f"{source} is not converted: {answer['refused']}")
    if "full" in answer:
        raise OSError(*answer["full"], str(target))
    if "corrupt" in answer:
        raise CorruptCheckpoint(f"{source} cannot be read: {answer['corrupt']}")
    open_checkpoint(target)
    return Converted(answer["tensors"], answer["left_out"])


def _write_index(folder: Path, names: Sequence[str]) -> None:
    whole = Checkpoint(folder, [folder / name for name in names])
    size = sum(file.stat().st_size for file in whole.files)
    index = {"metadata": {"total_size": size}, "weight_map": {name: file.name for name, file in sorted(whole.file_of.items())}}
    write_text(folder / INDEX, json.dumps(index, indent=1))
