"""The headers of safetensors files, read as they stand: the library takes the last of two entries of one name in silence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

LARGEST = 16 << 20
"""Bytes of the largest header or index that is read."""
MOST = 1_500_000
"""The most parts that one may have, each of which takes memory: room for a hundred thousand tensors of a file, and more of an index."""
MARKS = ",:[{"
"""What stands between parts, or where one begins."""
LONGEST = 2**63 - 1
"""The largest number of elements that PyTorch counts to."""


def header_of(stream: IO[bytes], size: int) -> bytes:
    """Return the header of a file of that size, from its beginning, without the eight bytes of its length; at most what is there.

    Raises ``ValueError`` for one that is too large.
    """
    length = min(int.from_bytes(stream.read(8), "little"), size)
    _check_size(length)
    return stream.read(length)


def check_header(file: Path) -> None:
    """Raise ``ValueError`` for a header that is too large, in which a name stands twice, or with a shape that no tensor has.

    All else that may be wrong with a header is the library's to find; this comes first, as that keeps all that it reads.
    """
    with file.open("rb") as stream:
        header = header_of(stream, file.stat().st_size)
    _loads(header, _looked_at)


def text_of(file: Path) -> str:
    """Return the text of a file of JSON; raises ``ValueError`` for one that is too large or of too many parts, and ``OSError``."""
    _check_size(file.stat().st_size)
    text = file.read_bytes().decode("utf-8")  # line ends as they are: digests are taken of them
    _check_parts(text)
    return text


def parsed(content: bytes | str) -> Any:
    """Return what JSON says; raises ``ValueError`` when it says nothing, or names one thing twice.

    >>> parsed('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: the name 'a' stands twice
    """
    return _loads(content, _once)


def _loads(content: bytes | str, hook: Callable[[list[tuple[str, Any]]], Any]) -> Any:
    _check_parts(content)
    return json.loads(content, object_pairs_hook=hook)


def _check_parts(content: bytes | str) -> None:
    parts = sum(content.count(mark) if isinstance(content, str) else content.count(mark.encode()) for mark in MARKS)
    if parts > MOST:
        raise ValueError(f"JSON of {parts:,} parts, where at most {MOST:,} are read")


def _check_size(length: int) -> None:
    if length > LARGEST:
        raise ValueError(f"{length:,} bytes of JSON, where at most {LARGEST:,} are read")


def _looked_at(pairs: list[tuple[str, Any]]) -> None:
    """Look at an object of a header, and keep nothing of it."""
    for key, value in _once(pairs).items():
        if key == "shape" and isinstance(value, list) and _reach(value) > LONGEST:
            raise ValueError(f"no tensor has the shape {str(value)[:100]}")


def _reach(shape: list[Any]) -> int:
    """Return the product of sides that PyTorch counts in, even where one of them is 0 and there is nothing to count."""
    reach = 1
    for side in shape:
        reach *= side if isinstance(side, int) and side > 1 and reach <= LONGEST else 1
    return reach


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name[:100]!r} stands twice")
        found[name] = value
    return found
