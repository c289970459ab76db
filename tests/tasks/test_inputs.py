"""Inputs from wherever they are."""

import io
import sys
from pathlib import Path

import pytest
from PIL import Image

from suture.errors import DataError
from suture.tasks.inputs import read_inputs


class Given:
    """Standard input that holds something."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def image(file: Path) -> Path:
    file.parent.mkdir(exist_ok=True)
    Image.new("RGB", (2, 2)).save(file)
    return file


def test_texts_of_files_tables_and_standard_input_come_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\n two \n")
    (tmp_path / "table.jsonl").write_text('{"said": "three"}\n')
    monkeypatch.setattr(sys, "stdin", Given(b"four\n"))
    places = [str(tmp_path / "plain.txt"), str(tmp_path / "table.jsonl"), "-"]
    assert read_inputs(places, "text", "said") == [(text, text) for text in ("one", " two ", "three", "four")]


def test_images_of_files_folders_tables_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    single, inside = image(tmp_path / "a.png"), image(tmp_path / "folder" / "b.png")
    (tmp_path / "table.csv").write_text("image\na.png\n")
    monkeypatch.setattr(sys, "stdin", Given(f"{single}\n".encode()))
    places = [str(single), str(tmp_path / "folder"), str(tmp_path / "table.csv"), "-"]
    named = [(str(single), single), (str(inside), inside), (f"{tmp_path / 'table.csv'}:1", single), (str(single), single)]
    assert read_inputs(places, "image") == named


def test_places_that_hold_nothing_of_the_kind(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for place, kind, message in (
        ("empty.txt", "text", r"^there are no texts in .*empty\.txt$"),
        ("latin.txt", "text", r"latin\.txt is not UTF-8, byte 3: expected a text on each line"),
        ("absent.txt", "text", r"absent\.txt cannot be read: No such file or directory"),
        ("latin.txt", "image", r"latin\.txt: expected an image \(.*\.png.*\), a folder, or a table \(\.csv, \.jsonl, \.parquet\)"),
        ("absent.png", "image", r"absent\.png: no such file"),
    ):
        with pytest.raises(DataError, match=message):
            read_inputs([str(tmp_path / place)], kind)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="there are no images in nothing"):
        read_inputs([], "image")
