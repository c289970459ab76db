"""What writers have not cleared away: found again without looking through a folder for every file that is written into it.

A killed writer leaves its lock file, and whoever takes that over looks (:func:`sweep`). What is left without a lock file, as where
something could not be removed, is looked for once for each folder and process.
"""

import os
import re
import secrets
import shutil
import warnings
from contextlib import suppress
from pathlib import Path

from suture.errors import SutureWarning

NEW, OLD = "new", "old"
STAGE = re.compile(r"\..+\.staging-[0-9a-f]{16}(\.[^.]*)?", re.DOTALL)
"""A stage of whatever output."""

_left: dict[str, set[str]] = {}
"""The names of stages that were found in a folder, or left there by this process; some may be gone, or be a living writer's."""


def hidden(out: Path, suffix: str = "") -> Path:
    """Return a name for a stage of an output, that nobody has."""
    return out.with_name(f".{out.name}.staging-{secrets.token_hex(8)}{suffix}")


def stranded(place: Path) -> bool:
    """Tell whether the old is aside and the new not in its place: the move stopped between its two steps."""
    return os.path.lexists(place / OLD) and os.path.lexists(place / NEW)


def remove(place: Path) -> None:
    """Remove a file or folder, as far as that can be done; a call that fails once may not fail again."""
    for _ in range(2):
        with suppress(OSError):
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink()
        if not os.path.lexists(place):
            return
    leave(place)


def leave(place: Path) -> None:
    """Remember what stays, for the next who writes there; a folder that nobody has looked through will be."""
    if (names := _left.get(os.path.realpath(place.parent))) is not None:
        names.add(place.name)


def sweep(out: Path, *, again: bool) -> None:
    """Clear away what killed writers of ``out`` have left, and put back what one had moved aside: whoever holds the lock may.

    The folder is looked through if it has not been before, or ``again``.
    """
    folder = os.path.realpath(out.parent)
    if again or folder not in _left:
        found = {entry.name for entry in Path(folder).iterdir() if STAGE.fullmatch(entry.name)}
        _left[folder] = _left.get(folder, set()) | found
    own = re.compile(rf"{re.escape(f'.{out.name}.staging-')}[0-9a-f]{{16}}({re.escape(out.suffix)})?")
    for name in filter(own.fullmatch, tuple(_left[folder])):
        place = out.with_name(name)
        if stranded(place):
            if os.path.lexists(out):
                message = f"{place / OLD} stood at {out} before a run was killed, and something else does now: keep it or remove it"
                warnings.warn(message, SutureWarning, stacklevel=2)
                continue
            (place / OLD).rename(out)
        _left[folder].discard(name)
        remove(place)
