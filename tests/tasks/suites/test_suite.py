"""What suites are made of: texts, a base that is the experts' own, experts unpacked once; and the suites by their names."""

import json
import lzma
from pathlib import Path

import pytest
from safetensors.torch import save_file

from suture.checkpoints import cache_folder, open_checkpoint
from suture.errors import CheckpointNotFound, IncompatibleExperts, UnknownName
from suture.tasks import load_suite
from suture.tasks.suites import clip8, nlp8, suite, vision8
from suture.tasks.suites.packing import pack_task_vector
from suture.tasks.suites.suite import ZippedPicture, open_base_of, read_tasks, unpack_experts


def texts(folder: Path) -> Path:
    (folder / "provenance.json").write_text(json.dumps({"tasks": [{"name": "films", "labels": ["bad", "good"]}]}))
    rows = [{"split": "test", "text": "a gem", "label": 1}, {"split": "support", "text": "dull", "label": 0}]
    with lzma.open(folder / "films.jsonl.xz", "wt") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    return folder


def test_texts_are_read_split_by_split(tmp_path: Path) -> None:
    (task,) = read_tasks(texts(tmp_path))
    assert (task.name, task.classes, set(task.splits)) == ("films", ("bad", "good"), {"test", "support"})
    assert (task.split("test").inputs, task.split("test").known_labels().tolist()) == (["a gem"], [1])


def test_another_base_than_the_experts_own_is_refused(bert: Path) -> None:
    digest = open_checkpoint(bert).digest
    assert open_base_of("tiny", bert, bert, digest).digest == digest
    with pytest.raises(IncompatibleExperts, match=r"base holds other weights than those that the experts of tiny were fine-tuned from"):
        open_base_of("tiny", bert, bert, "0" * 64)


def test_experts_are_unpacked_once(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, tasks = open_checkpoint(bert), read_tasks(texts(tmp_path))
    (tmp_path / "experts").mkdir()
    (tmp_path / "experts" / "films.task_vector").write_bytes(pack_task_vector({}))
    first = unpack_experts(tmp_path, tasks, base)
    assert open_checkpoint(first["films"]).digest == base.digest
    monkeypatch.setattr(suite, "unpack_expert", lambda *_: pytest.fail("it is there"))
    counted: list[int] = []
    assert unpack_experts(tmp_path, tasks, base, counted.append) == first
    assert counted == [1]


def test_another_process_that_was_faster_has_unpacked_it(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = read_tasks(texts(tmp_path))
    (tmp_path / "experts").mkdir()
    (tmp_path / "experts" / "films.task_vector").write_bytes(b"x")
    monkeypatch.setattr(suite, "unpack_expert", lambda *_: pytest.fail("it is there"))
    answers = iter([False, True])
    monkeypatch.setattr(Path, "is_dir", lambda self: next(answers) if self.name == "films" else self.exists())
    assert set(unpack_experts(tmp_path, tasks, open_checkpoint(bert / "model.safetensors"))) == {"films"}


def test_an_image_out_of_an_archive_tells_its_place() -> None:
    assert str(ZippedPicture("a.zip, test/0/1.png", b"")) == "a.zip, test/0/1.png"


def test_names_that_are_none() -> None:
    with pytest.raises(UnknownName, match="unknown suite 'vision'; did you mean 'vision8'"):
        load_suite("vision")
    with pytest.raises(UnknownName, match="unknown architecture 'ViT-B-23'; did you mean 'ViT-B-32'"):
        clip8.sources("ViT-B-23")


def test_nlp8_is_made_of_its_own_base_and_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nlp8, "unpack_experts", lambda folder, tasks, *_: {task.name: folder for task in tasks})
    found = load_suite("nlp8")
    assert (found.name, found.base.digest, len(found.tasks), found.pooling) == ("nlp8", nlp8.BASE_SHA256, 8, "mean")
    assert all(set(task.splits) >= {"support", "test"} for task in found.tasks)


def test_packages_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, extra in ((nlp8, "nlp8"), (vision8, "vision8")):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
        with pytest.raises(CheckpointNotFound, match=rf"the suite {extra} needs .*: pip install 'suture\[{extra}\]'"):
            module.open_base()


def test_a_base_that_was_converted_is_not_converted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pickle = tmp_path / "models" / vision8.PICKLE
    pickle.parent.mkdir()
    pickle.write_bytes(b"weights")

    class Spec:
        origin = str(tmp_path / "__init__.py")

    def convert(source: Path, folder: Path) -> None:
        import torch

        folder.mkdir(parents=True)
        save_file({"w": torch.ones(1)}, folder / "model.safetensors")

    monkeypatch.setattr(vision8, "find_spec", lambda _: Spec)
    monkeypatch.setattr(vision8, "convert", convert)
    for _ in range(2):
        with pytest.raises(IncompatibleExperts, match=rf"{vision8.PICKLE} holds other weights"):
            vision8.open_base()
        monkeypatch.setattr(vision8, "convert", lambda *_: pytest.fail("it is there"))
    assert len(list((cache_folder() / "suites" / "vision8").iterdir())) == 1


def test_what_an_architecture_needs_is_its_base_and_for_every_task_an_expert_and_data() -> None:
    found = clip8.sources("ViT-B-32")
    assert len(found.tasks) == 8
    assert [each.what for each in found.fetched] == ["base"] + ["expert"] * 8 + ["data"] * 8
    assert all(task.expert.startswith(f"{clip8.EXPERTS_BY}/{found.base.partition('/')[2]}_") for task in found.tasks)
    assert "ViT-B-32" in clip8.architectures()
