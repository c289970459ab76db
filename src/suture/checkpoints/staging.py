"""Output that is whole, or is not there: staged under a hidden sibling, flushed to the disk, renamed into place.

Only folders that carry a manifest of ours are ever replaced, and only if all in them is ours. One process at a time writes an output, and
none but the one that has begun it ends it; what killed ones left beside it is cleared away by the next that writes there::

    out                                     what stood there, until the one move that puts the new in its place
    .out.lock                               who writes (:mod:`suture.checkpoints.locking`)
    .out.staging-<16 digits>/new            what is being written
    .out.staging-<16 digits>/old            what is being replaced, where the system cannot exchange two names in one step
"""

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from suture.checkpoints.leftovers import NEW, OLD, hidden, leave, remove, stranded, sweep
from suture.checkpoints.locking import own, sole_writer
from suture.checkpoints.manifest import Manifest, write_manifest
from suture.checkpoints.reading import open_checkpoint, sha256_of
from suture.checkpoints.replacing import check_ours
from suture.checkpoints.writing import NO_ROOM, flush, put_file
from suture.errors import CheckpointError, OutputError, OutputExists

FAILED_WRITES = NO_ROOM | {errno.EIO, errno.EROFS}
"""What a write that fails says without the name of a file."""
EXCHANGE, HERE = 2, -100
"""RENAME_EXCHANGE and AT_FDCWD of Linux's ``renameat2``."""


def check_output(out: Path, *, replace: bool, inputs: Iterable[Path] = ()) -> None:
    """See to it that ``out`` is free, or is a folder of ours and may be replaced, and that nothing would be lost.

    Raises :class:`OutputExists`, which names what in the folder is not ours or was changed since it was written, and
    :class:`OutputError` when ``out`` is one of the ``inputs`` or a folder above one.
    """
    _check_name(out)
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
    check_ours(out)


@contextmanager
def staged_folder(
    out: str | Path, manifest: Manifest, *, replace: bool = False, inputs: Iterable[Path] = (), wait: bool = False
) -> Iterator[Path]:
    """Yield a hidden folder beside ``out`` to write into; when the block ends without error it becomes ``out``.

    The manifest, completed with the digest of every file, is written last. On any error nothing remains, not even folders made
    above ``out``, and ``out`` is as it was. Raises what :func:`check_output` raises, at the start and again at the end;
    :class:`suture.errors.OutputBusy` when another process writes ``out``, unless told to ``wait`` for it; and :class:`OutputError` when
    the disk is full or the place cannot be written, or when a forked child comes to the end of the block, which is its parent's. Other
    errors of the block pass unchanged.
    """
    out, inputs, process = Path(out), tuple(inputs), os.getpid()
    check_output(out, replace=replace, inputs=inputs)
    with writing_to(out, wait=wait):
        check_output(out, replace=replace, inputs=inputs)  # it may have come back, or been made while this one waited
        place = hidden(out)
        with _writing(out):
            place.mkdir(0o700)
        stage = place / NEW
        try:
            with _writing(out):
                stage.mkdir()
            with _faults_inside(stage, out), own(place):
                yield stage
            _check_process(process, out)
            with _writing(out):
                _seal(stage, manifest)
                check_output(out, replace=replace, inputs=inputs)  # somebody may have made it meanwhile
                _commit(stage, out, replace=replace)
        finally:
            if os.getpid() == process:
                (leave if stranded(place) else remove)(place)


@contextmanager
def staged_file(out: str | Path, *, replace: bool = False, wait: bool = False) -> Iterator[Path]:
    """Yield a hidden file beside ``out`` (of the same suffix) to write to; when the block ends without error it becomes ``out``.

    On any error nothing remains, and ``out`` is as it was. A link at ``out`` is replaced, not followed. Raises
    :class:`OutputExists` when something is at ``out`` and may not be replaced, or is a folder; :class:`suture.errors.OutputBusy` when
    another process writes it, unless told to ``wait`` for it; :class:`OutputError`, before the block runs where possible, when the place
    cannot be written, and in a forked child, as :func:`staged_folder` does. Other errors of the block pass unchanged.
    """
    out, process = Path(out), os.getpid()
    _check_file(out, replace=replace)
    with writing_to(out, wait=wait):
        _check_file(out, replace=replace)
        stage = hidden(out, out.suffix)
        try:
            with _writing(out):
                stage.touch(exist_ok=False)
            with _faults_inside(stage, out):
                yield stage
            _check_process(process, out)
            with _writing(out):
                flush(stage)
                _check_file(out, replace=replace)
                put_file(stage, out, replace=replace)
                flush(out.parent)
        finally:
            if os.getpid() == process:
                remove(stage)


@contextmanager
def writing_to(out: Path, *, wait: bool = False) -> Iterator[None]:
    """Be the only one who writes ``out``, or anything that is kept beside it for that, while the block runs.

    Folders above are made, and go again on an error, as far as they are empty. What writers that were killed have left is cleared away
    first. Raises :class:`suture.errors.OutputBusy`, unless told to ``wait``, and :class:`OutputError`.
    """
    absent, process = [folder for folder in out.parents if not os.path.lexists(folder)], os.getpid()
    try:
        with _writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
        with sole_writer(out, wait=wait) as lock:
            if lock is not None:
                with _writing(out):
                    sweep(out, again=lock.found)
            yield
    except BaseException:
        for folder in absent if os.getpid() == process else ():
            with suppress(OSError):
                folder.rmdir()
        raise


def clear_away(folder: Path, out: Path) -> None:
    """Remove a folder that is kept for ``out``, beside it or there: its name goes first, so that a part of it is never taken for it.

    What SIGKILL leaves of it is swept by the next who writes ``out``.
    """
    aside = hidden(out)
    with suppress(OSError):
        folder.rename(aside)
        remove(aside)


def _check_process(process: int, out: Path) -> None:
    """See to it that the process that has begun an output ends it, and no child that was forked meanwhile."""
    if os.getpid() != process:
        raise OutputError(f"{out} is written by process {process}, and not by process {os.getpid()}, which that one has forked")


def _check_name(out: Path) -> None:
    if "\0" in str(out) or out.name in ("", ".."):
        raise OutputError(f"{str(out)!r} cannot be the name of an output")


def _check_file(out: Path, *, replace: bool) -> None:
    _check_name(out)
    if not os.path.lexists(out):
        return
    if out.is_dir():
        raise OutputExists(f"{out} is a folder, which a file does not replace; choose another output")
    if not replace:
        raise OutputExists(f"{out} exists already; choose another output or pass --replace")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Map the faults of our own writes."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}") from error


@contextmanager
def _faults_inside(stage: Path, out: Path) -> Iterator[None]:
    """Map the block's faults that are the output's: those of files in the stage, and of writes. All others are the block's own."""
    try:
        yield
    except OSError as error:
        names = [name for name in (error.filename, error.filename2) if isinstance(name, str | bytes | os.PathLike)]
        inside = any(Path(os.path.realpath(os.fsdecode(name))).is_relative_to(os.path.realpath(stage)) for name in names)
        if inside or (not names and error.errno in FAILED_WRITES):
            raise OutputError(f"cannot write {out}: {error.strerror or error}") from error
        raise


def _seal(stage: Path, manifest: Manifest) -> None:
    """Flush every file, see to it that weights read back, and write the manifest with all digests; those taken while writing stand."""
    files = sorted(file for file in stage.rglob("*") if file.is_file())
    known, names = manifest.files, {file.relative_to(stage).as_posix(): file for file in files}
    for file in files:
        flush(file)
    try:
        for file in files:
            if file.suffix == ".safetensors":
                open_checkpoint(file)
        manifest.files = {name: known.get(name) or sha256_of(file) for name, file in names.items()}
    except CheckpointError as error:
        raise OutputError(f"what was written does not read back: {error}") from error
    write_manifest(stage, manifest)
    for folder in (*(place for place in stage.rglob("*") if place.is_dir()), stage):
        flush(folder)


def _commit(stage: Path, out: Path, *, replace: bool) -> None:
    """Put the staged folder at ``out``, which was just checked; only with ``replace`` may anything stand there, and go."""
    if replace and os.path.lexists(out):
        if not _exchanged(stage, out):
            _swap(stage, out)
    else:
        try:
            stage.rename(out)
        except OSError as error:
            if error.errno in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR} and os.path.lexists(out):
                raise OutputExists(f"{out} came into being while it was written; choose another output") from error
            raise
    flush(out.parent)


def _exchanged(stage: Path, out: Path) -> bool:
    """Exchange what two names stand for in one step, and say whether the system could: at no moment is there nothing at ``out``."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError, TypeError):  # not on Linux
        return False
    done: int = rename(HERE, os.fsencode(stage), HERE, os.fsencode(out), EXCHANGE)
    return done == 0


def _swap(stage: Path, out: Path) -> None:
    """Move what stands at ``out`` aside, put the stage there, then drop the old; on an error the old goes back."""
    old = stage.with_name(OLD)
    try:
        out.rename(old)
        stage.rename(out)
    except BaseException as error:
        if os.path.lexists(old):
            try:
                old.rename(out)
            except OSError:
                raise OutputError(f"cannot write {out}: {error}; what stood there is whole, at {old}") from error
        raise
    flush(out.parent)
    remove(old)
