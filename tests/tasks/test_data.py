"""Reading texts and labels."""

import json
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch

from suture.errors import DataError
from suture.tasks import Split, Task, read_split

ROWS = [{"text": "a, b", "label": "yes"}, {"text": 'say "c"', "label": "no"}, {"text": "ü\nnew line", "label": "yes"}]


def write(folder: Path, kind: str, rows: list[dict[str, object]]) -> Path:
    file = folder / f"data.{kind}"
    if kind == "csv":
        import csv

        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "jsonl":
        file.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_three_formats_say_the_same(tmp_path: Path, kind: str) -> None:
    split, classes = read_split(write(tmp_path, kind, ROWS), None)  # type: ignore[arg-type]
    assert list(split.inputs) == [row["text"] for row in ROWS]
    assert classes == ["no", "yes"]
    assert split.known_labels().tolist() == [1, 0, 1]
    given, _ = read_split(tmp_path / f"data.{kind}", ["yes", "no"])
    assert given.known_labels().tolist() == [0, 1, 0]


def test_other_columns_and_numbers_as_labels(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"review": "a", "stars": 10}, {"review": "b", "stars": 9}]
    split, classes = read_split(write(tmp_path, "jsonl", rows), None, text="review", label="stars")
    assert classes == ["9", "10"]
    assert split.known_labels().tolist() == [1, 0]
    numbered, _ = read_split(write(tmp_path, "jsonl", [{"text": "a", "label": 1}]), ["no", "yes"])
    assert numbered.known_labels().tolist() == [1]


def test_labels_are_read_as_names_or_as_numbers_never_as_both(tmp_path: Path) -> None:
    names = ["1", "2", "3"]
    split, _ = read_split(write(tmp_path, "jsonl", [{"text": "a", "label": 1}, {"text": "b", "label": 2}]), names)
    assert split.known_labels().tolist() == [0, 1]
    numbered, _ = read_split(write(tmp_path, "jsonl", [{"text": "a", "label": 0}, {"text": "b", "label": 2}]), names)
    assert numbered.known_labels().tolist() == [0, 2]
    with pytest.raises(DataError, match=r"row 2: column 'label' holds '0'"):
        read_split(write(tmp_path, "jsonl", [{"text": "a", "label": 3}, {"text": "b", "label": 0}]), names)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_labels_can_be_left_unread(tmp_path: Path, kind: str) -> None:
    split, classes = read_split(write(tmp_path, kind, [{"text": "a", "label": ""}, {"text": "b", "label": "?"}]), ["no"], label=None)
    assert split.labels is None
    assert classes == ["no"]


def test_without_labels(tmp_path: Path) -> None:
    split, classes = read_split(write(tmp_path, "jsonl", [{"text": "a"}]), ["no", "yes"])
    assert split.labels is None
    assert classes == ["no", "yes"]
    with pytest.raises(DataError, match="no labels"):
        split.known_labels()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"', "not a whole jsonl"),
        ("a.jsonl", "[1]", "line 1 is not an object"),
        ("a.jsonl", '{"text": 3}', "row 1: expected text, found 3"),
        ("a.jsonl", "", "holds no rows"),
        ("a.csv", "title,label\nx,y\n", "no column 'text'; it has title, label"),
        ("a.csv", 'text,label\n"x,y\n', "not a whole csv"),
        ("a.csv", "text,label\nx,maybe\n", "row 1: column 'label' holds 'maybe'; the classes are no, yes"),
        ("a.csv", "text,label\nx,0\ny,1\nz,yes\n", "row 3: column 'label' holds 'yes'"),
        ("a.csv", "text,label\nx,0\ny,1\nz,2\n", "row 3: column 'label' holds '2'.*0 to 1"),
        ("a.csv", "text,label\nx,yes\ny,no,more\n", "row 2: more cells than the 2 columns"),
        ("a.csv", "text,label\nx,yes\ny\n", "row 2: fewer cells than the 2 columns"),
        ("a.csv", "text,label,text\nx,yes,z\n", "two columns have the same name"),
        ("a.csv", "text,label\nx,yes\ny,\n", "row 2: nothing in column 'label'"),
        ("a.jsonl", '{"text": "x", "label": "no"}\n{"text": "y"}', "row 2: nothing in column 'label'"),
        ("a.jsonl", '{"text": "x"}\n{"text": "y", "label": "no"}', "row 1: nothing in column 'label'"),
        ("a.jsonl", '{"text": "x"}\n{"txt": "y"}', "row 2: expected text, found None"),
        ("a.jsonl", '{"text": "x"}\n{"text": "a\\ud800"}', "row 2: half a surrogate pair at position 1"),
        ("a.jsonl", '{"text": "x", "label": "\\ud800"}', "row 1: half a surrogate pair"),
        ("a.parquet", "PAR1", "not a whole parquet"),
        ("a.txt", "x", "expected a file that ends in"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_split(tmp_path / name, ["no", "yes"])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_split(tmp_path / "absent.csv", None)


def test_splits_and_tasks_check_themselves() -> None:
    with pytest.raises(DataError, match="at least one sample"):
        Split([])
    with pytest.raises(DataError, match="2 inputs, but 1 labels"):
        Split(["a", "b"], torch.tensor([0]))
    task = Task("t", ["x"], {"test": Split(["a"])})
    with pytest.raises(DataError, match="no split 'train'; it has test"):
        task.split("train")


def test_parquet_without_its_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "parquet", [{"text": "a"}])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"reading .*data\.parquet needs pyarrow: pip install 'suture\[parquet\]'"):
        read_split(file, None)
