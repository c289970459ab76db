"""What ``--replace`` may take away: a folder that we wrote, and nobody has put anything else into."""

import os
import re
import stat
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from suture.checkpoints.leftovers import STAGE, stranded
from suture.checkpoints.locking import is_given_up
from suture.checkpoints.manifest import MANIFEST, Manifest, open_manifest
from suture.checkpoints.reading import sha256_of
from suture.errors import CheckpointError, OutputError, OutputExists

LOCK = re.compile(r"\..+\.lock", re.DOTALL)
OF_DESKTOPS = {".DS_Store", "Thumbs.db"}
"""What those who look into a folder leave there unasked."""
SHOWN = 5
"""The most names that are told."""


def check_ours(out: Path) -> None:
    """See to it that a folder is ours, and that all that is in it is as we wrote it.

    Raises :class:`OutputExists`, which names what is not, and :class:`OutputError` when that cannot be found out.
    """
    try:
        manifest = open_manifest(out)
    except CheckpointError as error:
        message = f"{out} was not written by Suture, or is damaged, and is not replaced: {error}; choose another output"
        raise OutputExists(message) from error
    try:
        found = sorted(_theirs(out, manifest))
    except OSError as error:
        raise OutputError(
            f"{out} is not replaced, as it cannot be looked through: {error.strerror or error}; choose another output"
        ) from error
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        message = f"{out} is not replaced, as it holds what Suture did not write: {', '.join(map(_shown, found[:SHOWN]))}{more}"
        raise OutputExists(f"{message}; move that away, or choose another output")


def _theirs(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Yield the paths in a folder of what the manifest does not tell of, or tells otherwise, and no writer of ours has left."""
    written = (folder / MANIFEST).stat().st_mtime_ns
    for top, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if Path(top, name).is_symlink()]
        folders[:] = [name for name in folders if not (STAGE.fullmatch(name) and not stranded(Path(top, name)))]
        for file in (Path(top, name) for name in (*files, *links)):
            name = file.relative_to(folder).as_posix()
            if name in manifest.files:
                if _changed(file, manifest.files[name], written):
                    yield f"{name} (changed since)"
            elif name != MANIFEST and not _left(file):
                yield name


def _shown(name: str) -> str:
    return name if name.isprintable() else repr(name)


def _raise(error: OSError) -> None:
    raise error


def _left(file: Path) -> bool:
    """Tell whether a file is what a killed writer of ours has left, or a desktop."""
    return bool(STAGE.fullmatch(file.name) or (LOCK.fullmatch(file.name) and is_given_up(file))) or file.name in OF_DESKTOPS


def _changed(file: Path, digest: str, written: int) -> bool:
    """Tell whether a file is not as it was written: one of which nothing is younger than its manifest is taken to be, as is a link."""
    now = file.lstat()
    if stat.S_ISLNK(now.st_mode) or max(now.st_mtime_ns, now.st_ctime_ns) <= written:
        return False
    return not stat.S_ISREG(now.st_mode) or _digest(file, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns) != digest


@lru_cache(maxsize=256)
def _digest(file: Path, *_: int) -> str:
    """Return the digest of a file, taken once for as long as the system says that it is the same: outputs are checked several times."""
    return sha256_of(file)
