"""Inputs to be asked about, from wherever they are: files, folders, standard input."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from suture.errors import DataError
from suture.inputs import Input
from suture.tasks.data import read_split
from suture.tasks.folders import SUFFIXES, read_image_folder

STDIN = "-"
TABLES = {".csv", ".jsonl", ".parquet"}


def read_inputs(places: Sequence[str], kind: Literal["text", "image"], column: str | None = None) -> list[tuple[str, Input]]:
    r"""Return what each input is called, and the input, from several places in turn.

    A place is a ``.csv``, ``.jsonl`` or ``.parquet`` file with the ``column`` (``text`` or ``image`` without one), an image or a folder
    of them, a text file with a text on each line, or ``-``: standard input, with a text or the path of an image on each line.

    Raises :class:`DataError` for a place that holds nothing of the kind.

    >>> _ = (folder / "films.txt").write_text("a gem\n\na bore\n")
    >>> read_inputs([str(folder / "films.txt")], "text")
    [('a gem', 'a gem'), ('a bore', 'a bore')]
    """
    found = [each for place in places for each in _read(place, kind, column or kind)]
    if not found:
        raise DataError(f"there are no {kind}s in {', '.join(places) or 'nothing'}")
    return found


def _read(place: str, kind: str, column: str) -> Iterator[tuple[str, Input]]:
    file = Path(place)
    if place == STDIN:
        for line in _lines("standard input", sys.stdin.buffer.read()):
            yield line, line if kind == "text" else Path(line)
    elif file.suffix.lower() in TABLES and not file.is_dir():
        text, image = (column, None) if kind == "text" else ("text", column)
        split, _ = read_split(file, None, text=text, image=image, label=None)
        for number, each in enumerate(split.inputs, 1):
            yield (each if isinstance(each, str) else f"{place}:{number}"), each
    elif kind == "image":
        yield from ((str(image), image) for image in _images(file))
    else:
        yield from ((line, line) for line in _lines(place, _content(file)))


def _images(place: Path) -> Sequence[Input]:
    if place.is_dir():
        return read_image_folder(place, None, labelled=False)[0].inputs
    if place.suffix.lower() not in SUFFIXES:
        raise DataError(f"{place}: expected an image ({', '.join(sorted(SUFFIXES))}), a folder, or a table ({', '.join(sorted(TABLES))})")
    if not place.is_file():
        raise DataError(f"{place}: no such file")
    return [place]


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


def _lines(place: str, content: bytes) -> list[str]:
    """Return the lines that are not empty."""
    try:
        return [line.removesuffix("\r") for line in content.decode("utf-8-sig").split("\n") if line.strip()]
    except UnicodeDecodeError as error:
        raise DataError(f"{place} is not UTF-8, byte {error.start}: expected a text on each line") from error
