"""Output that is whole, or is not there: staged under a hidden sibling, flushed to the disk, renamed into place.

Only folders that carry a manifest of ours are ever replaced.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from suture.checkpoints.manifest import MANIFEST, Manifest, read_manifest
from suture.checkpoints.reading import sha256_of
from suture.checkpoints.writing import write_text
from suture.errors import OutputError, OutputExists

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
NOT_WRITABLE = NO_ROOM | {errno.EROFS, errno.EACCES}


def check_output(out: Path, *, replace: bool, inputs: Iterable[Path] = ()) -> None:
    """See to it that ``out`` is free, or is a folder of ours and may be replaced, and that none of ``inputs`` would be lost.

    Raises :class:`OutputExists`, or :class:`OutputError` when ``out`` is one of the inputs or a folder above one.
    """
    if "\0" in str(out):
        raise OutputError(f"{str(out)!r} cannot be the name of an output")
    target = Path(os.path.realpath(out))
    for path in inputs:
        # The input's own name counts as well as what it leads to: replacing a folder also takes the links in it.
        for source in (Path(os.path.realpath(path)), Path(os.path.realpath(path.parent), path.name)):
            if source == target:
                raise OutputError(f"{out} is the input {path}, which would be lost; choose another output")
            if source.is_relative_to(target):
                raise OutputError(f"{out} holds the input {path}, which would be lost; choose another output")
    if not os.path.lexists(out):
        return
    if not replace:
        raise OutputExists(f"{out} exists already; choose another output or pass --replace")
    if read_manifest(out) is None:
        raise OutputExists(f"{out} was not written by Suture (no {MANIFEST} of ours in it), so it is not replaced; choose another output")


@contextmanager
def staged_folder(out: str | Path, manifest: Manifest, *, replace: bool = False, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """Yield a hidden folder beside ``out`` to write into; when the block ends without error it becomes ``out``.

    The manifest, completed with the digest of every file, is written last. On any error nothing remains, not even folders made
    above ``out``, and ``out`` is as it was. Raises what :func:`check_output` raises, at the start and again at the end, and
    :class:`OutputError` when the disk is full or the place cannot be written; other errors of the block pass unchanged.
    """
    out, inputs = Path(out), tuple(inputs)
    check_output(out, replace=replace, inputs=inputs)
    with _parents(out):
        with _writing(out):
            stage = Path(tempfile.mkdtemp(prefix=f".{out.name}.staging-", dir=out.parent))
        try:
            with _faults_inside(stage, out):
                yield stage
            with _writing(out):
                _seal(stage, manifest)
                check_output(out, replace=replace, inputs=inputs)  # somebody may have made it meanwhile
                _commit(stage, out, replace=replace)
        finally:
            shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def staged_file(out: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a hidden file beside ``out`` (of the same suffix) to write to; when the block ends without error it becomes ``out``.

    On any error nothing remains, and ``out`` is as it was. A link at ``out`` is replaced, not followed. Raises
    :class:`OutputExists` when something is at ``out`` and may not be replaced, or is a folder; :class:`OutputError`, before the
    block runs where possible, when the place cannot be written. Other errors of the block pass unchanged.
    """
    out = Path(out)
    _check_file(out, replace=replace)
    with _parents(out):
        with _writing(out):
            handle, name = tempfile.mkstemp(prefix=f".{out.name}.staging-", suffix=out.suffix, dir=out.parent)
            os.close(handle)
        stage = Path(name)
        try:
            with _faults_inside(stage, out):
                yield stage
            with _writing(out):
                _flush(stage)
                stage.chmod(0o666 & ~_umask())
                _check_file(out, replace=replace)
                stage.replace(out)
                _flush(out.parent)
        finally:
            stage.unlink(missing_ok=True)


def _check_file(out: Path, *, replace: bool) -> None:
    if "\0" in str(out):
        raise OutputError(f"{str(out)!r} cannot be the name of an output")
    if not os.path.lexists(out):
        return
    if out.is_dir():
        raise OutputExists(f"{out} is a folder, which a file does not replace; choose another output")
    if not replace:
        raise OutputExists(f"{out} exists already; choose another output or pass --replace")


@contextmanager
def _parents(out: Path) -> Iterator[None]:
    """Make the folders above ``out``; on any error remove those made here, as far as they are empty."""
    absent = [folder for folder in out.parents if not os.path.lexists(folder)]
    try:
        with _writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in absent:
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Map the faults of our own writes."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error


@contextmanager
def _faults_inside(stage: Path, out: Path) -> Iterator[None]:
    """Map the block's faults that are the output's: no room or no leave to write in the stage. All others are the block's own."""
    try:
        yield
    except OSError as error:
        names = [name for name in (error.filename, error.filename2) if isinstance(name, str | bytes | os.PathLike)]
        inside = any(Path(os.path.realpath(os.fsdecode(name))).is_relative_to(os.path.realpath(stage)) for name in names)
        # A failing write() names no file, and only writes run out of room.
        if (inside and error.errno in NOT_WRITABLE) or (not names and error.errno in NO_ROOM):
            raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
        raise


def _seal(stage: Path, manifest: Manifest) -> None:
    """Flush every file, and write the manifest with their digests; those that it has, from the writing, stand."""
    files = sorted(file for file in stage.rglob("*") if file.is_file())
    for file in files:
        _flush(file)
    known = manifest.files
    names = {file.relative_to(stage).as_posix(): file for file in files}
    manifest.files = {name: known.get(name) or sha256_of(file) for name, file in names.items()}
    write_text(stage / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    _flush(stage)


def _commit(stage: Path, out: Path, *, replace: bool) -> None:
    """Put the staged folder at ``out``, which was just checked; only with ``replace`` may anything stand there, and go."""
    stage.chmod(0o777 & ~_umask())
    if replace and os.path.lexists(out):
        _swap(stage, out)
        return
    try:
        stage.rename(out)
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR} and os.path.lexists(out):
            raise OutputExists(f"{out} came into being while it was written; choose another output") from error
        raise
    _flush(out.parent)


def _swap(stage: Path, out: Path) -> None:
    """Move what stands at ``out`` aside, put the stage there, then drop the old; on an error the old goes back."""
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.replaced-", dir=out.parent))
    old = aside / "old"
    try:
        out.rename(old)
        stage.rename(out)
    except BaseException as error:
        if os.path.lexists(old):
            try:
                old.rename(out)
            except OSError:
                raise OutputError(f"cannot write {out}: {error}; what stood there is whole, at {old}") from error
        with suppress(OSError):
            aside.rmdir()
        raise
    _flush(out.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _flush(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
