"""The headers of safetensors files, read as they stand: the library takes the last of two entries of one name in silence."""

import json
from pathlib import Path
from typing import IO, Any


def header_of(stream: IO[bytes], size: int) -> bytes:
    """Return the header of a file of that size, from its beginning, without the eight bytes of its length; at most what is there."""
    return stream.read(min(int.from_bytes(stream.read(8), "little"), size))


def check_names(file: Path) -> None:
    """Raise ``ValueError`` for a header in which a name stands twice."""
    with file.open("rb") as stream:
        parsed(header_of(stream, file.stat().st_size))


def parsed(content: bytes | str) -> Any:
    """Return what JSON says; raises ``ValueError`` when it says nothing, or names one thing twice.

    >>> parsed('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: the name 'a' stands twice
    """
    return json.loads(content, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} stands twice")
    return found
