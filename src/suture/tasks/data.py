"""Inputs and labels from csv, jsonl and parquet files."""

import csv
import json
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from suture.errors import DataError, in_short, reading
from suture.inputs import Input, Picture
from suture.tasks.folders import read_image_folder
from suture.tasks.labels import numbers_first, places_of
from suture.tasks.task import Split

Row = dict[str, Any]


def read_split(
    file: Path, classes: Sequence[str] | None, *, text: str = "text", image: str | None = None, label: str | None = "label"
) -> tuple[Split, list[str]]:
    r"""Read a split and its classes from a ``.csv``, ``.jsonl`` or ``.parquet`` file, or from a folder of images.

    Inputs are the texts of column ``text`` or, where it is given, the images of column ``image``: paths, from the file's own folder on,
    or in parquet the bytes of image files too, as data sets of Hugging Face hold them. A folder is read by
    :func:`suture.tasks.folders.read_image_folder`.

    ``classes`` gives the order of the class names; when it is None the sorted distinct labels of this file are the classes. A file
    without a label column gives a split without labels, and so does ``label=None``, which reads none. The labels of a file are all
    class names or, failing that, all numbers 0 … C−1 of given classes.

    Raises :class:`DataError` naming file, row and column.

    >>> _ = (folder / "films.csv").write_text("text,label\na gem,good\na bore,bad\n")
    >>> split, classes = read_split(folder / "films.csv", None)
    >>> split.inputs, split.known_labels().tolist(), classes
    (['a gem', 'a bore'], [1, 0], ['bad', 'good'])
    """
    if file.is_dir():
        return read_image_folder(file, classes, labelled=label is not None)
    rows = _read_rows(file)
    if not rows:
        raise DataError(f"{file} holds no rows")
    column, read = (text, _text) if image is None else (image, _image)
    if column not in rows[0]:
        raise DataError(f"{file} has no column {column!r}; it has {', '.join(rows[0])}")
    inputs: list[Input] = [read(file, number, row.get(column)) for number, row in enumerate(rows, 1)]
    if label is None or not any(label in row for row in rows):
        return Split(inputs), list(classes or [])
    raw = [_label(file, number, row.get(label), label) for number, row in enumerate(rows, 1)]
    names = list(classes) if classes else sorted(set(raw), key=numbers_first)
    return Split(inputs, torch.tensor(places_of(str(file), raw, names, label))), names


def _read_rows(file: Path) -> list[Row]:
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if file.suffix.lower() not in readers:
        raise DataError(f"{file}: expected a file that ends in {', '.join(readers)}")
    with reading(file, f"a whole {file.suffix[1:]} file", DataError, DataError):
        return list(readers[file.suffix.lower()](file))


def _read_csv(file: Path) -> Iterable[Row]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        names = reader.fieldnames or []
        if len(set(names)) != len(names):
            raise ValueError("two columns have the same name")
        for number, row in enumerate(reader, 1):
            # DictReader puts what is too much under the key None, and None where cells are missing.
            if None in row or None in row.values():
                raise DataError(
                    f"{file}, row {number}: {'more' if None in row else 'fewer'} cells than the {len(names)} columns of the header"
                )
            yield row


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
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{file}, row {number}: half a surrogate pair at position {error.start}, which is not text") from error
    return value


def _image(file: Path, number: int, value: object) -> Picture:
    """Return an image that a cell names by its path, or holds."""
    held = value.get("bytes") or value.get("path") if isinstance(value, dict) else value
    if isinstance(held, str) and held:
        return file.parent / held
    if not isinstance(held, bytes):
        raise DataError(f"{file}, row {number}: expected an image's path or bytes, found {value!r:.60}")
    try:
        image = Image.open(BytesIO(held))
        image.load()
    except Exception as error:  # decoders raise what they come upon
        raise DataError(f"{file}, row {number}: not an image that can be read: {in_short(error)}") from error
    return image


def _label(file: Path, number: int, value: object, label: str) -> str:
    if value is None or value == "":
        raise DataError(f"{file}, row {number}: nothing in column {label!r}; expected a label")
    return _text(file, number, str(value))
