"""Data sets of Hugging Face's library: by their names on the hub, or from local folders."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from suture.errors import DataError, SutureError, in_short
from suture.inputs import Input, StoredPicture
from suture.tasks.labels import numbers_first, places_of
from suture.tasks.task import Split

SAVED = ("state.json", "dataset_dict.json")
"""What the library writes when it saves a data set, or one of several splits."""


SHARD = re.compile(r"-(\d+)-of-(?P<of>\d+)$")
"""How files that are parts of one are numbered."""


@dataclass(frozen=True)
class DataSet:
    """One split of a data set: its name on the hub or its folder, and where there are several, configuration and revision.

    With ``files``, a pattern such as ``data/test-*.parquet``, only those files of the repository are fetched, and all of their rows are
    the split; ``HF_HUB_CACHE`` and ``HF_HUB_OFFLINE`` are respected.
    """

    name: str
    split: str
    config: str | None = None
    revision: str | None = None
    files: str | None = None
    shuffle: int | None = None
    """The seed of a random order of the rows: many data sets are sorted by class, and the first rows are what a pool takes."""

    def __str__(self) -> str:
        return f"{self.name} ({self.split})"


def read_dataset(
    source: DataSet, classes: Sequence[str] | None, *, text: str = "text", image: str | None = None, label: str | None = "label"
) -> tuple[Split, list[str]]:
    """Read a split and its classes; columns as in :func:`suture.tasks.read_split`. Images are opened when they are looked at.

    Labels that the data set itself numbers go by its names where these are the given classes, but for capitals and punctuation; else by
    their numbers, as prompts often name classes in other words: then there must be as many, and none of the names may stand at another
    place. Without given classes they are the data set's own.

    Raises :class:`DataError` when the library is not installed, or the data set, a column or a label is not what is expected.
    """
    data = _opened(source)
    if source.shuffle is not None:
        data = data.shuffle(seed=source.shuffle)
    column = text if image is None else image
    if lost := [name for name in (column, label) if name is not None and name not in data.column_names]:
        if lost != [label] or label is None:
            raise DataError(f"{source} has no column {lost[0]!r}; it has {', '.join(data.column_names)}")
        label = None
    if len(data) == 0:
        raise DataError(f"{source} holds no rows")
    inputs = _texts(source, data, column) if image is None else _pictures(source, data, column)
    if label is None:
        return Split(inputs), list(classes or [])
    raw, own = _labels(source, data, label)
    if own is not None and classes is not None:
        meant = _as_classes(source, own, classes)
        raw, own = [meant[value] for value in raw], None
    names = list(classes or own or sorted(set(raw), key=numbers_first))
    return Split(inputs, torch.tensor(places_of(str(source), raw, names, label))), names


def _as_classes(source: DataSet, own: Sequence[str], classes: Sequence[str]) -> dict[str, str]:
    """Return the class that each of a data set's own names means."""
    plain = ["".join(letter for letter in name.casefold() if letter.isalnum()) or name for name in own]
    given = {"".join(letter for letter in name.casefold() if letter.isalnum()) or name: name for name in classes}
    if len(given) == len(classes) and len(set(plain)) == len(own) and set(plain) <= given.keys():
        return {name: given[each] for name, each in zip(own, plain, strict=True)}
    places = list(given)
    moved = [name for place, (name, each) in enumerate(zip(own, plain, strict=True)) if each in given and places.index(each) != place]
    if len(own) != len(classes) or moved:
        odd = f"{moved[0]!r} stands at another place" if moved else f"{len(own)} of them, but {len(classes)} classes"
        raise DataError(f"{source}: its own names of the labels are not the classes, and their numbers cannot be meant: {odd}")
    return dict(zip(own, classes, strict=True))


def _opened(source: DataSet) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"reading {source} needs the library datasets: pip install 'suture[datasets]'") from error
    folder = Path(source.name)
    try:
        with _quietly(datasets):
            if any((folder / name).is_file() for name in SAVED):
                saved = datasets.load_from_disk(str(folder))
                if isinstance(saved, dict):
                    return saved[source.split]
                return _of_split(saved, source)
            if source.files is not None:
                files = _fetched(source)
                kind = {".csv": "csv", ".jsonl": "json", ".json": "json"}.get(files[0].suffix, "parquet")
                return datasets.load_dataset(kind, data_files=[str(file) for file in files], split="train")
            return datasets.load_dataset(source.name, source.config, split=source.split, revision=source.revision)
    except SutureError:
        raise
    except Exception as error:  # of the library, of those it reads with, and of the system
        raise DataError(f"{source} cannot be read: {in_short(error)}") from error


def _of_split(saved: Any, source: DataSet) -> Any:
    if saved.split is not None and str(saved.split) != source.split:
        raise DataError(f"{source.name} holds the split {str(saved.split)!r}, not {source.split!r}")
    return saved


def _fetched(source: DataSet) -> list[Path]:
    """Return the files that a source names, of a folder or of a repository in the local cache; all shards, where they are numbered."""
    from huggingface_hub import snapshot_download

    pattern, folder = source.files or "", Path(source.name)
    if not folder.is_dir():
        folder = Path(snapshot_download(source.name, repo_type="dataset", revision=source.revision, allow_patterns=[pattern]))
    if not (found := sorted(folder.glob(pattern))):
        raise DataError(f"{source.name} has no files {pattern!r}, or they are not in the local cache")
    for file in found:
        if shard := SHARD.search(file.stem):
            count = sum(other.stem.startswith(file.stem[: shard.start()]) for other in found)
            if count != int(shard["of"]):
                raise DataError(
                    f"{source}: {count} of the {int(shard['of'])} files {file.stem[: shard.start()]}-… are there; fetch it again"
                )
    return found


@contextmanager
def _quietly(datasets: Any) -> Iterator[None]:
    """Keep the library from drawing bars between ours."""
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _texts(source: DataSet, data: Any, column: str) -> list[Input]:
    found = list(data[column])
    for number, each in enumerate(found, 1):
        if not isinstance(each, str):
            raise DataError(f"{source}, row {number}: expected text, found {each!r:.60}")
    return found


def _pictures(source: DataSet, data: Any, column: str) -> list[Input]:
    import datasets

    if isinstance(data.features[column], datasets.Image):
        data = data.cast_column(column, datasets.Image(decode=False))
    return [_Stored(source, data, column, row) for row in range(len(data))]


@dataclass(frozen=True, eq=False)
class _Stored(StoredPicture):
    """An image in a row of a data set, which is mapped into memory, not read."""

    source: DataSet
    data: Any
    column: str
    row: int

    def open(self) -> Image.Image:
        held = self.data[self.row][self.column]
        held = (held.get("bytes") or held.get("path")) if isinstance(held, dict) else held
        if not isinstance(held, bytes | str):
            raise ValueError(f"expected an image's path or bytes, found {held!r:.60}")  # noqa: TRY004  what readers of images raise
        return Image.open(BytesIO(held) if isinstance(held, bytes) else held)

    def __str__(self) -> str:
        return f"{self.source}, row {self.row + 1}"


def _labels(source: DataSet, data: Any, label: str) -> tuple[list[str], list[str] | None]:
    """Return every row's label in words, and the data set's own names of them in order, if it has any."""
    import datasets

    feature, values = data.features[label], list(data[label])
    if any(value is None or value == -1 for value in values):
        raise DataError(f"{source}: rows without a label in column {label!r}")
    if isinstance(feature, datasets.ClassLabel):
        return [feature.names[value] for value in values], list(feature.names)
    return [str(value) for value in values], None
