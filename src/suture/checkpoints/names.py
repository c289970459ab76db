"""Names that files give to other files: taken as names in a folder, or refused."""

from pathlib import Path, PurePosixPath, PureWindowsPath

from suture.errors import UnsafePath

LONGEST = 255
"""The most bytes of a name that file systems take."""


def is_plain(name: object) -> bool:
    r"""Tell whether a name is that of a file in the folder where it is looked up, on any system.

    >>> [is_plain(name) for name in ("a.safetensors", "../a", "/a", "sub/a", r"\\server\share\a", "C:a", "..", "a\0", 3)]
    [True, False, False, False, False, False, False, False, False]
    """
    if not isinstance(name, str) or "\0" in name or name in ("", ".", ".."):
        return False
    try:
        short = len(name.encode()) <= LONGEST
    except UnicodeEncodeError:  # half a character
        return False
    return short and PurePosixPath(name).name == name and PureWindowsPath(name).name == name


def inside(folder: Path, name: str, root: Path, told_by: str) -> Path:
    """Return the place of a file that something names relative to a folder, with ``/`` between its parts.

    Raises :class:`UnsafePath`, before anything is opened, for a name that leaves the folder, or a link that leaves ``root``.
    """
    if not all(map(is_plain, name.split("/"))) or not (folder / name).resolve().is_relative_to(root):
        raise UnsafePath(f"{told_by} names {name!r}, which is outside of {folder}")
    return folder / name
