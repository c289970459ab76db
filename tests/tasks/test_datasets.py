"""Data sets of Hugging Face's library, from folders as it writes them and from the hub's own cache; the network is never asked."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from suture.errors import DataError
from suture.inputs import StoredPicture, opened_image
from suture.tasks import DataSet, read_dataset

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return


def pictures(count: int) -> list[Any]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (6, 5, 3), dtype=np.uint8)) for _ in range(count)]


def some(names: tuple[str, ...] = ("cat", "dog")) -> Any:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))})
    return datasets.Dataset.from_dict({"image": pictures(4), "label": [0, 1, 1, 0]}, features=features)


def publish(cache: Path, name: str, files: dict[str, Any]) -> None:
    """Put data into the cache as the hub's client does."""
    place = cache / f"datasets--{name.replace('/', '--')}"
    commit = hashlib.sha1(name.encode()).hexdigest()
    for file, data in files.items():
        (place / "snapshots" / commit / file).parent.mkdir(parents=True, exist_ok=True)
        data.to_parquet(place / "snapshots" / commit / file)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / "main").write_text(commit)


def test_images_of_a_saved_data_set_are_opened_when_looked_at(tmp_path: Path) -> None:
    datasets.DatasetDict({"test": some(), "train": some()}).save_to_disk(tmp_path / "saved")
    split, classes = read_dataset(DataSet(str(tmp_path / "saved"), "test"), None, image="image")
    assert classes == ["cat", "dog"]
    assert split.known_labels().tolist() == [0, 1, 1, 0]
    assert all(isinstance(each, StoredPicture) for each in split.inputs)
    for found, picture in zip(split.inputs, pictures(4), strict=True):
        assert opened_image(found).tobytes() == picture.tobytes()  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"saved \(dev\) cannot be read: KeyError: 'dev'"):
        read_dataset(DataSet(str(tmp_path / "saved"), "dev"), None, image="image")


FILES = ("test-00000-of-00002", "test-00001-of-00002", "noisy-0", "part-00000-of-00002")


def test_only_the_files_asked_for_are_taken_from_the_hub(tmp_path: Path) -> None:
    publish(tmp_path / "hub", "some/animals", {f"data/{name}.parquet": some() for name in FILES})
    split, _ = read_dataset(DataSet("some/animals", "test", files="data/test-*.parquet"), None, image="image")
    assert len(split) == 8
    with pytest.raises(DataError, match=r"some/animals \(test\): 1 of the 2 files part-… are there; fetch it again"):
        read_dataset(DataSet("some/animals", "test", files="data/part-*"), None, image="image")
    with pytest.raises(DataError, match=r"some/animals has no files 'data/dev-\*', or they are not in the local cache"):
        read_dataset(DataSet("some/animals", "dev", files="data/dev-*"), None, image="image")
    with pytest.raises(DataError, match=r"some/absent \(test\) cannot be read: "):
        read_dataset(DataSet("some/absent", "test", files="data/test-*"), None, image="image")
    with pytest.raises(DataError, match=r"some/absent \(test\) cannot be read: "):
        read_dataset(DataSet("some/absent", "test"), None, image="image")


def test_labels_go_by_names_where_they_are_the_classes_and_else_by_numbers(tmp_path: Path) -> None:
    some().save_to_disk(tmp_path / "saved")
    source = DataSet(str(tmp_path / "saved"), "all")
    swapped, _ = read_dataset(source, ["dog", "cat"], image="image")
    assert swapped.known_labels().tolist() == [1, 0, 0, 1]
    worded, names = read_dataset(source, ["a small cat", "a big dog"], image="image")
    assert worded.known_labels().tolist() == [0, 1, 1, 0]
    assert names == ["a small cat", "a big dog"]
    cased, _ = read_dataset(source, ["DOG", "Cat"], image="image")
    assert cased.known_labels().tolist() == [1, 0, 0, 1]
    for classes, odd in (
        (["one"], "2 of them, but 1 classes"),
        (["a", "b", "c"], "but 3"),
        (["dog", "sparrow"], "'dog' stands at another"),
    ):
        with pytest.raises(DataError, match=rf"saved \(all\): its own names of the labels are not the classes, .*{odd}"):
            read_dataset(source, classes, image="image")
    unlabelled, _ = read_dataset(source, ["x"], image="image", label=None)
    assert unlabelled.labels is None


def test_a_folder_of_one_split_is_not_taken_for_another(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train.csv").write_text("text,label\nhello,b\n")
    datasets.load_dataset(str(tmp_path / "files"), split="train").save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="saved holds the split 'train', not 'test'"):
        read_dataset(DataSet(str(tmp_path / "saved"), "test"), None)
    assert len(read_dataset(DataSet(str(tmp_path / "files"), "any", files="*.csv"), None)[0]) == 1


def test_texts_and_folders_of_files(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train.csv").write_text("text,kind\nhello,b\nworld,a\n")
    split, classes = read_dataset(DataSet(str(tmp_path / "files"), "train"), None, label="kind")
    assert split.inputs == ["hello", "world"]
    assert (classes, split.known_labels().tolist()) == (["a", "b"], [1, 0])
    with pytest.raises(DataError, match=r"files \(train\) has no column 'words'; it has text, kind"):
        read_dataset(DataSet(str(tmp_path / "files"), "train"), None, text="words", label="kind")
    plain, _ = read_dataset(DataSet(str(tmp_path / "files"), "train"), None, label="absent")
    assert plain.labels is None


def test_rows_without_what_they_need_are_refused(tmp_path: Path) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    datasets.Dataset.from_dict({"text": ["x", None], "label": [0, 1]}, features=features).save_to_disk(tmp_path / "texts")
    with pytest.raises(DataError, match=r"texts \(all\), row 2: expected text, found None"):
        read_dataset(DataSet(str(tmp_path / "texts"), "all"), None)
    datasets.Dataset.from_dict({"text": ["x", "y"], "label": [0, -1]}, features=features).save_to_disk(tmp_path / "labels")
    with pytest.raises(DataError, match=r"labels \(all\): rows without a label in column 'label'"):
        read_dataset(DataSet(str(tmp_path / "labels"), "all"), None)
    spoilt = datasets.Dataset.from_dict({"image": [b"nonsense"], "label": ["a"]})
    spoilt.save_to_disk(tmp_path / "spoilt")
    split, _ = read_dataset(DataSet(str(tmp_path / "spoilt"), "all"), None, image="image")
    with pytest.raises(DataError, match=r"spoilt \(all\), row 1: not an image that can be read"):
        opened_image(split.inputs[0])  # type: ignore[arg-type]
    numbered = datasets.Dataset.from_dict({"image": [7], "label": ["a"]})
    numbered.save_to_disk(tmp_path / "numbered")
    split, _ = read_dataset(DataSet(str(tmp_path / "numbered"), "all"), None, image="image")
    with pytest.raises(DataError, match=r"numbered \(all\), row 1: .*expected an image's path or bytes, found 7"):
        opened_image(split.inputs[0])  # type: ignore[arg-type]


def test_a_data_set_without_rows_is_refused(tmp_path: Path) -> None:
    some().select([]).save_to_disk(tmp_path / "empty", num_shards=1)
    with pytest.raises(DataError, match=r"empty \(all\) holds no rows"):
        read_dataset(DataSet(str(tmp_path / "empty"), "all"), None, image="image")


def test_rows_are_shuffled_by_a_seed_alone(tmp_path: Path) -> None:
    data = datasets.Dataset.from_dict({"text": [str(row) for row in range(50)], "label": [str(row % 2) for row in range(50)]})
    data.save_to_disk(tmp_path / "sorted")
    first, again, other = (read_dataset(DataSet(str(tmp_path / "sorted"), "all", shuffle=seed), None)[0] for seed in (1, 1, 2))
    assert list(first.inputs) == list(again.inputs) != list(other.inputs)
    assert sorted(first.inputs, key=lambda text: int(str(text))) == list(data["text"])
    assert first.known_labels().tolist() == [int(str(text)) % 2 for text in first.inputs]


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"reading a \(b\) needs the library datasets: pip install 'suture\[datasets\]'"):
        read_dataset(DataSet("a", "b"), None)


@pytest.mark.parametrize("shown", [True, False])
def test_bars_of_the_library_are_as_they_were(tmp_path: Path, shown: bool) -> None:
    some().save_to_disk(tmp_path / "saved")
    (datasets.enable_progress_bars if shown else datasets.disable_progress_bars)()
    try:
        read_dataset(DataSet(str(tmp_path / "saved"), "all"), None, image="image")
        assert datasets.is_progress_bar_enabled() is shown
    finally:
        datasets.enable_progress_bars()
