"""Texts and labels from csv, jsonl and parquet files."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from suture.errors import DataError
from suture.tasks.task import Split

Row = dict[str, Any]


def read_split(file: Path, classes: Sequence[str] | None, *, text: str = "text", label: str = "label") -> tuple[Split, list[str]]:
    """Read a split and its classes from a ``.csv``, ``.jsonl`` or ``.parquet`` file.

    ``classes`` gives the order of the class names; when it is None the sorted distinct labels of this file are the classes. A file
    without a label column gives a split without labels. Labels may be class names, or the numbers 0 … C−1 of given classes.

    Raises :class:`DataError` naming file, row and column.
    """
    rows = _read_rows(file)
    if not rows:
        raise DataError(f"{file} holds no rows")
    if text not in rows[0]:
        raise DataError(f"{file} has no column {text!r}; it has {', '.join(rows[0])}")
    texts = [_text(file, number, row[text]) for number, row in enumerate(rows, 1)]
    if label not in rows[0]:
        return Split(texts), list(classes or [])
    raw = [str(row[label]) for row in rows]
    names = list(classes) if classes else sorted(set(raw), key=_numbers_first)
    places = {str(place): place for place in range(len(names))} | {name: place for place, name in enumerate(names)}
    unknown = sorted(set(raw) - places.keys())
    if unknown:
        raise DataError(f"{file}: column {label!r} holds {', '.join(map(repr, unknown[:5]))}; the classes are {', '.join(names)}")
    return Split(texts, torch.tensor([places[value] for value in raw])), names


def _read_rows(file: Path) -> list[Row]:
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if file.suffix not in readers:
        raise DataError(f"{file}: expected a file that ends in {', '.join(readers)}")
    try:
        return list(readers[file.suffix](file))
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    except (ValueError, csv.Error) as error:
        raise DataError(f"{file} is not a whole {file.suffix[1:]} file: {error}") from error


def _read_csv(file: Path) -> Iterable[Row]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        yield from csv.DictReader(stream, strict=True)


def _read_jsonl(file: Path) -> Iterable[Row]:
    with file.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"line {number} is not an object")
                yield row


def _read_parquet(file: Path) -> Iterable[Row]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"reading {file} needs pyarrow: pip install 'suture[parquet]'") from error
    rows: list[Row] = pyarrow.parquet.read_table(file).to_pylist()
    return rows


def _text(file: Path, number: int, value: object) -> str:
    if not isinstance(value, str):
        raise DataError(f"{file}, row {number}: expected text, found {value!r}")
    return value


def _numbers_first(label: str) -> tuple[bool, int, str]:
    """Sort 2 before 10, and numbers before words."""
    return (False, int(label), "") if label.isdecimal() else (True, 0, label)
