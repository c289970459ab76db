"""Folders of images, and images in tables."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from suture.errors import DataError
from suture.inputs import identities, opened_image
from suture.tasks import read_split


def save(file: Path, shade: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((3, 4, 3), shade, dtype=np.uint8)).save(file)
    return file


def folder_of_classes(folder: Path) -> Path:
    for name, shades in {"dog": (10, 20), "cat": (30,)}.items():
        for shade in shades:
            save(folder / name / f"{shade}.png", shade)
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden").mkdir()
    return folder


def test_a_folder_for_every_class(tmp_path: Path) -> None:
    split, classes = read_split(folder_of_classes(tmp_path), None)
    assert classes == ["cat", "dog"]
    assert split.known_labels().tolist() == [0, 1, 1]
    assert [opened_image(each).getpixel((0, 0))[0] for each in split.inputs] == [30, 10, 20]  # type: ignore[index]
    given, _ = read_split(tmp_path, ["dog", "bird", "cat"])
    assert given.known_labels().tolist() == [2, 0, 0]
    assert read_split(tmp_path, ["dog"], label=None)[0].labels is None


def test_images_alone_have_no_labels(tmp_path: Path) -> None:
    save(tmp_path / "b.png", 1)
    save(tmp_path / "a.JPG", 2)
    split, _ = read_split(tmp_path, None)
    assert [Path(str(each)).name for each in split.inputs] == ["a.JPG", "b.png"]
    assert split.labels is None


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        read_split(tmp_path / "empty", None)
    mixed = folder_of_classes(tmp_path / "mixed")
    with pytest.raises(DataError, match=r"folders cat are no classes; the classes are dog"):
        read_split(mixed, ["dog"])
    save(mixed / "stray.png", 1)
    with pytest.raises(DataError, match="images beside folders"):
        read_split(mixed, None)


def test_tables_name_images_or_hold_them(tmp_path: Path) -> None:
    file, buffer = save(tmp_path / "pictures" / "one.png", 77), BytesIO()
    Image.open(file).save(buffer, format="PNG")
    (tmp_path / "table.csv").write_text("path,label\npictures/one.png,a\n", encoding="utf-8")
    named, _ = read_split(tmp_path / "table.csv", None, image="path")
    rows = [{"image": {"bytes": buffer.getvalue(), "path": "one.png"}, "label": "a"}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "table.parquet")
    held, classes = read_split(tmp_path / "table.parquet", None, image="image")
    assert classes == ["a"]
    assert identities(named.inputs) == identities(held.inputs) == identities([np.full((3, 4, 3), 77, dtype=np.uint8)])


def test_tables_without_what_they_should_hold(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("path,label\n,a\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"no column 'image'; it has path, label"):
        read_split(tmp_path / "table.csv", None, image="image")
    with pytest.raises(DataError, match=r"row 1: expected an image's path or bytes, found ''"):
        read_split(tmp_path / "table.csv", None, image="path")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"image": b"junk"}]), tmp_path / "table.parquet")
    with pytest.raises(DataError, match="row 1: not an image that can be read"):
        read_split(tmp_path / "table.parquet", None, image="image")
