"""Tasks of images: read in order, and those that come with the package are what their record says."""

import io
import json
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import suture
from suture.checkpoints import sha256_of
from suture.inputs import StoredPicture, identities, opened_image
from suture.tasks import Task
from suture.tasks.suites.suite import read_tasks

DATA = Path(suture.__file__).parent / "tasks" / "suites" / "vision8" / "data"
SPLITS = ("train", "calibration", "test", "support")


def encoded(level: int, ending: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 6), level, dtype=np.uint8)).save(stream, ending, **({"lossless": True} if ending == "webp" else {}))
    return stream.getvalue()


def test_images_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text(json.dumps({"tasks": [{"name": "greys", "labels": ["dark", "light"]}]}))
    with zipfile.ZipFile(tmp_path / "greys.zip", "w") as archive:
        for name, level in {"test/1/10.webp": 250, "test/0/2.png": 20, "test/1/0.webp": 200, "support/0/0.png": 10}.items():
            archive.writestr(name, encoded(level, name.rpartition(".")[2]))
    (task,) = read_tasks(tmp_path)
    assert task.name == "greys"
    assert task.classes == ("dark", "light")
    assert set(task.splits) == {"test", "support"}
    images = [opened_image(image) for image in task.split("test").inputs if isinstance(image, StoredPicture)]
    assert [np.asarray(image)[0, 0, 0] for image in images] == [200, 20, 250]
    assert [(image.size, image.mode) for image in images] == [((6, 4), "RGB")] * 3
    assert task.split("test").known_labels().tolist() == [1, 0, 1]
    assert task.split("support").known_labels().tolist() == [0]


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return read_tasks(DATA)


def records() -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((DATA / "provenance.json").read_text(encoding="utf-8"))["tasks"]
    return found


def test_shipped_files_are_those_on_record() -> None:
    assert {file.stem for file in DATA.glob("*.zip")} == {str(record["name"]) for record in records()}
    for record in records():
        assert sha256_of(DATA / f"{record['name']}.zip") == record["sha256"]


def test_shipped_tasks_are_those_on_record(tasks: list[Task]) -> None:
    for task, record in zip(tasks, records(), strict=True):
        assert task.name == record["name"]
        assert {name: len(task.split(name)) for name in SPLITS} == record["counts"]
        assert isinstance(image := record["image"], dict)
        sizes = {opened_image(each).size for split in task.splits.values() for each in split.inputs if isinstance(each, StoredPicture)}
        assert sizes == {tuple(image["size"])}


def test_shipped_labels_are_of_the_classes(tasks: list[Task]) -> None:
    for task in tasks:
        for name in SPLITS:
            counts = Counter(task.split(name).known_labels().tolist())
            assert set(counts) == set(range(len(task.classes)))
            assert max(counts.values()) <= 4 * min(counts.values())
        assert set(Counter(task.split("support").known_labels().tolist()).values()) == {5}


def test_no_shipped_image_stands_twice(tasks: list[Task]) -> None:
    for task in tasks:
        found = [identity for split in task.splits.values() for identity in identities(split.inputs)]
        assert len(set(found)) == len(found)
