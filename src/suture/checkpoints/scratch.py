"""Folders for what is only needed for a while: gone after the block, and after SIGKILL with the next that is made in the same place."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from suture.checkpoints.cache import cache_folder
from suture.checkpoints.locking import Lock, fcntl
from suture.errors import OutputError

PREFIX = "scratch-"


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new folder in the cache, or in ``parent``, that is gone after the block.

    A lock on it says that it is in use; those beside it that nobody uses any more are cleared away. Raises :class:`OutputError` when
    there can be none.
    """
    parent = cache_folder() / "scratch" if parent is None else parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        folder, lock = _made(parent)
    except OSError as error:
        raise OutputError(
            f"work in progress would be kept in {parent}, which cannot be written: {error.strerror or error}; set SUTURE_CACHE"
        ) from error
    try:
        yield folder
    finally:
        if lock.mine():  # what the parent works with is not a forked child's to remove
            shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def _made(parent: Path) -> tuple[Path, Lock]:
    """Make a folder and lock it; somebody who sweeps may take it for a dead one's in between."""
    while True:
        folder = parent / f"{PREFIX}{secrets.token_hex(8)}"
        folder.mkdir(0o700)
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            if _locked(descriptor) is not False and folder.exists():
                return folder, Lock(descriptor)
            os.close(descriptor)


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                if _locked(descriptor):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _locked(descriptor: int) -> bool | None:
    """Lock an open folder, unless somebody has; None where there are no locks: then nothing is swept."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
